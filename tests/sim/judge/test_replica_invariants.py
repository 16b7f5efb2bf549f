"""What must hold in the replica around a core: each violation is planted in a fake as large as needed."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.sim.fakes import MEMBERS, RAFT_LIKE, FakeCore, FakeImage, FakeOracle, stamp
from viewstamp.core.effects import Effect, Stage
from viewstamp.core.events import SnapshotToken, Woke
from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.snapshots import BytesSnapshot, Versions
from viewstamp.machine.state_machine import StateMachine, command
from viewstamp.replica.options import SessionLimits
from viewstamp.replica.sessions import SessionImage, Sessions
from viewstamp.sim.judge.judge import Judge

NODE = NodeId(0)
META = BytesSnapshot(stamp(1, 1), b"", bytes(100)).meta


@pytest.fixture
def judge() -> Judge:
    judge = Judge(MEMBERS, FakeOracle(), RAFT_LIKE)
    judge.recovered(NODE, FakeImage(), lost=False)
    return judge


def replica(
    seqno: int, *, time: int = 0, used: tuple[tuple[int, int], ...] = (), queue: tuple[int, int] = (0, 1)
) -> Any:
    images = [SessionImage(number, number, moment, 0, []) for number, moment in used]
    sessions = Sessions(SessionLimits(time_to_live_ms=10), images)
    ledger = SimpleNamespace(applied=stamp(1, seqno), log_time=time, sessions=sessions, versions=None)
    return SimpleNamespace(state=ledger, queues=lambda: [("commands waiting", *queue)])


def stage(judge: Judge, *pieces: tuple[int, int, int]) -> None:
    core = FakeCore()
    watched = judge.watch(NODE, core)
    for token, offset, length in pieces:
        core.effects = list[Effect]([Stage(SnapshotToken(token), META, offset, bytes(length))])
        watched.step(Woke(), Instant(0))


def test_time_of_the_log_goes_back_when_a_later_entry_has_an_earlier_one(judge: Judge) -> None:
    judge.served(NODE, replica(1, time=10))
    judge.served(NODE, replica(2, time=10))
    with pytest.raises(InvariantViolated, match="I8 LogTime"):
        judge.served(NODE, replica(3, time=9))


def test_time_of_the_log_may_be_earlier_after_a_restart_from_a_snapshot(judge: Judge) -> None:
    judge.served(NODE, replica(5, time=10))
    judge.crashed(NODE)
    judge.served(NODE, replica(6, time=9))


def test_sessions_are_out_of_order_when_one_stands_behind_a_later_opened_one(judge: Judge) -> None:
    judge.served(NODE, replica(1, used=((1, 4), (2, 2), (7, 3))))
    with pytest.raises(InvariantViolated, match=r"I16 SessionOrder: .*opened later"):
        judge.served(NODE, replica(2, used=((2, 1), (1, 2))))


def test_a_session_that_has_expired_may_not_live_on(judge: Judge) -> None:
    judge.served(NODE, replica(1, time=10_999, used=((1, 1_000), (2, 999_000))))
    with pytest.raises(InvariantViolated, match=r"I16 SessionOrder: .*session 1 lives"):
        judge.served(NODE, replica(2, time=11_000, used=((1, 1_000), (2, 999_000))))


def test_queue_is_unbounded_when_it_holds_more_than_its_limit(judge: Judge) -> None:
    judge.served(NODE, replica(1, queue=(3, 3)))
    with pytest.raises(InvariantViolated, match=r"I20 Bounded: .*4 commands waiting, but the limit is 3"):
        judge.served(NODE, replica(1, queue=(4, 3)))


def test_pieces_are_in_order_when_a_transfer_begins_again_or_another_follows(judge: Judge) -> None:
    stage(judge, (1, 0, 10), (1, 10, 10), (1, 0, 5), (1, 5, 5), (2, 0, 10), (2, 10, 90))


@pytest.mark.parametrize("pieces", [[(1, 0, 10), (1, 20, 10)], [(1, 0, 10), (2, 10, 10)], [(1, 5, 5)]])
def test_pieces_are_out_of_order_when(judge: Judge, pieces: list[tuple[int, int, int]]) -> None:
    with pytest.raises(InvariantViolated, match="I13 StageInOrder"):
        stage(judge, *pieces)


class Third(StateMachine):
    version = 3

    @command
    def nothing(self) -> None:
        """Do nothing."""


def raised(version: int, at: int, *, executes: int | None = None) -> Any:
    replica_ = replica(at)
    in_force = SimpleNamespace(version=version if executes is None else executes, digest=7)
    replica_.state.versions = Versions(machine=version)
    replica_.state.definition = SimpleNamespace(cls=Third)
    replica_.state.raised_at = stamp(1, at)
    replica_.state.runner = SimpleNamespace(in_force=in_force)
    return replica_


def test_a_version_is_raised_twice_when_two_replicas_name_different_entries(judge: Judge) -> None:
    judge.served(NODE, raised(2, 5))
    judge.served(NODE, raised(2, 5))
    judge.served(NODE, raised(3, 9))
    with pytest.raises(InvariantViolated, match=r"I37 RaisedOnce.* raised version 3 at 1\.8"):
        judge.served(NodeId(1), raised(3, 8))


@pytest.mark.parametrize(
    ("replica_", "told"),
    [
        (raised(4, 5), "executes version 4 with a class of version 3"),
        (raised(3, 5, executes=2), "has another"),
    ],
)
def test_a_replica_goes_beyond_its_class_or_has_another_machine_than_it_says(
    judge: Judge, replica_: Any, told: str
) -> None:
    with pytest.raises(InvariantViolated, match=f"I37 RaisedOnce.*{told}"):
        judge.served(NODE, replica_)
