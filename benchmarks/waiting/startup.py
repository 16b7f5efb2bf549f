"""How long starts take: a node until it listens, a new cluster until its first write, a command.

python -m benchmarks.waiting.startup
"""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.peers.viewstamp import DEFAULTS
from viewstamp.runtime.connecting import connect
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.processes import ServerGroup

TIMES = 5


async def first_write(group: ServerGroup) -> None:
    async with connect(group.cluster, KeyValueStore, timeout_s=30.0) as store:
        await store.set("key", b"value")


def once(folder: Path) -> dict[str, float]:
    """Start a new cluster of three; return the seconds until all listened, and until a write was done."""
    with ServerGroup(folder, 3, settings=DEFAULTS) as group:
        began = perf_counter()
        group.start()
        listening = perf_counter() - began
        asyncio.run(first_write(group))
        written = perf_counter() - began
        command = [sys.executable, "-m", "viewstamp", "status", "--timeout", "30"]
        command += ["--cluster", str(group.cluster_file)]
        began = perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return {"listening_s": listening, "first_write_s": written, "status_s": perf_counter() - began}


def measure(directory: Path | None = None) -> dict[str, Any]:
    """Return medians of several starts."""
    found = []
    for _ in range(TIMES):
        with tempfile.TemporaryDirectory(prefix="viewstamp-wait-", dir=directory) as folder:
            found.append(once(Path(folder)))
    return {name: round(median(one[name] for one in found), 3) for name in found[0]}


if __name__ == "__main__":
    print(measure())
