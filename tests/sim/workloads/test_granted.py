"""Clients with different grants in a cluster that fails in every way: nothing denied is executed."""

import pytest

from viewstamp.sim.run.plan import RunPlan
from viewstamp.sim.run.run import execute
from viewstamp.sim.workloads.granted import (
    EVERYTHING,
    NAME,
    READER,
    STRANGER,
    WRITER,
    GrantedStoreWorkload,
    principal_of,
)

DURATION_US = 4_000_000


@pytest.mark.parametrize("protocol", ["raft", "viewstamped", "primary_backup"])
@pytest.mark.parametrize("seed", [3, 4])
def test_nothing_denied_is_executed_and_nothing_permitted_is_denied(protocol: str, seed: int) -> None:
    report = execute(RunPlan(protocol, seed, workload="granted", duration_us=DURATION_US))
    assert report.violation is None
    assert report.faults["call denied"] > 20


def test_it_is_seen_when_servers_permit_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GrantedStoreWorkload, "grants", ())
    report = execute(RunPlan("raft", 3, workload="granted", duration_us=DURATION_US))
    assert report.violation is not None
    assert report.violation.name == NAME


def test_clients_have_different_principals_and_later_ones_may_do_everything() -> None:
    assert [principal_of(-number, 4) for number in range(1, 6)] == [
        EVERYTHING,
        READER,
        WRITER,
        STRANGER,
        EVERYTHING,
    ]
