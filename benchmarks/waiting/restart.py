"""How long a node with a long log takes from its start until it answers a linearizable read.

    python -m benchmarks.waiting.restart 1000000

A node alone must read its whole log back and apply all of it before it answers, as every node must after all
of them have crashed. The log is made twice: once with entries of one command each, and once with
many commands in the batches that a thousand clients make.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.peers.viewstamp import DEFAULTS
from viewstamp.replica.options import ClientOptions
from viewstamp.runtime.connecting import connect
from viewstamp.runtime.system import loop_factory
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.processes import ServerGroup

ENTRIES = 1_000_000
CLIENTS = 1000
KEYS = 100_000
UNLIMITED = 1 << 40


async def fill(group: ServerGroup, entries: int, options: ClientOptions) -> None:
    """Write N values."""
    async with connect(group.cluster, KeyValueStore, timeout_s=300.0, options=options) as store:

        async def client(number: int) -> None:
            for place in range(number, entries, CLIENTS):
                await store.set(f"key{place % KEYS}", b"x" * 32)

        await asyncio.gather(*(client(number) for number in range(CLIENTS)))


async def first_read(group: ServerGroup) -> None:
    async with connect(group.cluster, KeyValueStore, timeout_s=300.0) as store:
        await store.get("key0")


def measure(folder: Path, entries: int, *, one_each: bool) -> dict[str, float]:
    """Return the seconds until the node listened, and until it answered."""
    options = {"log_bytes_max": UNLIMITED}
    replica = {"batch_commands_max": 1} if one_each else {}
    calling = ClientOptions(message_calls_max=1) if one_each else ClientOptions()
    with (
        ServerGroup(folder, 1, settings=DEFAULTS, options=options, replica=replica) as group,
        asyncio.Runner(loop_factory=loop_factory("auto")) as runner,
    ):
        group.start()
        began = perf_counter()
        runner.run(fill(group, entries, calling))
        filled = perf_counter() - began
        group.kill_all()
        began = perf_counter()
        group.start()
        listening = perf_counter() - began
        runner.run(first_read(group))
        answered = perf_counter() - began
    log_bytes = sum(path.stat().st_size for path in (folder / "data1").rglob("*.wal"))
    return {"filled_s": filled, "log_bytes": log_bytes, "listening_s": listening, "answered_s": answered}


def measure_both(directory: Path | None = None, *, entries: int = ENTRIES) -> dict[str, Any]:
    """Return the figures of a log of N commands, in batches and one in each entry."""
    found: dict[str, Any] = {"entries": entries}
    for name in ("batched", "one_each"):
        with tempfile.TemporaryDirectory(prefix="viewstamp-wait-", dir=directory) as folder:
            found[name] = measure(Path(folder), entries, one_each=name == "one_each")
    return found


if __name__ == "__main__":
    print(measure_both(entries=int(sys.argv[1]) if len(sys.argv) > 1 else ENTRIES))
