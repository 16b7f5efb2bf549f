import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.checker.histories import plant_stale_read, store_history
from viewstamp.checker.history import Operation, write_history
from viewstamp.cli.check import BAD_INPUT, OK, UNKNOWN, VIOLATION, check
from viewstamp.machine.state_machine import StateMachine, query


def written(path: Path, history: list[Operation]) -> Path:
    with path.open("wb") as file:
        write_history(history, file)
    return path


def test_exit_code_tells_the_verdict_when_a_file_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = store_history(Random(1), 300, 4, 2)
    good = written(tmp_path / "good.jsonl", history)
    bad = written(tmp_path / "bad.jsonl", plant_stale_read(Random(2), history))
    assert check(good) == OK
    assert check(bad) == VIOLATION
    assert "cannot be explained" in capsys.readouterr().out
    assert check(good, steps_max=10) == UNKNOWN
    assert check(good, model="counter") == BAD_INPUT
    assert check(good, model="no.such.module:Thing") == BAD_INPUT
    assert check(good, model="pathlib:Path") == BAD_INPUT
    assert check(good, model="chess") == BAD_INPUT
    assert check(tmp_path / "missing.jsonl") == BAD_INPUT


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "holds no operation: was the history recorded?"),
        (b"\n\n", "holds no operation: was the history recorded?"),
        (b"\x93\xff\x00\x81", "line 1: JSON is malformed"),
        (b"hello\n", "line 1: JSON is malformed"),
        (b"[1, 2]\n", "line 1: Expected `object`, got `array`"),
        (b"[" * 100_000, "line 1: "),
        (
            b'{"client":1,"call":5,"return":3,"op":"get","outcome":"ok"}\n',
            "line 1: `return` 3 is before `call` 5",
        ),
        (b'{"client":1,"call":5,"return":7,"op":"frob","key":"a","outcome":"ok"}\n', "no operation 'frob'"),
    ],
)
def test_one_line_says_what_is_wrong_when_the_file_is_no_history(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, told: str
) -> None:
    file = tmp_path / "history"
    file.write_bytes(content)
    assert check(file) == BAD_INPUT
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("viewstamp check: ")
    assert said.err.endswith("; nothing was judged\n")
    assert said.err.count("\n") == 1
    assert told in said.err


def test_one_line_says_what_is_wrong_when_an_option_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = written(tmp_path / "good.jsonl", store_history(Random(1), 5))
    assert check(good, draw=tmp_path / "out.bmp") == BAD_INPUT
    assert check(good, draw=tmp_path / "none" / "out.svg") == BAD_INPUT
    assert check(good, steps_max=0) == BAD_INPUT
    assert check(good, seconds_max=0.0) == BAD_INPUT
    lines = capsys.readouterr().err.splitlines()
    told = (
        "let the name end in .svg, .html, .txt",
        "No such file or directory",
        "--steps-max 0",
        "--seconds-max 0",
    )
    assert [text in line for text, line in zip(told, lines, strict=True)] == [True] * 4
    assert "Errno" not in "".join(lines)


def test_model_is_found_when_its_module_is_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "purse_of_here.py").write_text(
        "import viewstamp\n\n\nclass Purse(viewstamp.StateMachine):\n    held: int = 0\n\n"
        "    @viewstamp.command\n    def add(self, n: int) -> int:\n        self.held += n\n"
        "        return self.held\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry])
    file = written(tmp_path / "one.jsonl", [Operation(1, 0, 5, "add", None, (5,), "ok", 5)])
    assert check(file, model="purse_of_here:Purse") == OK


@pytest.mark.parametrize("name", ["out.svg", "out.html", "out.txt"])
def test_drawing_shows_the_contradiction_when_it_is_asked_for(tmp_path: Path, name: str) -> None:
    bad = written(tmp_path / "bad.jsonl", plant_stale_read(Random(2), store_history(Random(1), 300, 4, 2)))
    assert check(bad, draw=tmp_path / name) == VIOLATION
    assert "get(" in (tmp_path / name).read_text()


def test_machine_of_a_module_is_the_model_when_it_is_named(tmp_path: Path) -> None:
    deposit = Operation(1, 0, 5, "deposit", "ann", (5,), "ok", 5)
    wrong = Operation(1, 10, 15, "balance", "ann", (), "ok", 4)
    file = written(tmp_path / "till.jsonl", [deposit, wrong])
    assert check(file, model="tests.checker.test_models:Till", independent_keys=True) == VIOLATION


def test_verdict_is_an_object_when_json_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(written(tmp_path / "one.jsonl", store_history(Random(1), 5)), json=True)
    assert capsys.readouterr().out.startswith('{"outcome":"ok","operations":5,')


def test_nothing_is_claimed_when_the_history_lacks_what_the_class_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tick = written(tmp_path / "tick.jsonl", [Operation(1, 0, 9, "tick", result=[1, 1])])
    assert check(tick, model="tests.sim.own:Clocked") == BAD_INPUT
    assert "Clocked.tick reads self.context, which this history does not record" in capsys.readouterr().err
    gone = written(tmp_path / "gone.jsonl", [Operation(1, 0, 9, "count", result=1)])
    assert check(gone, model="tests.sim.own:Door") == BAD_INPUT
    assert "does not record when sessions ended: nothing is proved" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "initial", "verdict"),
    [
        ("register", "", VIOLATION),
        ("register", "unknown", OK),
        ("register", "7", OK),
        ("register", "8", VIOLATION),
        ("counter", "7", OK),
        ("counter", "[7]", BAD_INPUT),
        ("counter", "true", BAD_INPUT),
        ("counter", "{", BAD_INPUT),
        ("set", "[7]", VIOLATION),
        ("kv", "7", BAD_INPUT),
        ("viewstamp.services.kv:KeyValueStore", "7", BAD_INPUT),
    ],
)
def test_a_recording_may_begin_in_the_middle(tmp_path: Path, model: str, initial: str, verdict: int) -> None:
    file = written(tmp_path / "calls.jsonl", [Operation(1, 0, 1, "read", "x", (), "ok", 7)])
    assert check(file, model=model, initial=initial) == verdict


def test_a_class_that_serve_refuses_is_not_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "calls.jsonl", [Operation(1, 0, 1, "read", None, (), "ok", 1)])
    assert check(file, model="tests.cli.test_check:Forgetful") == BAD_INPUT
    assert "Forgetful.total" in capsys.readouterr().err


class Forgetful(StateMachine):
    """Has state without an annotation: no snapshot would hold it."""

    total = 0

    @query
    def read(self) -> int:
        return self.total


@pytest.mark.parametrize("closed", ["before", "after a line"])
def test_the_verdict_stays_when_nobody_reads_the_output(tmp_path: Path, closed: str) -> None:
    bad = written(tmp_path / "bad.jsonl", plant_stale_read(Random(2), store_history(Random(1), 300, 4, 2)))
    process = subprocess.Popen(
        [sys.executable, "-m", "viewstamp", "check", str(bad)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    if closed == "after a line":
        process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == VIOLATION
    assert said == b""


def test_nothing_is_proved_when_no_call_was_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "calls.jsonl", [Operation(1, 0, 1, "jump", "x", (), "failed")])
    assert check(file) == BAD_INPUT
    assert "only calls that were not executed" in capsys.readouterr().err
