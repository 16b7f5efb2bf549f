"""The programs as the course's tester starts them: by a symbolic link, in a directory of its own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from viewstamp.clients.lock_driver import LockTimeout
from viewstamp.clients.locks_blocking import BlockingLockClient
from viewstamp_labs.lab6824.group import LAUNCHERS, Group, draw_ports
from viewstamp_labs.lab6824.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    with Group(tmp_path / "group", draw_ports(Random(os.getpid()))) as made:
        yield made


def run(group: Group, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=group.folder, capture_output=True, text=True, check=False, timeout=30)


def refused(group: Group, index: int = 0) -> str:
    """Return the one line in which a server says that it does not start."""
    port = str(group.ports[index])
    ended = run(group, "./lock_server", str(group.ports[0]), port)
    assert ended.returncode not in {0, 1}
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


@pytest.mark.parametrize("arguments", [[], ["1", "2", "3"]])
def test_usage_is_shown_when_the_number_of_arguments_is_wrong(group: Group, arguments: list[str]) -> None:
    ended = run(group, "./lock_server", *arguments)
    assert (ended.returncode, ended.stderr) == (1, "usage: lock_server [master-port] my-port\n")
    assert list(group.folder.glob("paxos*")) == []


def test_recorded_process_is_the_server_when_it_was_started_by_its_launcher(group: Group) -> None:
    group.start(1)
    group.term(0)
    ended = run(group, "./rsm_tester", str(group.ports[0] + 1), "breakpoint", "1")
    assert ended.returncode == 2
    group.serve(0)
    renewed = [(0,), (0,)]  # a primary that restarts asks for the same members under a new number
    wait_until("it serves again", lambda: group.logged(0) == renewed, 10.0)


def test_server_is_refused_when_its_port_is_in_use_and_the_other_goes_on(group: Group) -> None:
    group.start(1)
    before = group.log_path(0).read_bytes()
    assert "Address already in use" in refused(group)
    assert group.log_path(0).read_bytes() == before
    assert group.runs(0)
    group.serve(1)
    group.expect((0, 1))


def test_server_is_refused_when_the_port_for_its_tests_is_in_use(group: Group) -> None:
    with socket.create_server(("127.0.0.1", group.ports[0] + 1)):
        assert f"cannot listen on port {group.ports[0] + 1}" in refused(group)
    assert list(group.folder.glob("paxos*")) == []


def test_server_is_refused_when_its_log_has_an_unknown_record(group: Group) -> None:
    group.start(1)
    group.kill(0)
    whole = group.log_path(0).read_text()
    group.log_path(0).write_text(whole + "nonsense 1 2\n")
    assert "unknown record 'nonsense 1 2'; nothing was changed" in refused(group)
    assert group.log_path(0).read_text() == whole + "nonsense 1 2\n"
    group.log_path(0).write_text(whole)
    group.serve(0)
    group.serve(1)
    group.settle({0, 1})


def test_server_goes_on_and_says_so_when_the_last_record_of_its_log_is_torn(group: Group) -> None:
    group.start(2)
    group.kill(0, 1)
    whole = group.log_path(1).read_bytes()
    group.log_path(1).write_bytes(whole[:-3])
    group.serve(0)
    group.serve(1)
    group.settle({0, 1})
    assert group.log_path(1).read_bytes().startswith(whole)
    assert "torn" in group.output(1)


def test_servers_are_new_nodes_when_their_logs_were_taken_away(group: Group) -> None:
    """As the course's tester does between two tests, with the same ports."""
    group.start(2)
    group.kill(0, 1)
    group.log_path(0).unlink()
    group.log_path(1).unlink()
    group.views.clear()
    group.start(2)
    assert "this is a new node" in group.output(0)
    assert (group.folder / f"paxos-{group.ports[0]}.d.old").is_dir()


def test_programs_are_known_by_their_names_when_they_run(group: Group) -> None:
    """`pgrep -x lock_server`, and the course's `killall lock_server`."""
    group.start(1)
    group.start_tester(2)
    names = sorted(
        (Path("/proc") / pid / "comm").read_text().strip()
        for pid in map(str, (process.pid for process in group.processes))
    )
    assert names == ["lock_server", "lock_tester"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = str(silent.getsockname()[1])
        asking = subprocess.Popen(["./rsm_tester", port, "breakpoint", "1"], cwd=group.folder, stderr=-3)
        with silent.accept()[0]:
            assert Path(f"/proc/{asking.pid}/comm").read_text() == "rsm_tester\n"
        asking.wait(10)


def test_nothing_is_left_when_everything_is_cleaned(group: Group) -> None:
    group.start(2)
    group.kill(0, 1)
    (group.folder / "Makefile").symlink_to(LAUNCHERS / "Makefile")
    (group.folder / "notes.txt").write_text("mine\n")
    assert run(group, "make", "clean").returncode == 0
    kept = {"Makefile", "lock_server", "lock_tester", "notes.txt", "rsm_tester"}
    assert {path.name for path in group.folder.iterdir()} == kept


def test_client_goes_on_when_all_members_that_it_knew_are_gone(group: Group) -> None:
    """`init_members` of the course: whom a client can reach tells it who the others are."""
    group.start(1)
    with BlockingLockClient(f"127.0.0.1:{group.ports[0]}", part="", timeout_s=5.0) as client:
        with client.hold("a", timeout_s=20.0):
            pass
        group.serve(1)
        group.expect((0, 1))
        group.term(0)
        group.kill(1)
        with pytest.raises(LockTimeout), client.hold("not cached", timeout_s=0.5):
            pass
        group.serve(1)
        group.serve(0)
        group.settle({0, 1})
        # A server tells its clients of members when they change: this one must be back before that.
        told = client._driver.client
        wait_until("the client is back", lambda: bool(told.reachable), 10.0)
        group.serve(2)
        group.settle({0, 1, 2})
        wait_until("the client knows them", lambda: set(group.ports[:3]) <= set(told.servers), 10.0)
        group.kill(0)
        group.settle({1, 2})
        with client.hold("b", timeout_s=20.0):
            pass


def test_lock_tester_passes_when_the_server_stands_alone(group: Group) -> None:
    group.start(1)
    for number in (1, 3, 4, 5):
        group.start_tester(number)
    group.await_testers()


HEAVY = {"cyclopts", "rich", "hypothesis", "pytest", "viewstamp.sim", "viewstamp.cli", "viewstamp.checker"}
"""What none of the course's programs needs, and what would double the time in which it starts."""


@pytest.mark.parametrize("program", ["lock_server", "lock_tester", "rsm_tester"])
def test_program_imports_nothing_heavy_when_it_starts(program: str) -> None:
    """The course's scripts wait a second for a server: `python -X importtime` shows where a start goes."""
    code = f"import sys, viewstamp_labs.lab6824.{program}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) & HEAVY == set()


@pytest.mark.parametrize("program", ["lock_server", "lock_tester", "rsm_tester"])
def test_program_says_how_it_is_used_when_it_is_called_from_elsewhere(group: Group, program: str) -> None:
    elsewhere = group.folder / "elsewhere"
    elsewhere.symlink_to(LAUNCHERS / program)
    ended = subprocess.run([str(elsewhere)], cwd="/", capture_output=True, check=False, timeout=30)
    assert ended.stderr.startswith(b"usage:"), ended.stderr
