"""`viewstamp sim`: what it prints and how it exits."""

import json
from pathlib import Path
from typing import Any

import pytest

from viewstamp.cli.sim import BAD_INPUT, OK, VIOLATION, seed_range, sim
from viewstamp.core.errors import ConfigurationError
from viewstamp.sim.run.plan import RunPlan, RunReport, Violation


def failing(plan: RunPlan, **_: object) -> RunReport:
    return RunReport(
        plan=plan,
        options="protocol=raft nodes=3",
        violation=Violation("I1 ElectionSafety", "node 1 leads view 3, which node 0 led already", 123_456),
        trace_hash="00000000deadbeef",
        events=100,
        virtual_us=2_000_000,
        operations={"ok": 1},
        faults={"crash": 1},
        rare={},
        committed=1,
    )


def test_one_seed_prints_options_summary_and_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert sim(seed=3, nodes=3) == OK
    printed = capsys.readouterr().out
    assert printed.startswith("seed 3: every invariant held\noptions    protocol=raft nodes=3 ")
    assert {line.split()[0] for line in printed.splitlines()} >= {
        "time",
        "committed",
        "faults",
        "rare",
        "trace",
    }


def test_one_seed_prints_the_same_report_when_it_runs_again(capsys: pytest.CaptureFixture[str]) -> None:
    reports = []
    for _ in range(2):
        assert sim(seed=5, json=True) == OK
        reports.append(json.loads(capsys.readouterr().out))
    assert reports[0] == reports[1]
    assert len(reports[0]["trace_hash"]) == 16


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"seed": -1}, "--seed -1: give 0 or more"),
        ({"nodes": 0}, "--nodes 0: give 1 to 99"),
        ({"nodes": 100}, "--nodes 100: give 1 to 99"),
        ({"duration_ms": 0}, "--duration-ms 0: give 1 or more"),
        ({"seeds": "0..1", "jobs": 0}, "--jobs 0: give 1 or more"),
        ({"seeds": "0..1", "minutes": 0.0}, "--minutes 0.0: give more than 0"),
        ({"seeds": "9..2"}, "--seeds 9..2: the first must be 0 or more and not above the last"),
        ({"seeds": "0..1", "seed": 1}, "--seed is for a single run and --seeds for a campaign"),
        ({"seeds": "0..1", "trace": Path("t")}, "--trace is for a single run and --seeds for a campaign"),
        ({"seed": 1, "trace": Path("/none/t")}, "cannot use /none/t: No such file or directory"),
        ({"seeds": "0..1", "ledger": Path("/none/l")}, "--ledger /none/l: it cannot be written"),
        ({"seed": 1, "ledger": Path("l")}, "--ledger is for campaigns"),
    ],
)
def test_one_line_says_what_is_wrong_when_an_option_cannot_be_used(
    options: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sim(**options) == BAD_INPUT
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"viewstamp sim: {told}")
    assert said.err.count("\n") == 1


def test_file_is_refused_when_it_is_not_a_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ledger.md"
    file.write_text("| 1 | raft | many | seeds |\n")
    assert sim(seeds="new", ledger=file) == BAD_INPUT
    assert "is not a ledger" in capsys.readouterr().err


def test_trace_is_written_as_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    assert sim(seed=4, nodes=3, trace=path) == OK
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {"at_us", "kind", "node"} <= set(lines[0])
    assert [line["at_us"] for line in lines] == sorted(line["at_us"] for line in lines)


def test_campaign_prints_totals_and_fills_the_ledger(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger.md"
    assert sim(seeds="0..3", jobs=1, ledger=ledger) == OK
    printed = capsys.readouterr().out
    assert "4/4" in printed
    assert "4 seeds, no violation" in printed
    assert "leader elected in 4 seeds" in printed
    assert "| raft | 0..3 | 4 |" in ledger.read_text()
    assert seed_range("new", "raft", ledger).start == 4


def test_the_whole_runtime_is_simulated_when_that_is_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    history = tmp_path / "calls.jsonl"
    assert sim(runtime=True, seed=101, history=history) == OK
    assert "sync=" in capsys.readouterr().out
    assert history.read_text().count('"ok"')
    assert sim(runtime=True, seed=101, workload="locks") == BAD_INPUT
    assert "the runtime is simulated with kv, registers, tally" in capsys.readouterr().err
    assert sim(runtime=True, seeds="101..102", jobs=1) == OK
    assert "2 seeds, no violation" in capsys.readouterr().out


def test_violation_exits_with_one_and_prints_how_to_replay_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("viewstamp.sim.run.run.execute", failing)
    assert sim(seed=9, without=("disk",)) == VIOLATION
    printed = capsys.readouterr().out
    assert "violation  I1 ElectionSafety at 0.123456 s" in printed
    assert printed.endswith("raft-9.json\n")
    shown = Path(printed.splitlines()[-1].rpartition(" ")[2])
    assert printed.splitlines()[-1].startswith("replay     viewstamp sim --replay ")
    assert sim(replay=shown) == VIOLATION
    assert "violation  I1 ElectionSafety at 0.123456 s" in capsys.readouterr().out
    assert sim(replay=shown.with_name("none.json")) == BAD_INPUT
    shown.write_text("{}")
    assert sim(replay=shown) == BAD_INPUT
    assert "this is not a seed file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "paxos"}, "no protocol is called 'paxos'"),
        ({"seeds": "5..1"}, "must be 0 or more and not above the last"),
        ({"seeds": "many"}, "write how many, or FIRST..LAST"),
        ({"seeds": "-3..4"}, "must be 0 or more"),
        ({"seeds": "new"}, "name the --ledger"),
        ({"seed": 1, "without": ("weather",)}, "no option is called 'weather'"),
        ({"seed": 1, "workload": "chess"}, "no workload is called 'chess'"),
        ({"seed": 1, "trace": Path("/nowhere/trace")}, "No such file"),
    ],
)
def test_bad_option_exits_with_two_and_says_what_to_do(
    arguments: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sim(**arguments) == BAD_INPUT  # type: ignore[arg-type]
    printed = capsys.readouterr().err
    assert printed.startswith("viewstamp sim: ")
    assert message in printed
    assert len(printed.splitlines()) == 1


def test_seeds_are_read_as_a_range() -> None:
    assert seed_range("3..7", "raft", None) == range(3, 8)
    assert seed_range("4", "raft", None) == range(4)
    with pytest.raises(ConfigurationError):
        seed_range("4..", "raft", None)


def test_trace_is_told_by_node_kind_and_time_when_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = tmp_path / "history.jsonl"
    assert sim(seed=3, kind=("role", "crash"), node=(1,), between=(0.0, 3.0), history=history) == OK
    told = [line for line in capsys.readouterr().out.splitlines() if " s  " in line]
    assert told
    assert all(("node 1" in line or "  -1 " in line) and ("role" in line or "crash" in line) for line in told)
    assert all(0.0 <= float(line.split()[0]) <= 3.0 for line in told)
    assert '"op":' in history.read_text()


def test_no_line_is_wider_than_a_terminal_when_a_run_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert sim(seed=3, nodes=5, tell=True) == OK
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 160


def test_report_of_a_users_class_replays_when_it_fails_in_a_cluster(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sim(seeds="0..5", jobs=1, workload="tests.testing.shops:Halves") == VIOLATION
    printed = capsys.readouterr().out
    assert printed.startswith("tests.testing.shops:Halves: VS013 half-done\n")
    replay = next(line for line in printed.splitlines() if line.startswith("replay: "))
    assert sim(replay=Path(replay.rpartition(" ")[2])) == VIOLATION
    assert capsys.readouterr().out == printed
