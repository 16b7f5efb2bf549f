"""Exceptions that say whose fault it was and whether the command took effect. The library raises no others.

A call of a client ends in a result, in the exception that the machine raised (`CommandFailed`), or in exactly
one of `NotExecuted` (certainly not) and `OutcomeUnknown` (perhaps). The last is never folded into another.
"""


class ViewstampError(Exception):
    """What this library raises on purpose, other than failed assertions of its own invariants."""


class ConfigurationError(ViewstampError):
    """A configuration, argument or machine class cannot be used. Nothing was started or changed."""


class ProtocolViolation(ViewstampError):
    """A peer or client sent what the protocol does not allow. Its connection is closed; nothing changed."""


class StorageError(ViewstampError):
    """The disk did not do what was asked. The process must end: what was acknowledged is safe."""


class JournalCorrupt(StorageError):
    """What is on disk is not what was written. Nothing was changed; the message says what can be done."""


class CallError(ViewstampError):
    """A call by a client did not end in a result."""


class NotExecuted(CallError):
    """The command has not taken effect and will not: it is safe to issue it again."""


class SessionExpired(NotExecuted):
    """The server has forgotten this session and cannot promise exactly-once; the call was not executed."""


class OutcomeUnknown(CallError):
    """The command may or may not have taken effect, now or later. Read before you repeat it."""


class CommandFailed(ViewstampError):
    """The machine's own method raised. That is the command's result: every replica raised the same.

    Attributes:
        kind: name of the exception's class in the machine.
        explanation: its text.
    """

    def __init__(self, kind: str, explanation: str) -> None:
        super().__init__(f"{kind}: {explanation}" if explanation else kind)
        self.kind = kind
        self.explanation = explanation


class EntryNotExecutable(ViewstampError):
    """This replica cannot execute a committed entry. It has stopped; its log and its snapshots are intact."""


class Diverged(ViewstampError):
    """This replica's state differs from the leader's. It has stopped serving."""
