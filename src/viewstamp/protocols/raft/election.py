"""Electing a leader: pre-votes, votes and their counting (Raft 5.2, 5.4.1; thesis 9.6 and 4.2.3).

Rules of this file:

- A vote is written before it is sent; a candidate counts its own only when that is on disk.
- A pre-vote changes nothing at either side.
- While a leader is heard no node helps to replace it, unless it asked for that itself.
- Votes count by incarnation: what a wiped node promised before, it no longer knows.

What a change of role begins and ends is in `roles.py`.
"""

from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.raft.messages import RequestVote, VoteResponse
from viewstamp.protocols.raft.roles import Roles
from viewstamp.protocols.raft.state import Role, State
from viewstamp.protocols.replication.node_state import NEVER, NUMBER_MAX, in_range


class Election:
    """One node's part in elections."""

    __slots__ = (
        "_campaign",
        "_own_vote_write",
        "_roles",
        "_state",
        "_transfer",
        "ask_again_at",
        "granted",
        "refused",
    )

    def __init__(self, state: State, roles: Roles) -> None:
        self._state = state
        self._roles = roles
        self._campaign = 0
        """Numbers the campaigns of this process, so that no answer counts for another one."""
        self._own_vote_write: int | None = None
        """The write of our own vote while it is not durable."""
        self._transfer = False
        """Whether the leader asked for the campaign."""
        self.ask_again_at = NEVER
        """When to repeat the request to the voters that have not answered: it may be lost (5.1)."""
        self.granted: set[NodeId] = set()
        self.refused: set[NodeId] = set()

    # The voter's side.

    def on_request_vote(self, source: NodeId, request: RequestVote) -> None:
        """RequestVote (figure 2, and figure 3.1 of the thesis) and its pre-vote (thesis 9.6)."""
        state = self._state
        if not is_sound_request(request):
            state.drop("numbers out of range")
            return
        if request.term > state.term and not request.pre:
            # "If a server receives a RequestVote request within the minimum election timeout of hearing from
            # a current leader, it does not update its term or grant its vote" (4.2.3). Otherwise a node that
            # was cut off, or is no longer a member, would depose a leader that works. The leader may ask.
            if state.has_live_leader and not request.transfer:
                state.drop("vote request while the leader is heard")
                return
            # "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to
            # follower" (5.1). Not for a pre-vote: its term is one that no node has entered yet.
            self._roles.become_follower(request.term, None)
        assert request.pre or request.term <= state.term, (request, state.term)
        granted = self._may_grant(source, request)
        answer = VoteResponse(
            term=state.term,
            incarnation=state.incarnation,
            candidate=source,
            election=request.term,
            pre=request.pre,
            granted=granted,
            campaign=request.campaign,
        )
        if request.pre or not granted:
            state.reply(source, answer)
            return
        if state.vote is None:
            state.enter(state.term, source)
        # "Reset election timer": "if election timeout elapses without [...] granting vote to candidate".
        self._roles.give_way()
        # "Updated on stable storage before responding to RPCs": sent when the vote is on disk, not early.
        state.outbox.send(source, answer)

    def _may_grant(self, source: NodeId, request: RequestVote) -> bool:
        state = self._state
        # "... and candidate's log is at least as up-to-date as receiver's log, grant vote" (5.2, 5.4).
        if (request.last_log_term, request.last_log_index) < (state.log.last_view, state.log.last_seqno):
            return False
        # "... and the voters have not received heartbeats from a valid leader for at least a baseline
        # election timeout" (9.6).
        if request.pre:
            return request.term > state.term and not state.has_live_leader
        # "1. Reply false if term < currentTerm (5.1). 2. If votedFor is null or candidateId, ..." Where this
        # term has a leader, a vote that is still free could only elect a second one.
        return request.term == state.term and (
            state.vote == source or (state.vote is None and state.leader is None)
        )

    # The candidate's side.

    def campaign(self, *, transfer: bool = False) -> None:
        """Ask for pre-votes; for votes where no other node votes, or where the leader told us to.

        "If election timeout elapses without receiving AppendEntries RPC from current leader or granting vote
        to candidate: convert to candidate."
        """
        state = self._state
        assert state.bootstrapped, "a node without a log never campaigns"
        assert state.role is not Role.LEADER, state.role
        if not state.is_voter or state.term >= NUMBER_MAX:
            self._roles.become_follower(state.term, None)
        elif state.applied < state.committed and not transfer:
            self._catch_up_first()
        elif transfer or state.membership.voters == {state.node}:
            self._seek_votes(transfer=transfer)
        else:
            self._seek_pre_votes()

    def _catch_up_first(self) -> None:
        """Leave the lead to others while committed entries wait to be applied here, as after a restart.

        A leader answers nothing before it has applied them. What is committed does not grow without a
        leader, so this ends; and it does not keep other nodes from being elected.
        """
        state = self._state
        self._roles.forget_leader()
        state.election_at = Instant(state.now + state.options.heartbeat_us)

    def _seek_pre_votes(self) -> None:
        self._roles.become_pre_candidate()
        # Our own pre-vote promises nothing, so it counts at once.
        self._begin({self._state.node}, own_vote_write=None)

    def _seek_votes(self, *, transfer: bool) -> None:
        """Enter a new term, vote for ourselves, and ask the others once that is on disk."""
        self._transfer = transfer
        self._roles.become_candidate()
        # Our own vote counts when it is on disk: after a crash we might vote for another node in this term.
        self._begin(set(), own_vote_write=self._state.promise_write)

    def _begin(self, granted: set[NodeId], *, own_vote_write: int | None) -> None:
        self._campaign += 1
        self._own_vote_write = own_vote_write
        self.granted, self.refused = granted, set()
        self._ask()

    def _ask(self) -> None:
        """Send the request of this campaign to every voter that has not answered it."""
        state = self._state
        pre = state.role is Role.PRE_CANDIDATE
        request = RequestVote(
            term=state.term + 1 if pre else state.term,
            pre=pre,
            transfer=self._transfer and not pre,
            campaign=self._campaign,
            last_log_term=state.log.last_view,
            last_log_index=state.log.last_seqno,
            incarnation=state.incarnation,
        )
        for voter in sorted(state.membership.voters - {state.node} - self.granted - self.refused):
            state.outbox.send(voter, request)
        self.ask_again_at = Instant(state.now + state.options.heartbeat_us)

    def ask_again(self) -> None:
        """A heartbeat interval has passed since the last request."""
        if self._state.role in {Role.PRE_CANDIDATE, Role.CANDIDATE}:
            self._ask()
        else:
            self.ask_again_at = NEVER

    def on_vote_response(self, source: NodeId, vote: VoteResponse) -> None:
        """Count an answer to the campaign under way."""
        state = self._state
        asked = self._asked_for()
        if asked is None or (vote.campaign, vote.pre, vote.election) != asked:
            state.drop("vote of another campaign")
        elif state.membership.incarnations.get(source) != vote.incarnation:
            # A disk that was wiped has forgotten its vote: it could vote twice in one term.
            state.drop("vote of an incarnation that is not a member")
        elif vote.granted:
            self.granted.add(source)
        else:
            self.refused.add(source)
        self.count()

    def on_persisted(self) -> None:
        """More writes are durable: perhaps our own vote."""
        state = self._state
        if self._own_vote_write is not None and self._own_vote_write <= state.outbox.durable:
            self._own_vote_write = None
            if state.role is Role.CANDIDATE:
                self.granted.add(state.node)
        self.count()

    def count(self) -> None:
        """Lead if a majority of the voters granted their votes; after a pre-election ask for votes."""
        state = self._state
        if not state.membership.has_quorum(self.granted):
            return
        if state.role is Role.PRE_CANDIDATE:
            self._seek_votes(transfer=False)
        elif state.role is Role.CANDIDATE:
            self._roles.become_leader()

    def suspect_leader(self) -> None:
        """The leader's connection broke: campaign soon, once each time it is heard; pre-vote guards it."""
        state = self._state
        if state.role is not Role.FOLLOWER or state.suspected or not state.bootstrapped:
            return
        state.suspected = True
        soon = state.now + state.rng.randrange(state.options.heartbeat_us // 2 + 1)
        state.election_at = Instant(min(state.election_at, soon))

    def _asked_for(self) -> tuple[int, bool, int] | None:
        state = self._state
        if state.role is Role.PRE_CANDIDATE:
            return self._campaign, True, state.term + 1
        if state.role is Role.CANDIDATE:
            return self._campaign, False, state.term
        return None


def is_sound_request(request: RequestVote) -> bool:
    """Return whether a request's numbers could be those of a candidate."""
    return (
        in_range(request.term, request.last_log_term, request.last_log_index, request.campaign)
        and request.term >= 1
        and request.last_log_term <= request.term
        and (request.last_log_index == 0) == (request.last_log_term == 0)
    )
