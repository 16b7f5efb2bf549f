"""Views of real processes: a view of two waits for its other member, says so, and goes on."""

import pytest

from tests.process.conftest import MakeGroup
from viewstamp.cli.load import Load, read_all, wait_for_account, wait_for_leader

pytestmark = pytest.mark.process

WRITES = 100


async def test_a_view_of_two_waits_and_says_so_when_its_other_member_is_killed(make_group: MakeGroup) -> None:
    group = make_group(3, protocol="viewstamped")
    first = await wait_for_leader(group, members_min=3)
    outside = next(node for node in group.servers if node != first.leader)
    async with Load(group) as load:
        await load.more(WRITES)
        group.servers[outside].kill()
        await wait_for_account(group, first.node, lambda status: len(status.members) == 2)
        await load.more(WRITES)
        other = next(node for node in group.servers if node not in {outside, first.node})
        group.servers[other].kill()
        await wait_for_account(
            group, first.node, lambda status: "to agree on the next view" in status.waiting_for
        )
        acknowledged = len(load.ledger.acknowledged)
        group.start()
        await load.more(WRITES)
    assert load.ledger.audit(await read_all(group)) == []
    assert len(load.ledger.acknowledged) >= acknowledged + WRITES
    assert (await wait_for_leader(group, members_min=3)).view > first.view
