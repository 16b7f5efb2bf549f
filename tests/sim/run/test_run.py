"""One run: it repeats to the byte, it notices planted faults, and it never passes for nothing."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.sim.planted import Chatty, Eager, Hasty, MoodyWorkload, Twice, bent
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.protocol import ProtocolDefinition
from viewstamp.protocols.registry import protocol_definition
from viewstamp.sim.run.plan import RunPlan, RunReport
from viewstamp.sim.run.run import execute
from viewstamp.sim.workloads import catalogue, clients, workload

RAFT = protocol_definition("raft")
REPLAY = (
    "import sys; from viewstamp.sim.run.plan import RunPlan; from viewstamp.sim.run.run import execute; "
    "print(execute(RunPlan(sys.argv[1], int(sys.argv[2])), sink=open(sys.argv[3], 'w')).trace_hash)"
)


def first_violation(definition: ProtocolDefinition, seeds: range, **plan: object) -> RunReport:
    for seed in seeds:
        report = execute(RunPlan("raft", seed, **plan), definition=definition)  # type: ignore[arg-type]
        if report.violation is not None:
            return report
    raise AssertionError(f"nothing was noticed in {len(seeds)} seeds")


# Seed 7 runs the lock service.
@pytest.mark.parametrize(
    ("protocol", "seed"), [("raft", 7), ("raft", 25), ("viewstamped", 7), ("viewstamped", 25)]
)
def test_trace_is_identical_to_the_byte_when_the_process_and_its_hash_seed_are_others(
    protocol: str, seed: int, tmp_path: Path
) -> None:
    traces, hashes = [], []
    for hash_seed in ("1", "4242"):
        path = tmp_path / hash_seed
        done = subprocess.run(
            [sys.executable, "-c", REPLAY, protocol, str(seed), str(path)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        hashes.append(done.stdout.strip())
        traces.append(path.read_bytes())
    assert traces[0] == traces[1]
    assert hashes[0] == hashes[1]
    assert len(traces[0]) > 10_000


def test_report_is_equal_when_a_trace_is_written() -> None:
    sink = io.StringIO()
    assert execute(RunPlan("raft", 3)) == execute(RunPlan("raft", 3), sink=sink)
    kinds = {json.loads(line)["kind"] for line in sink.getvalue().splitlines()}
    assert {"start", "send", "receive", "persisted", "request", "response", "heal"} <= kinds
    assert {"role", "committed", "apply"} <= kinds


def test_hash_differs_when_the_seed_differs() -> None:
    assert execute(RunPlan("raft", 1)).trace_hash != execute(RunPlan("raft", 2)).trace_hash


@pytest.mark.parametrize(
    ("bend", "name"),
    [
        (Eager, "I11 AckDurable"),
        (Hasty, "I14 ReadIndex"),
        (Twice, "I27 NoGap"),
        (Chatty, "I31 RpcBudget"),
    ],
)
def test_planted_fault_is_noticed_by_name(bend: Callable[..., object], name: str) -> None:
    report = first_violation(bent(RAFT, bend), range(40))  # type: ignore[arg-type]
    assert report.violation is not None
    assert report.violation.name == name, report.violation
    assert report.replay == f"viewstamp sim --protocol raft --seed {report.seed}"


def test_machine_that_is_not_deterministic_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalogue.WORKLOADS, "moody", MoodyWorkload)
    report = first_violation(RAFT, range(5), nodes=3, workload="moody")
    assert report.violation is not None
    assert report.violation.name in {"I28 BackupPrefix", "I13 SnapshotEquiv"}


def test_liveness_phase_makes_calls_of_its_own_when_no_client_does() -> None:
    plan = RunPlan("raft", 1, nodes=3, operations_max=0)
    report = execute(plan)
    assert report.violation is None
    assert report.operations["ok"] > 0


class Idle(workload.TallyWorkload):
    """Asks for nothing, and for nothing after the heal."""

    def final_plans(self) -> list[clients.Plan]:
        return []


def test_run_in_which_nothing_was_answered_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalogue.WORKLOADS, "idle", Idle)
    report = execute(RunPlan("raft", 1, nodes=3, workload="idle", operations_max=0))
    assert report.violation is not None
    assert report.violation.name == "Vacuous"


def test_unexpected_error_is_a_finding_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(workload.TallyWorkload):
        def plan(self, rng: Random) -> clients.Plan:
            raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setitem(catalogue.WORKLOADS, "broken", Broken)
    report = execute(RunPlan("raft", 1, nodes=3, workload="broken"))
    assert report.violation is not None
    assert report.violation.name == "Crash"
    assert report.violation.explanation == "RuntimeError: dictionary changed size during iteration"
    assert report.replay == "viewstamp sim --protocol raft --seed 1 --nodes 3 --workload broken"


def test_leader_changes_in_every_run_with_faults() -> None:
    for seed in range(8):
        report = execute(RunPlan("raft", seed, nodes=3))
        if "loss" in report.options or "crash" in report.options:
            assert report.rare["leader elected"] > 1, report.options


@pytest.mark.parametrize(
    "plan",
    [
        RunPlan("paxos", 0),
        RunPlan("raft", 0, without=("weather",)),
        RunPlan("raft", 0, workload="chess"),
    ],
)
def test_plan_is_refused_when_it_names_what_does_not_exist(plan: RunPlan) -> None:
    with pytest.raises(ConfigurationError, match=r"choose one of|no option|no workload"):
        execute(plan)
