"""Ratios are taken within a round, never over rounds, and judged in the right direction."""

import pytest
from benchmarks.ratios import Case, Target, by_round, judged, ratios

from tests.benchmarks.rows import row

CASE = Case("writes", 64)
RATE = Target(CASE, "per_second", "etcd", 3.0)
LATENCY = Target(CASE, "p50", "etcd", 0.6)


def test_ratios_are_taken_round_by_round_when_the_machine_drifts() -> None:
    rows = [row("viewstamp-raft", 1, 300.0), row("etcd", 1, 100.0), row("etcd", 2, 10.0)]
    rows += [row("viewstamp-raft", 2, 40.0), row("viewstamp-raft", 3, 1.0)]
    assert ratios(rows, RATE) == [3.0, 4.0]


def test_better_setting_counts_when_a_peer_has_two() -> None:
    rows = [row("pysyncobj-batched", 1, 10.0, p50=5), row("pysyncobj-unbatched", 1, 20.0, p50=9)]
    assert by_round(rows, "pysyncobj", CASE, "per_second") == {1: 20.0}
    assert by_round(rows, "pysyncobj", CASE, "p50") == {1: 5.0}


@pytest.mark.parametrize(
    ("target", "ratio", "met"),
    [(RATE, 3.0, True), (RATE, 2.9, False), (LATENCY, 0.6, True), (LATENCY, 0.7, False)],
)
def test_bound_is_least_for_rates_and_most_for_latencies(target: Target, ratio: float, *, met: bool) -> None:
    assert target.met(ratio) is met


def test_other_loads_are_left_out_when_a_figure_is_looked_up() -> None:
    rows = [row("etcd", 1, 5.0), row("etcd", 1, 7.0, workload="reads"), row("etcd", 1, 9.0, value_bytes=1024)]
    assert by_round(rows, "etcd", CASE, "per_second") == {1: 5.0}


def test_protocols_are_compared_with_raft_when_they_were_measured() -> None:
    rows = [row("viewstamp-raft", 1, 100.0), row("viewstamp-viewstamped", 1, 90.0)]
    assert [(target.ours, seen, met) for target, seen, met in judged(rows)] == [
        ("viewstamp-viewstamped", [0.9], False)
    ]
