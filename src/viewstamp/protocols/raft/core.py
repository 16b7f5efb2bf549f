"""Raft (Ongaro and Ousterhout 2014, Ongaro's thesis) as a core: one step function over parts.

This file branches, its parts act. It holds the rules about terms that apply to every message (5.1), and what
follows from a step whatever the step was: applying, answering reads, compacting, naming the leader.
"""

from collections.abc import Sequence
from typing import assert_never

from viewstamp.core.effects import Effect, LeaderChanged, Refuse, Release
from viewstamp.core.events import (
    Captured,
    ChangeMembers,
    Directed,
    Event,
    PeerDown,
    PeerUp,
    Persisted,
    Proposed,
    Queried,
    ReadToken,
    Received,
    Staged,
    TakeSnapshot,
    TransferLeadership,
    Woke,
)
from viewstamp.core.ids import Incarnation, Instant, NodeId, PersistSeq, View
from viewstamp.core.outbox import Outbox
from viewstamp.core.protocol import CoreSetup, Status
from viewstamp.protocols.raft import status
from viewstamp.protocols.raft.bootstrap import Bootstrap
from viewstamp.protocols.raft.changes import RaftChanges
from viewstamp.protocols.raft.election import Election
from viewstamp.protocols.raft.follower import Follower
from viewstamp.protocols.raft.follower_reads import FollowerReads
from viewstamp.protocols.raft.journal import replay
from viewstamp.protocols.raft.leader import Leader, LeaderReads, Origin
from viewstamp.protocols.raft.leadership_transfer import LeadershipTransfer
from viewstamp.protocols.raft.messages import (
    AppendEntries,
    AppendRejected,
    AppendResponse,
    Dismissed,
    Introduce,
    RaftMessage,
    ReadIndex,
    ReadIndexAnswer,
    Recognize,
    RequestVote,
    SnapshotAck,
    SnapshotChunk,
    StaleTerm,
    TimeoutNow,
    VoteResponse,
)
from viewstamp.protocols.raft.options import RaftOptions
from viewstamp.protocols.raft.roles import Roles
from viewstamp.protocols.raft.state import Role, State
from viewstamp.protocols.replication.compaction import Compaction, apply_committed
from viewstamp.protocols.replication.follower import PendingAck
from viewstamp.protocols.replication.log import COMMAND
from viewstamp.protocols.replication.node_state import NEVER, in_range, leaps
from viewstamp.protocols.replication.read_rounds import ReadRounds
from viewstamp.protocols.replication.snapshot_transfer import SnapshotReceiver, SnapshotTokens


