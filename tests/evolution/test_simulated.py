"""Nodes with different classes, restarted in any order under disasters: the histories stay linearizable."""

from collections import Counter

import pytest

from viewstamp.sim.run.plan import RunPlan
from viewstamp.sim.run.run import execute

SEEDS = 6


@pytest.mark.parametrize("protocol", ["raft", "viewstamped", "primary_backup"])
def test_histories_are_right_when_classes_are_deployed_under_disasters(protocol: str) -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        report = execute(RunPlan(protocol, seed, workload="tests.evolution.deployed:Deployed"))
        assert report.violation is None, (seed, report.violation)
        seen.update(report.faults)
    assert min(seen[f"deployed version {version}"] for version in (1, 2, 3)) > 0
    assert seen["finalize asked"] > 0
