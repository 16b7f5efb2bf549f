"""The leader's side of the log: propose, send, count acknowledgements, commit (Raft 5.3, 5.4.2).

Rules of this file:

- Nothing a leader sends promises anything that its own disk must hold: entries go out while they are being
  written here, and the leader counts itself when its write is durable.
- Only an entry of the leader's own term is committed by counting (5.4.2, Figure 8).
- An answer counts only from the incarnation that the configuration lists, and only for this term.
"""

from typing import TypeAlias

from viewstamp.core.effects import Answer, Refuse
from viewstamp.core.events import ReadToken
from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.raft.journal import CONFIGURATION
from viewstamp.protocols.raft.messages import (
    AppendEntries,
    AppendRejected,
    AppendResponse,
    ReadIndexAnswer,
    SnapshotChunk,
)
from viewstamp.protocols.raft.state import Role, State
from viewstamp.protocols.replication.compaction import needed_after
from viewstamp.protocols.replication.configuration import Configuration, encode_configuration, is_canonical
from viewstamp.protocols.replication.log import EMPTY, EntryRecord, encode_record
from viewstamp.protocols.replication.node_state import NEVER
from viewstamp.protocols.replication.sender import Progress, Sender

Origin: TypeAlias = tuple[NodeId | None, int]
"""The reader: None and a token of our own replica, or a follower and its request."""


