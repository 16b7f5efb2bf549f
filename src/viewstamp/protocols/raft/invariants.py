"""What must be true of one Raft node after every step, and what may never go back."""

from typing import NamedTuple

from viewstamp.core.ids import NodeId
from viewstamp.core.invariants import InvariantViolated
from viewstamp.protocols.raft.core import RaftCore
from viewstamp.protocols.raft.state import Role, State


def check_positions(state: State) -> None:
    """I9: base <= snapshot <= applied <= committed <= last, and what is durable is in the log.

    Raises:
        InvariantViolated: one of the orderings does not hold.
    """
    log = state.log
    covered = state.snapshot_seqno
    if not log.base_seqno <= covered <= state.applied <= state.committed <= log.last_seqno:
        raise InvariantViolated(
            "Ordering",
            f"node {state.node}: base {log.base_seqno}, snapshot {covered}, applied {state.applied}, "
            f"committed {state.committed}, last {log.last_seqno}",
        )
    if not log.durable_seqno <= log.last_seqno:
        raise InvariantViolated("Ordering", f"node {state.node}: durable beyond the log")
    if log.last_view > state.term:
        raise InvariantViolated("Ordering", f"node {state.node}: an entry of a term it is not in")


def check_leader(core: RaftCore) -> None:
    """What a leader knows of its followers fits its own log, and its windows are kept (I20).

    Raises:
        InvariantViolated: it does not.
    """
    state, options = core.state, core.state.options
    if state.leader != state.node or state.vote != state.node:
        raise InvariantViolated("Leader", f"node {state.node} leads term {state.term} without its own vote")
    for progress in core.replication.progress.values():
        if not progress.matched < progress.next <= state.log.last_seqno + 1:
            raise InvariantViolated(
                "Progress",
                f"node {progress.node} at its leader: matched {progress.matched}, next {progress.next}, "
                f"last {state.log.last_seqno}",
            )
        if len(progress.inflight) > options.inflight_messages_max or progress.inflight_bytes < 0:
            raise InvariantViolated("Bounded", f"node {progress.node}: its window does not add up")
        if not progress.inflight and progress.inflight_bytes:
            raise InvariantViolated("Bounded", f"node {progress.node}: bytes under way of no message")


def check_node(core: RaftCore) -> None:
    """Raise `InvariantViolated` unless everything that one node must keep holds."""
    state = core.state
    check_positions(state)
    if state.role is Role.LEADER:
        check_leader(core)
    elif state.leader == state.node:
        raise InvariantViolated("Leader", f"node {state.node} takes itself for the leader and does not lead")


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
    for name in ("term", "committed", "applied", "base", "snapshot"):
        if getattr(after, name) < getattr(before, name):
            raise InvariantViolated(
                "Monotonic",
                f"node {node}: {name} went from {getattr(before, name)} to {getattr(after, name)}",
            )
    if after.term == before.term and before.vote is not None and after.vote != before.vote:
        raise InvariantViolated("VoteOnce", f"node {node} changed its vote in term {after.term}")
    held = core.state.log.view_at(before.committed)
    if held is not None and held != before.committed_view:
        raise InvariantViolated("CommittedImmutable", f"node {node} replaced entry {before.committed}")
    if before.leading and after.leading and before.term == after.term:
        _check_leader_step(before, after, core)


def _check_leader_step(before: Positions, after: Positions, core: RaftCore) -> None:
    node = core.state.node
    if after.committed > before.committed and after.committed_view != after.term:
        raise InvariantViolated(
            "NoPriorTermCommit",
            f"node {node} leads term {after.term} and committed {after.committed_view}.{after.committed}",
        )
    known = {(member, incarnation): rest for member, incarnation, *rest in before.matched}
    for member, incarnation, matched, number in after.matched:
        previous = known.get((member, incarnation))
        if previous is not None and (matched < previous[0] or number < previous[1]):
            raise InvariantViolated("Monotonic", f"node {node}: what node {member} has matched went back")
