"""What each scenario does, step by step, against a group that only takes notes."""

from random import Random
from typing import Any

import pytest

from viewstamp_labs.lab6824 import scenarios
from viewstamp_labs.lab6824.scenarios import COURSE, TESTS
from viewstamp_labs.lab6824.waiting import Failed

STEPS = {
    0: "start 3",
    1: "start 3; term 2; expect 01",
    2: "start 3; term 0; expect 12",
    3: "start 3; term 2; expect 01; serve 2; expect 012",
    4: "start 3; term 2; expect 01; term 1; stay 012; waits 0; serve 2; stay 012; term 2; serve 1; "
    "pause; serve 2; settle 012",
    5: "start 3; arm 0 breakpoint 3; term 2; died 0; stay 012; serve 2; expect 12; stay 12",
    6: "start 4; arm 0 breakpoint 4; term 3; died 0; stay 12; serve 3 by 1; expect 012 at 12; expect "
    "12; expect 123",
    7: "start 4; arm 0 breakpoint 4; term 3; died 0; accepted 012 at 12; term 2; term 1; serve 1; serve"
    " 2; stay 12; serve 3 by 1; expect 012 at 12; expect 12; expect 123",
    8: "start 3; tester; await",
    9: "start 3; tester; pause; term 2; expect 01; await",
    10: "start 3; tester; pause; term 2; expect 01; pause; serve 2; expect 012; await",
    11: "start 3; tester; pause; term 0; expect 12; await",
    12: "start 3; tester; pause; arm 0 breakpoint 1; died 0; expect 12; serve 0 by 1; expect 120; await",
    13: "start 3; tester; pause; arm 2 breakpoint 1; died 2; expect 01; serve 2; expect 012; await",
    14: "start 5; tester; pause; arm 3 breakpoint 2; arm 4 breakpoint 1; died 4; expect 0123; died 3; "
    "expect 012; await",
    15: "start 5; tester; pause; arm 0 breakpoint 2; arm 4 breakpoint 1; died 4; died 0; expect 0123; "
    "expect 123; await",
    16: "start 3; tester; pause; arm 0 partition 0; expect 12; pause; arm 0 partition 1; expect 120; await",
    17: "start 3; tester; pause; kill 012; serve 0; serve 1; serve 2; settle 012; await",
    18: "start 5; tester; pause; kill 0; expect 1234; kill 4; expect 123; kill 1; expect 23; kill 2; "
    "stay 3; waits 3; serve 2 by 3; await; settle 23",
    20: "start 3; tester; tester; pause; kill 0; expect 12; serve 0 by 2; expect 120; pause; term 1; "
    "expect 20; await",
    21: "start 3; tester; pause; term 1; expect 02; await",
    22: "start 3; tester; pause; term 2; expect 01; await",
    23: "start 3; tester; pause; arm 1 breakpoint 1; died 1; expect 02; serve 1; expect 021; await",
}


def digits(places: Any) -> str:
    return "".join(map(str, places))


class Notes:
    """A group without processes: every step succeeds and is written down."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.views = [(0,), (0, 1), (0, 1, 2)]
        self.heard = self.views

    def start(self, count: int) -> None:
        self.steps.append(f"start {count}")

    def serve(self, index: int, master: int = 0) -> None:
        self.steps.append(f"serve {index}" + (f" by {master}" if master else ""))

    def term(self, index: int) -> None:
        self.steps.append(f"term {index}")

    def kill(self, *indices: int) -> None:
        self.steps.append(f"kill {digits(indices)}")

    def died_at_breakpoint(self, index: int) -> None:
        self.steps.append(f"died {index}")

    def arm(self, index: int, command: str, number: int) -> None:
        self.steps.append(f"arm {index} {command} {number}")

    def expect(self, view: tuple[int, ...], at: tuple[int, ...] | None = None) -> None:
        self.steps.append(f"expect {digits(view)}" + (f" at {digits(at)}" if at else ""))

    def settle(self, members: set[int]) -> None:
        self.steps.append(f"settle {digits(sorted(members))}")

    def stay(self, indices: list[int], for_s: float) -> None:
        assert for_s > 2.4, "a silent server is noticed after this time"
        self.steps.append(f"stay {digits(indices)}")

    def says_that_it_waits(self, index: int) -> None:
        self.steps.append(f"waits {index}")

    def has_accepted(self, view: tuple[int, ...], at: tuple[int, ...]) -> None:
        self.steps.append(f"accepted {digits(view)} at {digits(at)}")

    def start_tester(self) -> None:
        self.steps.append("tester")

    def await_testers(self) -> None:
        self.steps.append("await")

    def logged(self, index: int) -> list[tuple[int, ...]]:
        return self.heard


class InOrder(Random):
    """Takes things as they come."""

    def sample(self, population: Any, k: int, *, counts: Any = None) -> list[Any]:
        return list(population)[:k]


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    made = Notes()
    monkeypatch.setattr(scenarios, "pause", lambda seconds: made.steps.append("pause"))
    return made


@pytest.mark.parametrize("number", STEPS)
def test_scenario_takes_the_steps_of_the_course_when_it_runs(notes: Notes, number: int) -> None:
    TESTS[number](notes, InOrder(1))  # type: ignore[arg-type]
    assert "; ".join(notes.steps) == STEPS[number]


def test_every_server_is_killed_and_comes_back_in_scenario_19(notes: Notes) -> None:
    TESTS[19](notes, Random(5))  # type: ignore[arg-type]
    assert sorted(step for step in notes.steps if step.startswith("kill")) == ["kill 0", "kill 1", "kill 2"]
    assert notes.steps[-2:] == ["settle 012", "await"]


def test_scenario_16_fails_when_a_server_that_is_cut_off_hears_of_a_view(notes: Notes) -> None:
    notes.heard = [*notes.views, (1, 2)]
    with pytest.raises(Failed, match="cut off heard of a view"):
        TESTS[16](notes, InOrder(1))  # type: ignore[arg-type]


def test_every_scenario_is_known_and_described() -> None:
    assert set(STEPS) | {19} == set(TESTS)
    assert set(COURSE) <= set(STEPS)
    assert all(scenario.__doc__ for scenario in TESTS.values())
