"""What a primary of the course's form knows of each other server."""

from enum import Enum
from typing import Final

from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.protocol import PeerStatus

_NEVER: Final = Instant(1 << 62)


class Standing(Enum):
    """What another server is to the primary."""

    OUT = "out"
    """Not connected, or not asked yet. Its part of the replication is skipped."""
    BEHIND = "behind"
    """It answered: it is being brought up."""
    LIVE = "live"
    """It has everything but the entry under way: a commit needs it."""


class Peer:
    """One other server."""

    __slots__ = ("answer_by_at", "matched", "node", "sent", "standing")

    def __init__(self, node: NodeId) -> None:
        self.node = node
        self.standing = Standing.OUT
        self.matched = 0
        """Its log is ours up to here; matched <= sent."""
        self.sent = 0
        """Entries up to here were sent."""
        self.answer_by_at = _NEVER
        """When to give it up, where it owes an answer that somebody waits for."""

    @property
    def is_awaited(self) -> bool:
        """Whether new entries wait for it: it was greeted, or is being brought up."""
        return self.standing is Standing.BEHIND or (
            self.standing is Standing.OUT and self.answer_by_at < _NEVER
        )

    def leave(self) -> None:
        """Its connection broke, or it is silent: go on without it."""
        self.standing = Standing.OUT
        self.matched = self.sent = 0
        self.answer_by_at = _NEVER

    def expect(self, by: int) -> None:
        """Wait for an answer, until this moment."""
        self.answer_by_at = Instant(by)

    def settle(self) -> None:
        """It owes no answer."""
        self.answer_by_at = _NEVER

    def begin(self, matched: int) -> None:
        """Its log is ours up to here: bring it up."""
        self.standing = Standing.BEHIND
        self.matched = self.sent = matched

    def join(self) -> None:
        """It has everything: from now on it counts."""
        self.standing = Standing.LIVE
        self.settle()

    def status(self) -> PeerStatus:
        """Return what an operator may want to know of it."""
        return PeerStatus(self.node, self.matched, self.standing.value, None)
