"""How a campaign ends when it cannot run to its end: interrupted, terminated, robbed of its workers."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_sim import failing
from viewstamp.cli import sim as command
from viewstamp.cli.failures import INTERRUPTED
from viewstamp.cli.sim import OK, UNFINISHED, VIOLATION, sim
from viewstamp.sim.run import campaign

SPAWN_ONE = (
    "import os, sys; from viewstamp.sim.run.campaign import local_executor\n"
    "if __name__ == '__main__':\n"
    "    executor = local_executor(1)\n"
    "    print(executor.submit(os.getpid).result(), flush=True)\n"
    "    sys.stdin.read()\n"
)


class Failing(Executor):
    """Runs chunks at once, until one of them loses its worker, or this process is interrupted."""

    def __init__(self, after: int = 99, *, lost: bool = False) -> None:
        self.left = after
        self.lost = lost
        self.went_on = True
        """Not while a signal is being handled."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.left -= 1
        if self.left >= 0:
            future.set_result(function(*arguments))
        elif self.lost:
            future.set_exception(BrokenProcessPool())
        else:
            self.went_on = False
            signal.raise_signal(signal.SIGINT)
            self.went_on = True
        return future


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("lost", "code", "told"),
    [
        (False, INTERRUPTED, "viewstamp sim: interrupted\n"),
        (True, UNFINISHED, "viewstamp sim: a worker ended by itself"),
    ],
)
def test_campaign_says_what_it_did_when_it_cannot_be_finished(
    lost: bool,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    executor = Failing(2, lost=lost)
    monkeypatch.setattr(command, "local_executor", lambda _jobs: executor)
    ledger = tmp_path / "ledger.md"
    assert sim(seeds="0..99", jobs=1, nodes=1, duration_ms=200, ledger=ledger) == code
    said = capsys.readouterr()
    assert "8/100" in said.out
    assert "8 seeds, no violation" in said.out
    assert said.err.startswith(told)
    assert "| raft | 0..7 | 8 |" in ledger.read_text()
    assert executor.went_on, "a signal may come while the executor holds a lock"


def test_lost_seeds_are_named_when_a_worker_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "local_executor", lambda _jobs: Failing(0, lost=True))
    assert sim(seeds="40..99", jobs=1) == UNFINISHED
    assert "nothing is known of the seeds 40 to 47" in capsys.readouterr().err


def test_standard_output_is_one_json_object_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "local_executor", lambda _jobs: Failing())
    assert sim(seeds="0..1", jobs=1, nodes=1, duration_ms=200, json=True) == OK
    assert json.loads(capsys.readouterr().out)["seeds"] == 2
    monkeypatch.setattr(campaign, "execute", failing)
    assert sim(seeds="0..1", jobs=1, json=True, keep=True) == VIOLATION
    said = capsys.readouterr()
    assert json.loads(said.out)["failed"][0]["violation"]["name"] == "I1 ElectionSafety"
    assert "replay     viewstamp sim --replay " in said.err


def test_failing_seeds_and_what_none_reached_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "local_executor", lambda _jobs: Failing())
    monkeypatch.setattr(campaign, "execute", failing)
    assert sim(seeds="6..9", jobs=1, keep=True) == VIOLATION
    printed = capsys.readouterr().out
    assert "1 violations (seeds 6)" in printed
    assert "never      committed in a later view, disk lost, leader crashed" in printed


def test_end_of_a_failed_run_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "local_executor", lambda _jobs: Failing())
    monkeypatch.setattr(campaign, "execute", failing)
    assert sim(seeds="0..3", jobs=1, keep=True) == VIOLATION
    printed = capsys.readouterr().out
    head, _, end = printed.partition("\nits end (all of it: the command above, with --tell):\n")
    assert "violation  I1 ElectionSafety" in head
    lines = end.splitlines()
    assert len(lines) == 16
    assert all(" s  node " in line or " s  -" in line for line in lines)
    assert any("response" in line or "apply" in line for line in lines)


def has_ended(process: int) -> Callable[[], bool]:
    """Return what waits for the end of a process that is not a child of this one."""
    handle = os.pidfd_open(process)

    def ended() -> bool:
        try:
            return bool(select.select([handle], [], [], 30)[0])
        finally:
            os.close(handle)

    return ended


@pytest.mark.process
def test_worker_ends_when_the_campaign_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "spawn_one.py"
    script.write_text(SPAWN_ONE)
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        ended = has_ended(int(started.stdout.readline()))
        started.kill()
    assert ended()


@pytest.mark.process
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_campaign_says_what_it_did_when_a_signal_ends_it(number: signal.Signals) -> None:
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "viewstamp", "sim", "--seeds", "0..9999", "--nodes", "1", "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=end,
        text=True,
    ) as started:
        os.close(end)
        try:
            seen = b""
            while b"/10000" not in seen:
                assert select.select([terminal], [], [], 60)[0], "no progress is shown"
                seen += os.read(terminal, 4096)
            started.send_signal(number)
            printed, _ = started.communicate(timeout=60)
        finally:
            started.kill()
            os.close(terminal)
    assert started.returncode == INTERRUPTED
    assert "seeds, no violation" in printed
