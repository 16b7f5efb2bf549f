"""The gate: what is slower is found, what only seems so is not."""

from collections.abc import Callable

from benchmarks.gate import PROCESSES, TOLERANCE, Figures, cost, least_of, slower, table

BEFORE = {"write": 1.0, "read": 2.0}


def _series(*writes: float) -> Callable[[], Figures]:
    """Return a measurement that finds these for a write, one after the other."""
    left = list(writes)
    return lambda: {"write": left.pop(0), "read": 2.1}


def test_a_part_is_slower_when_each_process_says_so() -> None:
    found = least_of(_series(*[1.3] * (PROCESSES - 1), 1.2), BEFORE)
    assert found == {"write": 1.2, "read": 2.1}
    assert slower(found, BEFORE) == ["write: 1.20 times what it was"]


def test_a_part_that_seems_slower_is_measured_again_and_no_more_than_that() -> None:
    found = least_of(_series(1.5, 1.3, 1 + TOLERANCE / 2), BEFORE)
    assert (found["write"], slower(found, BEFORE)) == (1.05, [])


def test_a_part_without_a_figure_is_named() -> None:
    assert slower({"new": 1.0}, BEFORE) == ["new: no figure"]
    assert "| new | 1.0000 | new |" in table({"new": 1.0, "write": 1.1}, BEFORE)
    assert "| write | 1.1000 | 1.10 |" in table({"new": 1.0, "write": 1.1}, BEFORE)


def test_work_done_twice_costs_twice() -> None:
    def once() -> None:
        sum(range(2_000))

    def twice() -> None:
        once()
        once()

    assert 1.5 < cost(twice, 1, rounds=20) / cost(once, 1, rounds=20) < 2.6
