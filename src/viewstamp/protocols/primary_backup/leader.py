"""The primary's side of the log: send, count, drop silent backups, take back those that have caught up.

Rules of this file:

- Entries are sent before they are on the primary's own disk; it counts itself only when they are.
- An entry of this epoch is committed when every member that the synchronous set requires has it, and older
  entries with it.
- The primary alone answers linearizable reads. A newer epoch needs a majority. So a majority that is still in
  this epoch after the read arrived shows that nothing newer was acknowledged before.
"""

from viewstamp.core.effects import Answer, Refuse
from viewstamp.core.events import ReadToken
from viewstamp.core.ids import Incarnation, Instant, NodeId, Seqno, View, Viewstamp
from viewstamp.core.outbox import Outbox
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.primary_backup.journal import SyncRecord
from viewstamp.protocols.primary_backup.messages import (
    AppendEntries,
    AppendRejected,
    AppendResponse,
    Dismissed,
    SnapshotChunk,
)
from viewstamp.protocols.primary_backup.state import Role, State
from viewstamp.protocols.primary_backup.synchronous_set import SynchronousSet
from viewstamp.protocols.replication.compaction import needed_after
from viewstamp.protocols.replication.configuration import Changed, Configuration, is_canonical
from viewstamp.protocols.replication.log import COMMAND, EMPTY, EntryRecord, encode_record
from viewstamp.protocols.replication.node_state import NEVER
from viewstamp.protocols.replication.quorums import Quorums
from viewstamp.protocols.replication.sender import Progress, Sender


class OwnReads:
    """The reads of this node's replica; satisfies `replication.read_rounds.Readers`."""

    __slots__ = ("_outbox",)

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def answer(self, token: ReadToken, index: int) -> None:  # noqa: ARG002  all of it is applied here
        """Answer it from what is applied."""
        self._outbox.emit(Answer(token))

    def refuse(self, token: ReadToken) -> None:
        """Refuse it: the client asks another node."""
        self._outbox.emit(Refuse(token))


