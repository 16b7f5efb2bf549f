"""Equal runs without a cluster: what no reader of the source sees is found under its name."""

import pytest

from tests.testing import shops
from viewstamp.machine.lint.lint import lint_machine
from viewstamp.machine.state_machine import StateMachine
from viewstamp.testing.equal_runs import replay
from viewstamp.testing.examination import examine_runs, subject_of

SINS = [
    (shops.Dice, "VS006 hidden-global"),
    (shops.Unannotated, "VS003 set-order"),
    (shops.Halves, "VS013 half-done"),
    (shops.Shared, "VS008 aliasing"),
    (shops.Deep, "VS014 recursion"),
    (shops.Batched, "VS015 batch"),
    (shops.Rounds, "VS017 restore-differs"),
    (shops.Labelled, "VS004 hash-or-identity"),
]


@pytest.mark.parametrize(("machine", "name"), SINS, ids=lambda value: getattr(value, "__name__", None))
def test_sin_is_named_when_equal_runs_differ(machine: type[StateMachine], name: str) -> None:
    subject = subject_of(machine)
    failure = examine_runs(subject)
    assert failure is not None
    assert failure.name == name
    found = failure.difference
    assert found is not None
    assert len(found.steps) <= 4
    again = replay(subject.workload(), subject.title, found.seed, found.drawn, found.kept)
    assert again is not None
    assert again.rule == found.rule


@pytest.mark.parametrize("machine", [shops.Shop, shops.Overdrawn])
def test_nothing_is_found_when_a_class_is_right(machine: type[StateMachine]) -> None:
    assert lint_machine(machine) == []
    assert examine_runs(subject_of(machine)) is None
