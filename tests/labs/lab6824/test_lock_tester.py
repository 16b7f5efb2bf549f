import signal
from pathlib import Path

import pytest

from viewstamp.runtime.addresses import free_ports
from viewstamp_labs.lab6824 import lock_tester
from viewstamp_labs.lab6824.exclusion import HistoryWriter, read_history
from viewstamp_labs.lab6824.lock_tester import Held, Violation


@pytest.mark.parametrize("arguments", [[], ["1", "2", "3"], ["7000", "6"], ["7000", "x"]])
def test_usage_is_shown_when_the_arguments_are_wrong(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert lock_tester.main(arguments) == 1
    assert capsys.readouterr().err.startswith("usage: ")


def test_one_line_says_so_when_the_port_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert lock_tester.main(["x"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "lock_tester: nothing was tested: address" in said.err


def test_program_fails_in_one_line_when_there_is_no_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lock_tester, "FOUND_WITHIN_S", 0.1)
    monkeypatch.setattr(signal, "alarm", lambda seconds: 0)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    (port,) = free_ports(1)
    assert lock_tester.main([str(port), "1"]) == 1
    printed = capsys.readouterr()
    assert "passed" not in printed.out
    assert printed.err.count("\n") == 1
    assert "connection refused" in printed.err


def test_violation_is_found_when_a_lock_is_granted_twice() -> None:
    held = Held(None)
    held.enter(1, "a", 5)
    held.enter(2, "b", 5)
    with pytest.raises(Violation, match="error: server granted 0000000000000001 twice"):
        held.enter(1, "b", 6)


def test_violation_is_found_when_a_lock_is_released_that_nobody_holds() -> None:
    held = Held(None)
    held.enter(1, "a", 5)
    held.leave(1, "a", 5)
    with pytest.raises(Violation, match="error: client released un-held lock"):
        held.leave(1, "a", 5)


def test_every_acquisition_is_in_the_history_when_there_is_one(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path / "history")
    held = Held(writer)
    held.enter(1, "a", 5)
    with pytest.raises(Violation):
        held.enter(1, "b", 6)
    held.leave(1, "a", 5)
    writer.close()
    marks = read_history(tmp_path / "history")
    assert [(mark.kind, mark.lock, mark.client, mark.token) for mark in marks] == [
        ("enter", "1", "a", 5),
        ("enter", "1", "b", 6),
        ("leave", "1", "a", 5),
    ]
