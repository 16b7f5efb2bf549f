"""Writes while 200 MB of state are taken as a snapshot on every node, and while they are sent to a new one.

python -m benchmarks.waiting.snapshots
"""

import asyncio
import shutil
from collections.abc import Awaitable
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.waiting.lab import MIB, Writers, cluster, fill, resident_bytes, writers
from viewstamp.core.events import TakeSnapshot
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.runtime.connecting import connect
from viewstamp.runtime.operator import direct
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.load import accounts, wait_for_account, wait_for_leader, wait_for_level
from viewstamp.testkit.processes import ServerGroup

STATE_BYTES = 200 * MIB
VALUE_BYTES = 2_048
CLIENTS = 16
LARGE_VALUE_BYTES = 8_192
QUIET_S = 5.0
WITHIN_S = 120.0


async def snapshot_everywhere(group: ServerGroup) -> None:
    """Let all nodes take a snapshot at once."""
    taken = [
        asyncio.to_thread(direct, group.cluster, node, TakeSnapshot(), timeout_s=WITHIN_S)
        for node in group.servers
    ]
    refusals = [refusal for refusal in await asyncio.gather(*taken) if refusal is not None]
    assert not refusals, refusals


async def bring_back_empty(group: ServerGroup, node: NodeId) -> None:
    """Restart a node without its data, and return when it has the state and follows."""
    server = group.servers[node]
    await asyncio.to_thread(server.kill)
    shutil.rmtree(server.data)
    server.start()
    await asyncio.to_thread(server.wait_ready)
    await wait_for_account(group, node, lambda status: status.snapshot > 0 and status.applied > 0, WITHIN_S)


async def measure_on(group: ServerGroup) -> dict[str, Any]:
    found: dict[str, Any] = {"state_bytes": STATE_BYTES}
    keys = [f"key{number}" for number in range(STATE_BYTES // VALUE_BYTES)]
    async with connect(group.cluster, KeyValueStore, timeout_s=WITHIN_S) as store:
        await fill(store, keys, b"x" * VALUE_BYTES)
    await wait_for_level(group, WITHIN_S)
    leader = (await wait_for_leader(group)).node
    follower = next(node for node in group.servers if node != leader)
    async with writers(group, CLIENTS, WITHIN_S) as running:
        await asyncio.sleep(1.0)
        running.cut()
        await asyncio.sleep(QUIET_S)
        found["quiet"] = running.cut()
        found["taken_s"], found["taking"] = await timed(running, snapshot_everywhere(group))
        restarting = bring_back_empty(group, follower)
        found["sent_s"], found["sending"] = await timed(running, restarting)
    async with writers(group, CLIENTS, WITHIN_S, value_bytes=LARGE_VALUE_BYTES) as running:
        found["growing"] = await snapshots_by_themselves(group, leader, running)
    found["sent_bytes_per_second"] = STATE_BYTES / found["sent_s"]
    found["leader_resident_bytes"] = resident_bytes(group.servers[leader].pid)
    return found


async def snapshots_by_themselves(group: ServerGroup, node: NodeId, running: Writers) -> dict[str, Any]:
    """Write until the log has grown so much that this node has taken snapshots; return the figures."""
    status = (await accounts(group))[node]
    assert isinstance(status, Status), status
    before = status.snapshot
    running.cut()
    await wait_for_account(group, node, lambda now: now.snapshot > before, WITHIN_S)
    return running.cut()


async def timed(running: Writers, doing: Awaitable[object]) -> tuple[float, dict[str, Any]]:
    """Return how long something took, and the figures of the writes meanwhile."""
    running.cut()
    began = perf_counter()
    await doing
    return perf_counter() - began, running.cut()


def measure(directory: Path | None = None) -> dict[str, Any]:
    """Return the latencies of writes: undisturbed, while snapshots are taken, while one is sent."""
    with cluster(directory) as group:
        return asyncio.run(measure_on(group))


if __name__ == "__main__":
    for name, value in measure().items():
        print(name, value)
