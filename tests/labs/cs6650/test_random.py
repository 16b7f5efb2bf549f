"""Orders anywhere, deaths and restarts with an empty memory, at random: nothing that was shipped is lost."""

import os
from random import Random

import pytest

from tests.labs.cs6650.factories import Factories, until
from viewstamp.core.ids import NodeId
from viewstamp_labs.cs6650 import peer_connections
from viewstamp_labs.cs6650.messages import unpack_operation

SEEDS = range(int(os.environ.get("VIEWSTAMP_SUITE_SEEDS", "4")))
STEPS = 40
SIZE = 4


class Walk:
    """Factories, an operator who respects the rules, and what must be kept."""

    def __init__(self, factories: Factories, rng: Random) -> None:
        self.factories = factories
        self.rng = rng
        self.holders = set(range(SIZE))
        """Those that are up and have everything that was shipped; never empty, or nothing could be kept."""
        self.shipped: list[tuple[int, int]] = []

    async def order(self) -> None:
        """Order a few robots at any factory that is up, also at one that came back empty."""
        node = self.rng.choice(sorted(self.factories.servers))
        customer, count = len(self.shipped), self.rng.randrange(1, 6)
        await self.factories.orders(node, customer, range(count))
        self.shipped += [(customer, number) for number in range(count)]
        self.holders = {node, *self.factories.servers[node].factory.core.live}

    async def stop(self) -> None:
        """A factory dies, unless it is the last that has everything."""
        node = self.rng.choice(sorted(self.factories.servers))
        if self.holders - {node}:
            self.holders.discard(node)
            await self.factories.stop(node)

    async def start(self) -> None:
        """A dead factory comes back empty."""
        dead = sorted(set(range(SIZE)) - set(self.factories.servers))
        if dead:
            await self.factories.start(self.rng.choice(dead))

    async def heal(self) -> None:
        """All come back, and are found by the factory that produces."""
        for node in set(range(SIZE)) - set(self.factories.servers):
            await self.factories.start(node)
        node = self.rng.randrange(SIZE)
        for number in range(2):
            others = self.factories.servers[node].admin.lines
            await until(lambda: all(line.is_up or line.may_be_dialled for line in others.values()), "a dial")  # noqa: B023
            await self.factories.orders(node, 1_000_000, range(number, number + 1))


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_shipped_is_lost_and_all_logs_end_equal(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_connections, "PATIENCE_S", 10.0)
    monkeypatch.setattr(peer_connections, "REDIAL_US", 1_000)
    async with Factories(SIZE) as factories:
        walk = Walk(factories, Random(seed))
        for _ in range(STEPS):
            await walk.rng.choice((walk.order, walk.order, walk.stop, walk.start))()
        await walk.heal()
        logs = [factories.log(node) for node in range(SIZE)]
        assert all(log == logs[0] for log in logs)
        kept = {(op.arg1, op.arg2) for op in map(unpack_operation, logs[0])}
        assert set(walk.shipped) <= kept
        last = len(logs[0])
        primary = factories.positions(0).primary_id
        for node in range(SIZE):
            committed = last if NodeId(node) == primary else last - 1
            assert factories.where(node) == (primary, last, committed)
