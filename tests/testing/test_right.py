"""Right classes: no net accuses one."""

import inspect

import pytest

from tests.testing import right, right_a, right_b
from viewstamp.machine.state_machine import StateMachine
from viewstamp.services.kv import KeyValueStore
from viewstamp.services.locks import LockService
from viewstamp.testing.examination import examine, subject_of

CLASSES = [
    value
    for module in (right, right_a, right_b)
    for value in vars(module).values()
    if inspect.isclass(value) and issubclass(value, StateMachine) and value.__module__ == module.__name__
    if value is not right_a.Base  # it has no commands
]


def test_there_are_fifty_of_them() -> None:
    assert len(CLASSES) >= 50


@pytest.mark.slow
@pytest.mark.parametrize("machine", [*CLASSES, KeyValueStore, LockService], ids=lambda cls: cls.__name__)
def test_class_withstands_everything_when_it_is_right(machine: type[StateMachine]) -> None:
    assert examine(subject_of(machine), seeds=2) is None
