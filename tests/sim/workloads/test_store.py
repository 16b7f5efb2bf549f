"""The coordination store under the simulator's faults: watches, leases and transactions (I42).

A failure prints the command that replays it. More seeds: `viewstamp sim --workload store --seeds 0..999`.
"""

from collections import Counter

import pytest

from tests.sim.workloads.test_locks import SEEDS, run_seeds
from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.sim.workloads.store import WatchedStore


@pytest.mark.parametrize("protocol", PROTOCOL_NAMES)
def test_watches_are_told_the_truth_and_leases_end_in_their_time_under_all_faults(protocol: str) -> None:
    counts = Counter[str]()
    for seed in range(1, 1 + SEEDS):
        run_seeds(protocol, "store", range(seed, seed + 1))
        counts += WatchedStore.oracle.counts
    assert counts["watch told changes"] > 100
    assert counts["watch told progress"] + counts["watch told resync"] > 5
    assert counts["transaction executed"] > 20
    assert counts["lease ended"] > 3
    assert counts["call judged by the model"] > 0
