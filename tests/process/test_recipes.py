"""`viewstamp elect` and `viewstamp queue work` as processes, and what follows when they are killed."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.process.conftest import MakeGroup
from tests.process.test_locks import wait_for
from viewstamp.clients.recipes_blocking import BlockingRecipes
from viewstamp.testkit.load import wait_for_leader
from viewstamp.testkit.processes import ServerGroup

pytestmark = pytest.mark.process

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `viewstamp` in the test's folder; whatever still runs is ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(group: ServerGroup, *arguments: str) -> "subprocess.Popen[str]":
        verb, rest = arguments[:-1], arguments[-1]
        line = [sys.executable, "-m", "viewstamp", *verb, "--cluster", str(group.cluster_file)]
        process = subprocess.Popen(
            [*line, "--", "sh", "-c", rest], cwd=tmp_path, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


async def test_a_successor_is_elected_soon_when_the_elected_is_killed(
    make_group: MakeGroup, start: Start, tmp_path: Path
) -> None:
    """Time to live 5 s, counted from the last word of the elected; its orphaned command ends with it."""
    group = make_group(3)
    await wait_for_leader(group, members_min=3)
    first = start(
        group, "elect", "e", "--ttl", "5", 'echo "$$ $VIEWSTAMP_FENCING_TOKEN" > first; exec sleep 600'
    )
    wait_for(tmp_path / "first")
    second = start(group, "elect", "e", "--ttl", "5", 'echo "$VIEWSTAMP_FENCING_TOKEN" > second')
    with BlockingRecipes(group.cluster, timeout_s=60) as recipes:
        while not recipes.leader("e").candidates:
            pass
    command, token = (tmp_path / "first").read_text().split()
    first.kill()
    killed_at = monotonic()
    wait_for(tmp_path / "second")
    took_s = monotonic() - killed_at
    assert second.wait(30) == 0
    assert int((tmp_path / "second").read_text()) > int(token)
    assert _has_ended(command)
    assert took_s < 12, f"{took_s}: 5 s and a little, where nobody else keeps the machine busy"


async def test_no_item_is_lost_when_workers_are_killed(
    make_group: MakeGroup, start: Start, tmp_path: Path
) -> None:
    group = make_group(3)
    await wait_for_leader(group, members_min=3)
    with BlockingRecipes(group.cluster, timeout_s=60) as recipes:
        queue = recipes.queue("q")
        for number in range(4):
            queue.put(b"%d" % number, id=str(number))
        stuck = start(group, "queue", "work", "q", "--ttl", "2", "cat > stuck; exec sleep 600")
        wait_for(tmp_path / "stuck")
        stuck.kill()
        done = start(group, "queue", "work", "q", "--ttl", "2", 'read item; echo "$item" >> done')
        while (state := queue.state()).taken or state.waiting:
            assert done.poll() is None
        assert sorted((tmp_path / "done").read_text().split()) == ["0", "1", "2", "3"]
        done.terminate()
        assert done.wait(30) == 128 + 15


def _has_ended(pid: str) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"
