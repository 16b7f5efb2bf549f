"""Watches and a lease on real servers that are killed: each change once, in order, or a list of all keys."""

import asyncio
import os

import pytest

import viewstamp
from tests.process.conftest import MakeGroup
from viewstamp.clients.coordination import Coordination
from viewstamp.services.store.types import LeaseNotFound
from viewstamp.services.store.watching import Changes, Resync
from viewstamp.testkit.load import wait_for_leader
from viewstamp.testkit.processes import ServerGroup

pytestmark = pytest.mark.process

ROUNDS = int(os.environ.get("VIEWSTAMP_WATCH_ROUNDS", "2"))
"""How often the leader is killed; more for a campaign."""
WATCHERS = 5


async def follow(c: Coordination, last: asyncio.Future[int]) -> list[tuple[int, bytes]]:
    """Return (revision, value) of all that a watch is told up to the last write, and check the order."""
    told: list[tuple[int, bytes]] = []
    async for what in c.kv.watch("w/", after=0):
        if isinstance(what, Resync):
            told = [(item.mod, item.value) for item in sorted(what.items, key=lambda item: item.mod)]
        elif isinstance(what, Changes):
            assert not told or what.revision > told[-1][0]
            told += ((what.revision, event.item.value) for event in what.events if event.item)
        if last.done() and told and told[-1][0] >= last.result():
            return told
    raise AssertionError("a watch has no end")


async def gone(c: Coordination, key: str) -> None:
    """Return when a key was deleted."""
    async for what in c.kv.watch(key=key, after=0):
        if isinstance(what, Changes) and what.events[-1].item is None:
            return


async def kill_leaders(group: ServerGroup) -> None:
    """Kill the leader, and then all of them; start them again."""
    for _ in range(ROUNDS):
        leader = await wait_for_leader(group)
        group.servers[leader.node].kill()
        await wait_for_leader(group)
        await asyncio.to_thread(group.start)
    group.kill_all()
    await asyncio.to_thread(group.start)
    await wait_for_leader(group)


async def test_every_write_is_told_once_and_in_order_though_the_servers_die(make_group: MakeGroup) -> None:
    group = make_group(3)
    await wait_for_leader(group)
    last: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with viewstamp.coordination(group.cluster, timeout_s=60) as c:
        lease = await c.lease(ttl_s=2)
        await c.kv.put("l", b"", lease=lease)
        watching = [asyncio.create_task(follow(c, last)) for _ in range(WATCHERS)]
        killing = asyncio.create_task(kill_leaders(group))
        written: list[tuple[int, bytes]] = []
        while not killing.done():
            value = b"%d" % len(written)
            written.append((await c.kv.put(f"w/{value.decode()}", value), value))
        await killing
        last.set_result(written[-1][0])
        async with asyncio.timeout(60):
            every = await asyncio.gather(*watching)
        for told in every:
            assert told == written
        lease.abandon()
        async with asyncio.timeout(60):
            await gone(c, "l")
        with pytest.raises(LeaseNotFound):
            await c.store.lease_keep_alive(lease.number)
