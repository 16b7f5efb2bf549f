"""A Raft node's own account of itself, in the words of an operator."""

from typing import TYPE_CHECKING

from viewstamp.core.ids import Instant, NodeId, View
from viewstamp.core.protocol import Status
from viewstamp.protocols.raft.state import Role, State
from viewstamp.protocols.replication.judge.describe import name_nodes, peer_status

if TYPE_CHECKING:
    from viewstamp.protocols.raft.core import RaftCore


def report(core: "RaftCore", now: Instant) -> Status:
    """Return the status of this core."""
    state = core.state
    return Status(
        node=state.node,
        role=role_of(state),
        view=View(state.term),
        leader=state.leader,
        last=state.log.last,
        committed=state.committed,
        applied=state.applied,
        snapshot=state.snapshot_seqno,
        log_bytes=state.log.size_bytes + state.overhead_bytes,
        members=_members(state),
        peers=tuple(peer_status(progress, now) for _, progress in sorted(core.replication.progress.items())),
        waiting_for=waiting_for(core),
    )


def role_of(state: State) -> str:
    """Return the node's role in one word."""
    if not state.founded:
        return "unfounded"
    if not state.is_voter:
        return "learner" if state.is_listed else "outsider"
    return state.role.value


def waiting_for(core: "RaftCore") -> str:
    """Say why this node does not serve; empty where it does, or merely follows."""
    state = core.state
    if not state.founded:
        return _waiting_to_belong(core)
    if state.is_listed and not state.is_voter:
        return "catching up: a learner until it has everything"
    if not state.is_listed:
        return "waiting to be let in by the leader"
    if state.role is Role.LEADER:
        return _waiting_to_commit(core)
    if state.leader is not None:
        return ""
    if state.role is Role.FOLLOWER:
        return "waiting for an election"
    silent = state.membership.voters - core.election.granted - core.election.refused - {state.node}
    return _majority_missing(sorted(silent))


def _waiting_to_belong(core: "RaftCore") -> str:
    if core.founding.forgot:
        return "forgot its promises: waiting to be let back in"
    return f"waiting to found the cluster: no introduction from {name_nodes(core.founding.missing())}"


def _waiting_to_commit(core: "RaftCore") -> str:
    replication, state = core.replication, core.state
    silent = replication.silent_voters(state.options.election_timeout_us)
    if silent and not state.membership.has_quorum(state.membership.voters.difference(silent)):
        return _majority_missing(silent)
    return "" if replication.has_committed else "waiting for the first commit of its term"


def _majority_missing(silent: list[NodeId]) -> str:
    answer = f": no answer from {name_nodes(silent)}" if silent else ""
    return f"waiting for a majority{answer}"


def _members(state: State) -> tuple[NodeId, ...]:
    return tuple(sorted(state.membership.incarnations)) or state.members
