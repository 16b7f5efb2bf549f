"""A cluster grows and shrinks under load and SIGKILL: no acknowledged write is lost or executed twice."""

import asyncio

import msgspec
import pytest

from tests.process.conftest import MakeGroup
from viewstamp.core.ids import NodeId
from viewstamp.runtime import members
from viewstamp.runtime.config import Member
from viewstamp.runtime.server import EXIT_REMOVED
from viewstamp.testkit.load import Load, read_all, wait_for_leader, wait_until
from viewstamp.testkit.processes import ServerGroup

pytestmark = pytest.mark.process

WRITES = 200
FOUR, FIVE = NodeId(4), NodeId(5)


async def voters(group: ServerGroup) -> list[int]:
    found = await asyncio.to_thread(members.members, group.cluster)
    return [node for node, _ in found.membership.voters] if found.membership.settled else []


async def wait_for_voters(group: ServerGroup, *wanted: int) -> None:
    async with asyncio.timeout(30):
        while await voters(group) != list(wanted):  # noqa: ASYNC110  what other processes do
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("protocol", ["viewstamped", "primary_backup"])
async def test_nothing_is_lost_when_it_grows_shrinks_and_each_member_is_replaced(
    make_group: MakeGroup, protocol: str
) -> None:
    group = make_group(3, protocol=protocol)
    await wait_for_leader(group)
    async with Load(group) as load:
        for node in (FOUR, FIVE):
            await asyncio.to_thread(members.add_member, group.cluster, group.join(node, NodeId(1)))
        await wait_for_voters(group, 1, 2, 3, 4, 5)
        await load.more(50)
        await asyncio.to_thread(members.remove_members, group.cluster, [FOUR, FIVE])
        await wait_for_voters(group, 1, 2, 3)
        for old in (1, 2, 3):
            address = group.join(NodeId(old + 5), NodeId(3))
            listed = (*group.cluster.members, Member(old + 5, *address))
            group.cluster = msgspec.structs.replace(group.cluster, members=listed)
            await asyncio.to_thread(members.replace_members, group.cluster, [(NodeId(old), address)])
            await wait_for_voters(group, *range(old + 1, 4), *range(6, old + 6))
            await load.more(50)
        for gone in range(1, 6):
            server = group.servers[NodeId(gone)]
            await wait_until(lambda server=server: not server.running, 20.0, "it was removed")  # type: ignore[misc]
    assert load.ledger.audit(await read_all(group)) == []
    assert load.ledger.refused == {}


async def test_nothing_is_lost_when_the_cluster_grows_and_shrinks_and_leaders_are_killed(
    make_group: MakeGroup,
) -> None:
    group = make_group(3)
    leader = await wait_for_leader(group)
    async with Load(group) as load:
        await load.more(WRITES)
        for node in (FOUR, FIVE):
            address = group.join(node, leader.node)
            await asyncio.to_thread(members.add_member, group.cluster, address)
        await wait_for_voters(group, 1, 2, 3, 4, 5)
        await load.more(WRITES)
        found = await asyncio.to_thread(members.members, group.cluster)
        killed = group.servers[found.leader]
        killed.kill()
        await load.more(WRITES)
        killed.start()
        killed.wait_ready()
        await asyncio.to_thread(members.remove_members, group.cluster, [NodeId(1), NodeId(2)])
        await wait_for_voters(group, 3, 4, 5)
        await load.more(WRITES)
        for gone in (group.servers[NodeId(1)], group.servers[NodeId(2)]):
            await wait_until(lambda gone=gone: not gone.running, 20.0, "it was removed")  # type: ignore[misc]
            assert gone.wait() == EXIT_REMOVED
            assert "was removed from the cluster at" in gone.last_line()
    assert load.ledger.audit(await read_all(group)) == []
    assert load.ledger.refused == {}
    again = group.servers[NodeId(1)]
    again.start()
    assert again.wait() == EXIT_REMOVED
