"""State transfer: how a primary brings each backup's log up to its own, and snapshots where it must.

Rules of this file:

- Nothing is sent as a whole state that the log can still give: the point at which both logs agree is found by
  their marks in one exchange, and what follows it is sent.
- A snapshot travels in chunks, a bounded number unacknowledged, so that heartbeats pass between them. A
  backup tells how much it has, so a transfer goes on where it stopped, also under another primary with
  the same one.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from viewstamp.core.effects import Stage
from viewstamp.core.events import SnapshotToken
from viewstamp.core.ids import Instant, NodeId, Viewstamp
from viewstamp.core.snapshots import Snapshot, SnapshotMeta
from viewstamp.protocols.replication.log import Log
from viewstamp.protocols.viewstamped.messages import Chunk, StagedPart
from viewstamp.protocols.viewstamped.state import State

_MARKS_MAX: Final = 512


def marks_of(log: Log) -> tuple[Viewstamp, ...]:
    """Return the base and the last entry of each view, ascending; of very many, the newest.

    Two logs that hold an entry of one viewstamp are equal up to it: a view's entries are made by one
    incarnation of one primary, and a backup takes an entry only after the one before. So the marks of
    another log show where both agree.
    """
    marks: list[Viewstamp] = []
    mark = log.last
    while mark.seqno > log.base_seqno and len(marks) < _MARKS_MAX:
        marks.append(mark)
        mark = log.last_not_after(mark.seqno, mark.view - 1)
    marks.append(log.base)
    return tuple(reversed(marks))


def agreement(log: Log, marks: Sequence[Viewstamp]) -> Viewstamp | None:
    """Return the last entry shared with the log of these marks; None if none is known here.

    The result may lie before the base: then the entries after it are not all here.
    """
    for mark in reversed(marks):
        mine = log.last_not_after(log.last_seqno, mark.view)
        if mine.view == mark.view:
            return min(mine, mark)
    return None


class SnapshotSender:
    """Sends one snapshot to one backup. Invariant: acknowledged <= sent <= size."""

    __slots__ = ("_before_tick", "_begun", "_heard", "acknowledged", "sent", "snapshot")

    def __init__(self, snapshot: Snapshot, offset: int) -> None:
        self.snapshot = snapshot
        self.acknowledged = offset
        """The backup has the bytes before this."""
        self.sent = offset
        self._heard = offset
        """The offset of its last answer, which is lower than `acknowledged` after it restarted."""
        self._before_tick = -1
        self._begun = 0 < offset == snapshot.meta.size_bytes
        """A snapshot without a byte still takes one chunk."""

    @property
    def has_arrived(self) -> bool:
        """Whether the backup has acknowledged all of it."""
        return self._begun and self.acknowledged == self.snapshot.meta.size_bytes

    def is_covered_by(self, matched: Viewstamp) -> bool:
        """Return whether a backup that holds the log up to here no longer needs the snapshot."""
        return matched.seqno >= self.snapshot.meta.viewstamp.seqno

    def describes(self, part: StagedPart) -> bool:
        """Return whether this part belongs to the snapshot that is sent."""
        return part_of(self.snapshot, part)

    def heard(self, offset: int) -> None:
        """The backup says how much it has."""
        self._heard = offset
        self.acknowledged = max(self.acknowledged, offset)
        self.sent = max(self.sent, offset)

    def rewind_if_stuck(self) -> None:
        """Send again from what was last heard of, if nothing moved since the previous call."""
        if self._before_tick == self.acknowledged:
            self.acknowledged = self.sent = self._heard
            self._begun = self._begun and self.snapshot.meta.size_bytes > 0
        self._before_tick = self.acknowledged

    def next_chunk(self, chunk_bytes: int, chunks_max: int) -> tuple[int, bytes] | None:
        """Return the next offset and bytes to send, None while the window is full or all is sent."""
        size = self.snapshot.meta.size_bytes
        full = self.sent >= size or self.sent - self.acknowledged >= chunk_bytes * chunks_max
        if full and self._begun:
            return None
        self._begun = True
        offset = self.sent
        data = self.snapshot.read(offset, chunk_bytes)
        assert bool(data) == (offset < size), (offset, size)
        self.sent += len(data)
        return offset, data


def part_of(snapshot: Snapshot, part: StagedPart) -> bool:
    """Return whether this part belongs to this snapshot."""
    meta = snapshot.meta
    fits = part.viewstamp == meta.viewstamp and part.digest == meta.digest
    return fits and 0 <= part.offset <= meta.size_bytes


def _same_state(one: SnapshotMeta, other: SnapshotMeta) -> bool:
    """Return whether two snapshots are of one state: their headers may differ, taken in different views."""
    return (one.viewstamp, one.digest, one.size_bytes) == (other.viewstamp, other.digest, other.size_bytes)


class Progress:
    """How far another member of the view has come, as its primary sees it."""

    __slots__ = (
        "agreed",
        "catches_up",
        "heard_at",
        "matched",
        "next",
        "node",
        "sender",
        "settled_at",
        "unacknowledged",
        "unacknowledged_bytes",
        "unanswered",
    )

    def __init__(self, node: NodeId) -> None:
        self.node = node
        self.matched = 0
        """Everything up to here is on its disk and equal to the primary's log. Never goes back in a view."""
        self.agreed = 0
        """It had said that its log is equal to the primary's up to here; it may not have been on its disk."""
        self.catches_up = False
        """A snapshot was sent to it, and it has not had everything since."""
        self.next: int | None = None
        """What to send next; None until it has said how its log looks."""
        self.sender: SnapshotSender | None = None
        """The snapshot in flight; nothing else is sent meanwhile."""
        self.unacknowledged: deque[tuple[int, int]] = deque()
        """Last seqno and bytes of each message with entries in flight."""
        self.unacknowledged_bytes = 0
        self.heard_at: Instant | None = None
        self.settled_at = Instant(0)
        """Until then its questions cross with the answer to an earlier one."""
        self.unanswered = 0
        """Heartbeats since it last answered something that this primary sent."""

    @property
    def state(self) -> str:
        """A word for operators."""
        if self.sender is not None:
            return "snapshot"
        return "probe" if self.next is None else "replicate"

    @property
    def needed_after(self) -> int | None:
        """As `compaction.Follower` says."""
        if not self.catches_up:
            return None
        if self.sender is not None:
            return self.sender.snapshot.meta.viewstamp.seqno
        return max(self.matched, self.agreed)

    def send_snapshot(self, snapshot: Snapshot, offset: int) -> None:
        """Begin to send this snapshot at this offset."""
        self.sender = SnapshotSender(snapshot, offset)
        self.catches_up = True

    def continue_from(self, seqno: int) -> None:
        """Send what follows this seqno, whatever was sent before."""
        self.next = seqno + 1
        self.agreed = seqno
        self.sender = None
        self.unacknowledged.clear()
        self.unacknowledged_bytes = 0

    def sent(self, last: int, size_bytes: int) -> None:
        """Entries up to `last` are in flight."""
        self.next = last + 1
        self.unacknowledged.append((last, size_bytes))
        self.unacknowledged_bytes += size_bytes

    def acknowledged(self, seqno: int) -> None:
        """Its log is durable and equal up to this seqno."""
        self.matched = max(self.matched, seqno)
        if self.next is None or self.next <= seqno:
            self.next = seqno + 1
        waiting = self.unacknowledged
        while waiting and waiting[0][0] <= seqno:
            self.unacknowledged_bytes -= waiting.popleft()[1]


