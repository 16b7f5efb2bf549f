"""What a leader knows of one follower, and what it sends to it: entries inside a window, probes, snapshots.

Three states of a follower, after etcd's `tracker/progress.go`:

- `probe`: it is not known where the logs part; one message at a time.
- `replicate`: messages follow one another without waiting, up to the window.
- `snapshot`: what it needs is compacted away; a snapshot takes the place of the log.

Nothing here counts: what an acknowledgement commits is the protocol's to say. And nothing that is sent here
promises anything that the leader's own disk must hold, so it goes out while it is being written.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Literal

from viewstamp.core.ids import Incarnation, Instant, NodeId, Seqno, View, Viewstamp
from viewstamp.core.protocol import PeerStatus
from viewstamp.core.snapshots import Snapshot, SnapshotMeta
from viewstamp.protocols.replication.messages import (
    BaseAnswer,
    BaseAppendRejected,
    BaseAppendResponse,
    BaseSnapshotAck,
)
from viewstamp.protocols.replication.node_state import NodeState, ReplicationOptions

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
        "catches_up",
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
        self.catches_up = False
        """A snapshot was sent to it, and it has not had everything since."""

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
        self.catches_up = True
        self.transfer = SnapshotProgress(snapshot)
        return self.transfer

    def is_found(self, reached: int, base: int) -> bool:
        """Return whether it is known now where the logs part, and the log (after `base`) has what follows.

        A probe is answered only by what reaches up to it: older answers must not open the window again.
        """
        if self.state == "probe":
            return max(self.matched, reached) >= self.next - 1
        return self.state == "snapshot" and self.matched >= base

    @property
    def needed_after(self) -> int | None:
        """As `compaction.Follower` says."""
        if not self.catches_up:
            return None
        return self.matched if self.transfer is None else self.transfer.snapshot.meta.viewstamp.seqno

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


class SnapshotSender:
    """The leader's side of a snapshot's transfer (the follower's: `snapshot_transfer`)."""

    __slots__ = ("_send", "_state")

    def __init__(self, state: NodeState, send: Callable[[Progress, SnapshotMeta, int, bytes], None]) -> None:
        self._state = state
        self._send = send
        """Sends a piece of this snapshot at this offset. It need not wait for the disk: a snapshot holds what
        is committed."""

    def pump(self, progress: Progress) -> None:
        """Send chunks as far as the window allows: one until the follower has said what it wants."""
        transfer, options = progress.transfer, self._state.options
        assert transfer is not None
        size_bytes = transfer.snapshot.meta.size_bytes
        chunks = options.snapshot_window_chunks if transfer.answered else 1
        limit = transfer.acknowledged + chunks * options.snapshot_chunk_bytes
        while transfer.sent < size_bytes and transfer.sent < limit:
            data = transfer.snapshot.read(transfer.sent, options.snapshot_chunk_bytes)
            assert data, (transfer.sent, size_bytes)
            self._send(progress, transfer.snapshot.meta, transfer.sent, data)
            transfer.sent += len(data)
        if size_bytes == 0 and not transfer.answered:
            self._send(progress, transfer.snapshot.meta, 0, b"")

    def on_ack(self, progress: Progress, ack: BaseSnapshotAck) -> None:
        """The follower says where it is."""
        transfer = progress.transfer
        if transfer is None or not self._is_about(ack, transfer.snapshot.meta):
            self._state.drop("answer about another snapshot")
            return
        if ack.gap:
            if ack.offset == transfer.rewound_to:
                return
            transfer.rewound_to = transfer.acknowledged = transfer.sent = ack.offset
            transfer.answered = False  # one chunk at a time, until one fits
        else:
            transfer.answered = True
            transfer.moved = transfer.moved or ack.offset > transfer.acknowledged
            transfer.acknowledged = max(transfer.acknowledged, ack.offset)
            transfer.sent = max(transfer.sent, ack.offset)
        self.pump(progress)

    def _is_about(self, ack: BaseSnapshotAck, meta: SnapshotMeta) -> bool:
        return (
            Viewstamp(View(ack.view), Seqno(ack.seqno)) == meta.viewstamp
            and ack.digest == meta.digest
            and 0 <= ack.offset <= meta.size_bytes
        )


class Sender:
    """What a leader sends to one follower after another."""

    __slots__ = ("_send_append", "_sender", "_state")

    def __init__(
        self,
        state: NodeState,
        send_append: Callable[[Progress, int, int, list[bytes]], None],
        send_chunk: Callable[[Progress, SnapshotMeta, int, bytes], None],
    ) -> None:
        self._state = state
        self._send_append = send_append
        """Sends these entries after (view, seqno), or none as a heartbeat, in the protocol's own message."""
        self._sender = SnapshotSender(state, send_chunk)

    # What goes out.

    def pump(self, progress: Progress) -> None:
        """Send what this follower lacks, as far as its state and its window allow."""
        state = self._state
        if progress.state == "snapshot":
            self._sender.pump(progress)
            return
        last = state.log.last_seqno
        while progress.next <= last and not progress.probing and progress.has_room(state.options):
            if not self._send_entries(progress):
                return

    def send_heartbeat(self, progress: Progress) -> None:
        """Send a message without entries: it finds out whether everything sent so far has arrived."""
        state = self._state
        if progress.state != "snapshot" and state.log.view_at(progress.next - 1) is None:
            self._resort_to_snapshot(progress)
        previous, previous_view = self._position_for(progress)
        self._send_append(progress, previous_view, previous, [])

    def tick(self, progress: Progress) -> None:
        """The heartbeat interval has passed: beat, and send again what a transfer may have lost."""
        self.send_heartbeat(progress)
        if progress.state == "snapshot":
            self._retry_snapshot(progress)

    def on_peer_down(self, progress: Progress) -> None:
        """What was under way to this follower may be lost: the next heartbeat finds out."""
        if progress.state == "replicate":
            progress.probe(progress.next)

    # What comes back.

    def believed(self, progress: Progress | None, answer: BaseAnswer, latest_round: int) -> Progress | None:
        """Return whose answer this is, if it is of the incarnation addressed and makes sense: it is heard."""
        state = self._state
        if progress is None or progress.incarnation != answer.incarnation:
            state.drop("answer of an incarnation that was not addressed")
            return None
        if not 0 <= answer.round <= latest_round:
            state.drop("answer to a round that never was")
            return None
        progress.heard_at = state.now
        return progress

    def on_acknowledged(self, progress: Progress, answer: BaseAppendResponse) -> bool:
        """Record an acknowledgement. Return whether it is possible: then `progress.matched` counts."""
        log = self._state.log
        matched = answer.matched_seqno
        # A correct follower cannot say this. Counting it could commit what is not on a majority.
        if matched >= log.base_seqno and log.view_at(matched) != answer.matched_view:
            self._state.drop("acknowledgement of an entry that is not here")
            return False
        progress.round = max(progress.round, answer.round)
        progress.acknowledge(matched)
        if progress.catches_up and progress.matched >= self._state.committed:
            progress.catches_up = False
        if progress.state != "replicate":
            self._go_on(progress, answer.reached)
        return True

    def on_refused(self, progress: Progress, answer: BaseAppendRejected) -> None:
        """Find where the logs part, a view at a time."""
        log = self._state.log
        progress.round = max(progress.round, answer.round)
        # Each refusal of a window that was under way would else send the same entries once more.
        if self._is_stale(progress, answer):
            self._state.drop("rejection of an earlier message")
            return
        ours = log.last_not_after(answer.hint_seqno, answer.hint_view)
        progress.probe(min(answer.refused_seqno, ours.seqno + 1, answer.hint_seqno + 1))
        if progress.next <= log.last_seqno:
            self._send_entries(progress)
        else:
            self.send_heartbeat(progress)

    def on_snapshot_ack(self, progress: Progress | None, ack: BaseSnapshotAck) -> None:
        """A follower says how much of a snapshot it has."""
        if progress is None or progress.incarnation != ack.incarnation:
            self._state.drop("answer of an incarnation that was not addressed")
            return
        progress.heard_at = self._state.now
        self._sender.on_ack(progress, ack)

    def _go_on(self, progress: Progress, reached: int) -> None:
        """A probe or a snapshot was answered: entries may follow now, or another snapshot must."""
        log = self._state.log
        if progress.is_found(reached, log.base_seqno):
            progress.replicate(min(reached, log.last_seqno))
        elif progress.has_snapshot():
            self._resort_to_snapshot(progress)  # the log has moved on meanwhile

    def _is_stale(self, progress: Progress, answer: BaseAppendRejected) -> bool:
        """Return whether a refusal is of a message sent before we went back, or of what is matched."""
        return (
            answer.attempt != progress.attempt
            or answer.refused_seqno <= progress.matched
            or progress.state == "snapshot"
        )

    # How.

    def _send_entries(self, progress: Progress) -> bool:
        """Send the next entries. Return False where a snapshot had to take their place."""
        state = self._state
        log, options = state.log, state.options
        assert progress.next <= log.last_seqno, (progress.next, log.last_seqno)
        previous = progress.next - 1
        previous_view = log.view_at(previous)
        if previous_view is None:
            self._resort_to_snapshot(progress)
            return False
        entries = log.records(
            progress.next, entries_max=options.message_entries_max, bytes_max=options.message_bytes_max
        )
        self._send_append(progress, previous_view, previous, entries)
        if progress.state == "probe":
            progress.probing = True
        else:
            progress.sent(previous + len(entries), sum(map(len, entries)))
        return True

    def _position_for(self, progress: Progress) -> tuple[int, int]:
        """Return (seqno, view) of what the follower should have: while it gets a snapshot, that one's."""
        if progress.transfer is not None:
            viewstamp = progress.transfer.snapshot.meta.viewstamp
            return viewstamp.seqno, viewstamp.view
        previous = progress.next - 1
        previous_view = self._state.log.view_at(previous)
        assert previous_view is not None, (previous, self._state.log.base_seqno)
        return previous, previous_view

    def _resort_to_snapshot(self, progress: Progress) -> None:
        """What the follower needs next is compacted away."""
        snapshot = self._state.snapshot
        assert snapshot is not None, self._state.log.base_seqno
        progress.send_snapshot(snapshot)
        self._sender.pump(progress)

    def _retry_snapshot(self, progress: Progress) -> None:
        """Send from the last acknowledged offset again if nothing moved for a heartbeat interval.

        Where all was acknowledged, the last chunk: its answer says whether the snapshot was installed.
        """
        transfer = progress.transfer
        assert transfer is not None
        if not transfer.moved:
            size_bytes = transfer.snapshot.meta.size_bytes
            transfer.sent = transfer.acknowledged
            if transfer.sent == size_bytes:
                transfer.sent = max(0, size_bytes - self._state.options.snapshot_chunk_bytes)
            transfer.answered = False
            self._sender.pump(progress)
        transfer.moved = False
        transfer.rewound_to = -1
