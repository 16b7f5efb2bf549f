"""Two schedulers of APScheduler as processes, of which the one that leads is killed again and again."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from time import monotonic

import msgspec
import pytest

from tests.process.conftest import MakeGroup
from viewstamp.adapters.apscheduler.documents import Document
from viewstamp.clients.coordination_blocking import BlockingCoordination

pytestmark = pytest.mark.process

INTERVAL_S = 2.0
KILLS = 3


def test_each_interval_is_run_once_when_the_scheduler_that_leads_is_killed(
    make_group: MakeGroup, tmp_path: Path
) -> None:
    """The trigger counts the intervals: as many runs as next run times have gone by, the killed ones' too."""
    group = make_group(3)
    folder = group.cluster_file.parent
    processes: list[subprocess.Popen[bytes]] = []
    with BlockingCoordination(group.cluster, timeout_s=120) as store, (tmp_path / "log").open("ab") as log:

        def start() -> None:
            line = [sys.executable, "-m", "tests.process.scheduler_app", str(folder), str(INTERVAL_S), "1"]
            root = Path(__file__).parents[2]
            processes.append(subprocess.Popen(line, cwd=root, stdout=log, stderr=log))

        try:
            start()
            until(lambda: len(runs(folder)) >= 1)
            start()
            for kill in range(KILLS):
                until(lambda kill=kill: len(runs(folder)) >= 2 * (kill + 1))  # type: ignore[misc]
                leader = processes.pop(0)
                leader.kill()
                leader.wait()
                start()
            until(lambda: len(runs(folder)) >= 2 * KILLS + 2)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        item = store.kv.get("apscheduler/jobs/write")
        assert item is not None
        job = msgspec.json.decode(item.value, type=Document)
        assert job.next_run_time is not None
        began = msgspec.convert(job.trigger["start_date"], type(job.next_run_time))
        intervals = round((job.next_run_time - began).total_seconds() / INTERVAL_S)
    assert len(runs(folder)) <= intervals


def runs(folder: Path) -> list[str]:
    path = folder / "runs"
    return path.read_text(encoding="ascii").splitlines() if path.exists() else []


def until(condition: Callable[[], bool], within_s: float = 120.0) -> None:
    deadline = monotonic() + within_s
    while not condition():
        assert monotonic() < deadline
        Event().wait(0.02)
