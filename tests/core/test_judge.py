"""Named invariants."""

import pytest

from viewstamp.core.judge import InvariantViolated, ensure


def test_nothing_happens_when_the_condition_holds() -> None:
    ensure([0], "I1", "not raised")


def test_name_and_explanation_are_told_when_the_condition_fails() -> None:
    with pytest.raises(InvariantViolated, match=r"^I2: two leaders in view 3$") as caught:
        ensure([], "I2", "two leaders in view 3")
    assert (caught.value.name, caught.value.explanation) == ("I2", "two leaders in view 3")


def test_violation_is_an_assertion_when_caught() -> None:
    assert issubclass(InvariantViolated, AssertionError)
