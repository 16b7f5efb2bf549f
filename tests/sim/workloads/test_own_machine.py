"""Users' machines in the simulator: right ones pass, and each mistake is found under its name."""

import os
from random import Random

import pytest

from tests.sim.own import Many
from viewstamp.cli.sim import OK, VIOLATION, sim
from viewstamp.core.errors import ConfigurationError
from viewstamp.machine.definition import MachineDefinition
from viewstamp.sim.run.plan import RunPlan
from viewstamp.sim.run.run import checked_elsewhere, execute
from viewstamp.sim.workloads.catalogue import make_workload
from viewstamp.sim.workloads.own_machine import drawn_arguments
from viewstamp.sim.world.options import LoadOptions


def plan(name: str, seed: int, protocol: str = "raft") -> RunPlan:
    return RunPlan(protocol, seed, workload=f"tests.sim.own:{name}")


@pytest.mark.parametrize("protocol", ["raft", "viewstamped", "primary_backup"])
@pytest.mark.parametrize("name", ["Stack", "Many", "TickingWorkload", "Stock", "Tallies"])
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
        ("Forgetful", {"I28 BackupPrefix", "I13 SnapshotEquiv", "I17 Linearizable"}),
        ("Ticking", {"I17 Linearizable"}),
    ],
)
def test_mistake_of_a_machine_is_found_by_name(name: str, expected: set[str]) -> None:
    found = {violation.name for seed in range(6) if (violation := execute(plan(name, seed)).violation)}
    assert found
    assert found <= expected


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
    assert sim(seed=1, workload="tests.sim.own:Unordered") == VIOLATION
    assert "violation  I22 Deterministic" in capsys.readouterr().out
    assert sim(seed=1, workload="tests.sim.own:Stack") == OK
    assert sim(seeds="1..2", jobs=1, workload="tests.sim.own:Unordered") == VIOLATION
    printed = capsys.readouterr().out
    assert "1 violations (seeds 1)" in printed
    assert "replay     viewstamp sim --protocol raft --seed 1 --workload tests.sim.own:Unordered" in printed


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
