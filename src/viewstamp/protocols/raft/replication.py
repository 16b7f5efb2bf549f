"""The leader's side of the log: propose, send, count acknowledgements, commit (Raft 5.3, 5.4.2).

Rules of this file:

- Nothing a leader sends promises anything that its own disk must hold: entries go out while they are being
  written here, and the leader counts itself when its write is durable.
- Only an entry of the leader's own term is committed by counting (5.4.2, Figure 8).
- An answer counts only from the incarnation that the configuration lists, and only for this term.
"""

from collections.abc import Callable

from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.raft.configuration import Configuration, encode_configuration
from viewstamp.protocols.raft.messages import Appended, AppendEntries, Conflict
from viewstamp.protocols.raft.records import CONFIGURATION
from viewstamp.protocols.raft.state import NEVER, State
from viewstamp.protocols.shipping.entries import COMMAND, EMPTY, EntryRecord, encode_record
from viewstamp.protocols.shipping.progress import Progress


class Replication:
    """What a leader does for its followers. Idle at other nodes."""

    __slots__ = (
        "_send_snapshot",
        "_state",
        "began_at",
        "first_own",
        "heartbeat_at",
        "progress",
        "round",
    )

    def __init__(self, state: State, send_snapshot: Callable[[Progress], None]) -> None:
        self._state = state
        self._send_snapshot = send_snapshot
        """Sends what it may of a snapshot to a follower in state `snapshot`."""
        self.progress: dict[NodeId, Progress] = {}
        """One for each voter and learner but the leader."""
        self.round = 0
        """Number of the latest round of confirmation in this term."""
        self.first_own = 0
        """The first entry of this leader's term."""
        self.began_at = state.now
        self.heartbeat_at = NEVER

    @property
    def has_committed(self) -> bool:
        """Whether an entry of the leader's own term is committed: only then does it know what is (6.4)."""
        return self._state.committed >= self.first_own

    @property
    def has_room(self) -> bool:
        """Whether the window of uncommitted entries is open."""
        state, options = self._state, self._state.options
        return (
            state.log.last_seqno - state.committed < options.uncommitted_entries_max
            and state.log.bytes_after(state.committed) < options.uncommitted_bytes_max
        )

    def lead(self) -> None:
        """Begin to lead: an entry of the own term, so that older ones can be committed (thesis 6.4).

        The first leader of a cluster begins with the configuration, so that all logs agree on it.
        """
        state = self._state
        self.round = 0
        self.began_at = state.now
        self.first_own = state.log.last_seqno + 1
        self.progress = {}
        self._follow_configuration()
        if state.membership.changed_at == 0:
            self.configure(state.membership.current)
        else:
            self.propose(EMPTY, b"")
        self.heartbeat_at = Instant(state.now + state.options.heartbeat_us)

    def rest(self) -> None:
        """Stop leading."""
        self.progress = {}
        self.heartbeat_at = NEVER

    def propose(self, kind: int, data: bytes) -> None:
        """Append an entry, write it and send it at the same time."""
        state = self._state
        log = state.log
        entry = EntryRecord(state.term, log.last_seqno + 1, kind, data)
        record = encode_record(entry)
        log.append(entry, record, state.outbox.persist(record))
        for progress in self.progress.values():
            self.pump(progress)

    def propose_command(self, data: bytes) -> None:
        """Append what a client wants."""
        self.propose(COMMAND, data)

    def configure(self, configuration: Configuration) -> None:
        """Append a configuration; it is in force at once. The caller knows that no other is uncommitted."""
        state = self._state
        state.membership.append(state.log.last_seqno + 1, configuration)
        self._follow_configuration()
        self.propose(CONFIGURATION, encode_configuration(configuration))

    def pump(self, progress: Progress) -> None:
        """Send what this follower lacks, as far as its state and its window allow."""
        state = self._state
        if progress.state == "snapshot":
            self._send_snapshot(progress)
            return
        last = state.log.last_seqno
        while progress.next <= last and not progress.probing and progress.has_room(state.options):
            if not self._send_entries(progress):
                return

    def beat(self) -> None:
        """Send a heartbeat to everybody. It carries the latest round of confirmation and the commitment."""
        for progress in self.progress.values():
            self._send_heartbeat(progress)

    def tick(self) -> None:
        """The heartbeat interval has passed."""
        state = self._state
        self.heartbeat_at = Instant(state.now + state.options.heartbeat_us)
        for progress in self.progress.values():
            self._send_heartbeat(progress)
            if progress.state == "snapshot":
                self._retry_snapshot(progress)

    def on_appended(self, source: NodeId, answer: Appended) -> Progress | None:
        """Take note of an acknowledgement; return the follower it moved, None where it is not believed."""
        state = self._state
        progress = self._answering(source, answer)
        if progress is None:
            return None
        matched = answer.matched_seqno
        if matched >= state.log.base_seqno and state.log.view_at(matched) != answer.matched_view:
            state.drop("acknowledgement of an entry that is not ours")
            return None
        progress.round = max(progress.round, answer.round)
        news = progress.acknowledge(matched)
        if progress.is_found(answer.reached, state.log.base_seqno):
            progress.replicate(min(answer.reached, state.log.last_seqno))
        elif progress.has_snapshot():
            self._resort_to_snapshot(progress)  # the log has moved on meanwhile
        if news and matched > state.committed:
            self.count()
        return progress

    def on_conflict(self, source: NodeId, answer: Conflict) -> Progress | None:
        """Find where the logs part, a term at a time; return the follower, None where it is not believed."""
        state = self._state
        progress = self._answering(source, answer)
        if progress is None:
            return None
        progress.round = max(progress.round, answer.round)
        if self._is_stale(progress, answer):
            state.drop("conflict of an earlier message")
            return progress
        ours = state.log.last_not_after(answer.hint_seqno, answer.hint_view)
        progress.probe(min(answer.refused_seqno, ours.seqno + 1, answer.hint_seqno + 1))
        if progress.next <= state.log.last_seqno:
            self._send_entries(progress)
        else:
            self._send_heartbeat(progress)
        return progress

    def count(self) -> None:
        """Commit what a majority of the voters has on disk, if it is of this term."""
        state = self._state
        membership, progress = state.membership, self.progress
        positions = [
            progress[voter].matched if voter in progress else state.log.durable_seqno
            for voter in membership.voters
        ]
        positions.sort(reverse=True)
        reached = positions[membership.quorum - 1]
        if reached > state.committed and state.log.view_at(reached) == state.term:
            state.committed = reached

    def has_confirmed(self, number: int) -> bool:
        """Tell whether a majority of the voters has answered this round or a later one."""
        confirmed = [node for node, progress in self.progress.items() if progress.round >= number]
        return self._state.membership.has_quorum([*confirmed, self._state.node])

    def silent_voters(self, within_us: int) -> list[NodeId]:
        """Return the voters not heard for so long, in ascending order; this node is never among them."""
        horizon = self._state.now - within_us
        return [
            node
            for node, progress in sorted(self.progress.items())
            if node in self._state.membership.voters
            and (progress.heard_at if progress.heard_at is not None else self.began_at) < horizon
        ]

    def has_lost_quorum(self) -> bool:
        """Tell whether no majority was heard for the longest election timeout (thesis 6.2)."""
        state = self._state
        silent = self.silent_voters(2 * state.options.election_timeout_us)
        return bool(silent) and not state.membership.has_quorum(state.membership.voters.difference(silent))

    def on_peer_up(self, peer: NodeId) -> None:
        """A connection stands again: find out at once where this follower is."""
        progress = self.progress.get(peer)
        if progress is not None:
            self._send_heartbeat(progress)

    def on_peer_down(self, peer: NodeId) -> None:
        """What was under way to this follower may be lost: the next heartbeat finds out."""
        progress = self.progress.get(peer)
        if progress is not None and progress.state == "replicate":
            progress.probe(progress.next)

    def _answering(self, source: NodeId, answer: Appended | Conflict) -> Progress | None:
        """Return whose answer this is, if it is from a member in its listed incarnation and makes sense."""
        state = self._state
        progress = self.progress.get(source)
        if progress is None or progress.incarnation != answer.incarnation:
            state.drop("answer of an incarnation that is no member")
            return None
        if not 0 <= answer.round <= self.round:
            state.drop("answer to a round that never was")
            return None
        progress.heard_at = state.now
        return progress

    def _is_stale(self, progress: Progress, answer: Conflict) -> bool:
        """Tell whether a refusal is of a message sent before we went back already, or of what is matched."""
        return (
            answer.attempt != progress.attempt
            or answer.refused_seqno <= progress.matched
            or progress.state == "snapshot"
        )

    def _send_entries(self, progress: Progress) -> bool:
        """Send the next entries. Return False where a snapshot had to take their place."""
        state = self._state
        log, options = state.log, state.options
        previous = progress.next - 1
        previous_view = log.view_at(previous)
        if previous_view is None:
            self._resort_to_snapshot(progress)
            return False
        entries = log.records(
            progress.next, entries_max=options.message_entries_max, bytes_max=options.message_bytes_max
        )
        # Early: entries promise nothing, and the leader counts itself only when its own write is durable.
        state.outbox.send_early(
            progress.node,
            AppendEntries(
                state.term,
                progress.incarnation,
                previous_view,
                previous,
                entries,
                state.committed,
                self.round,
                progress.attempt,
            ),
        )
        if progress.state == "probe":
            progress.probing = True
        else:
            progress.sent(previous + len(entries), sum(map(len, entries)))
        return True

    def _send_heartbeat(self, progress: Progress) -> None:
        """Send a message without entries: it finds out whether everything sent so far has arrived."""
        state = self._state
        if progress.state != "snapshot" and state.log.view_at(progress.next - 1) is None:
            self._resort_to_snapshot(progress)
        previous, previous_view = self._position_for(progress)
        # Early: a heartbeat promises nothing that the disk must hold.
        state.outbox.send_early(
            progress.node,
            AppendEntries(
                state.term,
                progress.incarnation,
                previous_view,
                previous,
                [],
                state.committed,
                self.round,
                progress.attempt,
            ),
        )

    def _position_for(self, progress: Progress) -> tuple[int, int]:
        """Return (seqno, term) of what the follower should have: while it gets a snapshot, that one's."""
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
        self._send_snapshot(progress)

    def _retry_snapshot(self, progress: Progress) -> None:
        """Send from the last acknowledged offset again if nothing moved for a heartbeat interval.

        Where all was acknowledged, the last chunk: its answer tells what became of the snapshot.
        """
        transfer = progress.transfer
        assert transfer is not None
        if not transfer.moved:
            size_bytes = transfer.snapshot.meta.size_bytes
            transfer.sent = transfer.acknowledged
            if transfer.sent == size_bytes:
                transfer.sent = max(0, size_bytes - self._state.options.snapshot_chunk_bytes)
            transfer.answered = False
            self._send_snapshot(progress)
        transfer.moved = False
        transfer.rewound_to = -1

    def _follow_configuration(self) -> None:
        """Keep one progress for each member's listed incarnation, a new one for a new incarnation."""
        state = self._state
        wanted = dict(state.membership.incarnations)
        wanted.pop(state.node, None)
        self.progress = {
            node: known
            if (known := self.progress.get(node)) is not None and known.incarnation == incarnation
            else Progress(node, incarnation, state.log.last_seqno + 1)
            for node, incarnation in sorted(wanted.items())
        }
