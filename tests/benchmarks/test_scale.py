"""Cost against size: the operations run at any size, and none of them calls more at a larger one."""

import sys
from types import FrameType
from typing import Any

import pytest
from benchmarks.scale import Case, bytes_of, cases, growth

SMALL, LARGE = 1_500, 12_000
ALIKE = ("keys: write", "keys: create", "sessions", "log", "waiters")
NEVER_LARGER = [case for case in cases(10**4) if case.name.startswith(ALIKE)]


def calls_of(case: Case, size: int) -> float:
    """Return the calls of Python functions and of C functions of one operation, on average over some."""
    operation, counted = case.make(size), [0]
    operation()  # what was added last is put in order

    def profile(_frame: FrameType, event: str, _argument: Any) -> None:
        counted[0] += event in {"call", "c_call"}

    sys.setprofile(profile)
    try:
        for _ in range(50):
            operation()
    finally:
        sys.setprofile(None)
    return counted[0] / 50


@pytest.mark.parametrize("case", NEVER_LARGER, ids=lambda case: case.name)
def test_an_operation_on_eight_times_as_much_calls_no_more(case: Case) -> None:
    assert calls_of(case, LARGE) <= 1.3 * calls_of(case, SMALL) + 2


def test_growth_is_the_exponent_of_the_worst_step() -> None:
    assert growth((10, 100, 1_000), [5.0, 5.0, 5.0]) == 0
    assert growth((10, 100, 1_000), [5.0, 5.0, 50.0]) == pytest.approx(1)
    assert growth((1, 2, 4), [1.0, 4.0, 4.0]) == pytest.approx(2)
    assert growth((10, 100), [5.0, 4.0]) == 0


def test_memory_is_that_of_what_is_kept() -> None:
    assert 100_000 <= bytes_of(lambda: bytes(100_000)) < 110_000
