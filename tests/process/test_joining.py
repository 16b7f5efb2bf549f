"""Nodes let into a view with nothing on their disks, and who dies while they are brought up to date."""

import asyncio
import shutil

import pytest

from tests.process.conftest import MakeGroup
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.runtime.connecting import connect
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.load import (
    Load,
    accounts,
    read_all,
    wait_for_account,
    wait_for_leader,
    wait_for_level,
)
from viewstamp.testkit.processes import ServerGroup, ServerProcess

pytestmark = [pytest.mark.process, pytest.mark.slow]

VALUE = bytes(range(256)) * 128
VALUES = 160
WRITES = 100
SLOW_TRANSFER = {
    "log_bytes_max": 1 << 18,
    "snapshot_chunk_bytes": 4096,
    "snapshot_window_chunks": 1,
}
"""5 MB of state in 1,280 pieces, one at a time: a transfer takes a while, and the log does not reach back."""
WAIT_S = 90.0
"""A transfer in small pieces on a machine that is busy with other things."""
SETTINGS = "segment_bytes = 1048576\n"


async def filled_group(make_group: MakeGroup) -> ServerGroup:
    """Start three servers with a state that takes seconds to transfer."""
    group = make_group(3, protocol="viewstamped", options=SLOW_TRANSFER, settings=SETTINGS)
    await wait_for_leader(group, WAIT_S, members_min=3)
    async with connect(group.cluster, KeyValueStore, timeout_s=WAIT_S) as store:
        await asyncio.gather(*(store.set(f"big-{number:04d}", VALUE) for number in range(VALUES)))
    await wait_for_level(group, WAIT_S)
    return group


async def start_joining(
    group: ServerGroup, status: Status
) -> tuple[ServerProcess, ServerProcess, ServerProcess]:
    """Wipe a backup and return primary, other backup and the one wiped, whose transfer has begun."""
    primary = group.servers[status.node]
    other, joiner = (group.servers[node] for node in group.servers if node != status.node)
    joiner.kill()
    shutil.rmtree(joiner.data)
    joiner.start()
    joiner.wait_ready()
    await wait_for_account(group, primary.node, lambda account: receives_state(account, joiner.node))
    return primary, other, joiner


def receives_state(account: Status, node: NodeId) -> bool:
    return any(peer.node == node and peer.state == "snapshot" for peer in account.peers)


async def nothing_is_lost(group: ServerGroup) -> None:
    found = await read_all(group, WAIT_S)
    big = {key: value for key, (value, _) in found.items() if key.startswith("big-")}
    assert big == {f"big-{number:04d}": VALUE for number in range(VALUES)}


async def test_view_goes_on_and_lets_it_in_again_when_a_joiner_dies_during_its_transfer(
    make_group: MakeGroup,
) -> None:
    group = await filled_group(make_group)
    _, _, joiner = await start_joining(group, await wait_for_leader(group))
    joiner.kill()
    assert (await wait_for_leader(group)).node != joiner.node
    async with Load(group) as load:
        await load.more(WRITES)
    joiner.start()
    joiner.wait_ready()
    await wait_for_leader(group, WAIT_S, members_min=3)
    await wait_for_level(group, WAIT_S)
    assert (
        load.ledger.audit(
            {key: found for key, found in (await read_all(group, WAIT_S)).items() if key[0] == "w"}
        )
        == []
    )
    await nothing_is_lost(group)


async def test_service_waits_and_says_for_whom_when_only_a_joiner_without_the_state_is_left(
    make_group: MakeGroup,
) -> None:
    group = await filled_group(make_group)
    primary, other, joiner = await start_joining(group, await wait_for_leader(group))
    primary.kill()
    other.kill()
    await wait_for_account(group, joiner.node, lambda account: "majority" in account.waiting_for)
    account = (await accounts(group))[joiner.node]
    assert isinstance(account, Status)
    assert str(primary.node) in account.waiting_for
    assert account.leader != joiner.node
    primary.start()
    primary.wait_ready()
    await wait_for_leader(group, WAIT_S, members_min=2)
    await nothing_is_lost(group)
    other.start()
    other.wait_ready()
    await wait_for_leader(group, WAIT_S, members_min=3)
    await wait_for_level(group, WAIT_S)


async def test_next_member_takes_over_when_the_primary_dies_while_a_joiner_has_not_the_state(
    make_group: MakeGroup,
) -> None:
    group = await filled_group(make_group)
    primary, other, joiner = await start_joining(group, await wait_for_leader(group))
    primary.kill()
    leading = await wait_for_leader(group, WAIT_S, members_min=2)
    assert leading.node == other.node
    assert set(leading.members) == {other.node, joiner.node}
    await nothing_is_lost(group)
