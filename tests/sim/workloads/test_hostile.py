"""A client that means harm in the simulator: all invariants hold, and the honest clients see one store."""

import pytest

from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.sim.run.plan import RunPlan
from viewstamp.sim.run.run import execute

SEEDS = (0, 4, 9)
DURATION_US = 3_000_000


@pytest.mark.parametrize("protocol", PROTOCOL_NAMES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_hostile_client_breaks_no_invariant(protocol: str, seed: int) -> None:
    report = execute(RunPlan(protocol, seed, workload="hostile", duration_us=DURATION_US))
    assert report.violation is None, report.violation
    assert report.faults["hostile message"] > 20
    assert report.faults["hostile violation"] > 20
    assert report.operations["ok"] > 0


def test_other_workloads_have_no_hostile_client() -> None:
    report = execute(RunPlan("raft", 1, workload="kv", duration_us=DURATION_US))
    assert "hostile message" not in report.faults
