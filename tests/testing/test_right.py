"""Right classes: no net accuses one."""

import inspect

import pytest

from tests.testing import right
from viewstamp.machine.state_machine import StateMachine
from viewstamp.services.kv import KeyValueStore
from viewstamp.services.locks import LockService
from viewstamp.testing.examination import examine, subject_of

CLASSES = [
    value
    for value in vars(right).values()
    if inspect.isclass(value) and issubclass(value, StateMachine) and value.__module__ == right.__name__
]


def test_there_are_twenty_of_them() -> None:
    assert len(CLASSES) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("machine", [*CLASSES, KeyValueStore, LockService], ids=lambda cls: cls.__name__)
def test_class_withstands_everything_when_it_is_right(machine: type[StateMachine]) -> None:
    assert examine(subject_of(machine), seeds=2) is None
