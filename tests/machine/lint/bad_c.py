# mypy: ignore-errors
"""Classes that break one rule each, the first word of each docstring: VS011 to VS019."""

import asyncio
import os
import pathlib
import platform
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
import msgspec
from viewstamp.machine.evolution import migration
from viewstamp.machine.state_machine import StateMachine, command


class ThreadPool(StateMachine):
    """VS010"""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        with ThreadPoolExecutor() as pool:
            self.total += pool.submit(abs, n).result()
        return self.total


class EventLoop(StateMachine):
    """VS010"""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        asyncio.run(asyncio.sleep(0))
        self.total += n
        return self.total


class FileWritten(StateMachine):
    """VS011"""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        self.total += n
        with open("audit.log", "a") as log:
            log.write(str(n))
        return self.total


class PathRead(StateMachine):
    """VS011"""

    limit: int = 0

    @command
    def load(self) -> int:
        path = pathlib.Path("limit.txt")
        self.limit = int(path.read_text())
        return self.limit


class Process(StateMachine):
    """VS011"""

    out: str = ""

    @command
    def run(self) -> str:
        self.out = subprocess.check_output(["date"]).decode()
        return self.out


class Download(StateMachine):
    """VS011"""

    size: int = 0

    @command
    def fetch(self, url: str) -> int:
        self.size = len(urllib.request.urlopen(url).read())
        return self.size


class Database(StateMachine):
    """VS011"""

    rows: int = 0

    @command
    def load(self) -> int:
        self.rows = len(sqlite3.connect("x.db").execute("select 1").fetchall())
        return self.rows


class Environment(StateMachine):
    """VS012"""

    region: str = ""

    @command
    def locate(self) -> str:
        self.region = os.environ.get("REGION", "eu")
        return self.region


class Platform(StateMachine):
    """VS012"""

    width: int = 0

    @command
    def measure(self) -> int:
        self.width = 64 if platform.machine() == "x86_64" else 32
        return self.width


class PythonVersion(StateMachine):
    """VS012"""

    level: int = 0

    @command
    def measure(self) -> int:
        self.level = sys.version_info[1]
        return self.level


class HostName(StateMachine):
    """VS012"""

    served: dict[str, int] = {}

    @command
    def serve(self) -> None:
        me = socket.gethostname()
        self.served[me] = self.served.get(me, 0) + 1


class LocalTime(StateMachine):
    """VS012"""

    days: list[str] = []

    @command
    def note(self, seconds: int) -> None:
        self.days.append(datetime.fromtimestamp(seconds).isoformat())


class HalfDoneRaise(StateMachine):
    """VS013"""

    stock: dict[str, int] = {}
    sold: int = 0

    @command
    def sell(self, item: str, count: int) -> int:
        self.sold += count
        if self.stock.get(item, 0) < count:
            raise ValueError(item)
        self.stock[item] -= count
        return self.sold


class HalfDoneKey(StateMachine):
    """VS013"""

    balance: dict[str, int] = {}

    @command
    def move(self, source: str, target: str, amount: int) -> int:
        self.balance[source] = self.balance.get(source, 0) - amount
        self.balance[target] += amount
        return self.balance[target]


class HalfDoneLoop(StateMachine):
    """VS013"""

    items: list[str] = []

    @command
    def extend(self, names: list[str]) -> int:
        for name in names:
            if not name:
                raise ValueError("empty")
            self.items.append(name)
        return len(self.items)


class HalfDoneParse(StateMachine):
    """VS013"""

    lines: int = 0
    total: int = 0

    @command
    def add(self, text: str) -> int:
        self.lines += 1
        self.total += int(text)
        return self.total


class RecursionCounts(StateMachine):
    """VS014"""

    result: int = 0

    @command
    def compute(self, n: int) -> int:
        self.result = self._factorial(n)
        return self.result

    def _factorial(self, n: int) -> int:
        return 1 if n < 2 else n * self._factorial(n - 1) % 1_000_003


class RecursionChain(StateMachine):
    """VS014"""

    parent: dict[str, str] = {}

    @command
    def join(self, child: str, parent: str) -> str:
        self.parent[child] = parent
        return self._root(child)

    def _root(self, name: str) -> str:
        above = self.parent.get(name)
        return name if above is None or above == name else self._root(above)


class BatchOffset(StateMachine):
    """VS015"""

    firsts: int = 0

    @command
    def note(self) -> int:
        if self.context.offset == 0:
            self.firsts += 1
        return self.firsts


class BatchEntries(StateMachine):
    """VS015"""

    last: int = 0
    entries: int = 0

    @command
    def note(self) -> int:
        seqno = self.context.viewstamp.seqno
        if seqno != self.last:
            self.last = seqno
            self.entries += 1
        return self.entries


class SnapshotOmits(StateMachine):
    """VS016"""

    total: int = 0
    count: int = 0

    @command
    def add(self, n: int) -> int:
        self.total += n
        self.count += 1
        return self.total // self.count

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.total)

    def restore(self, snapshot: bytes) -> None:
        self.total = msgspec.msgpack.decode(snapshot)


class RestoreForgets(StateMachine):
    """VS017"""

    total: int = 0
    count: int = 0

    @command
    def add(self, n: int) -> int:
        self.total += n
        self.count += 1
        return self.total // self.count

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self.total, self.count))

    def restore(self, snapshot: bytes) -> None:
        self.total, _ = msgspec.msgpack.decode(snapshot)


class ContextKept(StateMachine):
    """VS018"""

    ctx: Any = None
    last: int = 0

    @command
    def note(self) -> int:
        self.ctx = self.context
        self.last = self.ctx.now
        return self.last


class GeneratorKept(StateMachine):
    """VS018"""

    rng: Any = None
    last: int = 0

    @command
    def note(self) -> int:
        if self.rng is None:
            self.rng = self.context.random
        self.last = self.rng.randrange(6)
        return self.last


class Swallows(StateMachine):
    """VS019"""

    deepest: int = 0

    @command
    def measure(self, n: int) -> int:
        try:
            self.deepest = len("x" * n)
        except MemoryError:
            self.deepest = -1
        return self.deepest


class SwallowsAll(StateMachine):
    """VS019"""

    failed: int = 0

    @command
    def measure(self, text: str) -> int:
        try:
            return int(text)
        except:
            self.failed += 1
            return self.failed


class FloatInFormat(StateMachine):
    """VS009"""

    total: float = 0.0

    @command
    def add(self, n: float) -> str:
        self.total += n / 3
        return "total: {}".format(self.total)


class AliasOfBest(StateMachine):
    """VS008"""

    rows: dict[str, list[int]] = {}
    best: list[int] = []

    @command
    def add(self, name: str, n: int) -> int:
        row = self.rows.setdefault(name, [])
        row.append(n)
        if len(row) > len(self.best):
            self.best = row
        return len(self.best)


class MigrationClock(StateMachine):
    """VS001"""

    version = 2
    total: int = 0
    stamp: float = 0.0

    @command
    def add(self, n: int) -> int:
        self.total += n
        return self.total

    @migration(to=2)
    def _write_stamp(self) -> None:
        self.stamp = datetime.now().timestamp()


class MigrationSetOrder(StateMachine):
    """VS003"""

    version = 2
    tags: set[str] = set()
    order: list[str] = []

    @command
    def tag(self, name: str) -> int:
        self.tags.add(name)
        return len(self.tags)

    @migration(to=2)
    def _list_tags(self) -> None:
        for name in self.tags:
            self.order.append(name)
