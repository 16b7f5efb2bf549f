"""What a primary of the course's form knows of each other server, and the newer log that it copies first."""

from enum import Enum
from typing import Final

from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.protocol import PeerStatus
from viewstamp.protocols.replication.node_state import NEVER


class Standing(Enum):
    """What another server is to the primary."""

    OUT = "out"
    """Not connected, or not asked yet. Its part of the replication is skipped."""
    BEHIND = "behind"
    """It answered: it is being brought up."""
    LIVE = "live"
    """It has everything but the entry in flight: a commit needs it."""


TRANSITIONS: Final = {
    Standing.OUT: (Standing.OUT, Standing.BEHIND),
    Standing.BEHIND: (Standing.OUT, Standing.BEHIND, Standing.LIVE),
    Standing.LIVE: (Standing.OUT,),
}
"""A server that is out must be brought up before it counts: no way leads from `OUT` to `LIVE` directly."""


class Peer:
    """One other server."""

    __slots__ = ("answer_by_at", "gap", "matched", "node", "sent", "standing")

    def __init__(self, node: NodeId) -> None:
        self.node = node
        self.standing = Standing.OUT
        self.matched = 0
        """Its log is ours up to here; matched <= sent."""
        self.sent = 0
        """Entries up to here were sent."""
        self.gap = False
        """Whether it has named its log's end since its repair began: what was sent may not have followed."""
        self.answer_by_at = NEVER
        """When to give it up, while an answer of it is waited for."""

    @property
    def is_awaited(self) -> bool:
        """Whether new entries wait for it: it was greeted, or is being brought up."""
        return self.standing is Standing.BEHIND or (
            self.standing is Standing.OUT and self.answer_by_at < NEVER
        )

    def leave(self) -> None:
        """Go on without it: its connection broke, or it is silent."""
        self._move(Standing.OUT)
        self.matched = self.sent = 0
        self.answer_by_at = NEVER

    def expect(self, by: int) -> None:
        """Wait for an answer, until this moment."""
        self.answer_by_at = Instant(by)

    def settle(self) -> None:
        """No answer of it is waited for."""
        self.answer_by_at = NEVER

    def begin(self, matched: int) -> None:
        """Bring it up: its log is ours up to `matched`."""
        self._move(Standing.BEHIND)
        self.matched = self.sent = matched
        self.gap = False

    def resume(self) -> None:
        """Send again what is not acknowledged, once for all the gaps that it named."""
        if self.gap:
            self.sent, self.gap = self.matched, False

    def join(self) -> None:
        """Count it from now on: it has everything."""
        self._move(Standing.LIVE)
        self.settle()

    def status(self) -> PeerStatus:
        """Return what an operator may want to know of it."""
        return PeerStatus(self.node, self.matched, self.standing.value, None)

    def _move(self, standing: Standing) -> None:
        assert standing in TRANSITIONS[self.standing], (self.node, self.standing, standing)
        self.standing = standing


class Adoption:
    """A newer log that is copied before a takeover goes on. It holds everything committed here."""

    __slots__ = ("_asked_up_to", "_window", "next_index", "source", "wanted")

    def __init__(self, source: NodeId, *, committed_index: int, last_index: int, window: int) -> None:
        self.source = source
        """The server whose log it is. It cannot change meanwhile: only the primary could, and that is us."""
        self.next_index = committed_index + 1
        """The entry that must come next; next_index <= wanted + 1."""
        self.wanted = last_index
        """The last index of that log."""
        self._window = window
        """Entries asked for at a time."""
        self._asked_up_to = committed_index

    @property
    def is_complete(self) -> bool:
        """Whether all of it has arrived."""
        return self.next_index > self.wanted

    @property
    def must_ask(self) -> bool:
        """Whether everything asked for has arrived, and there is more."""
        return self._asked_up_to < self.next_index <= self.wanted

    def ask(self) -> int:
        """Return the first index to ask for now."""
        self._asked_up_to = min(self.wanted, self.next_index + self._window - 1)
        return self.next_index
