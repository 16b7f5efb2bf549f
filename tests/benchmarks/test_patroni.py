"""What the program with Patroni takes for two primaries."""

import pytest
from benchmarks.patroni import Write, two_primaries


def write(node: int, timeline: int, began: float, ended: float) -> Write:
    return Write(node, 0, timeline, began, ended)


FIRST = [write(1, 1, 0.0, 0.1), write(1, 1, 0.2, 0.3)]


def test_a_primary_that_takes_over_is_not_a_second_one() -> None:
    later = [write(2, 2, 20.0, 20.1), write(2, 2, 20.2, 20.3), write(1, 3, 40.0, 40.1)]
    assert two_primaries([*FIRST, *later]) == []


def test_a_write_that_was_under_way_at_the_take_over_proves_nothing() -> None:
    assert two_primaries([*FIRST, write(1, 1, 19.9, 20.2), write(2, 2, 20.0, 20.1)]) == []


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ([write(2, 1, 0.4, 0.5)], "1 and 2 took writes on timeline 1"),
        ([write(2, 2, 20.0, 20.1), write(1, 1, 20.2, 20.3)], "1 took a write on 1 after 2 on 2"),
    ],
)
def test_two_at_a_time_are_found(more: list[Write], found: str) -> None:
    assert two_primaries([*FIRST, *more]) == [found]
