"""Users' machines in the simulator: right ones pass, and each mistake is found under its name."""

import os
from random import Random

import msgspec
import pytest

from tests.sim.own import Many
from viewstamp.checker.history import Operation
from viewstamp.cli.sim import OK, VIOLATION, sim
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.judge import InvariantViolated
from viewstamp.machine.definition import MachineDefinition
from viewstamp.protocols.registry import protocol_definition
from viewstamp.sim.cluster.cluster import Cluster
from viewstamp.sim.run.contexts import with_contexts
from viewstamp.sim.run.plan import RunPlan
from viewstamp.sim.run.run import Run, checked_elsewhere, execute, options_of
from viewstamp.sim.workloads.catalogue import make_workload
from viewstamp.sim.workloads.own_machine import drawn_arguments
from viewstamp.sim.world.options import LoadOptions
from viewstamp.sim.world.trace import Trace

DURATION_US = 8_000_000
"""Longer than most seeds draw: while members are changed, few calls are answered."""


def plan(name: str, seed: int, protocol: str = "raft") -> RunPlan:
    return RunPlan(protocol, seed, duration_us=DURATION_US, workload=f"tests.sim.own:{name}")


@pytest.mark.parametrize("protocol", ["raft", "viewstamped", "primary_backup"])
@pytest.mark.parametrize(
    "name",
    ["Stack", "Many", "Ticking", "Stock", "Tallies", "Clocked", "Ticketed", "FairDice", "Guests"],
)
def test_machine_passes_when_nothing_is_wrong_with_it(name: str, protocol: str) -> None:
    answered = 0
    for seed in range(3):
        report = execute(plan(name, seed, protocol))
        assert report.violation is None, report.violation
        answered += report.operations["ok"]
    assert answered > 30


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Dice", {"I28 BackupPrefix", "I13 SnapshotEquiv", "I17 Linearizable"}),
        ("Forgetful", {"I33 SnapshotWhole", "I17 Linearizable"}),
        ("WallClock", {"I28 BackupPrefix", "I13 SnapshotEquiv", "I17 Linearizable"}),
        ("Dropper", {"I28 BackupPrefix", "I13 SnapshotEquiv", "I17 Linearizable"}),
    ],
)
def test_mistake_of_a_machine_is_found_by_name(name: str, expected: set[str]) -> None:
    found = {violation.name for seed in range(6) if (violation := execute(plan(name, seed)).violation)}
    assert found
    assert found <= expected


def cluster_after(name: str, seed: int) -> Cluster:
    """Return the cluster of a run that is over."""
    definition = protocol_definition("raft")
    run = Run(plan(name, seed), options_of(plan(name, seed), definition), definition, Trace())
    assert run.execute().violation is None
    return run.cluster


def test_history_holds_what_the_machine_could_read_when_a_run_is_over() -> None:
    placed: list[Operation] = []
    for seed in (4, 6, 11):
        cluster = cluster_after("Guests", seed)
        placed += with_contexts(cluster, cluster.history.operations())
    visits = [one for one in placed if one.op == "visit" and one.answered]
    assert len(visits) > 100
    assert all(one.context and one.result[:2] == (one.context.client, one.context.session) for one in visits)
    assert {one.op for one in placed if one.context} == {"visit", "present", "session_ended"}
    assert all(one.context is None for one in placed if one.outcome == "failed")


def test_log_and_clients_are_compared_when_a_run_is_over() -> None:
    cluster = cluster_after("Stack", 0)
    operations = cluster.history.operations()
    push = next(one for one in operations if one.op == "push" and one.answered)
    refused = msgspec.structs.replace(push, outcome="failed", result=None)
    with pytest.raises(InvariantViolated, match="its client heard that it was not executed"):
        with_contexts(cluster, [refused])
    del cluster.host.numbers[push.call]
    with pytest.raises(InvariantViolated, match="has a result, but no entry executed it"):
        with_contexts(cluster, operations)


def test_order_of_a_set_is_found_when_the_run_is_repeated_elsewhere() -> None:
    report = execute(plan("Unordered", 1))
    assert report.violation is None
    compared = checked_elsewhere(report)
    assert compared.violation is not None
    assert compared.violation.name == "I22 Deterministic"
    right = execute(plan("Stack", 1))
    assert checked_elsewhere(right) == right


def test_command_line_repeats_the_run_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert "PYTHONHASHSEED" not in os.environ or os.environ["PYTHONHASHSEED"] != "1"
    assert sim(seed=1, workload="tests.sim.own:Unordered", json=True) == VIOLATION
    assert '"name":"I22 Deterministic"' in capsys.readouterr().out
    assert sim(seed=1, workload="tests.sim.own:Stack") == OK
    capsys.readouterr()
    assert sim(seeds="1..2", jobs=1, workload="tests.sim.own:Unordered") == VIOLATION
    assert capsys.readouterr().out.startswith("tests.sim.own:Unordered: VS003 set-order\n")


def test_arguments_fit_their_types_and_few_of_them_differ() -> None:
    method = MachineDefinition.of(Many).methods["take"]
    drawn = [drawn_arguments(Random(seed), Many, "take") for seed in range(200)]
    for arguments in drawn:
        method.encode_call(arguments, {})
        assert len(arguments[2]) >= 3
        assert all(5 < point["y"] <= 7 for point in arguments[6])
    assert {arguments[0] for arguments in drawn} == {True, False}
    assert len({arguments[3] for arguments in drawn}) == 3


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("chess", "no workload is called 'chess'"),
        ("tests.sim.nowhere:Stack", "cannot import 'tests.sim.nowhere': ModuleNotFoundError"),
        ("tests.sim.own:Nobody", "give a subclass of StateMachine"),
        ("tests.sim.own:Colour", "give a subclass of StateMachine"),
        ("tests.sim.own:Hard", r"Hard.take\(value\): no value of this type can be drawn"),
    ],
)
def test_workload_is_refused_when_it_cannot_be_used(name: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        make_workload(name, LoadOptions())
