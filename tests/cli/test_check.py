from pathlib import Path
from random import Random

import pytest

from tests.sim.histories import plant_stale_read, store_history
from viewstamp.cli.check import BAD_INPUT, OK, UNKNOWN, VIOLATION, check
from viewstamp.sim.history import Operation, write_history


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


@pytest.mark.parametrize("name", ["out.svg", "out.html", "out.txt"])
def test_drawing_shows_the_contradiction_when_it_is_asked_for(tmp_path: Path, name: str) -> None:
    bad = written(tmp_path / "bad.jsonl", plant_stale_read(Random(2), store_history(Random(1), 300, 4, 2)))
    assert check(bad, draw=tmp_path / name) == VIOLATION
    assert "get(" in (tmp_path / name).read_text()


def test_machine_of_a_module_is_the_model_when_it_is_named(tmp_path: Path) -> None:
    deposit = Operation(1, 0, 5, "deposit", "ann", (5,), "ok", 5)
    wrong = Operation(1, 10, 15, "balance", "ann", (), "ok", 4)
    file = written(tmp_path / "till.jsonl", [deposit, wrong])
    assert check(file, model="tests.sim.test_models:Till", independent_keys=True) == VIOLATION


def test_verdict_is_an_object_when_json_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(written(tmp_path / "one.jsonl", store_history(Random(1), 5)), json=True)
    assert capsys.readouterr().out.startswith('{"outcome":"ok","operations":5,')
