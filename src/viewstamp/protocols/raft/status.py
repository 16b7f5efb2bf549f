"""A Raft node's own account of itself, in the words of an operator."""

from viewstamp.core.ids import Instant, NodeId, Seqno, View, Viewstamp
from viewstamp.core.protocol import MembershipStatus, Status
from viewstamp.protocols.raft.bootstrap import Bootstrap
from viewstamp.protocols.raft.election import Election
from viewstamp.protocols.raft.leader import Leader
from viewstamp.protocols.raft.state import Role, State
from viewstamp.protocols.replication.introductions import name_nodes
from viewstamp.protocols.replication.sender import peer_status


def of(state: State, leader: Leader, election: Election, bootstrap: Bootstrap, now: Instant) -> Status:
    """Return the status of the node that these are parts of."""
    return Status(
        node=state.node,
        role=role_of(state),
        view=View(state.term),
        leader=state.leader,
        last=state.log.last,
        committed=state.committed,
        applied=state.applied,
        snapshot=state.snapshot_seqno,
        log_bytes=state.log.size_bytes + state.non_entry_bytes,
        members=_members(state),
        peers=tuple(peer_status(progress, now) for _, progress in sorted(leader.progress.items())),
        waiting_for=_waiting_for(state, leader, election, bootstrap),
        incarnation=state.incarnation,
        membership=_membership(state),
        dropped=tuple(sorted(state.counters.items())),
    )


def _membership(state: State) -> MembershipStatus | None:
    """Return who takes part, by this node's log."""
    membership = state.membership
    current, seqno = membership.current, membership.changed_at
    if not state.bootstrapped or not current.voters:
        return None
    return MembershipStatus(
        changed_at=Viewstamp(View(state.log.view_at(seqno) or 0), Seqno(seqno)),
        committed=seqno <= max(state.committed, state.log.base_seqno),
        voters=current.voters,
        learners=current.learners,
        outgoing=current.outgoing,
        promised=current.promised,
        removed=current.removed,
    )


def role_of(state: State) -> str:
    """Return the node's role in one word."""
    if not state.bootstrapped:
        return "bootstrapping"
    if not state.is_voter:
        return "learner" if state.is_listed else "outsider"
    return state.role.value


def _waiting_for(state: State, leader: Leader, election: Election, bootstrap: Bootstrap) -> str:
    """Say why this node does not serve; empty where it does, or merely follows."""
    if bootstrap.removed:
        return "this data directory was removed from the cluster: it will never serve again"
    if not state.bootstrapped:
        if bootstrap.unknown:
            return "not a member yet: waiting until `viewstamp member add` names this node"
        if bootstrap.forgot:
            return "its disk was wiped: waiting for the leader to re-admit it"
        return f"waiting to bootstrap: not heard from {name_nodes(bootstrap.missing())} yet"
    if not state.is_listed:
        return "not in the configuration: waiting for the leader to re-admit it"
    if not state.is_voter:
        promised = state.membership.current.promised
        return "catching up: a learner until it has everything" if state.node in promised else ""
    if state.role is Role.LEADER:
        return _waiting_to_commit(state, leader)
    if state.leader is not None:
        return ""
    if state.role is Role.FOLLOWER:
        return "waiting for an election"
    silent = state.membership.voters - election.granted - election.refused - {state.node}
    return _majority_missing(sorted(silent))


def _waiting_to_commit(state: State, leader: Leader) -> str:
    silent = leader.silent_voters(state.options.election_timeout_us)
    if silent and not state.membership.has_quorum(state.membership.voters.difference(silent)):
        return _majority_missing(silent)
    return "" if leader.has_committed else "waiting for the first commit of its term"


def _majority_missing(silent: list[NodeId]) -> str:
    answer = f": no answer from {name_nodes(silent)}" if silent else ""
    return f"waiting for a majority{answer}"


def _members(state: State) -> tuple[NodeId, ...]:
    return tuple(sorted(state.membership.incarnations)) or state.members
