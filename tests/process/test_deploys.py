"""A changed class is deployed one process at a time, under clients of both classes: no call fails."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.evolution.shops import first, second
from tests.process.conftest import MakeGroup
from viewstamp.core.events import Finalize
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.runtime import operator
from viewstamp.runtime.connecting import connect
from viewstamp.testkit.load import accounts, wait_for_leader, wait_for_level
from viewstamp.testkit.processes import ServerGroup

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = 32
OLD: Any = first()
NEW: Any = second()


class Deployment:
    """Servers that run `shopcode:Shop`, of which there are two versions in two folders."""

    def __init__(self, make_group: MakeGroup, folder: Path) -> None:
        self.folders = {name: folder / name for name in ("first", "second")}
        for name, place in self.folders.items():
            place.mkdir()
            (place / "shopcode.py").write_text(f"from tests.evolution.shops import {name}\nShop = {name}()\n")
        self.group: ServerGroup = make_group(
            3, start=False, arguments=["shopcode:Shop"], replica={"state_check_every": 64}
        )
        for server in self.group.servers.values():
            server.start(self._environment("first"))
        for server in self.group.servers.values():
            server.wait_ready()

    def _environment(self, name: str) -> dict[str, str]:
        path = os.environ.get("PYTHONPATH", "")
        return {"PYTHONPATH": os.pathsep.join([str(self.folders[name]), str(ROOT), path])}

    async def roll(self, name: str, *, order: Sequence[int] = (1, 2, 3), kill: bool = False) -> None:
        """Put this version on each node, one after the other; with `kill` by SIGKILL."""
        for node in order:
            server = self.group.servers[NodeId(node)]
            if kill:
                server.kill()
            else:
                assert await asyncio.to_thread(server.stop) == 0
            server.start(self._environment(name))
            await asyncio.to_thread(server.wait_ready)
            await self.all_answer()

    async def all_answer(self) -> None:
        """Return once each node serves and a leader is known."""
        await wait_for_leader(self.group, members_min=3)

    def lines(self) -> Iterator[str]:
        """Yield what all servers have logged."""
        for server in self.group.servers.values():
            yield from server.log.read_text().splitlines()


class Buyers:
    """Clients of both classes that buy all the time."""

    def __init__(self, group: ServerGroup) -> None:
        self._group = group
        self._stopped = False
        self.numbers: list[int] = []

    @asynccontextmanager
    async def buying(self) -> AsyncIterator[None]:
        """Buy until the block ends; raise what a call raised."""
        tasks = [asyncio.create_task(self._buy(OLD if n % 2 else NEW)) for n in range(CLIENTS)]
        try:
            yield
        finally:
            self._stopped = True
            await asyncio.gather(*tasks)

    async def _buy(self, shop: Any) -> None:
        async with connect(self._group.cluster, shop, timeout_s=30.0) as proxy:
            while not self._stopped:
                receipt = await proxy.buy("tea")
                assert getattr(receipt, "price", 7) == 7
                self.numbers.append(receipt.number)
                await asyncio.sleep(0.01)


async def test_no_call_fails_when_a_class_is_deployed_and_taken_back_and_deployed(
    make_group: MakeGroup, tmp_path: Path
) -> None:
    deployment = Deployment(make_group, tmp_path)
    group = deployment.group
    await deployment.all_answer()
    buyers = Buyers(group)
    async with buyers.buying():
        await deployment.roll("second")
        await deployment.roll("first")
        await deployment.roll("second")
        leader = (await wait_for_leader(group, members_min=3)).leader
        assert leader is not None
        refusal = await asyncio.to_thread(operator.direct, group.cluster, leader, Finalize())
        assert refusal is None
    await wait_for_level(group)
    assert sorted(buyers.numbers) == list(range(1, len(buyers.numbers) + 1)), "each call once, none lost"
    async with connect(group.cluster, NEW, timeout_s=30.0) as shop:
        assert (await shop.buy("jam", price=9)).price == 9
        assert await shop.refund(len(buyers.numbers) + 1) == 9
    assert {type(account) for account in (await accounts(group)).values()} == {Status}
    in_force = {account.versions for account in (await accounts(group)).values()}  # type: ignore[union-attr]
    assert {(known.level, known.machine) for known in in_force if known is not None} == {(1, 2)}
    assert [line for line in deployment.lines() if "differ" in line or "newer code" in line] == []


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
async def test_no_call_fails_when_each_node_is_killed_for_the_other_class(
    make_group: MakeGroup, tmp_path: Path, order: tuple[int, ...]
) -> None:
    deployment = Deployment(make_group, tmp_path)
    group = deployment.group
    await deployment.all_answer()
    buyers = Buyers(group)
    async with buyers.buying():
        await deployment.roll("second", order=order[:2], kill=True)
        await deployment.roll("first", order=order[1:2], kill=True)
        await deployment.roll("second", order=order[1:], kill=True)
        leader = (await wait_for_leader(group, members_min=3)).leader
        assert leader is not None
        assert await asyncio.to_thread(operator.direct, group.cluster, leader, Finalize()) is None
        await deployment.roll("second", order=(leader,), kill=True)
    await wait_for_level(group)
    assert sorted(buyers.numbers) == list(range(1, len(buyers.numbers) + 1)), "each call once, none lost"
    assert [line for line in deployment.lines() if "differ" in line or "newer code" in line] == []


LOOKS = 300
"""At the account of a node that has to hear of a leader first, ten a second."""


async def test_a_node_with_the_old_class_waits_after_finalize_and_goes_on_with_the_new_one(
    make_group: MakeGroup, tmp_path: Path
) -> None:
    deployment = Deployment(make_group, tmp_path)
    group = deployment.group
    await deployment.all_answer()
    async with connect(group.cluster, OLD) as shop:
        await shop.name("ann", "Ann Lee")
    await deployment.roll("second")
    leader = (await wait_for_leader(group, members_min=3)).leader
    assert leader is not None
    assert await asyncio.to_thread(operator.direct, group.cluster, leader, Finalize()) is None
    late = next(node for node in group.servers if node != leader)
    server = group.servers[NodeId(late)]
    server.kill()
    server.start(deployment._environment("first"))
    await asyncio.to_thread(server.wait_ready)
    async with connect(group.cluster, NEW) as shop:
        assert await shop.name("bob", "Bob Ray") == 2
    told = ""
    for _ in range(LOOKS):
        account = (await accounts(group))[late]
        told = account.waiting_for if isinstance(account, Status) else ""
        if "waiting for newer code at" in told:
            break
        await asyncio.sleep(0.1)
    assert "waiting for newer code at" in told
    assert "it needs version 2 of Shop; this code has 1" in told
    server.kill()
    server.start(deployment._environment("second"))
    await asyncio.to_thread(server.wait_ready)
    await wait_for_level(group)
