"""Bring a node with an empty disk up to a large state while heartbeats go on (`make soak`).

Three servers on viewstamped replication are filled, one is killed and its data directory deleted; it is
re-admitted and receives the whole state. Prints what it took, and how long the primary heard nothing of the
joiner at most. Exit code 1: a member was taken for dead meanwhile, or something is missing afterwards.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from time import monotonic

from viewstamp.core.protocol import Status
from viewstamp.runtime.connecting import connect
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.load import accounts, wait_for_leader, wait_for_level
from viewstamp.testkit.processes import ServerGroup, ServerProcess

MIB = 1 << 20
VALUE_BYTES = 64 << 10
PARALLEL = 32
PATIENCE_S = 600.0


def key_of(number: int) -> str:
    return f"key-{number:08d}"


def value_of(number: int) -> bytes:
    return number.to_bytes(8, "big") * (VALUE_BYTES // 8)


async def fill(group: ServerGroup, count: int) -> None:
    async with connect(group.cluster, KeyValueStore, timeout_s=PATIENCE_S) as store:
        for first in range(0, count, PARALLEL):
            numbers = range(first, min(first + PARALLEL, count))
            await asyncio.gather(*(store.set(key_of(number), value_of(number)) for number in numbers))


async def watch_transfer(
    group: ServerGroup, joiner: ServerProcess, after: int
) -> tuple[float, int, dict[int, tuple[int, ...]]]:
    """Return how long it took, the primary's longest silence in us, and the views that there were."""
    begun, silence_us = monotonic(), 0
    views: dict[int, tuple[int, ...]] = {}
    while monotonic() - begun < PATIENCE_S:
        known = [status for status in (await accounts(group)).values() if isinstance(status, Status)]
        primary = next((status for status in known if status.peers), None)
        if primary is not None and primary.view > after and joiner.node in primary.members:
            views[int(primary.view)] = tuple(map(int, primary.members))
            peer = next(peer for peer in primary.peers if peer.node == joiner.node)
            silence_us = max(silence_us, peer.heard_us_ago or 0)
            if primary.leader == primary.node and peer.matched == primary.last.seqno:
                break
        await asyncio.sleep(0.02)
    return monotonic() - begun, silence_us, views


async def missing(group: ServerGroup, count: int) -> int:
    """Return how many values a client does not find as they were written."""
    wrong = 0
    async with connect(group.cluster, KeyValueStore, timeout_s=PATIENCE_S) as store:
        for number in range(count):
            found, _ = await store.get(key_of(number))
            wrong += found != value_of(number)
    return wrong


async def measure(folder: Path, megabytes: int) -> int:
    count = megabytes * MIB // VALUE_BYTES
    with ServerGroup(folder, 3, protocol="viewstamped") as group:
        group.start()
        await wait_for_leader(group, members_min=3)
        begun = monotonic()
        await fill(group, count)
        print(f"{megabytes} MiB written in {monotonic() - begun:.1f} s", flush=True)
        leading = await wait_for_leader(group)
        joiner = next(server for node, server in group.servers.items() if node != leading.node)
        joiner.kill()
        shutil.rmtree(joiner.data)
        without = leading
        while without.view == leading.view:
            without = await wait_for_leader(group)
        joiner.start()
        took_s, silence_us, views = await watch_transfer(group, joiner, without.view)
        await wait_for_level(group, PATIENCE_S)
        print(f"re-admitted and level after {took_s:.1f} s, {megabytes / took_s:.0f} MiB/s")
        print(f"longest silence of the joiner at the primary {silence_us / 1000:.0f} ms, views {views}")
        wrong = await missing(group, count)
        print(f"{wrong} of {count} values are missing or wrong")
    return 1 if wrong or len(views) != 1 else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="viewstamp-transfer-") as folder:
        return asyncio.run(measure(Path(folder), given.megabytes))


if __name__ == "__main__":
    sys.exit(main())
