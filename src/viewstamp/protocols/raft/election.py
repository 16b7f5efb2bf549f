"""Who leads: pre-votes, votes and their counting (Raft 5.2, 5.4.1; thesis 9.6 and 4.2.3).

Rules of this file:

- A vote is written before it is sent; a candidate counts its own only when that is on disk.
- A pre-vote changes nothing at either side.
- While a leader is heard nobody helps to replace it, unless it asked for that itself.
- Votes count by incarnation: what a wiped node promised before, it does not know any more.
"""

from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.raft.messages import RequestVote, VoteResponse
from viewstamp.protocols.raft.state import NEVER, Role, State
from viewstamp.protocols.replication.node_state import NUMBER_MAX, in_range


class Election:
    """One node's part in elections."""

    __slots__ = (
        "_campaign",
        "_own_vote_write",
        "_state",
        "_transfer",
        "ask_again_at",
        "granted",
        "refused",
    )

    def __init__(self, state: State) -> None:
        self._state = state
        self._campaign = 0
        """Numbers the campaigns of this life of the process, so that no answer counts for another one."""
        self._own_vote_write: int | None = None
        """The write of our own vote while it is not durable."""
        self._transfer = False
        """Whether the leader asked for the campaign."""
        self.ask_again_at = NEVER
        """When to repeat the request to whoever has not answered: it may be lost (5.1)."""
        self.granted: set[NodeId] = set()
        self.refused: set[NodeId] = set()

    def campaign(self, *, transfer: bool = False) -> None:
        """Ask for pre-votes; for votes where there is nobody to ask, or where the leader told us to."""
        state = self._state
        if not state.is_voter or state.term >= NUMBER_MAX:
            state.role, state.leader = Role.FOLLOWER, None
            state.await_leader()
            return
        if state.applied < state.committed and not transfer:
            self._catch_up_first()
            return
        if transfer or state.membership.voters == {state.node}:
            self._seek_votes(transfer=transfer)
            return
        state.role, state.leader = Role.PRE_CANDIDATE, None
        self._begin(own_vote_write=None)
        self._ask()

    def _catch_up_first(self) -> None:
        """Leave the lead to others while committed entries wait to be applied here, as after a restart.

        A leader answers nothing before it has applied them. What is committed does not grow without a
        leader, so this ends; and nobody is kept from being elected by it.
        """
        state = self._state
        state.leader = None
        state.election_at = Instant(state.now + state.options.heartbeat_us)

    def won(self) -> bool:
        """Tell whether a majority of the voters granted their votes; after a pre-election ask for them."""
        state = self._state
        if not state.membership.has_quorum(self.granted):
            return False
        if state.role is Role.CANDIDATE:
            return True
        if state.role is Role.PRE_CANDIDATE:
            self._seek_votes(transfer=False)
        return False

    def on_vote(self, source: NodeId, vote: VoteResponse) -> None:
        """Count an answer to the campaign under way."""
        state = self._state
        asked = self._asked_for()
        if asked is None or (vote.campaign, vote.pre, vote.election) != asked:
            state.drop("vote of another campaign")
        elif state.membership.incarnations.get(source) != vote.incarnation:
            state.drop("vote of an incarnation that is no member")
        elif vote.granted:
            self.granted.add(source)
        else:
            self.refused.add(source)

    def on_persisted(self) -> None:
        """More writes are durable: perhaps our own vote."""
        state = self._state
        if self._own_vote_write is not None and self._own_vote_write <= state.outbox.durable:
            self._own_vote_write = None
            if state.role is Role.CANDIDATE:
                self.granted.add(state.node)

    def on_request(self, source: NodeId, request: RequestVote) -> None:
        """Answer a candidate. A request of a later term has made us enter that term already."""
        state = self._state
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
        state.role = Role.FOLLOWER
        state.await_leader()
        state.outbox.send(source, answer)

    def protects_leader_from(self, request: RequestVote) -> bool:
        """Tell whether the request is to be ignored because a leader is being heard (thesis 4.2.3)."""
        return not request.transfer and self._state.hears_leader

    def suspect_leader(self) -> None:
        """The leader's connection broke: campaign soon, once for each sign of life; pre-vote guards it."""
        state = self._state
        if state.role is not Role.FOLLOWER or state.suspected or not state.founded:
            return
        state.suspected = True
        soon = state.now + state.rng.randrange(state.options.heartbeat_us // 2 + 1)
        state.election_at = Instant(min(state.election_at, soon))

    def _may_grant(self, source: NodeId, request: RequestVote) -> bool:
        state = self._state
        if (request.last_log_term, request.last_log_index) < (state.log.last_view, state.log.last_seqno):
            return False
        if request.pre:
            return request.term > state.term and not state.hears_leader
        return request.term == state.term and (
            state.vote == source or (state.vote is None and state.leader is None)
        )

    def _seek_votes(self, *, transfer: bool) -> None:
        """Enter a new term, vote for ourselves, and ask the others once that is on disk."""
        state = self._state
        state.role, state.leader = Role.CANDIDATE, None
        state.enter(state.term + 1, state.node)
        self._transfer = transfer
        self._begin(own_vote_write=state.hard_state_write)
        self._ask()

    def _begin(self, *, own_vote_write: int | None) -> None:
        state = self._state
        self._campaign += 1
        self._own_vote_write = own_vote_write
        self.granted = set() if own_vote_write else {state.node}
        self.refused = set()
        state.await_leader()

    def ask_again(self) -> None:
        """A heartbeat interval has passed since the last request."""
        if self._state.role in {Role.PRE_CANDIDATE, Role.CANDIDATE}:
            self._ask()
        else:
            self.ask_again_at = NEVER

    def _ask(self) -> None:
        """Send the request of this campaign to everybody who has not answered it."""
        state = self._state
        pre = state.role is Role.PRE_CANDIDATE
        request = RequestVote(
            term=state.term + 1 if pre else state.term,
            pre=pre,
            transfer=self._transfer and not pre,
            campaign=self._campaign,
            last_log_term=state.log.last_view,
            last_log_index=state.log.last_seqno,
        )
        for voter in sorted(state.membership.voters - {state.node} - self.granted - self.refused):
            state.outbox.send(voter, request)
        self.ask_again_at = Instant(state.now + state.options.heartbeat_us)

    def _asked_for(self) -> tuple[int, bool, int] | None:
        state = self._state
        if state.role is Role.PRE_CANDIDATE:
            return self._campaign, True, state.term + 1
        if state.role is Role.CANDIDATE:
            return self._campaign, False, state.term
        return None


def is_sound_request(request: RequestVote) -> bool:
    """Tell whether a request's numbers could be those of a candidate."""
    return (
        in_range(request.term, request.last_log_term, request.last_log_index, request.campaign)
        and request.term >= 1
        and request.last_log_term <= request.term
        and (request.last_log_index == 0) == (request.last_log_term == 0)
    )
