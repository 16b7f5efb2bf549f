"""The properties that every run must keep, one named object each, one file per family (FAULTS 3).

`ALL` lists them; `judge.Judge` calls each at the moments that its class overrides and at no others.
"""

from viewstamp.sim.invariants.base import Invariant
from viewstamp.sim.invariants.commitment import CommittedDurable, NoPriorViewCommit, StateMachineSafety
from viewstamp.sim.invariants.durability import (
    AckBelieved,
    AckDurable,
    RecoverExact,
    ReplyCommitted,
    StageInOrder,
)
from viewstamp.sim.invariants.election import ElectionSafety, VoteOnce
from viewstamp.sim.invariants.log import CommittedImmutable, LeaderCompleteness, LogMatching
from viewstamp.sim.invariants.membership import ConfigSafety
from viewstamp.sim.invariants.ordering import Monotonic, Ordering
from viewstamp.sim.invariants.reads import ReadIndex
from viewstamp.sim.invariants.replicas import Bounded, LogTimeMonotonic, SessionOrder
from viewstamp.sim.invariants.sessions import ExactlyOnce
from viewstamp.sim.invariants.state import SnapshotEquivalence, StateEquality
from viewstamp.sim.invariants.views import NoGap, PrimaryContinuity, SyncBeforeServe, ViewAgreement

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
)

__all__ = ["ALL", "Invariant"]
