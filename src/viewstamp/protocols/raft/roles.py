"""Every change of role of a node (figure 2, Rules for Servers; figure 4; thesis 9.6 for pre-candidates).

`ROLE_TRANSITIONS` says which role may follow which, and why. docs/reference/raft.md shows the same table as a
diagram. Whether a node may become something is decided elsewhere: elections by `Election`, which leader to
follow by `Follower` and by the terms of messages (`RaftCore`).
"""

from collections.abc import Mapping
from typing import Final

from viewstamp.core.ids import NodeId
from viewstamp.protocols.raft.changes import RaftChanges
from viewstamp.protocols.raft.follower_reads import FollowerReads
from viewstamp.protocols.raft.leader import Leader, Origin
from viewstamp.protocols.raft.state import Role, State
from viewstamp.protocols.replication.follower import PendingAck
from viewstamp.protocols.replication.read_rounds import ReadRounds

ROLE_TRANSITIONS: Final[Mapping[Role, Mapping[Role, str]]] = {
    Role.FOLLOWER: {
        Role.FOLLOWER: "later term, or the leader of this term",
        Role.PRE_CANDIDATE: "election timeout",
        Role.CANDIDATE: "TimeoutNow of the leader, or the only voter",
    },
    Role.PRE_CANDIDATE: {
        Role.PRE_CANDIDATE: "election timeout",
        Role.CANDIDATE: "majority of pre-votes",
        Role.FOLLOWER: "leader or later term, a vote given, or not a voter",
    },
    Role.CANDIDATE: {
        Role.PRE_CANDIDATE: "election timeout",
        Role.CANDIDATE: "election timeout of the only voter",
        Role.LEADER: "majority of votes",
        Role.FOLLOWER: "leader or later term, or not a voter",
    },
    Role.LEADER: {
        Role.FOLLOWER: "later term, or no majority heard",
    },
}


class Roles:
    """What begins and what ends when a node changes its role."""

    __slots__ = ("_changes", "_follower_reads", "_leader", "_leader_reads", "_pending_ack", "_state")

    def __init__(
        self,
        state: State,
        leader: Leader,
        pending_ack: PendingAck,
        leader_reads: ReadRounds[Origin],
        follower_reads: FollowerReads,
        changes: RaftChanges,
    ) -> None:
        self._state = state
        self._leader = leader
        self._pending_ack = pending_ack
        self._leader_reads = leader_reads
        self._follower_reads = follower_reads
        self._changes = changes

    def become_follower(self, term: int, leader: NodeId | None) -> None:
        """Follow this leader of this term, None: one that is not known yet. A leader steps down.

        "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower."
        """
        state = self._state
        assert term >= state.term, (term, state.term)
        if term > state.term:
            state.enter(term, None)
        if state.role is Role.LEADER:
            self._step_down()
        self.forget_leader()
        # Nothing is pending for the new leader: it has not sent anything that we could acknowledge.
        self._pending_ack.cancel()
        self._move(Role.FOLLOWER)
        state.leader = leader
        state.suspected = False
        state.await_leader()

    def give_way(self) -> None:
        """We voted for another candidate of this term: an election of our own would disturb it.

        Not `become_follower`: a vote given again, to the leader that this term already has, changes nothing.
        """
        self._move(Role.FOLLOWER)
        self._state.await_leader()

    def become_pre_candidate(self) -> None:
        """Ask whether an election could be won, without a new term: nothing is promised or disturbed."""
        self.forget_leader()
        self._move(Role.PRE_CANDIDATE)
        self._state.await_leader()

    def become_candidate(self) -> None:
        """Enter a new term and vote for ourselves; `Election` then asks the others.

        "On conversion to candidate, start election: increment currentTerm, vote for self, reset election
        timer, send RequestVote RPCs to all other servers."
        """
        state = self._state
        assert state.is_voter, "only a voter is elected"
        self.forget_leader()
        self._move(Role.CANDIDATE)
        state.enter(state.term + 1, state.node)
        state.await_leader()

    def become_leader(self) -> None:
        """Begin to lead: "if votes received from majority of servers: become leader"."""
        state = self._state
        assert state.vote == state.node, (state.vote, state.node)
        self._follower_reads.refuse_all()
        self._move(Role.LEADER)
        state.leader = state.node
        self._leader.begin()

    def forget_leader(self) -> None:
        """No leader is known. Reads that wait for the last one would wait in vain."""
        self._follower_reads.refuse_all()
        self._state.leader = None

    def _step_down(self) -> None:
        # The next leader may commit writes that this node does not know: what it answered now could be old.
        self._leader_reads.refuse_all()
        self._leader.step_down()
        self._changes.forget()

    def _move(self, role: Role) -> None:
        state = self._state
        assert role in ROLE_TRANSITIONS[state.role], (state.node, state.role, role)
        state.role = role
