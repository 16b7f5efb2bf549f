"""The service comes back in time after the heal: seeds in which a member stayed behind."""

import pytest

from viewstamp.sim.run.plan import RunPlan
from viewstamp.sim.run.run import execute


@pytest.mark.parametrize("seed", [193, 223, 438, 455, 494, 522, 604, 607, 695])
def test_learner_catches_up_when_its_snapshot_comes_in_small_pieces(seed: int) -> None:
    report = execute(RunPlan("viewstamped", seed))
    assert report.violation is None, f"{report.replay}\n{report.violation}"


@pytest.mark.parametrize("seed", [13, 34, 56, 68])
def test_member_catches_up_while_clients_go_on(seed: int) -> None:
    report = execute(RunPlan("viewstamped", seed, workload="store"))
    assert report.violation is None, f"{report.replay}\n{report.violation}"
