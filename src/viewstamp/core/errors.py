"""Exceptions that say whose fault it was and whether the command took effect. The library raises no others.

A call of a client ends in a result, in the exception that the machine raised (`CommandFailed`), or in exactly
one of `NotExecuted` (certainly not), `InvalidCall` (certainly not, and never: the call is wrong),
`PermissionDenied` (certainly not: the caller may not) and `OutcomeUnknown` (perhaps). The last is never
folded into another.
"""

from collections.abc import Iterable
from typing import Any, Final

MOVE_AWAY: Final = (
    "only while a majority of the members serves without it (`viewstamp status`), move the data directory of "
    "this one node away and start it again, and it comes back from the others; without such a majority move "
    "nothing away"
)
"""What an operator is told whose node cannot go on from its data: the condition is what keeps data safe."""


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
    """A call by a client did not end in a result. What an application may act on is data, not text.

    Attributes:
        executed: False: certainly not, now or later. True: it was. None: nobody can tell.
        retry: whether issuing the same call again may help and cannot do harm.
        unreachable: numbers of the members that could not be connected to.
        silent: numbers of the members that were connected and did not answer.
        method: what was called; empty where it was not a call of a machine's method.
    """

    executed: bool | None = False
    retry: bool = False

    def __init__(
        self, text: str = "", *, unreachable: Iterable[int] = (), silent: Iterable[int] = (), method: str = ""
    ) -> None:
        super().__init__(text)
        self.unreachable: tuple[int, ...] = tuple(unreachable)
        self.silent: tuple[int, ...] = tuple(silent)
        self.method = method


class NotExecuted(CallError):
    """The command has not taken effect and will not: it is safe to issue it again."""

    executed = False
    retry = True


class Overloaded(NotExecuted):
    """The service takes no such command for now: what it needs is nearly used up. Others may be taken.

    Attributes:
        what: what is nearly used up: `disk`.
    """

    def __init__(
        self,
        text: str = "",
        what: str = "",
        *,
        unreachable: Iterable[int] = (),
        silent: Iterable[int] = (),
        method: str = "",
    ) -> None:
        super().__init__(text, unreachable=unreachable, silent=silent, method=method)
        self.what = what


class SessionExpired(NotExecuted):
    """The server has forgotten this session and cannot promise exactly-once; the call was not executed."""


class InvalidCall(CallError, TypeError):
    """There is no such method, or the arguments are not what it takes. Nothing was executed.

    It is a mistake of the program and no outage: issued again, the same call fails again.
    """

    executed = False
    retry = False


class PermissionDenied(CallError):
    """The caller may not make this call: no grant or role permits it. Nothing was executed.

    Issued again it fails again, until the operators of the cluster permit it.

    Attributes:
        principal: the caller, as the server has proved it.
        missing: grant: the principal has none. method: no grant of it names the method. key: no grant of it
            covers the key. role: the class lets only certain roles call the method.
        key: the key that is not covered, cut if it is long; None where it is not a matter of one.
    """

    executed = False
    retry = False

    def __init__(
        self,
        text: str = "",
        *,
        unreachable: Iterable[int] = (),
        silent: Iterable[int] = (),
        method: str = "",
        principal: str = "",
        missing: str = "",
        key: str | None = None,
    ) -> None:
        super().__init__(text, unreachable=unreachable, silent=silent, method=method)
        self.principal = principal
        self.missing = missing
        self.key = key


class OutcomeUnknown(CallError):
    """The command may or may not have taken effect, now or later. Read before you repeat it."""

    executed = None
    retry = False


class CommandFailed(ViewstampError):
    """The machine's own method raised. That is the command's result: every replica raised the same.

    Attributes:
        kind: name of the exception's class in the machine.
        explanation: its text.
        executed, retry, method: as in `CallError`; a command that failed was executed.
    """

    executed: bool | None = True
    retry: bool = False

    def __init__(self, kind: str, explanation: str, *, method: str = "") -> None:
        super().__init__(f"{kind}: {explanation}" if explanation else kind)
        self.kind = kind
        self.explanation = explanation
        self.method = method

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to copy it: its text is not what it is made of."""
        return type(self), (self.kind, self.explanation), {"method": self.method}


class EntryNotExecutable(ViewstampError):
    """This replica cannot execute a committed entry. It has stopped; its log and its snapshots are intact."""


class NodeRemoved(ViewstampError):
    """This node's data directory was removed from the cluster. It has stopped and will never serve again."""


class OutOfMemory(ViewstampError):
    """The process has no memory left while a command ran. It must end before it answers wrongly."""


class Diverged(ViewstampError):
    """This replica's state differs from the leader's. It has stopped serving."""
