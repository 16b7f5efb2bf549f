"""Primaries and backups of viewstamped replication are killed in turn, as far down as a view may shrink."""

import pytest

from tests.process.conftest import MakeGroup
from viewstamp.testkit.load import Load, read_all, wait_for_account, wait_for_leader, wait_for_level
from viewstamp.testkit.processes import ServerGroup

pytestmark = [pytest.mark.process, pytest.mark.slow]

WRITES = 200
WAIT_S = 60.0


async def kill_one(group: ServerGroup, load: Load, *, primary: bool) -> None:
    """Kill the primary or a backup, and wait until the others go on without it."""
    leading = await wait_for_leader(group, WAIT_S)
    backups = [node for node in leading.members if node != leading.node]
    group.servers[leading.node if primary else backups[-1]].kill()
    await load.more(WRITES, WAIT_S)


async def test_nothing_is_lost_when_primary_and_backup_are_killed_in_turn_down_to_too_few(
    make_group: MakeGroup,
) -> None:
    group = make_group(5, protocol="viewstamped")
    await wait_for_leader(group, WAIT_S, members_min=5)
    async with Load(group, timeout_s=WAIT_S) as load:
        await load.more(WRITES, WAIT_S)
        await kill_one(group, load, primary=True)
        await kill_one(group, load, primary=False)
        leading = await wait_for_leader(group, WAIT_S)
        assert len(leading.members) == 3
        victim = next(node for node in leading.members if node != leading.node)
        group.servers[victim].kill()
        await wait_for_account(
            group, leading.node, lambda account: "more members" in account.waiting_for, WAIT_S
        )
        stood = len(load.ledger.acknowledged)
        group.servers[victim].start()
        await load.more(WRITES, WAIT_S)
        assert len(load.ledger.acknowledged) >= stood + WRITES
    group.start()
    await wait_for_leader(group, WAIT_S, members_min=5)
    await wait_for_level(group, WAIT_S)
    assert load.ledger.audit(await read_all(group, WAIT_S)) == []
    assert load.ledger.refused == {}
