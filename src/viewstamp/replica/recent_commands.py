"""The last commands that a replica executed, to be named where replicas differ: types, but no values."""

from collections import deque
from typing import Any, Final

from viewstamp.machine.definition import MachineDefinition
from viewstamp.replica.batches import DecodedMessage

ENTRIES_KEPT: Final = 16
MESSAGES_KEPT: Final = 4
"""Of each entry."""
COMMANDS_NAMED_MAX: Final = 3
_ARGUMENTS_NAMED_MAX: Final = 8


class RecentCommands:
    """What was executed last, by entry."""

    __slots__ = ("_names", "entries")

    def __init__(self, definition: MachineDefinition) -> None:
        self._names = {method.arguments: method.name for method in definition.methods.values()}
        self.entries: deque[tuple[int, list[DecodedMessage]]] = deque(maxlen=ENTRIES_KEPT)
        """(seqno, its first messages) of those executed last: `Divergence.executed` adds each."""

    def describe(self, seqno: int) -> str:
        """Return the last commands up to an entry, as words: names, types of arguments and lengths."""
        named: dict[str, None] = {}
        for at, messages in reversed(self.entries):
            if at > seqno:
                continue
            for message in messages:
                for _, arguments in message.calls[:COMMANDS_NAMED_MAX]:
                    named[self._described(arguments)] = None
            if len(named) >= COMMANDS_NAMED_MAX:
                break
        if not named:
            return f"the commands up to entry {seqno} are no longer known here"
        return f"the last commands up to entry {seqno}: {', '.join(list(named)[:COMMANDS_NAMED_MAX])}"

    def _described(self, arguments: Any) -> str:
        if arguments is None:
            return "a call that cannot be read"
        fields = arguments.__struct_fields__[:_ARGUMENTS_NAMED_MAX]
        shown = ", ".join(f"{name}: {_shape(getattr(arguments, name))}" for name in fields)
        return f"{self._names[type(arguments)]}({shown})"


def _shape(value: Any) -> str:
    kind = type(value).__name__
    return f"{kind} of {len(value)}" if hasattr(value, "__len__") else kind
