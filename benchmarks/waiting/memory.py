"""Bytes that a server needs for each key and for each session.

python -m benchmarks.waiting.memory
"""

import asyncio
from pathlib import Path
from typing import Any

from benchmarks.waiting.lab import cluster, fill, resident_bytes
from viewstamp.cli.processes import ServerGroup
from viewstamp.runtime.connecting import connect
from viewstamp.services.kv import KeyValueStore

KEYS = 200_000
VALUE_BYTES = 32
SESSIONS = 2_000
AT_ONCE = 50
SMALL_LOG = {"log_bytes_max": 4 << 20}
"""So that the log's own share of the memory stays small."""


def resident(group: ServerGroup) -> int:
    """Return the memory of the server that has most."""
    return max(resident_bytes(server.pid) for server in group.servers.values())


async def open_session(group: ServerGroup, number: int) -> None:
    async with connect(group.cluster, KeyValueStore, timeout_s=60.0) as store:
        await store.set(f"session{number % 10}", b"x" * VALUE_BYTES)


async def measure_on(group: ServerGroup) -> dict[str, Any]:
    empty = resident(group)
    async with connect(group.cluster, KeyValueStore, timeout_s=60.0) as store:
        await fill(store, [f"key{number:08d}" for number in range(KEYS)], b"x" * VALUE_BYTES)
    filled = resident(group)
    for begin in range(0, SESSIONS, AT_ONCE):
        await asyncio.gather(*(open_session(group, number) for number in range(begin, begin + AT_ONCE)))
    served = resident(group)
    return {
        "empty_bytes": empty,
        "bytes_per_key": round((filled - empty) / KEYS),
        "bytes_per_session": round((served - filled) / SESSIONS),
    }


def measure(directory: Path | None = None) -> dict[str, Any]:
    """Return the memory of an empty server, and what each key and session adds."""
    with cluster(directory, options=SMALL_LOG) as group:
        return asyncio.run(measure_on(group))


if __name__ == "__main__":
    print(measure())
