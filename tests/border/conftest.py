"""Clusters that are attacked, and the judgement that every attack ends with."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.runtime.addresses import Address
from viewstamp.testkit.load import Load, read_all, wait_for_leader
from viewstamp.testkit.processes import ServerGroup, ServerProcess
from viewstamp.testkit.torture import ended, state_digests

FRAGILE = "tests.border.machines:Fragile"
WRITES = 50


class Victim:
    """A cluster under attack."""

    def __init__(self, group: ServerGroup) -> None:
        self.group = group

    @property
    def leader(self) -> Address:
        """Where the leader listens."""
        return self.group.cluster.addresses[self.leading.node]

    @property
    def leading(self) -> Status:
        """The leader's own account."""
        return asyncio.run(wait_for_leader(self.group))

    @property
    def followers(self) -> list[Address]:
        """Where the others listen."""
        leader = self.leading.node
        return [address for node, address in self.group.cluster.addresses.items() if node != leader]

    @property
    def leading_process(self) -> ServerProcess:
        """The leader's process."""
        return self.group.servers[self.leading.node]

    def dead(self) -> dict[NodeId, str]:
        """Return the last line of each node that has ended by itself."""
        return ended(self.group)

    def assert_unharmed(self) -> None:
        """All nodes live, serve, and have one state."""
        assert self.dead() == {}
        digests = asyncio.run(state_digests(self.group))
        assert len(set(digests.values())) == 1, digests
        for server in self.group.servers.values():
            assert "Traceback" not in server.log.read_text(errors="replace")

    def assert_serves(self) -> None:
        """Writes are acknowledged, and are there afterwards. For the stock machine."""

        async def serve() -> None:
            async with Load(self.group, writers=4) as load:
                await load.more(WRITES)
            found = await read_all(self.group)
            mine = {key: item for key, item in found.items() if key.startswith("w")}
            assert load.ledger.audit(mine) == []

        asyncio.run(serve())


MakeVictim = Callable[..., Victim]


@pytest.fixture(params=PROTOCOL_NAMES)
def protocol(request: pytest.FixtureRequest) -> str:
    """Each protocol that a cluster can be configured with."""
    return str(request.param)


@pytest.fixture
def attack(tmp_path: Path, protocol: str) -> Iterator[MakeVictim]:
    """Start a cluster of three real processes; they end with the test."""
    names = count()
    with ExitStack() as stack:

        def make(machine: str | None = None, **options: object) -> Victim:
            folder = tmp_path / f"group{next(names)}"
            folder.mkdir()
            arguments = [] if machine is None else [machine]
            group = ServerGroup(folder, 3, protocol=protocol, arguments=arguments, **options)  # type: ignore[arg-type]
            stack.enter_context(group)
            group.start()
            return Victim(group)

        yield make
