"""Right classes: no net accuses one."""

import inspect

import pytest

from tests.testing import right, right_a, right_b, right_c
from viewstamp.machine.lint.lint import lint_machine
from viewstamp.machine.state_machine import StateMachine
from viewstamp.services.extents.service import ExtentService
from viewstamp.services.kv import KeyValueStore
from viewstamp.services.locks import LockService
from viewstamp.services.store.machine import CoordinationStore
from viewstamp.services.store.stock_store import StockStore
from viewstamp.testing.examination import examine, subject_of

CLASSES = [
    value
    for module in (right, right_a, right_b, right_c)
    for value in vars(module).values()
    if inspect.isclass(value) and issubclass(value, StateMachine) and value.__module__ == module.__name__
    if value is not right_a.Base  # it has no commands
]


def test_there_are_seventy_of_them() -> None:
    assert len(CLASSES) >= 70


@pytest.mark.parametrize("machine", CLASSES, ids=lambda cls: cls.__name__)
def test_nothing_is_found_in_the_source_when_a_class_is_right(machine: type[StateMachine]) -> None:
    assert [str(finding) for finding in lint_machine(machine)] == []


@pytest.mark.slow
@pytest.mark.parametrize("machine", [*CLASSES, KeyValueStore, LockService], ids=lambda cls: cls.__name__)
def test_class_withstands_everything_when_it_is_right(machine: type[StateMachine]) -> None:
    assert examine(subject_of(machine), seeds=2) is None


@pytest.mark.parametrize(
    "machine", [StockStore, CoordinationStore, ExtentService], ids=lambda cls: cls.__name__
)
def test_nothing_is_found_in_the_source_of_what_is_shipped(machine: type[StateMachine]) -> None:
    assert [str(finding) for finding in lint_machine(machine)] == []
