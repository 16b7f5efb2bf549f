"""Recipes under the simulator's faults: what is certain fits together, nothing is lost, all that wait go on.

A failure prints the command that replays it. More seeds: `viewstamp sim --workload queues --seeds 0..999`.
"""

import pytest

from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.sim.run.plan import RunPlan
from viewstamp.sim.run.run import execute

CLAIMS = ("semaphores", "semaphores-notified", "rwlocks", "elections", "queues")
SERVICES = (
    "semaphores:SemaphoreService",
    "rwlocks:ReadWriteLockService",
    "elections:ElectionService",
    "barriers:BarrierService",
    "countdowns:CountdownService",
    "queues:QueueService",
    "registry:RegistryService",
    "counters:CounterService",
    "rates:RateService",
)


@pytest.mark.parametrize("workload", CLAIMS)
def test_what_is_certain_fits_together_under_all_faults(workload: str) -> None:
    protocol = PROTOCOL_NAMES[CLAIMS.index(workload) % len(PROTOCOL_NAMES)]
    report = execute(RunPlan(protocol, 3, 3, 6_000_000, workload=workload))
    assert report.violation is None, f"{report.replay}\n{report.violation}"
    assert report.rare["claim held"] > 10


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_answers_as_it_would_alone(service: str) -> None:
    """Every method with small random arguments, judged by the class itself at its place in the log."""
    report = execute(RunPlan("raft", 1, workload=f"viewstamp.services.recipes.{service}"))
    assert report.violation is None, f"{report.replay}\n{report.violation}"
    assert report.operations["ok"] + report.operations.get("raised", 0) > 20
