"""A corpus of classes that break a rule, and of classes that look alike and are right."""

import inspect
from types import ModuleType

import pytest

from tests.machine.lint import bad_a, bad_b, bad_c, good_a, good_b, good_c
from viewstamp.machine.lint.lint import lint_machine
from viewstamp.machine.state_machine import StateMachine


def classes_of(*modules: ModuleType) -> list[type[StateMachine]]:
    found = [(value, module) for module in modules for value in vars(module).values()]
    return [
        cls
        for cls, module in found
        if inspect.isclass(cls) and issubclass(cls, StateMachine) and cls.__module__ == module.__name__
    ]


@pytest.mark.parametrize("cls", classes_of(bad_a, bad_b, bad_c), ids=lambda cls: cls.__name__)
def test_rule_is_reported_when_a_class_breaks_it(cls: type[StateMachine]) -> None:
    wanted = (cls.__doc__ or "").split()[0]
    assert wanted in {finding.rule.code for finding in lint_machine(cls)}


@pytest.mark.parametrize("cls", classes_of(good_a, good_b, good_c), ids=lambda cls: cls.__name__)
def test_nothing_is_reported_when_a_class_is_right(cls: type[StateMachine]) -> None:
    assert [str(finding) for finding in lint_machine(cls)] == []


def test_corpus_has_sixty_of_each() -> None:
    assert len(classes_of(bad_a, bad_b, bad_c)) >= 60
    assert len(classes_of(good_a, good_b, good_c)) >= 60
