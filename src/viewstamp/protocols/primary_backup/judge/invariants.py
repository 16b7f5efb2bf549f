"""What must hold of one fenced node after every step, and what may never go back."""

from typing import NamedTuple

from viewstamp.core.ids import NodeId
from viewstamp.core.judge import InvariantViolated
from viewstamp.protocols.primary_backup.core import PrimaryBackupCore
from viewstamp.protocols.primary_backup.state import Role, State
from viewstamp.protocols.replication.judge.invariants import (
    check_committed_stays,
    check_followers,
    check_monotonic,
    check_ordering,
)
from viewstamp.protocols.replication.quorums import Quorums


def check_positions(state: State) -> None:
    """I9: the orderings of a log, and no record of an epoch that was not promised.

    Raises:
        InvariantViolated: one of the orderings does not hold.
    """
    check_ordering(state, state.epoch)
    if state.record is not None and state.record.epoch > state.epoch:
        raise InvariantViolated(
            "I9 Ordering", f"node {state.node}: its record is of a later epoch than its own"
        )


def check_primary(core: PrimaryBackupCore) -> None:
    """Check what a primary knows of its backups against its own log, and its synchronous set.

    Raises:
        InvariantViolated: one of them is wrong.
    """
    state, synchronous_set = core.state, core.replication.synchronous_set
    if state.leader != state.node or state.candidate != state.node:
        raise InvariantViolated(
            "I1 ElectionSafety", f"node {state.node} leads without having promised the epoch to itself"
        )
    check_followers(state, core.replication.progress.values())
    for record in (synchronous_set.in_force, synchronous_set.latest):
        if record is None:
            continue
        is_large_enough = Quorums(record.configuration).agree(record.members)
        if not synchronous_set.required.issuperset(record.members) or not is_large_enough:
            raise InvariantViolated(
                "I12 ConfigSafety", f"node {state.node}: a commit does not need all of {record}"
            )


def check_node(core: PrimaryBackupCore) -> None:
    """Raise `InvariantViolated` unless everything holds that one node must keep."""
    state = core.state
    check_positions(state)
    if state.role is Role.PRIMARY:
        check_primary(core)
    elif state.leader == state.node:
        raise InvariantViolated(
            "I1 ElectionSafety", f"node {state.node} names itself primary without being one"
        )
    elif core.accepting:
        raise InvariantViolated(
            "I1 ElectionSafety", f"node {state.node} accepts commands without being primary"
        )


class Positions(NamedTuple):
    """The positions that a node's next step is compared with."""

    epoch: int
    candidate: NodeId | None
    record: tuple[int, int]
    committed: int
    applied: int
    base: int
    snapshot: int
    committed_view: int


def positions_of(core: PrimaryBackupCore) -> Positions:
    """Return the positions of a core as they are now."""
    state = core.state
    return Positions(
        state.epoch,
        state.candidate,
        state.record.age if state.record is not None else (0, 0),
        state.committed,
        state.applied,
        state.log.base_seqno,
        state.snapshot_seqno,
        state.log.view_at(state.committed) or 0,
    )


def check_step(before: Positions, after: Positions, core: PrimaryBackupCore) -> None:
    """I8, I6, I7: positions only grow, what is committed stays, an epoch is granted once.

    Raises:
        InvariantViolated: one of them does not hold.
    """
    node = core.state.node
    names = ("epoch", "record", "committed", "applied", "base", "snapshot")
    check_monotonic(node, before, after, names)
    if after.epoch == before.epoch and after.candidate != before.candidate:
        raise InvariantViolated("I7 VoteOnce", f"node {node} granted epoch {after.epoch} twice")
    check_committed_stays(core.state, before.committed, before.committed_view)
