"""A cluster of processes to measure on, clients that measure, and the memory of a process."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from benchmarks.loads.lines import figures
from benchmarks.machine import check_disk
from benchmarks.peers.viewstamp import DEFAULTS
from viewstamp.runtime.connecting import connect
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.load import wait_for_leader
from viewstamp.testkit.processes import ServerGroup

Store = type[KeyValueStore]

MIB: Final = 1 << 20
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_RESIDENT_FIELD: Final = 1
_FILLERS: Final = 64
"""Calls under way while a store is filled."""


@contextmanager
def cluster(
    directory: Path | None,
    size: int = 3,
    *,
    options: Mapping[str, object] | None = None,
    settings: str = DEFAULTS,
    protocol: str = "raft",
) -> Iterator[ServerGroup]:
    """Start a cluster with default settings in a folder of its own; end and delete it at the end."""
    with tempfile.TemporaryDirectory(prefix="viewstamp-wait-", dir=directory) as folder:
        check_disk(Path(folder))
        group = ServerGroup(Path(folder), size, settings=settings, options=options, protocol=protocol)
        with group:
            group.start()
            asyncio.run(wait_for_leader(group))
            yield group


def resident_bytes(pid: int) -> int:
    """Return the memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[_RESIDENT_FIELD]) * _PAGE_BYTES


async def fill(store: Store, keys: Sequence[str], value: bytes) -> None:
    """Write a value under every key."""

    async def filler(number: int) -> None:
        for key in keys[number::_FILLERS]:
            await store.set(key, value)

    await asyncio.gather(*(filler(number) for number in range(_FILLERS)))


class Writers:
    """Clients with one write under way each, until they are told to stop."""

    def __init__(self, store: Store, clients: int, value: bytes = b"x" * 32) -> None:
        self._store = store
        self._value = value
        self._stopping = False
        self._latencies: list[float] = []
        self._since = perf_counter()
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(clients)]

    def cut(self) -> dict[str, Any]:
        """Return the figures since the last cut."""
        now = perf_counter()
        found = figures(self._latencies, now - self._since)
        self._latencies, self._since = [], now
        return found

    async def stop(self) -> None:
        """Let each end its call."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _write(self, number: int) -> None:
        place = number
        while not self._stopping:
            began = perf_counter()
            await self._store.set(f"w{place % 1000}", self._value)
            self._latencies.append(perf_counter() - began)
            place += 7


@asynccontextmanager
async def writers(
    group: ServerGroup, clients: int, timeout_s: float = 60.0, *, value_bytes: int = 32
) -> AsyncIterator[Writers]:
    """Run writers on a connection of their own."""
    async with connect(group.cluster, KeyValueStore, timeout_s=timeout_s) as store:
        running = Writers(store, clients, b"x" * value_bytes)
        try:
            yield running
        finally:
            await running.stop()
