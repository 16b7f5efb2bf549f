"""Primary-backup of the course over the real transport: members dial when something is sent, not before."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from tests.runtime.fakes import cluster_of, until
from tests.runtime.machines import Counter
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import CoreSetup
from viewstamp.protocols.primary_backup import COURSE, CourseCore, CourseOptions
from viewstamp.runtime.addresses import free_ports
from viewstamp.runtime.config import ClusterConfig, NodeConfig
from viewstamp.runtime.connecting import connect
from viewstamp.runtime.server import Server
from viewstamp.storage.memory import MemoryMedium

pytestmark = pytest.mark.slow


class Servers:
    """Three servers whose memory goes when they end."""

    def __init__(self, cluster: ClusterConfig) -> None:
        self.cluster = cluster
        self.cores: dict[NodeId, CourseCore] = {}
        self.running: dict[NodeId, Server] = {}

    def _make(self, setup: CoreSetup) -> CourseCore:
        core = CourseCore(msgspec.structs.replace(setup, options=CourseOptions()))
        self.cores[setup.node] = core
        return core

    async def start(self, number: int) -> None:
        node = NodeId(number)
        definition = msgspec.structs.replace(COURSE, make_core=self._make)
        server = Server(
            self.cluster, node, Counter, NodeConfig(), medium=MemoryMedium(), definition=definition
        )
        await server.start()
        self.running[node] = server

    async def kill(self, number: int) -> None:
        await self.running.pop(NodeId(number)).kill()

    def dials(self) -> int:
        return sum(server.metrics.dials for server in self.running.values())

    def positions(self) -> dict[int, tuple[int, int]]:
        return {
            int(node): (self.cores[node].last_index, self.cores[node].committed_index)
            for node in self.running
        }


@asynccontextmanager
async def three_servers() -> AsyncIterator[Servers]:
    cluster = msgspec.structs.replace(cluster_of(*free_ports(3)), protocol="primary_backup")
    servers = Servers(cluster)
    try:
        for number in (1, 2, 3):
            await servers.start(number)
        yield servers
    finally:
        for server in list(servers.running.values()):
            await server.stop()


async def test_nobody_is_dialled_when_no_write_has_come() -> None:
    async with three_servers() as servers:
        for node, server in servers.running.items():
            assert server.metrics.connections_accepted == 0, node
        async with connect(servers.cluster, Counter, exactly_once=False) as counter:
            await counter.add(1)
            await counter.add(1)
        positions = servers.positions()
        assert sorted(positions.values()) == [(2, 1), (2, 1), (2, 2)]


async def test_writes_go_on_and_the_repaired_catches_up_when_a_backup_dies_and_comes_back() -> None:
    async with three_servers() as servers:
        async with connect(servers.cluster, Counter, exactly_once=False) as counter:
            await counter.add(1)
            primary = servers.cores[NodeId(1)].primary_id
            assert primary is not None
            victim = next(node for node in (1, 2, 3) if node != primary)
            await servers.kill(victim)
            for _ in range(3):
                await counter.add(1)
            await servers.start(victim)
            assert servers.positions()[victim] == (0, 0), "its memory is empty"
            assert await counter.add(1) == 5
            await until(lambda: len(servers.cores[primary].live) == 2)
            assert await counter.add(1) == 6
        assert servers.positions()[victim] == (6, 5)


async def test_another_takes_over_when_the_primary_dies_and_clients_turn_to_it() -> None:
    async with three_servers() as servers:
        async with connect(servers.cluster, Counter, exactly_once=False) as counter:
            await counter.add(1)
            await counter.add(1)
            primary = servers.cores[NodeId(1)].primary_id
            assert primary is not None
            others = [node for node in servers.running if node != primary]
            await servers.kill(primary)
            await until(lambda: all(servers.cores[node].primary_id is None for node in others))
            assert await counter.add(1) == 3
        assert sorted(servers.positions().values()) == [(3, 2), (3, 3)]
