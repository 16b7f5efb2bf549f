"""Two Celery Beats on three nodes: kill the beat that sends and the node that leads, again and again.

Prints a line for each kill, and at the end which intervals were run, and how late. Exit code 1: one was run
twice or left out.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from asyncio import run
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Event
from time import monotonic
from typing import NamedTuple

from viewstamp.clients.coordination_blocking import BlockingCoordination
from viewstamp.core.errors import NotExecuted, OutcomeUnknown
from viewstamp.testkit.load import TooLate, wait_for_leader
from viewstamp.testkit.processes import ServerGroup

POLL_S = 0.02
WITHIN_S = 120.0


class Ran(NamedTuple):
    """One run, as the worker did it."""

    number: int
    task: str
    at_s: float


class Shop:
    """The processes: a cluster, two beats, a worker."""

    def __init__(self, folder: Path, stack: ExitStack, interval_s: float, ttl_s: float) -> None:
        self.folder = folder
        self.group = stack.enter_context(ServerGroup(folder))
        for server in self.group.servers.values():
            server.start()
            server.wait_ready(WITHIN_S)
        self._environment = {
            **os.environ,
            "BEATS_FOLDER": str(folder),
            "BEATS_INTERVAL_S": str(interval_s),
            "BEATS_TTL_S": str(ttl_s),
        }
        for name in ("broker", "control", "unseen"):
            (folder / name).mkdir()
        self.store = stack.enter_context(BlockingCoordination(self.group.cluster, timeout_s=WITHIN_S))
        self._log = stack.enter_context((folder / "celery.log").open("ab"))
        self._stack = stack
        self.worker = self._start("worker", "--pool", "solo", "--without-gossip", "--without-mingle")
        self.beats = [self.beat(), self.beat()]

    def beat(self) -> "subprocess.Popen[bytes]":
        """Start one more beat."""
        return self._start("beat", "--pidfile=")

    def _start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        line = [sys.executable, "-m", "celery", "-A", "benchmarks.beat_app", *arguments, "--loglevel", "INFO"]
        process = subprocess.Popen(
            line, cwd=Path(__file__).parents[1], env=self._environment, stdout=self._log, stderr=self._log
        )
        self._stack.callback(_end, process)
        return process

    def runs(self) -> list[Ran]:
        """Return what the worker has done so far."""
        path = self.folder / "runs"
        lines = path.read_text(encoding="ascii").split("\n")[:-1] if path.exists() else []
        return [Ran(int(n), task, float(at)) for n, task, at in map(str.split, lines)]

    def wait_for_runs(self, count: int) -> None:
        """Return once `count` runs were done."""
        deadline = monotonic() + WITHIN_S
        while len(self.runs()) < count:
            if monotonic() > deadline or self.worker.poll() is not None:
                raise TooLate(f"run {count} was not done within {WITHIN_S:g} s: see {self.folder}/celery.log")
            Event().wait(POLL_S)

    def leading_beat(self) -> "subprocess.Popen[bytes]":
        """Return the beat that leads, as the store has it."""
        deadline = monotonic() + WITHIN_S
        while monotonic() < deadline:
            try:
                item = self.store.kv.get("celery/beat")
            except (NotExecuted, OutcomeUnknown):
                continue
            pid = int(item.value.split()[-1]) if item is not None else 0
            for beat in self.beats:
                if beat.pid == pid and beat.poll() is None:
                    return beat
            Event().wait(POLL_S)
        raise TooLate(f"no beat leads: see {self.folder}/celery.log")

    @contextmanager
    def killed(self) -> Iterator[str]:
        """Kill the beat and the node that lead, and start both again after the block."""
        victim = self.group.servers[run(wait_for_leader(self.group, WITHIN_S, members_min=3)).node]
        beat = self.leading_beat()
        beat.kill()
        victim.kill()
        yield f"beat {beat.pid} and node {victim.node}"
        beat.wait()
        self.beats.remove(beat)
        self.beats.append(self.beat())
        victim.start()
        victim.wait_ready(WITHIN_S)


def kill_beats(
    folder: Path, *, intervals: int, kills: int, interval_s: float, ttl_s: float, seed: int
) -> list[Ran]:
    """Kill at moments that the seed draws, every second one about when a run is due; return what was run."""
    rng = random.Random(seed)
    with ExitStack() as stack:
        shop = Shop(folder, stack, interval_s, ttl_s)
        for kill in range(kills):
            before = 1 + kill * intervals // kills
            shop.wait_for_runs(before)
            Event().wait(rng.uniform(0, interval_s) if kill % 2 else interval_s + rng.uniform(-0.05, 0.05))
            with shop.killed() as victims:
                shop.wait_for_runs(len(shop.runs()) + 1)
            print(f"kill {kill + 1}: {victims}; {len(shop.runs())} runs", flush=True)
        shop.wait_for_runs(intervals)
        return shop.runs()


def problems(runs: list[Ran]) -> list[str]:
    """Return what contradicts that each interval was run once."""
    numbers = [each.number for each in runs]
    found = [f"run {number} was done twice" for number in sorted(set(numbers)) if numbers.count(number) > 1]
    found += [
        f"run {number} was left out" for number in set(range(1, max(numbers, default=0) + 1)) - set(numbers)
    ]
    return found


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--intervals", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--interval-s", type=float, default=5.0)
    parser.add_argument("--ttl-s", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="viewstamp-beats-") as folder:
        runs = kill_beats(
            Path(folder),
            intervals=given.intervals,
            kills=given.kills,
            interval_s=given.interval_s,
            ttl_s=given.ttl_s,
            seed=given.seed,
        )
        log = (Path(folder) / "celery.log").read_text(encoding="utf-8", errors="replace")
    late_s = [after.at_s - before.at_s - given.interval_s for before, after in pairwise(runs)]
    found = problems(runs)
    print(
        f"{len(runs)} runs; beat and node that lead killed {given.kills} times; {len(found)} contradictions"
    )
    print(f"more than half a second late: {sum(late > 0.5 for late in late_s)}; at most {max(late_s):.2f} s")
    print(f"more than one interval late: {sum(late > given.interval_s for late in late_s)}")
    print(f"sent again by a successor: {log.count('perhaps not sent')}; dropped: {log.count('is dropped')}")
    for problem in found:
        print(f"FAILED: {problem}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
