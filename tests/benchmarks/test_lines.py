"""What a load generator is asked and what it answers."""

import pytest
from benchmarks.loads.lines import Plan, figures


def test_plan_comes_back_when_its_line_is_read() -> None:
    plan = Plan("mixed", 256, 1024, 0.3, 2.5, 4)
    assert Plan.parse(plan.line()) == plan


def test_line_is_refused_when_a_word_is_missing() -> None:
    with pytest.raises(ValueError, match="unpack"):
        Plan.parse("writes 1 32\n")


@pytest.mark.parametrize(("workload", "writes"), [("writes", 100), ("reads", 0), ("mixed", 10)])
def test_share_of_writes(workload: str, writes: int) -> None:
    plan = Plan(workload, 1, 32, 0.0, 1.0)
    assert sum(plan.writes_at(place) for place in range(100)) == writes


def test_latency_is_the_time_that_there_was_when_nothing_was_done() -> None:
    found = figures([], 2.0)
    assert (found["operations"], found["per_second"], found["latency_us"]["p99"]) == (0, 0.0, 2_000_000)


def test_figures_count_what_was_done_and_when() -> None:
    found = figures([0.001 * number for number in range(100, 0, -1)], 2.0)
    assert found["operations"] == 100
    assert found["per_second"] == 50.0
    assert found["latency_us"] == {"p50": 51000, "p90": 91000, "p99": 100000, "p999": 100000, "max": 100000}
