"""Bringing the followers' logs up to the leader's: entries inside a window, probes, snapshots.

A snapshot takes the place of the log where what a follower needs next is compacted away. Nothing here counts:
what an acknowledgement commits is the protocol's to say. And nothing that is sent here promises anything that
the leader's own disk must hold, so it goes out while it is being written.
"""

from collections.abc import Callable

from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.replication.messages import (
    BaseAnswer,
    BaseAppendRejected,
    BaseAppendResponse,
    BaseSnapshotAck,
)
from viewstamp.protocols.replication.node_state import NodeState
from viewstamp.protocols.replication.progress import Progress
from viewstamp.protocols.replication.snapshot_transfer import SnapshotSender


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