class Leader:
    """What a leader does for its followers. Idle at other nodes."""

    __slots__ = (
        "_state",
        "began_at",
        "heartbeat_at",
        "noop_seqno",
        "progress",
        "round",
        "sender",
    )

    def __init__(self, state: State) -> None:
        self._state = state
        self.sender = Sender(state, self._send_append, self._send_chunk)
        self.progress: dict[NodeId, Progress] = {}
        """One for each voter and learner but the leader."""
        self.round = 0
        """Number of the latest round of confirmation in this term."""
        self.noop_seqno = 0
        """The first entry of this leader's term."""
        self.began_at = state.now
        self.heartbeat_at = NEVER

    @property
    def has_committed(self) -> bool:
        """Whether an entry of the leader's own term is committed: only then does it know what is (6.4)."""
        return self._state.committed >= self.noop_seqno

    @property
    def has_room(self) -> bool:
        """Whether the window of uncommitted entries is open."""
        state, options = self._state, self._state.options
        entries = state.log.last_seqno - state.committed
        return entries == 0 or (
            entries < options.uncommitted_entries_max
            and state.log.bytes_after(state.committed) < options.uncommitted_bytes_max
        )

    def needed_after(self) -> int | None:
        """Return after which entry followers that catch up need the log; None where none does."""
        return needed_after(self.progress.values(), self._state.log.base_seqno, self._state.now)

    def begin(self) -> None:
        """Begin to lead: an entry of the own term, so that older ones can be committed (thesis 6.4).

        The first leader of a cluster begins with the configuration, so that all logs agree on it.
        """
        state = self._state
        assert state.role is Role.LEADER, state.role
        assert state.leader == state.node, state.leader
        self.round = 0
        self.began_at = state.now
        self.noop_seqno = state.log.last_seqno + 1
        self.progress = {}
        self._follow_configuration()
        if state.membership.changed_at == 0:
            self.configure(state.membership.current)
        else:
            self.propose(EMPTY, b"")
        self.heartbeat_at = Instant(state.now + state.options.heartbeat_us)

    def step_down(self) -> None:
        """Stop leading."""
        self.progress = {}
        self.heartbeat_at = NEVER

    def propose(self, kind: int, data: bytes) -> None:
        """Append an entry, write it and send it at the same time.

        "If command received from client: append entry to local log, respond after entry applied" (figure 2).
        """
        state = self._state
        assert state.role is Role.LEADER, state.role
        log = state.log
        entry = EntryRecord(state.term, log.last_seqno + 1, kind, data)
        record = encode_record(entry)
        log.append(entry, record, state.outbox.persist(record))
        for progress in self.progress.values():
            self.sender.pump(progress)

    def configure(self, configuration: Configuration) -> None:
        """Append a configuration; it is in force at once. The caller knows that no other is uncommitted."""
        state = self._state
        # The erratum to thesis 4.1: two changes under way can have majorities without a common member.
        assert state.membership.changed_at <= state.committed, (state.membership.changed_at, state.committed)
        assert is_canonical(configuration), configuration
        state.membership.append(state.log.last_seqno + 1, configuration)
        self._follow_configuration()
        self.propose(CONFIGURATION, encode_configuration(configuration))

    def send_heartbeat(self) -> None:
        """Send every follower a heartbeat, with the latest round of confirmation and the commitment."""
        for progress in self.progress.values():
            self.sender.send_heartbeat(progress)

    def tick(self) -> None:
        """The heartbeat interval has passed."""
        state = self._state
        self.heartbeat_at = Instant(state.now + state.options.heartbeat_us)
        for progress in self.progress.values():
            self.sender.tick(progress)

    def on_append_response(self, source: NodeId, answer: AppendResponse) -> Progress | None:
        """Record an acknowledgement; return the follower it moved, None where it is not believed."""
        progress = self.sender.believed(self.progress.get(source), answer, self.round)
        if progress is None or not self.sender.on_acknowledged(progress, answer):
            return None
        if progress.matched > self._state.committed:
            self.count()
        return progress

    def on_append_rejected(self, source: NodeId, answer: AppendRejected) -> bool:
        """Find where the logs part, a term at a time; return whether the answer is believed."""
        progress = self.sender.believed(self.progress.get(source), answer, self.round)
        if progress is not None:
            self.sender.on_refused(progress, answer)
        return progress is not None

    def count(self) -> None:
        """Commit what a majority of the voters (joint: of each half) has on disk, if it is of this term.

        "If there exists an N such that N > commitIndex, a majority of matchIndex[i] >= N, and log[N].term ==
        currentTerm: set commitIndex = N" (figure 2).
        """
        state = self._state
        matched = {node: progress.matched for node, progress in self.progress.items()}
        reached = state.membership.reached(matched, own=state.log.durable_seqno)
        # An entry of an earlier term on a majority may still be replaced (figure 8): it is committed with the
        # first entry of this term, not by counting.
        if reached > state.committed and state.log.view_at(reached) == state.term:
            state.committed = reached

    def has_confirmed(self, number: int) -> bool:
        """Return whether a majority of the voters has answered this round or a later one."""
        confirmed = [node for node, progress in self.progress.items() if progress.round >= number]
        return self._state.membership.has_quorum([*confirmed, self._state.node])

    def silent_voters(self, within_us: int) -> list[NodeId]:
        """Return the voters not heard within `within_us`, in ascending order, without this node."""
        horizon = self._state.now - within_us
        return [
            node
            for node, progress in sorted(self.progress.items())
            if node in self._state.membership.voters and progress.heard_since(self.began_at) < horizon
        ]

    def is_heard(self, node: NodeId, within_us: int) -> bool:
        """Return whether the listed incarnation of a member answered within `within_us`."""
        if node == self._state.node:
            return True
        progress = self.progress.get(node)
        heard_at = progress.heard_at if progress is not None else None
        return heard_at is not None and heard_at > self._state.now - within_us

    def has_lost_quorum(self) -> bool:
        """Return whether no majority was heard for the longest election timeout (thesis 6.2)."""
        state = self._state
        silent = self.silent_voters(2 * state.options.election_timeout_us)
        return bool(silent) and not state.membership.has_quorum(state.membership.voters.difference(silent))

    def on_peer_up(self, peer: NodeId) -> None:
        """A connection is up again: find out at once where this follower is."""
        progress = self.progress.get(peer)
        if progress is not None:
            self.sender.send_heartbeat(progress)

    def on_peer_down(self, peer: NodeId) -> None:
        """What was under way to this follower may be lost."""
        progress = self.progress.get(peer)
        if progress is not None:
            self.sender.on_peer_down(progress)

    def _send_append(
        self, progress: Progress, previous_view: int, previous: int, entries: list[bytes]
    ) -> None:
        state = self._state
        # Early: entries promise nothing, and the leader counts itself only when its own write is durable.
        state.outbox.send_early(
            progress.node,
            AppendEntries(
                term=state.term,
                to=progress.incarnation,
                previous_view=previous_view,
                previous_seqno=previous,
                entries=entries,
                committed=state.committed,
                round=self.round,
                attempt=progress.attempt,
            ),
        )

    def _send_chunk(self, progress: Progress, meta: SnapshotMeta, offset: int, data: bytes) -> None:
        state = self._state
        # Early: a snapshot holds what is committed; sending it promises nothing of this disk.
        chunk = SnapshotChunk(term=state.term, to=progress.incarnation, meta=meta, offset=offset, data=data)
        state.outbox.send_early(progress.node, chunk)

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


class LeaderReads:
    """Answers a leader's confirmed reads (thesis 6.4); satisfies `replication.read_rounds.Readers`."""

    __slots__ = ("_state",)

    def __init__(self, state: State) -> None:
        self._state = state

    def answer(self, origin: Origin, index: int) -> None:
        """Answer the own replica's read; tell a follower up to where it must have applied."""
        source, number = origin
        if source is None:
            self._state.outbox.emit(Answer(ReadToken(number)))
        else:
            self._state.reply(source, ReadIndexAnswer(term=self._state.term, request=number, index=index))

    def refuse(self, origin: Origin) -> None:
        """The read cannot be confirmed here: the reader asks another node, or later."""
        source, number = origin
        if source is None:
            self._state.outbox.emit(Refuse(ReadToken(number)))
        else:
            self._state.reply(source, ReadIndexAnswer(term=self._state.term, request=number, index=None))