class RaftCore:
    """One member of a Raft cluster; satisfies `core.protocol.Core`.

    Effects imply what `DEFINITION.guarantees` says: `Apply` is of an entry that a majority of the voters has
    on disk; `Answer` of a moment at which this state contained everything acknowledged before the read.
    """

    __slots__ = (
        "_named_leader",
        "bootstrap",
        "changes",
        "compaction",
        "election",
        "follower_reads",
        "following",
        "leader_reads",
        "leadership_transfer",
        "receiver",
        "replication",
        "roles",
        "state",
    )

    def __init__(self, setup: CoreSetup) -> None:
        """Begin where the journal ends.

        Raises:
            JournalCorrupt: the journal is not one of Raft's, or something in it is missing.
        """
        options = setup.options
        assert isinstance(options, RaftOptions), options
        outbox = Outbox(setup.recovered.written)
        self.state = state = State(setup, options, outbox)
        new_token = SnapshotTokens().new
        self.replication = Leader(state)
        self.compaction = Compaction(
            state, new_token, self.replication.needed_after, retry_after_us=options.election_timeout_us
        )
        self.leader_reads = ReadRounds[Origin](state, self.replication, LeaderReads(state))
        self.follower_reads = FollowerReads(state)
        self.leadership_transfer = LeadershipTransfer(state, self.replication)
        self.changes = RaftChanges(state, self.replication, self.leadership_transfer)
        self.bootstrap = Bootstrap(state, joining=setup.joining)
        pending_ack = PendingAck()
        self.roles = Roles(
            state, self.replication, pending_ack, self.leader_reads, self.follower_reads, self.changes
        )
        self.election = Election(state, self.roles)
        self.following = Follower(state, self.roles, self.bootstrap, pending_ack)
        self.receiver = SnapshotReceiver(state, self.following, new_token)
        self._recover(setup)
        self._named_leader: tuple[int, NodeId | None] = (state.term, None)
        """What the last `LeaderChanged` said."""
        self.bootstrap.begin()

    def _recover(self, setup: CoreSetup) -> None:
        state = self.state
        on_disk, log_gave_way = replay(setup.recovered)
        state.term, state.vote, state.bootstrapped = on_disk.term, on_disk.vote, on_disk.rebuilt.bootstrapped
        state.log, state.membership = on_disk.log, on_disk.membership
        state.promise_write = setup.recovered.written
        state.snapshot = setup.recovered.snapshot
        state.applied = state.committed = state.snapshot_seqno
        if log_gave_way:
            base = state.log.base
            write = state.write_base(base, state.membership.current, kept=base.seqno)
            state.outbox.emit_durable(Release(write))
        if state.bootstrapped:
            state.await_leader()
            if state.is_voter and len(state.membership.voters) == 1:
                state.election_at = state.now

    @property
    def deadline(self) -> Instant | None:
        """The next moment at which it wants to be woken."""
        state = self.state
        if state.applied < state.committed:
            return state.now
        if state.role is Role.LEADER:
            timer = self.replication.heartbeat_at
        else:
            timer = min(state.election_at, self.election.ask_again_at)
        earliest = min(
            timer,
            self.bootstrap.introduce_at,
            self.follower_reads.give_up_at,
            self.leadership_transfer.abort_at,
        )
        return earliest if earliest < NEVER else None

    @property
    def leader(self) -> NodeId | None:
        """The leader of the current term, as far as this node knows."""
        return self.state.leader

    @property
    def view(self) -> View:
        """The current term."""
        return View(self.state.term)

    @property
    def accepting(self) -> bool:
        """Whether this node leads, is not handing over, and has room for another entry."""
        return (
            self.state.role is Role.LEADER
            and self.leadership_transfer.target is None
            and self.replication.has_room
        )

    def status(self, now: Instant) -> Status:
        """Return this node's own account of itself."""
        return status.of(self.state, self.replication, self.election, self.bootstrap, now)

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        """Take in one event and return what must be done, in order."""
        state = self.state
        assert now >= state.now, (now, state.now)
        state.now = now
        was_behind = state.applied < state.committed
        self._take_in(event)
        # What one step left over waits for the next wake: messages, such as a request for a vote, go first.
        if state.applied < state.committed and (not was_behind or isinstance(event, Woke)):
            self._apply()
        if self._named_leader != (state.term, state.leader):
            self._name_leader()
        return state.outbox.take()

    def _take_in(self, event: Event) -> None:  # noqa: C901  one case an event, each a call
        match event:
            case Received():
                self._receive(event.source, event.message)
            case Persisted():
                self._on_persisted(event.seq)
            case Proposed():
                assert self.accepting, "nothing is proposed to a core that is not accepting"
                self.replication.propose(COMMAND, event.data)
            case Woke():
                self._wake()
            case Queried():
                self._query(event.token)
            case Captured():
                self.compaction.on_captured(event, self._matched_by_all())
            case Staged():
                self.receiver.on_staged(event.token, event.snapshot)
            case PeerUp():
                self._on_peer_up(event.peer)
            case PeerDown():
                self._on_peer_down(event.peer)
            case Directed():
                self._direct(event)
            case _:
                assert_never(event)

    # What the world says.

    def _on_persisted(self, seq: PersistSeq) -> None:
        state = self.state
        state.outbox.persisted(seq)
        state.log.persisted(seq)
        if state.role is Role.LEADER:
            self.replication.count()
            self._after_count()
        elif state.role is Role.FOLLOWER:
            if state.leader is not None:
                self.following.on_persisted(state.leader)
        else:
            self.election.on_persisted()

    def _wake(self) -> None:
        state = self.state
        now = state.now
        if now >= self.bootstrap.introduce_at:
            self.bootstrap.introduce()
        if now >= self.leadership_transfer.abort_at:
            self.leadership_transfer.abort()
        if now >= self.follower_reads.give_up_at:
            self.follower_reads.refuse_all()
        if state.role is Role.LEADER:
            if now >= self.replication.heartbeat_at:
                self._tick()
        elif now >= state.election_at and state.bootstrapped:
            if not state.is_voter or self.bootstrap.removed:
                self._wait_in_silence()
            else:
                self.election.campaign()
        elif now >= self.election.ask_again_at:
            self.election.ask_again()

    def _wait_in_silence(self) -> None:
        """An election timeout passed at a node that may not campaign."""
        self.roles.become_follower(self.state.term, None)
        if not self.bootstrap.removed:
            self.bootstrap.on_silence()

    def _tick(self) -> None:
        if self.replication.has_lost_quorum():
            self.roles.become_follower(self.state.term, None)
            return
        self.replication.tick()
        self.leadership_transfer.tick()
        self.changes.proceed()

    def _query(self, token: ReadToken) -> None:
        if self.state.role is Role.LEADER:
            self.leader_reads.ask((None, token))
        elif self.state.leader is None:
            self.state.outbox.emit(Refuse(token))
        else:
            self.follower_reads.ask(token)

    def _direct(self, event: Directed) -> None:
        directive = event.directive
        match directive:
            case TransferLeadership():
                self.leadership_transfer.direct(event.token, directive)
            case TakeSnapshot():
                self.compaction.direct(event.token)
            case ChangeMembers():
                self.changes.direct(event.token, directive)
            case _:
                assert_never(directive)

    def _on_peer_up(self, peer: NodeId) -> None:
        self.bootstrap.on_peer_up(peer)
        if self.state.role is Role.LEADER:
            self.replication.on_peer_up(peer)

    def _on_peer_down(self, peer: NodeId) -> None:
        if self.state.role is Role.LEADER:
            self.replication.on_peer_down(peer)
        elif peer == self.state.leader:
            self.election.suspect_leader()

    # What other members say.

    def _receive(self, source: NodeId, message: RaftMessage) -> None:  # noqa: C901  one case a kind
        """Drop what comes before this node may take part; hand the rest on.

        Whatever the configuration here says of the sender: this node may be the one that is behind. "A
        server accepts AppendEntries requests from a leader that is not part of the server's latest
        configuration", and votes for such a candidate (thesis 4.1). What counts is counted by the listed
        incarnations.
        """
        state = self.state
        if source == state.node or source < 0:
            state.drop("message from a node that is not a member")
        elif type(message) is AppendResponse and message.term == state.term and state.role is Role.LEADER:
            self._on_append_response(source, message)  # the most frequent: nothing below is left to ask
        elif isinstance(message, Introduce):
            self._on_introduce(source, message)
        elif leaps(message.term, state.term):
            state.drop("term far beyond this node's")
        elif isinstance(message, AppendEntries):
            self.following.on_append_entries(source, message)
        elif not in_range(message.term):
            state.drop("numbers out of range")
        elif isinstance(message, SnapshotChunk):
            if self.following.accepts_leader(source, message):
                self.receiver.on_chunk(source, message, message.term)
        elif isinstance(message, Recognize | Dismissed):
            self._on_recognize(message)
        elif not state.bootstrapped:
            state.drop("message before bootstrap")
        elif isinstance(message, RequestVote):
            self._on_request_vote(source, message)
        elif self._is_of_this_term(message):
            self._on_answer(source, message)

    def _on_request_vote(self, source: NodeId, request: RequestVote) -> None:
        if not self._dismiss(source, request.incarnation):
            self.election.on_request_vote(source, request)

    def _on_introduce(self, source: NodeId, message: Introduce) -> None:
        state = self.state
        if not state.bootstrapped:
            self.bootstrap.on_introduce(source, message)
        elif not self._dismiss(source, message.incarnation) and state.is_listed:
            state.reply(source, Recognize(state.term, state.membership.current))
            self.changes.on_introduce(source, message.incarnation)

    def _dismiss(self, source: NodeId, incarnation: Incarnation) -> bool:
        """Tell a removed incarnation that it was, if that is committed. Return whether it was."""
        state = self.state
        at = state.membership.at(max(state.committed, state.log.base_seqno)).removed_at(source, incarnation)
        if at is None:
            return False
        state.reply(source, Dismissed(term=state.term, incarnation=incarnation, view=at.view, seqno=at.seqno))
        return True

    def _on_recognize(self, message: Recognize | Dismissed) -> None:
        if isinstance(message, Dismissed):
            self.bootstrap.on_dismissed(message)
        elif self.bootstrap.on_recognize(message) and message.term > self.state.term:
            self.roles.become_follower(message.term, None)

    def _is_of_this_term(self, message: RaftMessage) -> bool:
        """Step down before a message of a later term (5.1); drop one of an earlier.

        Except the answer to a pre-vote: a node that grants it may be in an earlier term, and stays there.
        """
        state = self.state
        assert not isinstance(message, Introduce), message
        if message.term > state.term:
            self.roles.become_follower(message.term, None)
        if message.term < state.term and not (isinstance(message, VoteResponse) and message.pre):
            state.drop("message of an earlier term")
            return False
        return True

    def _on_answer(self, source: NodeId, message: RaftMessage) -> None:
        """Handle what is of the current term, if it is meant for the role this node has now."""
        leads = self.state.role is Role.LEADER
        match message:
            case AppendResponse() if leads:
                self._on_append_response(source, message)
            case AppendRejected() if leads:
                self._on_append_rejected(source, message)
            case SnapshotAck() if leads:
                self.replication.sender.on_snapshot_ack(self.replication.progress.get(source), message)
            case StaleTerm():
                pass  # its term was all that it had to say
            case ReadIndex() if leads:
                self.leader_reads.ask((source, message.request))
            case VoteResponse():
                self.election.on_vote_response(source, message)
            case ReadIndexAnswer() if source == self.state.leader:
                self.follower_reads.on_answer(message)
                self.follower_reads.proceed()
            case TimeoutNow() if source == self.state.leader:
                self._on_timeout_now(message)
            case _:
                self.state.drop("message for another role")

    def _on_append_response(self, source: NodeId, answer: AppendResponse) -> None:
        replication = self.replication
        if not in_range(answer.matched_view, answer.matched_seqno, answer.round, answer.reached):
            self.state.drop("numbers out of range")
            return
        progress = replication.on_append_response(source, answer)
        if progress is not None:
            self._after_count()
            if self.state.role is Role.LEADER:
                replication.sender.pump(progress)

    def _on_append_rejected(self, source: NodeId, answer: AppendRejected) -> None:
        if not in_range(answer.refused_seqno, answer.hint_view, answer.hint_seqno, answer.round):
            self.state.drop("numbers out of range")
            return
        if self.replication.on_append_rejected(source, answer):
            self.leader_reads.proceed()

    def _on_timeout_now(self, message: TimeoutNow) -> None:
        if message.to != self.state.incarnation:
            self.state.drop("message for another incarnation")
            return
        self.election.campaign(transfer=True)

    def _name_leader(self) -> None:
        state = self.state
        self._named_leader = (state.term, state.leader)
        state.outbox.emit(LeaderChanged(View(state.term), state.leader))
        if state.leader is not None:
            self.leadership_transfer.on_led()

    # What follows from a step.

    def _after_count(self) -> None:
        """Acknowledgements or our own disk may have moved things on."""
        if self.leader_reads.pending:
            self.leader_reads.proceed()
        if self.leadership_transfer.target is not None:
            self.leadership_transfer.proceed()
        if self.changes.is_due:
            self.changes.proceed()

    def _apply(self) -> None:
        """Hand out what is committed, a piece of it, and do what waited for it."""
        state = self.state
        apply_committed(state)
        if not state.is_listed and not self.bootstrap.removed:
            self._notice_removal()
        if state.role is Role.LEADER:
            if self.leader_reads.pending:
                self.leader_reads.proceed()
            if self.changes.is_due:
                self.changes.proceed()
        elif self.follower_reads.give_up_at < NEVER:  # a read waits here
            self.follower_reads.proceed()
        if self.compaction.is_due():
            self.compaction.capture()

    def _notice_removal(self) -> None:
        """A configuration that is committed may say that this incarnation was removed."""
        state = self.state
        at = state.membership.at(state.committed).removed_at(state.node, state.incarnation)
        if at is not None:
            self.bootstrap.end(at)

    def _matched_by_all(self) -> int:
        """Return up to where no follower needs the log, as far as a leader knows; 0 at other nodes."""
        if self.state.role is not Role.LEADER:
            return 0
        matched = [progress.matched for progress in self.replication.progress.values()]
        return min(matched, default=self.state.applied)
