"""Alarms in log time: rung by any entry that is late enough, ordered by the leader where none comes."""

import pytest

from tests.replica.fakes import Bench, call, submit
from viewstamp.core.events import Proposed
from viewstamp.core.ids import NodeId
from viewstamp.machine.state_machine import StateMachine, command, compose
from viewstamp.replica import replicated_state


class Timer(StateMachine):
    """Rings at moments that were set, and remembers when and under which token it did."""

    moments: list[int] = []  # noqa: RUF012  StateMachine copies the default for each instance
    rang: list[tuple[int, int]] = []  # noqa: RUF012

    @command
    def set(self, after: int) -> None:
        """Ring so much later."""
        self.moments = sorted([*self.moments, self.context.now + after])

    @command
    def nothing(self) -> int:
        """Return the token."""
        return self.context.token

    def next_alarm(self) -> int | None:
        return self.moments[0] if self.moments else None

    def alarm(self) -> None:
        assert self.context.principal == "anonymous"
        self.rang = [*self.rang, (self.context.now, self.context.token)]
        self.moments = self.moments[1:]


class Stuck(Timer):
    """Raises whenever it rings."""

    def alarm(self) -> None:
        raise ValueError("always")


def timer(bench: Bench) -> Timer:
    machine = bench.replica.machine
    assert isinstance(machine, Timer)
    return machine


def test_the_leader_orders_one_entry_when_the_moment_has_come() -> None:
    bench = Bench(Timer)
    bench.do(submit(0, (1, call("set", 5_000))))
    assert bench.replica.deadline == 5_000
    bench.now = 4_999
    bench.wake()
    assert timer(bench).rang == []
    bench.now = 5_000
    bench.wake()
    ((now, token),) = timer(bench).rang
    assert now == 5_000
    assert token == 2 << 20
    assert bench.replica.applied.seqno == 2
    assert bench.replica.deadline is None


def test_it_orders_no_other_entry_before_the_first_is_applied() -> None:
    bench = Bench(Timer)
    bench.do(submit(0, (1, call("set", 5_000))))
    bench.core.holding = True
    for _ in range(5):
        bench.now += 5_000
        bench.wake()
    assert len(bench.core.held) == 1
    bench.lead(NodeId(2))
    assert bench.replica.deadline is None, "a follower orders nothing"
    bench.lead(bench.replica.node)
    bench.now += 10_000
    bench.wake()
    assert len(bench.core.held) == 2, "the first may be lost with the leadership"


def test_any_entry_that_is_late_enough_rings_before_its_commands() -> None:
    bench = Bench(Timer)
    bench.do(submit(0, (1, call("set", 10)), (2, call("set", 20)), (3, call("set", 900_000))))
    bench.core.accepting = False
    bench.now = 50_000
    bench.core.accepting = True
    bench.do(submit(0, (4, call("nothing"))))
    tokens = [token for _, token in timer(bench).rang]
    assert len(tokens) == 2
    assert tokens == sorted(tokens)
    assert timer(bench).moments == [900_000]


def test_many_alarms_are_rung_by_several_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicated_state, "ALARMS_MAX", 3)
    bench = Bench(Timer)
    bench.do(submit(0, *((number, call("set", 10)) for number in range(1, 8))))
    for _ in range(5):
        bench.now += 10_000
        bench.wake()
    assert len(timer(bench).rang) == 7
    assert bench.replica.applied.seqno == 4


def test_an_alarm_that_never_moves_on_costs_an_entry_now_and_then() -> None:
    bench = Bench(Stuck)
    bench.do(submit(0, (1, call("set", 10))))
    for _ in range(100):
        bench.now += 1_000
        bench.wake()
    assert 5 <= bench.replica.applied.seqno <= 12


def test_of_a_composed_machine_the_earliest_part_rings() -> None:
    bench = Bench(compose(one=Timer, two=Timer))
    bench.do(submit(0, (1, call("one.set", 9_000)), (2, call("two.set", 4_000))))
    assert bench.replica.deadline == 4_000
    bench.now = 4_000
    bench.wake()
    one, two = vars(bench.replica.machine)["machines"].values()
    assert (len(one.rang), len(two.rang)) == (0, 1)
    assert isinstance(bench.replica.deadline, int)
    assert not any(isinstance(each, Proposed) for each in bench.seen)
