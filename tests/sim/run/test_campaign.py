"""Campaigns: chunks over an executor, a sum, a stop at the first violation; shrinking; the ledger."""

import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.sim.fakes import RAFT_LIKE
from viewstamp.core.errors import ConfigurationError
from viewstamp.protocols.registry import protocol_definition
from viewstamp.sim.run import campaign
from viewstamp.sim.run.campaign import CampaignSummary, run_campaign
from viewstamp.sim.run.ledger import append_to_ledger
from viewstamp.sim.run.plan import RunPlan, RunReport, Violation
from viewstamp.sim.run.shrink import shrink
from viewstamp.sim.world.options import draw_options


def report_of(plan: RunPlan, *, fails: bool = False, at_us: int = 500_000) -> RunReport:
    return RunReport(
        plan=plan,
        options="",
        violation=Violation("I1 ElectionSafety", "two leaders", at_us) if fails else None,
        trace_hash="0" * 16,
        events=1_000,
        virtual_us=3_600_000_000,
        operations={"ok": 5},
        faults={"crash": 2},
        rare={"leader elected": 3},
        committed=4,
    )


class Inline(Executor):
    """Runs a call when it is submitted, in this thread."""

    def __init__(self) -> None:
        self.submitted = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submitted += 1
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def plans() -> Iterator[RunPlan]:
    return (RunPlan("raft", seed) for seed in range(1_000_000))


def test_campaign_adds_up_what_real_runs_report() -> None:
    with ThreadPoolExecutor(1) as executor:
        summary = run_campaign([RunPlan("raft", seed) for seed in range(6)], executor, workers=1)
    assert summary.seeds == 6
    assert summary.events > 1_000
    assert summary.reached["leader elected"] == 6
    assert not summary.failed


def test_campaign_stops_when_a_seed_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "execute", lambda plan: report_of(plan, fails=plan.seed == 9))
    executor, seen = Inline(), list[int]()
    summary = run_campaign(plans(), executor, workers=2, on_report=lambda report: seen.append(report.seed))
    assert [report.seed for report in summary.failed] == [9]
    assert summary.seeds == len(seen) < 40
    assert executor.submitted < 10


def test_progress_is_reported_for_every_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "execute", report_of)
    seen = list[int]()
    todo = [RunPlan("raft", seed) for seed in range(10)]
    summary = run_campaign(todo, Inline(), workers=1, on_report=lambda report: seen.append(report.seed))
    assert sorted(seen) == list(range(10))
    assert (summary.events, summary.virtual_hours, summary.committed) == (10_000, 10.0, 40)
    assert (summary.faults["crash"], summary.reached["leader elected"]) == (20, 10)


def test_ledger_grows_by_a_line_for_each_campaign(tmp_path: Path) -> None:
    summary = CampaignSummary()
    summary.add(report_of(RunPlan("raft", 1)))
    path = tmp_path / "ledger.md"
    append_to_ledger(path, "raft", "1..1", summary)
    append_to_ledger(path, "raft", "2..2", summary)
    lines = path.read_text().splitlines()
    assert lines[0] == "# Simulation ledger"
    assert [line.split(" | ")[2] for line in lines[-2:]] == ["1..1", "2..2"]
    assert lines[-1].endswith("| raft | 2..2 | 1 | 1.0 | 1,000 | 5 | 2 | 0 |")


def test_shrinking_keeps_what_the_failure_needs() -> None:
    definition = protocol_definition("raft")
    seed = next(
        seed
        for seed in range(200)
        if (drawn := draw_options("raft", RAFT_LIKE, seed)).network.loss and drawn.nodes == 5
    )
    ran = list[RunPlan]()

    def run(plan: RunPlan) -> RunReport:
        ran.append(plan)
        needs_loss = not {"network", "network.loss"} & set(plan.without)
        long_enough = plan.duration_us is None or plan.duration_us >= 400_000
        return report_of(plan, fails=needs_loss and long_enough)

    smaller, report = shrink(RunPlan("raft", seed), definition, run)
    assert report.plan == smaller
    assert smaller.nodes == 3
    assert smaller.duration_us is not None
    assert 400_000 <= smaller.duration_us <= 500_000
    assert {"partitions", "processes", "disk", "load", "tuning"} <= set(smaller.without)
    assert "network" not in smaller.without
    assert "network.loss" not in smaller.without
    assert len(ran) <= 60
    assert "--without network.delay_mean_us" in smaller.replay


def test_shrinking_is_refused_when_nothing_fails() -> None:
    with pytest.raises(ValueError, match="does not fail"):
        shrink(RunPlan("raft", 1), protocol_definition("raft"), report_of)


def test_local_executor_runs_chunks_in_fresh_processes() -> None:
    encoded = msgspec.json.encode([RunPlan("raft", 1)])
    with campaign.local_executor(1) as executor:
        reports = msgspec.json.decode(
            executor.submit(campaign.run_chunk, encoded).result(), type=list[RunReport]
        )
    assert [report.seed for report in reports] == [1]


def test_dask_is_asked_for_an_executor_when_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    inline = Inline()

    class Client:
        def __init__(self, address: str) -> None:
            if address != "tcp://here:1":
                raise OSError("refused")

        def get_executor(self, *, pure: bool) -> Executor:
            assert not pure
            return inline

        def nthreads(self) -> dict[str, int]:
            return {"a": 1, "b": 1}

    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(Client=Client))
    assert campaign.dask_executor("tcp://here:1") == (inline, 2)
    with pytest.raises(ConfigurationError, match="no dask scheduler answers at tcp://there:1"):
        campaign.dask_executor("tcp://there:1")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigurationError, match="pip install"):
        campaign.dask_executor("tcp://here:1")
