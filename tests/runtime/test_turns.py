"""The turn loop by itself, on a loop that a test moves."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from viewstamp.core.ids import Instant
from viewstamp.runtime.turns import STALL_US, Turns


class Timer:
    """A call that a loop was asked for."""

    def __init__(self, delay_s: float, action: Callable[[], None]) -> None:
        self.delay_s = delay_s
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Bench:
    """A loop, a clock and a piece of work, all of which only remember."""

    def __init__(self) -> None:
        self.now = 0
        self.soon: list[Callable[[], None]] = []
        self.timers: list[Timer] = []
        self.deadlines: list[int | None] = []
        """What each turn says; None where nothing is left."""
        self.worked = 0
        self.turns = Turns(cast("asyncio.AbstractEventLoop", self), lambda: Instant(self.now), self.work)

    def call_soon(self, action: Callable[[], None]) -> None:
        self.soon.append(action)

    def call_later(self, delay_s: float, action: Callable[[], None]) -> Timer:
        self.timers.append(Timer(delay_s, action))
        return self.timers[-1]

    def work(self) -> Instant | None:
        self.worked += 1
        self.turns.plan()  # what a turn adds is done by it
        deadline = self.deadlines.pop(0) if self.deadlines else None
        return None if deadline is None else Instant(deadline)

    def pass_round(self) -> None:
        soon, self.soon = self.soon, []
        for action in soon:
            action()

    def turn(self, deadline: int | None) -> None:
        """Let there be a turn that ends with this deadline."""
        self.deadlines = [deadline]
        self.turns.plan()
        self.pass_round()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_one_turn_is_planned_when_many_ask_for_it(bench: Bench) -> None:
    bench.turns.plan()
    bench.turns.plan()
    bench.pass_round()
    assert bench.worked == 1
    assert not bench.soon, "what the turn itself asked for was under way"
    bench.turns.plan()
    bench.pass_round()
    assert bench.worked == 2


def test_one_timer_waits_when_deadlines_come_and_go(bench: Bench) -> None:
    bench.turn(5_000_000)
    bench.turn(7_000_000)
    assert [timer.delay_s for timer in bench.timers] == [5.0]
    bench.turn(2_000_000)
    assert [(timer.delay_s, timer.cancelled) for timer in bench.timers] == [(5.0, True), (2.0, False)]


def test_there_is_a_turn_at_once_when_the_deadline_has_passed(bench: Bench) -> None:
    bench.now = 10
    bench.turn(10)
    assert not bench.timers
    bench.pass_round()
    assert bench.worked == 2


def test_turn_runs_when_its_timer_is_due(bench: Bench) -> None:
    bench.turn(1_000)
    bench.now = 1_000
    bench.timers[0].action()
    assert bench.worked == 2


def test_sockets_come_first_when_the_process_stood_still(bench: Bench) -> None:
    bench.turn(1_000)
    bench.now = 1_001 + STALL_US
    bench.timers[0].action()
    assert (bench.worked, bench.turns.stalls) == (1, 1)
    bench.timers[1].action()
    bench.pass_round()
    assert bench.worked == 2


def test_turns_go_on_when_one_has_failed(bench: Bench) -> None:
    def fail() -> Instant | None:
        raise ValueError("planted")

    turns = Turns(cast("asyncio.AbstractEventLoop", bench), lambda: Instant(0), fail)
    for _ in range(2):
        turns.plan()
        with pytest.raises(ValueError, match="planted"):
            bench.pass_round()


def test_there_are_no_more_turns_when_it_was_stopped(bench: Bench) -> None:
    bench.turn(1_000)
    bench.turns.plan()
    bench.turns.stop()
    bench.pass_round()
    assert bench.worked == 1
    assert bench.timers[0].cancelled
