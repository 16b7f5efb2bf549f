"""What a leader knows of one follower, and how much it may send.

Three states, after etcd's `tracker/progress.go`:

- `probe`: it is not known where the logs part; one message at a time.
- `replicate`: messages follow one another without waiting, up to the window.
- `snapshot`: what it needs is compacted away; a snapshot is on its way.
"""

from collections import deque
from typing import Final, Literal

from viewstamp.core.ids import Incarnation, Instant, NodeId
from viewstamp.core.protocol import PeerStatus
from viewstamp.core.snapshots import Snapshot
from viewstamp.protocols.replication.node_state import ReplicationOptions

_WINDOW_MAX: Final = 1 << 16
ProgressState = Literal["probe", "replicate", "snapshot"]


class SnapshotProgress:
    """A snapshot on its way to one follower."""

    __slots__ = ("acknowledged", "answered", "moved", "rewound_to", "sent", "snapshot")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.acknowledged = 0
        """The follower has every byte before this offset."""
        self.sent = 0
        """Every byte before this offset is sent; acknowledged <= sent."""
        self.answered = False
        """Whether the follower has said what it wants; until then one chunk is under way."""
        self.rewound_to = -1
        """Where we went back to since the last heartbeat: more answers that ask for it say nothing new."""
        self.moved = False
        """Whether an answer came since the last heartbeat."""


class Progress:
    """One follower in one view. Matched only grows: what is acknowledged is on the follower's disk."""

    __slots__ = (
        "attempt",
        "heard_at",
        "incarnation",
        "inflight",
        "inflight_bytes",
        "matched",
        "next",
        "node",
        "probing",
        "round",
        "state",
        "transfer",
        "window",
    )

    def __init__(self, node: NodeId, incarnation: Incarnation, following: int) -> None:
        self.node = node
        self.incarnation = incarnation
        self.state: ProgressState = "probe"
        self.matched = 0
        """The follower's disk holds our log up to here; matched < next."""
        self.next = following
        """The next entry to send."""
        self.window = _WINDOW_MAX
        """Messages that may be under way as far as the network shows: 1 after going back, more with each
        acknowledgement. A network that reorders everything would else be sent each window again and again."""
        self.attempt = 0
        """How often we went back: a refusal of a message sent before that says nothing new."""
        self.probing = False
        """In `probe`: a message is unanswered."""
        self.inflight: deque[tuple[int, int]] = deque()
        """Unanswered messages with entries: (last seqno, bytes)."""
        self.inflight_bytes = 0
        self.round = 0
        """Highest round of confirmation it has answered."""
        self.heard_at: Instant | None = None
        self.transfer: SnapshotProgress | None = None

    def heard_since(self, beginning: Instant) -> Instant:
        """Return when it was last heard, or the beginning of the view if it never was in it."""
        return self.heard_at if self.heard_at is not None else beginning

    def has_room(self, options: ReplicationOptions) -> bool:
        """Return whether another message with entries may be sent."""
        return (
            len(self.inflight) < min(self.window, options.inflight_messages_max)
            and self.inflight_bytes < options.inflight_bytes_max
        )

    def sent(self, last: int, size_bytes: int) -> None:
        """A message with entries up to `last` left."""
        self.next = last + 1
        self.inflight.append((last, size_bytes))
        self.inflight_bytes += size_bytes

    def acknowledge(self, matched: int) -> bool:
        """Record an acknowledgement, and return whether it is news. Old ones change nothing."""
        inflight = self.inflight
        while inflight and inflight[0][0] <= matched:
            self.inflight_bytes -= inflight.popleft()[1]
        if matched <= self.matched:
            return False
        self.matched = matched
        self.window = min(self.window + 1, _WINDOW_MAX)
        self.next = max(self.next, matched + 1)
        return True

    def probe(self, following: int) -> None:
        """Find out where the logs part, trying before `following`; whatever was under way may be lost."""
        self._become("probe")
        self.attempt += 1
        self.window = 1
        self.next = max(following, self.matched + 1)

    def replicate(self, reached: int) -> None:
        """The follower's log is ours up to `matched`, it says up to `reached`: send what follows."""
        self._become("replicate")
        self.next = max(self.matched, reached) + 1

    def send_snapshot(self, snapshot: Snapshot) -> SnapshotProgress:
        """Begin to send this snapshot."""
        self._become("snapshot")
        self.transfer = SnapshotProgress(snapshot)
        return self.transfer

    def is_found(self, reached: int, base: int) -> bool:
        """Return whether it is known now where the logs part, and the log (after `base`) has what follows.

        A probe is answered only by what reaches up to it: older answers must not open the window again.
        """
        if self.state == "probe":
            return max(self.matched, reached) >= self.next - 1
        return self.state == "snapshot" and self.matched >= base

    def has_snapshot(self) -> bool:
        """Return whether the snapshot on its way is installed."""
        transfer = self.transfer
        return transfer is not None and self.matched >= transfer.snapshot.meta.viewstamp.seqno

    def _become(self, state: ProgressState) -> None:
        self.state = state
        self.probing = False
        self.inflight.clear()
        self.inflight_bytes = 0
        self.transfer = None


def peer_status(progress: Progress, now: Instant, *, state: str | None = None) -> PeerStatus:
    """Return how far a follower has come; `state` is the protocol's word for it, if it has another."""
    return PeerStatus(
        node=progress.node,
        matched=progress.matched,
        state=progress.state if state is None else state,
        heard_us_ago=None if progress.heard_at is None else now - progress.heard_at,
    )
