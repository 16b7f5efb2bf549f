"""What users wait for is compared with what it may be."""

import pytest
from benchmarks.limits import limits_table, verdicts
from benchmarks.micro import slower


@pytest.mark.parametrize(("worst", "met"), [(1.4, True), (1.6, False)])
def test_worst_pause_is_judged(worst: float, *, met: bool) -> None:
    found = {"failover": {"raft": {"median_s": 0.2, "worst_s": worst}}}
    assert [verdict.met for verdict in verdicts(found)] == [True, met]


def test_what_was_not_measured_is_not_told() -> None:
    table = limits_table({"startup": {"listening_s": 0.2, "first_write_s": 0.3, "status_s": 0.1}})
    assert len(table.splitlines()) == 5


def test_regression_is_named_when_it_exceeds_the_tolerance() -> None:
    before = {"a": {"turns": 1.0}, "b": {"turns": 1.0}}
    found = {"a": {"turns": 1.2}, "b": {"turns": 1.5}, "new": {"turns": 9.0}}
    assert slower(found, before, 0.3) == ["b: 1.50 times what it was"]