class Leader:
    """What a primary knows of its backups, and what it sends them."""

    __slots__ = ("_state", "began_at", "heartbeat_at", "progress", "round", "sender", "synchronous_set")

    def __init__(self, state: State) -> None:
        self._state = state
        self.sender = Sender(state, self._send_append, self._send_chunk)
        self.synchronous_set = SynchronousSet(state)
        self.progress: dict[NodeId, Progress] = {}
        """One for each other member, in the incarnation that it has now; in ascending order."""
        self.round = 0
        """Number of the latest round of confirmation; each answer repeats the highest it has seen."""
        self.began_at = state.now
        self.heartbeat_at = NEVER

    @property
    def has_room(self) -> bool:
        """Whether another entry may be appended."""
        state, options = self._state, self._state.options
        log = state.log
        in_flight = log.last_seqno - state.committed
        return in_flight < options.uncommitted_entries_max and (
            in_flight == 0 or log.bytes_after(state.committed) < options.uncommitted_bytes_max
        )

    @property
    def has_committed(self) -> bool:
        """Whether an entry of this epoch is committed: then everything older is, and this node knows it."""
        return self._state.committed >= self.synchronous_set.floor

    def needed_after(self) -> int | None:
        """Return after which entry backups that catch up need the log; None where none does."""
        return needed_after(self.progress.values(), self._state.log.base_seqno, self._state.now)

    def begin(self, newest: SyncRecord, *, is_first: bool) -> None:
        """Begin to lead, with an entry of the own epoch: older entries are committed together with it."""
        state = self._state
        assert state.role is Role.PRIMARY, state.role
        assert newest.epoch < state.epoch or is_first, (newest, state.epoch)
        self.round = 0
        self.began_at = state.now
        self.progress = {}
        self.synchronous_set.begin(newest, state.log.last_seqno + 1)
        if is_first:
            self.synchronous_set.bootstrap(newest)
        self._follow_members()
        self.heartbeat_at = Instant(state.now + state.options.heartbeat_us)
        self.propose(EMPTY, b"")
        self.send_heartbeat()

    def step_down(self) -> None:
        """Stop leading."""
        self.progress = {}
        self.heartbeat_at = NEVER

    def propose(self, kind: int, data: bytes) -> None:
        """Append an entry, write it and send it at the same time."""
        state = self._state
        log = state.log
        entry = EntryRecord(state.epoch, log.last_seqno + 1, kind, data)
        record = encode_record(entry)
        log.append(entry, record, state.outbox.persist(record))
        for progress in self.progress.values():
            self.sender.pump(progress)

    def propose_command(self, data: bytes) -> None:
        """Append a client's command."""
        self.propose(COMMAND, data)

    def send_heartbeat(self) -> None:
        """Send a heartbeat to every backup. It carries the record, the round and the committed index."""
        for progress in self.progress.values():
            self.sender.send_heartbeat(progress)

    def tick(self) -> None:
        """Send what is due each heartbeat interval."""
        state = self._state
        self.heartbeat_at = Instant(state.now + state.options.heartbeat_us)
        self.revise()
        for progress in self.progress.values():
            self.sender.tick(progress)

    # The synchronous set

    def revise(self) -> bool:
        """Propose another synchronous set where this one has silent members, or lacks one that caught up.

        Return whether there is a new record: the next heartbeat carries it.
        """
        synchronous_set, state = self.synchronous_set, self._state
        latest = synchronous_set.latest
        present = set(latest.members) if latest is not None else {state.node}
        roster = self._roster()
        wanted = {node for node in present if self._is_to_stay(node, roster)}
        wanted |= self._caught_up() & roster.keys()
        changed = self._renewed(roster)
        if not Quorums(synchronous_set.configuration).agree(wanted):
            return False
        if latest is not None and (wanted, roster, changed) == (present, dict(latest.roster), latest.changed):
            return False
        synchronous_set.propose(wanted, roster.items(), changed)
        return True

    def configure(self, configuration: Configuration) -> None:
        """Propose other members of the cluster, with an entry that gives the change a place in the log.

        The caller knows that the last change is in force, and that a majority of the new voters is fit.
        """
        synchronous_set, state = self.synchronous_set, self._state
        assert is_canonical(configuration), configuration
        at = Viewstamp(View(state.epoch), Seqno(state.log.last_seqno + 1))
        roster = configuration.electors
        wanted = {node for node in synchronous_set.newest.members if node in roster}
        wanted |= self._caught_up() & roster.keys()
        synchronous_set.propose(wanted, roster.items(), Changed(configuration, at))
        self._follow_members()
        self.propose(EMPTY, b"")
        self.send_heartbeat()

    def _follow_members(self) -> None:
        """Keep one progress for each other member, and for those that a commit still needs.

        A node that is gone is told so, when its removal is in force.
        """
        state, synchronous_set = self._state, self.synchronous_set
        listed = {**synchronous_set.configuration.members}
        kept = {
            node: each
            for node, each in self.progress.items()
            if node in listed.keys() | synchronous_set.required
        }
        for node, progress in self.progress.items():
            if node not in kept:
                self.dismiss(node, progress.incarnation)
        for node, incarnation in listed.items():
            if node != state.node and node not in kept:
                kept[node] = Progress(node, incarnation, state.log.last_seqno + 1)
        self.progress = dict(sorted(kept.items()))

    def dismiss(self, node: NodeId, incarnation: Incarnation) -> bool:
        """Tell a removed incarnation that it was, if that is in force. Return whether it was."""
        state, in_force = self._state, self.synchronous_set.in_force
        at = None if in_force is None else in_force.configuration.removed_at(node, incarnation)
        if at is None:
            return False
        state.reply(node, Dismissed(epoch=state.epoch, incarnation=incarnation, at=at))
        return True

    def is_fit(self, node: NodeId) -> bool:
        """Return whether a member is heard and has everything."""
        return node == self._state.node or node in self._caught_up()

    def _renewed(self, roster: dict[NodeId, Incarnation]) -> Changed | None:
        """Return the members in the incarnations that they have now."""
        changed = self.synchronous_set.newest.changed
        if changed is None:
            return None
        learning = {
            node: self.progress[node].incarnation
            for node, _ in changed.configuration.learners
            if node in self.progress
        }
        return Changed(changed.configuration.renewed({**learning, **roster}), changed.at)

    def _caught_up(self) -> set[NodeId]:
        """Return the backups that are heard and have all from before this epoch and all that is committed."""
        needed = max(self.synchronous_set.floor, self._state.committed)
        return {
            node
            for node, progress in self.progress.items()
            if progress.matched >= needed and self._is_heard(node)
        }

    def _roster(self) -> dict[NodeId, Incarnation]:
        """Return the incarnation in which each member should count: a new one when it has caught up."""
        caught_up = self._caught_up()
        return {
            node: self.progress[node].incarnation if node in caught_up else known
            for node, known in self.synchronous_set.newest.roster
        }

    def _is_to_stay(self, node: NodeId, roster: dict[NodeId, Incarnation]) -> bool:
        """Return whether a synchronous member is heard and still has the disk that it is on record with."""
        progress = self.progress.get(node)
        return self._is_heard(node) and (progress is None or progress.incarnation == roster[node])

    def _is_heard(self, node: NodeId) -> bool:
        progress = self.progress.get(node)
        if progress is None:
            return node == self._state.node
        return progress.heard_since(self.began_at) > self._state.now - self._state.options.silence_us

    def on_introduce(self, node: NodeId, incarnation: Incarnation) -> None:
        """Bring up, in its new incarnation, a member that came back with another disk."""
        progress = self.progress.get(node)
        if progress is None or progress.incarnation == incarnation:
            return
        if self.synchronous_set.configuration.removed_at(node, incarnation) is not None:
            self._state.drop("introduction from a removed incarnation")
            return
        if progress.heard_at is not None and self._is_heard(node):
            # Two processes cannot run under one name: this introduction is older than the one heard now.
            self._state.drop("introduction from an old incarnation")
            return
        self.progress[node] = Progress(node, incarnation, self._state.log.last_seqno + 1)
        self.synchronous_set.forget(node)
        self.sender.send_heartbeat(self.progress[node])

    # Answers

    def on_append_response(self, source: NodeId, answer: AppendResponse) -> Progress | None:
        """Record an acknowledgement; return the backup that sent it, None where it is not believed."""
        progress = self.sender.believed(self.progress.get(source), answer, self.round)
        if progress is None or not self.sender.on_acknowledged(progress, answer):
            return None
        if answer.version:
            self.synchronous_set.on_stored(source, answer.version)
        self.count()
        return progress

    def on_append_rejected(self, source: NodeId, answer: AppendRejected) -> bool:
        """Find where the logs part, an epoch at a time; return whether the answer is believed."""
        progress = self.sender.believed(self.progress.get(source), answer, self.round)
        if progress is not None:
            self.sender.on_refused(progress, answer)
        return progress is not None

    def count(self) -> None:
        """Put the record in force if it is stored; then commit what every required member has on disk."""
        state, synchronous_set = self._state, self.synchronous_set
        if not synchronous_set.is_settled():
            is_proposed = synchronous_set.latest is None and self.revise()
            if synchronous_set.evaluate() or is_proposed:
                self.send_heartbeat()  # they carry the record to members that lack it
                self._follow_members()
        if synchronous_set.in_force is None:
            return
        reached = state.log.durable_seqno
        for node in synchronous_set.required:
            if node != state.node:
                progress = self.progress[node]
                if not synchronous_set.counts(node, progress.incarnation):
                    return  # its disk is another one: what it promised before counts for nothing now
                reached = min(reached, progress.matched)
        # Only entries of this epoch: an older one might still be replaced if another primary followed now.
        if reached > state.committed and state.log.view_at(reached) == state.epoch:
            state.committed = reached

    def has_confirmed(self, number: int) -> bool:
        """Return whether a majority of the nodes that count has answered this round or a later one."""
        confirmed = [
            node
            for node, progress in self.progress.items()
            if progress.round >= number and self.synchronous_set.counts(node, progress.incarnation)
        ]
        return self.synchronous_set.agree([*confirmed, self._state.node])

    def silent(self, within_us: int) -> list[NodeId]:
        """Return the other members not heard for `within_us`, in ascending order."""
        horizon = self._state.now - within_us
        return [
            node for node, progress in self.progress.items() if progress.heard_since(self.began_at) < horizon
        ]

    def has_lost_quorum(self) -> bool:
        """Return whether no majority was heard for twice `silence_ms`: another primary may serve by now."""
        silent = self.silent(2 * self._state.options.silence_us)
        heard = [
            node
            for node, progress in self.progress.items()
            if node not in silent and self.synchronous_set.counts(node, progress.incarnation)
        ]
        return not self.synchronous_set.agree([*heard, self._state.node])

    def on_peer_up(self, peer: NodeId) -> None:
        """Find out at once where this backup's log ends: its connection is up again."""
        progress = self.progress.get(peer)
        if progress is not None:
            self.sender.send_heartbeat(progress)

    def on_peer_down(self, peer: NodeId) -> None:
        """Count this backup as silent at once, so that commits go on without it where they may.

        If it is alive, it is heard a moment later and taken back. Messages in flight to it may be lost.
        """
        state = self._state
        progress = self.progress.get(peer)
        if progress is None:
            return
        self.sender.on_peer_down(progress)
        progress.heard_at = Instant(state.now - state.options.silence_us)
        if self.synchronous_set.is_settled() and self.revise():
            self.send_heartbeat()

    def _send_append(
        self, progress: Progress, previous_view: int, previous: int, entries: list[bytes]
    ) -> None:
        state = self._state
        record = None
        # Once in force it travels with heartbeats only: entries need not carry it to the few that lack it.
        if self.synchronous_set.in_force is not self.synchronous_set.latest or not entries:
            record = self.synchronous_set.to_send(progress.node, progress.incarnation)
        # Early: entries and heartbeats promise nothing; the primary's promise of its epoch was durable before
        # it led, and it counts itself only when its own write is.
        state.outbox.send_early(
            progress.node,
            AppendEntries(
                epoch=state.epoch,
                to=progress.incarnation,
                previous_view=previous_view,
                previous_seqno=previous,
                entries=entries,
                committed=state.committed,
                round=self.round,
                attempt=progress.attempt,
                record=record,
            ),
        )

    def _send_chunk(self, progress: Progress, meta: SnapshotMeta, offset: int, data: bytes) -> None:
        state = self._state
        # Early: a snapshot holds what is committed; sending it promises nothing of this disk.
        chunk = SnapshotChunk(epoch=state.epoch, to=progress.incarnation, meta=meta, offset=offset, data=data)
        state.outbox.send_early(progress.node, chunk)
