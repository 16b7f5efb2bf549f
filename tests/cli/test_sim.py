"""`viewstamp sim`: what it prints and how it exits."""

import json
from pathlib import Path

import pytest

from viewstamp.cli import sim as command
from viewstamp.cli.sim import BAD_INPUT, OK, VIOLATION, seed_range, sim
from viewstamp.core.errors import ConfigurationError
from viewstamp.sim.plan import RunPlan
from viewstamp.sim.report import RunReport, Violation


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


def test_violation_exits_with_one_and_prints_how_to_replay_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "execute", failing)
    assert sim(seed=9, without=("disk",)) == VIOLATION
    printed = capsys.readouterr().out
    assert "violation  I1 ElectionSafety at 0.123456 s" in printed
    assert printed.endswith("replay     viewstamp sim --protocol raft --seed 9 --without disk\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "paxos"}, "no protocol is called 'paxos'"),
        ({"seeds": "5..1"}, "must be 0 or more and not above the last"),
        ({"seeds": "many"}, "write FIRST..LAST"),
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
    assert seed_range("4", "raft", None) == range(4, 5)
    with pytest.raises(ConfigurationError):
        seed_range("4..", "raft", None)
