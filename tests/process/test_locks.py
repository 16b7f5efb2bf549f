"""`viewstamp lock` as a process of its own: contenders, signals, servers that die."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from tests.process.conftest import MakeGroup
from viewstamp.cli import failures
from viewstamp.runtime.blocking import BlockingClient
from viewstamp.runtime.proxies import make_proxy
from viewstamp.services.lock_wire import STOCK_PART
from viewstamp.services.locks import LockService
from viewstamp.testkit.load import wait_for_leader
from viewstamp.testkit.processes import ServerGroup

pytestmark = pytest.mark.process

Start = Callable[..., "subprocess.Popen[str]"]

ENDS_WITHIN_S = 10.0
HELD_UNTIL_GATE = """
mkdir busy || exit 1
echo $VIEWSTAMP_FENCING_TOKEN >> tokens
while [ ! -e gate ]; do sleep 0.02; done
rmdir busy
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `viewstamp lock` in the test's folder; whatever still runs is ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(group: ServerGroup, *arguments: str) -> "subprocess.Popen[str]":
        line = [sys.executable, "-m", "viewstamp", "lock", "--cluster", str(group.cluster_file), *arguments]
        process = subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield begin
    (tmp_path / "gate").touch()
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@contextmanager
def service_of(group: ServerGroup) -> Iterator[LockService]:
    client = BlockingClient(group.cluster, timeout_s=60)
    try:
        service: LockService = make_proxy(LockService, client, part=STOCK_PART)
        yield service
    finally:
        client.close()


def wait_for(path: Path) -> None:
    """Wait for a file to have something in it; the test's own time limit bounds this."""
    while not path.exists() or not path.read_text():
        os.sched_yield()


@pytest.mark.parametrize("protocol", ["raft", "viewstamped"])
async def test_contenders_go_one_after_the_other_when_the_leader_is_killed(
    make_group: MakeGroup, start: Start, tmp_path: Path, protocol: str
) -> None:
    group = make_group(3, protocol=protocol)
    leader = (await wait_for_leader(group, members_min=3)).node
    contenders = [start(group, "job", "--", "sh", "-c", HELD_UNTIL_GATE)]
    wait_for(tmp_path / "tokens")
    contenders += [start(group, "job", "--", "sh", "-c", HELD_UNTIL_GATE) for _ in range(2)]
    with service_of(group) as service:
        while service.stat("job").waiters < 2:
            pass
    group.servers[leader].kill()
    (tmp_path / "gate").touch()
    assert [process.wait(60) for process in contenders] == [0, 0, 0]
    tokens = [int(line) for line in (tmp_path / "tokens").read_text().split()]
    assert len(set(tokens)) == 3
    assert tokens == sorted(tokens)
    with service_of(group) as service:
        assert service.held().locks == []


async def test_signals_reach_the_command_and_end_a_wait(
    make_group: MakeGroup, start: Start, tmp_path: Path
) -> None:
    group = make_group(1)
    await wait_for_leader(group)
    script = 'trap "exit 9" TERM; echo > ready; echo ready > ready; while :; do sleep 0.02; done'
    holder = start(group, "job", "--", "sh", "-c", script)
    wait_for(tmp_path / "ready")
    waiting = start(group, "job", "--", "touch", "never")
    with service_of(group) as service:
        while service.stat("job").waiters < 1:
            pass
        waiting.send_signal(signal.SIGTERM)
        assert waiting.wait(30) == 128 + signal.SIGTERM
        assert service.stat("job").waiters == 0, "it waits no more"
        holder.send_signal(signal.SIGTERM)
        assert holder.wait(30) == 9
        assert service.held().locks == []
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("kill", [True, False])
async def test_the_command_ends_or_goes_on_when_another_may_hold_the_lock(
    make_group: MakeGroup, start: Start, tmp_path: Path, kill: bool
) -> None:
    group = make_group(1, replica={"sessions": {"time_to_live_ms": 1_000}})
    await wait_for_leader(group)
    flags = [] if kill else ["--on-loss", "warn"]
    holder = start(group, *flags, "job", "--", "sh", "-c", HELD_UNTIL_GATE)
    wait_for(tmp_path / "tokens")
    group.kill_all()
    assert holder.stderr is not None
    line = holder.stderr.readline()
    fate = "ending the command" if kill else "the command goes on"
    assert line == f"viewstamp: the lock 'job' is not confirmed: another may hold it; {fate}\n"
    (tmp_path / "gate").touch()
    assert holder.wait(60) == (failures.LOCK_LOST if kill else 0)


async def test_the_command_is_ended_when_another_had_the_lock_while_its_holder_stood_still(
    make_group: MakeGroup, start: Start, tmp_path: Path
) -> None:
    group = make_group(1, replica={"sessions": {"time_to_live_ms": 2_000}})
    await wait_for_leader(group)
    holder = start(group, "job", "--", "sh", "-c", HELD_UNTIL_GATE)
    wait_for(tmp_path / "tokens")
    holder.send_signal(signal.SIGSTOP)
    assert start(group, "job", "--", "true").wait(60) == 0
    holder.send_signal(signal.SIGCONT)
    assert holder.wait(30) == failures.LOCK_LOST
    assert not (tmp_path / "gate").exists()


async def test_the_command_does_not_outlive_a_holder_that_is_killed(
    make_group: MakeGroup, start: Start, tmp_path: Path
) -> None:
    group = make_group(1)
    await wait_for_leader(group)
    holder = start(group, "job", "--", "sh", "-c", "echo $$ > pid; exec sleep 60")
    wait_for(tmp_path / "pid")
    command = int((tmp_path / "pid").read_text())
    os.kill(command, 0)
    holder.kill()
    holder.wait(30)
    deadline = monotonic() + ENDS_WITHIN_S
    while is_running(command):
        assert monotonic() < deadline, "the command outlives its holder"


def is_running(pid: int) -> bool:
    """Return whether this process executes; a dead one that nobody waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in {"Z", "X"}
