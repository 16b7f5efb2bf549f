"""The properties that every run must keep, one named object each, one file per family.

The names are those of docs/faults.md#invariants.

`ALL` lists them; `judge.Judge` calls each at the moments that its class overrides and at no others.
"""

from viewstamp.sim.judge.invariants.base import Invariant
from viewstamp.sim.judge.invariants.clients import ExactlyOnce, ReadIndex
from viewstamp.sim.judge.invariants.commitment import (
    CommittedDurable,
    NoPriorViewCommit,
    SnapshotEquivalence,
    StateEquality,
    StateMachineSafety,
)
from viewstamp.sim.judge.invariants.durability import (
    AckBelieved,
    AckDurable,
    RecoverExact,
    ReplyCommitted,
    StageInOrder,
)
from viewstamp.sim.judge.invariants.election import ElectionSafety, VoteOnce
from viewstamp.sim.judge.invariants.log import CommittedImmutable, LeaderCompleteness, LogMatching
from viewstamp.sim.judge.invariants.membership import ConfigSafety
from viewstamp.sim.judge.invariants.node import Bounded, LogTimeMonotonic, Monotonic, Ordering, SessionOrder
from viewstamp.sim.judge.invariants.versions import RaisedOnce
from viewstamp.sim.judge.invariants.views import NoGap, PrimaryContinuity, SyncBeforeServe, ViewAgreement

ALL: tuple[type[Invariant], ...] = (
    ElectionSafety,
    LogMatching,
    LeaderCompleteness,
    NoGap,
    StateMachineSafety,
    CommittedDurable,
    CommittedImmutable,
    VoteOnce,
    Monotonic,
    Ordering,
    NoPriorViewCommit,
    AckDurable,
    ReplyCommitted,
    RecoverExact,
    SnapshotEquivalence,
    ReadIndex,
    ExactlyOnce,
    StateEquality,
    ViewAgreement,
    PrimaryContinuity,
    SyncBeforeServe,
    ConfigSafety,
    AckBelieved,
    StageInOrder,
    LogTimeMonotonic,
    SessionOrder,
    Bounded,
    RaisedOnce,
)

__all__ = ["ALL", "Invariant"]
