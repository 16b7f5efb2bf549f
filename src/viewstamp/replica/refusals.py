"""What is said of calls that are not executed. A refused message costs a bounded number of sentences.

To explain an invalid call takes twenty times as long as to decode a valid one. Of one message therefore only
`EXPLAINED_MAX` calls are explained; what follows them is refused unread. A message that is refused as a whole
is explained once, at its first call.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from viewstamp.core.messages import DENIED, FULL, INVALID, REFUSED
from viewstamp.machine.access import Denial

RefusalLine: TypeAlias = tuple[int, int, msgspec.Raw]
"""(sequence or request number, INVALID, REFUSED or DENIED, why): a line of `core.messages.Results`."""
EXPLAINED_MAX: Final = 64
"""Invalid or denied calls of one message that are explained."""


def encoded_text(explanation: str) -> msgspec.Raw:
    """Return an explanation as a result's payload."""
    return msgspec.Raw(msgspec.msgpack.encode(explanation))


_SEE_FIRST: Final = encoded_text("not executed: refused with the first call of its message")
_UNREAD: Final = encoded_text(
    f"not executed: {EXPLAINED_MAX} calls before it in its message are refused; send it in another one"
)

_DISK_IS_FULL: Final = (
    "not executed: the leader's disk is nearly full, and it takes only commands that free something: delete "
    "what you can, or try again later"
)
_DISK_FULL: Final = msgspec.Raw(msgspec.msgpack.encode((_DISK_IS_FULL, "disk")))


def refuse_all(calls: Sequence[tuple[int, object]], reason: str) -> list[RefusalLine]:
    """Return the lines for calls that are refused together, with one explanation."""
    lines = [(number, REFUSED, _SEE_FIRST) for number, _ in calls]
    if lines:
        lines[0] = (lines[0][0], REFUSED, encoded_text(f"not executed: {reason}"))
    return lines


def denial_payload(denial: Denial) -> msgspec.Raw:
    """Return a denial as a result's payload."""
    return msgspec.Raw(msgspec.msgpack.encode(denial))


class Sieve:
    """The refused calls of one message."""

    __slots__ = ("_room", "lines")

    def __init__(self) -> None:
        self.lines: list[RefusalLine] = []
        """Read-only for callers."""
        self._room = EXPLAINED_MAX

    @property
    def is_full(self) -> bool:
        """Whether the rest of the message is to be refused unread."""
        return self._room == 0

    def explain(self, number: int, why: str) -> None:
        """Record that a call is invalid."""
        self.lines.append((number, INVALID, encoded_text(why)))
        self._room -= 1

    def deny(self, number: int, denial: Denial) -> None:
        """Record that the caller may not make a call."""
        self.lines.append((number, DENIED, denial_payload(denial)))
        self._room -= 1

    def full(self, number: int) -> None:
        """Record that a call needs room on the disk, of which there is little."""
        self.lines.append((number, FULL, _DISK_FULL))

    def refuse(self, number: int) -> None:
        """Record that a call was not read."""
        self.lines.append((number, REFUSED, _UNREAD))