class SnapshotReceiver:
    """A snapshot that is arriving here. One at a time; staged without a gap.

    Pieces that overtook others are kept until their turn comes, no more than one window of them: dropped,
    each would cost its sender a wait of several heartbeats.
    """

    __slots__ = ("_early", "_meta", "_state", "_token", "offset")

    def __init__(self, state: State) -> None:
        self._state = state
        self._meta: SnapshotMeta | None = None
        self._token = SnapshotToken(0)
        self._early: dict[int, bytes] = {}
        """Pieces of this snapshot by offset, all beyond `offset`."""
        self.offset = 0
        """The bytes before this were handed out to be staged."""

    @property
    def part(self) -> StagedPart | None:
        """How much of which snapshot has arrived, to be told to a primary."""
        if self._meta is None:
            return None
        return StagedPart(viewstamp=self._meta.viewstamp, digest=self._meta.digest, offset=self.offset)

    def take(self, chunk: Chunk, token: SnapshotToken) -> bool:
        """Stage a chunk if it is the next, under `token` if its snapshot is new; return whether it fits."""
        meta = chunk.meta
        end = chunk.offset + len(chunk.data)
        if not 0 <= chunk.offset <= end <= meta.size_bytes or (not chunk.data and meta.size_bytes):
            return False
        if self._meta is None or not _same_state(self._meta, meta):
            self._meta, self._token, self.offset = meta, token, 0
            self._early.clear()
        if chunk.offset == self.offset:
            self._stage(self._meta, chunk.data)
        elif chunk.offset > self.offset and len(self._early) < self._state.options.snapshot_window_chunks:
            self._early[chunk.offset] = chunk.data
        return True

    def _stage(self, meta: SnapshotMeta, data: bytes | None) -> None:
        """Stage this piece, and those that had overtaken it."""
        while data is not None:
            self._state.outbox.emit(Stage(self._token, meta, self.offset, data))
            self.offset += len(data)
            data = self._early.pop(self.offset, None)
        for passed in [offset for offset in self._early if offset < self.offset]:
            del self._early[passed]  # a sender with other options cuts pieces elsewhere

    def finished(self, token: SnapshotToken) -> bool:
        """Return whether this token is of the snapshot that arrives, and forget it: it is complete."""
        if self._meta is None or token != self._token:
            return False
        self._meta, self.offset = None, 0
        self._early.clear()
        return True
