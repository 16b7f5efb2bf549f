"""SIGKILL under load loses nothing that was acknowledged, and doubles nothing."""

import pytest

from tests.process.conftest import MakeGroup
from viewstamp.testkit.load import Load, read_all, wait_for_leader
from viewstamp.testkit.torture import torture_leader

pytestmark = pytest.mark.process

KILLS = 3
WRITES = 300
PROTOCOLS = ("raft", "viewstamped", "primary_backup")


@pytest.mark.parametrize(("protocol", "size"), [("raft", 3), ("raft", 5), ("viewstamped", 3)])
async def test_nothing_is_lost_or_duplicated_when_leaders_and_then_all_are_killed(
    make_group: MakeGroup, protocol: str, size: int
) -> None:
    group = make_group(size, protocol=protocol)
    await wait_for_leader(group)
    async with Load(group) as load:
        for _ in range(KILLS):
            await torture_leader(group, load, WRITES)
        await load.more(WRITES)
    group.kill_all()
    group.start()
    assert load.ledger.audit(await read_all(group)) == []
    assert len(load.ledger.acknowledged) >= KILLS * WRITES
    assert load.ledger.refused == {}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_nothing_is_lost_when_all_are_killed_in_the_middle_of_the_load(
    make_group: MakeGroup, protocol: str
) -> None:
    group = make_group(3, protocol=protocol)
    await wait_for_leader(group)
    async with Load(group) as load:
        await load.more(WRITES)
        group.kill_all()
        group.start()
        await load.more(WRITES)
    assert load.ledger.audit(await read_all(group)) == []
