"""What a cluster costs that nobody uses: cores in use by each of three servers, with a client connected.

python -m benchmarks.waiting.idle
"""

import asyncio
import sys
from pathlib import Path
from time import monotonic
from typing import Any

from benchmarks.effort import processor_s
from benchmarks.waiting.lab import cluster, resident_bytes
from viewstamp.runtime.connecting import connect
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.processes import ServerGroup

SETTLE_S = 2.0
MEASURED_S = 15.0


async def measure_on(group: ServerGroup) -> dict[str, Any]:
    pids = [server.pid for server in group.servers.values()]
    async with connect(group.cluster, KeyValueStore) as store:
        await store.set("key", b"value")
        await asyncio.sleep(SETTLE_S)
        before, began = [processor_s([pid]) for pid in pids], monotonic()
        await asyncio.sleep(MEASURED_S)
        elapsed = monotonic() - began
        cores = [(processor_s([pid]) - used) / elapsed for pid, used in zip(pids, before, strict=True)]
    return {
        "cores": [round(each, 4) for each in cores],
        "resident_bytes": [resident_bytes(pid) for pid in pids],
    }


def measure(directory: Path | None = None, *, protocol: str = "raft") -> dict[str, Any]:
    """Return the cores in use and the memory of each server."""
    with cluster(directory, protocol=protocol) as group:
        return asyncio.run(measure_on(group))


if __name__ == "__main__":
    print(measure(protocol=sys.argv[1] if len(sys.argv) > 1 else "raft"))
