"""Peers say what they need, carry out loads, and leave nothing running."""

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from benchmarks.effort import Meter
from benchmarks.loads.lines import Plan
from benchmarks.machine import file_system
from benchmarks.peers import PEERS
from benchmarks.peers.base import PeerFailed, Process, missing_packages


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_packages_are_named_when_programs_or_files_are_missing() -> None:
    needed = {"sh": "dash", "no-such-program": "b", "/no/such/file": "a", "/": "base-files"}
    assert missing_packages(needed) == ["a", "b"]


def test_file_system_is_that_of_the_longest_mount() -> None:
    assert file_system(Path("/proc/self")) == "proc"


@pytest.mark.process
def test_process_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", "import sys; sys.exit('it broke')"]
    with ExitStack() as stack, pytest.raises(PeerFailed, match="it broke"):
        Process(stack, command, log, talks=True).hear()


@pytest.mark.process
@pytest.mark.parametrize(("name", "connections"), [("pipe", 16), ("viewstamp-raft", 1)])
def test_load_is_carried_out_and_everything_ends(name: str, connections: int, tmp_path: Path) -> None:
    with ExitStack() as stack:
        running = PEERS[name].start(stack, tmp_path)
        meter = Meter(running.server_pids, running.load_pids)
        found = running.ask(Plan("writes", 4, 32, 0.05, 0.2, connections))
        assert found["operations"] > 0
        assert json.dumps(found)
        assert meter.read().servers > 0
        pids = [*running.server_pids, *running.load_pids]
        assert all(runs(pid) for pid in pids)
    assert not any(runs(pid) for pid in pids)
