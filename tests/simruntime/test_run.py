"""Whole servers and clients in a simulated world (`simruntime.run`)."""

import os
import subprocess
import sys

import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.protocols.registry import protocol_definition
from viewstamp.sim.run.plan import RunPlan
from viewstamp.simruntime.options import CallOptions, SocketOptions
from viewstamp.simruntime.run import (
    PROTOCOLS,
    check_plan,
    execute,
    run_with_history,
    runtime_options_of,
    swarm_options_of,
)

SEEDS = 4
FOUND = (("raft", 1019), ("primary_backup", 1008))
"""Seeds that found a bug."""
_HASHES = (
    "import sys; from viewstamp.sim.run.plan import RunPlan; from viewstamp.simruntime.run import execute\n"
    "for protocol in sys.argv[1:]: print(execute(RunPlan(protocol, 3, runtime=True)).trace_hash)"
)


@pytest.mark.parametrize(
    ("protocol", "seed"), [*((protocol, seed) for protocol in PROTOCOLS for seed in range(SEEDS)), *FOUND]
)
def test_every_invariant_holds_when_servers_and_clients_run_in_a_world_of_faults(
    protocol: str, seed: int
) -> None:
    report = execute(RunPlan(protocol, seed, runtime=True))
    assert report.ok, (report.violation, report.replay)
    assert report.committed > 0


def test_traces_are_equal_when_the_hash_seeds_of_the_processes_differ() -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", _HASHES, *PROTOCOLS],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for hash_seed in ("1", "4242")
    ]
    assert said[0] == said[1]
    assert len(set(said[0].split())) == len(PROTOCOLS)


def test_every_kind_of_fault_takes_effect_somewhere() -> None:
    seen: set[str] = set()
    for protocol, seed in (("raft", 4), ("viewstamped", 21), ("primary_backup", 9), ("raft", 33)):
        seen |= execute(RunPlan(protocol, seed, runtime=True)).faults.keys()
    assert {"crash", "crash at a call", "partial write", "frame in pieces", "connection reset"} <= seen


def test_history_is_that_of_the_run() -> None:
    report, history = run_with_history(RunPlan("raft", 1, runtime=True))
    assert sum(operation.outcome == "ok" for operation in history) == report.operations["ok"]


def test_options_are_left_out_when_the_plan_says_so() -> None:
    plan = RunPlan("raft", 4, runtime=True, without=("sockets", "calls.crash"))
    definition = protocol_definition("raft")
    swarm = swarm_options_of(plan, definition)
    options = runtime_options_of(plan, swarm)
    assert options.sockets == SocketOptions()
    assert options.calls.crash == 0.0
    assert options.calls != CallOptions()
    assert plan.replay.endswith("--runtime --without sockets --without calls.crash")


@pytest.mark.parametrize(
    "plan",
    [
        RunPlan("raft", 1, workload="locks"),
        RunPlan("primary_backup_course", 1),
        RunPlan("raft", 1, without=("sockets.speed",)),
        RunPlan("raft", 1, without=("nothing",)),
    ],
)
def test_plan_is_refused_when_it_names_what_this_world_does_not_have(plan: RunPlan) -> None:
    with pytest.raises(ConfigurationError):
        check_plan(plan, protocol_definition(plan.protocol))
