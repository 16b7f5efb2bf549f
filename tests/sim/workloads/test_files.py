"""The file system under the simulator's faults: what was flushed is found, what is lost is said (X01 to X10).

A failure prints the command that replays it. More seeds: `viewstamp sim --workload files --seeds 0..999`.
"""

from collections import Counter

import pytest

from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.sim.run.plan import RunPlan
from viewstamp.sim.run.run import execute

SEEDS = 4


@pytest.mark.parametrize("protocol", PROTOCOL_NAMES)
def test_mounts_see_one_file_system_under_all_faults(protocol: str) -> None:
    seen: Counter[str] = Counter()
    for seed in range(1, 1 + SEEDS):
        report = execute(RunPlan(protocol, seed, workload="files"))
        assert report.violation is None, f"{report.replay}\n{report.violation}\n{report.options}"
        seen.update(report.rare)
    assert seen["text saved or loaded"] > 40
    assert seen["mount stalled"] > 0
