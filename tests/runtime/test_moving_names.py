"""Members that are named, and whose addresses change: a name is looked up at each attempt to connect."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.runtime.fakes import until
from tests.runtime.machines import Counter
from viewstamp.core.ids import NodeId
from viewstamp.runtime.addresses import free_ports
from viewstamp.runtime.config import ClusterConfig, Member, NodeConfig
from viewstamp.runtime.connecting import connect
from viewstamp.runtime.server import Server
from viewstamp.storage.memory import MemoryMedium

NODES = (NodeId(0), NodeId(1), NodeId(2))


class Pods:
    """Three pods with names, in a world in which the names are what a fake resolver says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.addresses = {f"pod-{node}.example": "127.0.0.1" for node in NODES}
        members = (Member(node, f"pod-{node}.example", port) for node, port in enumerate(free_ports(3)))
        self.config = ClusterConfig(cluster_id="pods", members=tuple(members))
        self.media = {node: MemoryMedium() for node in NODES}
        self.servers: dict[NodeId, Server] = {}
        resolve: Callable[..., Any] = asyncio.BaseEventLoop.getaddrinfo

        async def fake(loop: Any, host: str, port: int, **hints: Any) -> Any:
            return await resolve(loop, self.addresses.get(host, host), port, **hints)

        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", fake)

    async def start(self, node: NodeId, address: str) -> None:
        """Start a pod, or its replacement, at this address; the resolver knows it from now on."""
        self.addresses[f"pod-{node}.example"] = address
        config = NodeConfig(listen_host=address, insecure=True)
        self.servers[node] = Server(self.config, node, Counter, config, medium=self.media[node])
        await self.servers[node].start()

    async def stop(self, node: NodeId) -> None:
        await self.servers.pop(node).kill()

    def all_follow_one(self) -> bool:
        statuses = [server.status() for server in self.servers.values()]
        leaders = {status.leader for status in statuses}
        return len(leaders) == 1 and None not in leaders and not any(s.waiting_for for s in statuses)


async def test_a_pod_is_back_when_its_address_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pods = Pods(monkeypatch)
    for node in NODES:
        await pods.start(node, "127.0.0.1")
    try:
        await until(pods.all_follow_one)
        async with connect(pods.config, Counter, timeout_s=30) as counter:
            assert await counter.add(1) == 1
            for round_, node in enumerate(NODES):
                await pods.stop(node)
                await pods.start(node, f"127.0.0.{2 + round_}")
                await until(pods.all_follow_one)
                assert await counter.add(1) == 2 + round_
    finally:
        for node in list(pods.servers):
            await pods.stop(node)


async def test_a_cluster_forms_again_when_all_addresses_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pods = Pods(monkeypatch)
    for node in NODES:
        await pods.start(node, "127.0.0.1")
    try:
        await until(pods.all_follow_one)
        for node in NODES:
            await pods.stop(node)
        for node in NODES:
            await pods.start(node, f"127.0.0.{9 - node}")
        await until(pods.all_follow_one)
    finally:
        for node in list(pods.servers):
            await pods.stop(node)
