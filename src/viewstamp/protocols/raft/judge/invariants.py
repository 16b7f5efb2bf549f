"""What must be true of one Raft node after every step, and what may never go back."""

from typing import NamedTuple

from viewstamp.core.ids import NodeId
from viewstamp.core.judge import InvariantViolated
from viewstamp.protocols.raft.core import RaftCore
from viewstamp.protocols.raft.state import Role
from viewstamp.protocols.replication.judge.invariants import (
    check_committed_stays,
    check_followers,
    check_monotonic,
    check_ordering,
)


def check_leader(core: RaftCore) -> None:
    """A leader has its own vote, and what it knows of its followers fits.

    Raises:
        InvariantViolated: it does not.
    """
    state = core.state
    if state.leader != state.node or state.vote != state.node:
        raise InvariantViolated(
            "I1 ElectionSafety", f"node {state.node} leads term {state.term} without its own vote"
        )
    check_followers(state, core.replication.progress.values())


def check_node(core: RaftCore) -> None:
    """Raise `InvariantViolated` unless everything that one node must keep holds."""
    state = core.state
    check_ordering(state, state.term)
    if state.role is Role.LEADER:
        check_leader(core)
    elif state.leader == state.node:
        raise InvariantViolated(
            "I1 ElectionSafety", f"node {state.node} names itself leader without being one"
        )


class Positions(NamedTuple):
    """What a node's next step is compared with."""

    term: int
    vote: NodeId | None
    committed: int
    applied: int
    base: int
    snapshot: int
    committed_view: int
    leading: bool
    matched: tuple[tuple[NodeId, int, int, int], ...]
    """(node, incarnation, matched, round) of each follower of a leader."""


def positions_of(core: RaftCore) -> Positions:
    """Return the positions of a core as they are now."""
    state = core.state
    leading = state.role is Role.LEADER
    matched = (
        tuple((p.node, p.incarnation, p.matched, p.round) for p in core.replication.progress.values())
        if leading
        else ()
    )
    return Positions(
        state.term,
        state.vote,
        state.committed,
        state.applied,
        state.log.base_seqno,
        state.snapshot_seqno,
        state.log.view_at(state.committed) or 0,
        leading,
        matched,
    )


def check_step(before: Positions, after: Positions, core: RaftCore) -> None:
    """I8, I6, I7, I10: positions only grow, what is committed stays, a vote stands for its term.

    Raises:
        InvariantViolated: one of them does not hold.
    """
    node = core.state.node
    check_monotonic(node, before, after, ("term", "committed", "applied", "base", "snapshot"))
    if after.term == before.term and before.vote is not None and after.vote != before.vote:
        raise InvariantViolated("I7 VoteOnce", f"node {node} changed its vote in term {after.term}")
    check_committed_stays(core.state, before.committed, before.committed_view)
    if before.leading and after.leading and before.term == after.term:
        _check_leader_step(before, after, core)


def _check_leader_step(before: Positions, after: Positions, core: RaftCore) -> None:
    node = core.state.node
    if after.committed > before.committed and after.committed_view != after.term:
        raise InvariantViolated(
            "I10 NoPriorTermCommit",
            f"node {node} leads term {after.term} and committed {after.committed_view}.{after.committed}",
        )
    known = {(member, incarnation): rest for member, incarnation, *rest in before.matched}
    for member, incarnation, matched, number in after.matched:
        previous = known.get((member, incarnation))
        if previous is not None and (matched < previous[0] or number < previous[1]):
            raise InvariantViolated("I8 Monotonic", f"node {node}: what node {member} has matched went back")
