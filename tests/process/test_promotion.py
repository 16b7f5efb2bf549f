"""Primary-backup with real processes: promotion loses nothing acknowledged, an old primary is fenced."""

import asyncio
import signal

import pytest

from tests.process.conftest import MakeGroup
from viewstamp.core.errors import ViewstampError
from viewstamp.core.events import TransferLeadership
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.runtime import operator
from viewstamp.testkit.load import Load, accounts, read_all, wait_for_leader
from viewstamp.testkit.processes import ServerGroup

pytestmark = pytest.mark.process

WRITES = 200


async def promote(group: ServerGroup, node: NodeId, within_s: float = 20.0) -> None:
    """Ask until it leads: who has just lost its primary may be in the middle of hearing of it."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                refusal = await asyncio.to_thread(
                    operator.direct, group.cluster, node, TransferLeadership(node), timeout_s=5.0
                )
            except ViewstampError as error:
                refusal = str(error)
            if refusal is None:
                return
            await asyncio.sleep(0.1)


async def test_nothing_is_lost_when_primaries_are_killed_and_others_promoted(make_group: MakeGroup) -> None:
    group = make_group(3, protocol="primary_backup")
    await wait_for_leader(group)
    async with Load(group) as load:
        for _ in range(2):
            await load.more(WRITES)
            dead = (await wait_for_leader(group)).node
            await asyncio.to_thread(group.servers[dead].kill)
            heir = next(node for node in group.servers if node != dead)
            await promote(group, heir)
            await load.more(WRITES)
            group.servers[dead].start()
            await asyncio.to_thread(group.servers[dead].wait_ready)
            await load.more(WRITES)
            await wait_until_synchronous(group, dead)
    assert load.ledger.audit(await read_all(group)) == []


async def test_writes_go_on_when_a_backup_is_killed_and_comes_back(make_group: MakeGroup) -> None:
    group = make_group(3, protocol="primary_backup")
    leader = (await wait_for_leader(group)).node
    victim = next(node for node in group.servers if node != leader)
    async with Load(group) as load:
        await load.more(WRITES)
        await asyncio.to_thread(group.servers[victim].kill)
        await load.more(WRITES)
        group.servers[victim].start()
        await asyncio.to_thread(group.servers[victim].wait_ready)
        await wait_until_synchronous(group, victim)
        await load.more(WRITES)
    assert (await wait_for_leader(group)).node == leader
    assert load.ledger.audit(await read_all(group)) == []


async def test_the_primary_resumes_when_all_are_killed_and_started_again(make_group: MakeGroup) -> None:
    group = make_group(3, protocol="primary_backup")
    leader = (await wait_for_leader(group)).node
    async with Load(group) as load:
        await load.more(WRITES)
        group.kill_all()
        group.start()
        await load.more(WRITES)
    assert (await wait_for_leader(group)).node == leader
    assert load.ledger.audit(await read_all(group)) == []


async def test_the_old_primary_is_refused_when_it_comes_back_from_a_long_stop(make_group: MakeGroup) -> None:
    group = make_group(3, protocol="primary_backup")
    stopped = (await wait_for_leader(group)).node
    heir = next(node for node in group.servers if node != stopped)
    async with Load(group) as load:
        await load.more(WRITES)
        group.servers[stopped].signal(signal.SIGSTOP)
        try:
            await promote(group, heir)
            await load.more(WRITES)
        finally:
            group.servers[stopped].signal(signal.SIGCONT)
        await wait_until_synchronous(group, stopped)
        await load.more(WRITES)
    assert (await wait_for_leader(group)).node == heir
    assert load.ledger.audit(await read_all(group)) == []


async def wait_until_synchronous(group: ServerGroup, node: NodeId, within_s: float = 30.0) -> None:
    """Return once the primary counts this node as one that has everything."""
    async with asyncio.timeout(within_s):
        while not any(  # noqa: ASYNC110  nothing announces it
            peer.node == node and peer.state == "synchronous"
            for status in (await accounts(group)).values()
            if isinstance(status, Status) and status.role == "primary"
            for peer in status.peers
        ):
            await asyncio.sleep(0.05)
