"""Locks under the simulator's faults: two clients never hold one, and one that waits gets it (I23, I19).

A failure prints the command that replays it. More seeds: `viewstamp sim --workload locks --seeds 0..999`.
"""

from collections import Counter

import pytest

from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.sim.run.plan import RunPlan
from viewstamp.sim.run.run import execute

SEEDS = 4


def run_seeds(protocol: str, workload: str, seeds: range) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        report = execute(RunPlan(protocol, seed, workload=workload))
        assert report.violation is None, f"{report.replay}\n{report.violation}\n{report.options}"
        seen.update(report.rare)
    return seen


@pytest.mark.parametrize("workload", ["locks", "locks-notified"])
@pytest.mark.parametrize("protocol", PROTOCOL_NAMES)
def test_one_client_holds_a_lock_and_waiting_clients_get_it_under_all_faults(
    protocol: str, workload: str
) -> None:
    seen = run_seeds(protocol, workload, range(1, 1 + SEEDS))
    assert seen["lock held"] > 50
    assert seen["leader elected"] >= SEEDS
