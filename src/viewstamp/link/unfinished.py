"""A budget for the frames that have begun and not ended: of all connections of one node together.

Each connection may hold a little of a frame at any time, so that a full budget does not touch those whose
frames are short or just cut in two by a read. What it holds beyond that comes out of the budget. The
connection whose frame would go over it is the one that is given up.
"""

from typing import Final

from viewstamp.core.errors import ProtocolViolation

FREE_BYTES: Final = 16 << 10
"""Of each connection, outside the budget."""


class UnfinishedBytes:
    """What the unfinished frames of a node's clients take."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        """0 <= used <= limit."""

    def change(self, before: int, after: int) -> None:
        """A connection's unfinished frame grows or shrinks to this many bytes.

        Raises:
            ProtocolViolation: the budget is used up; nothing was changed.
        """
        used = self.used + max(after - FREE_BYTES, 0) - max(before - FREE_BYTES, 0)
        if used > self.limit and after > before:
            raise ProtocolViolation(
                f"unfinished frames fill the {self.limit} bytes that this node has for them: try again later"
            )
        self.used = used
        assert used >= 0, "a connection gave back more than it took"
