"""Members that changed while a client had no connection: the next welcome names them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest

import viewstamp
from tests.runtime.fakes import cluster_of, until
from tests.runtime.machines import Counter
from viewstamp.link.framing import WELCOME, encode_frame
from viewstamp.link.handshake import WIRE, Welcome, encode_hello
from viewstamp.runtime.blocking import BlockingClient
from viewstamp.runtime.client import AsyncClient

HOST = "127.0.0.1"
Member = tuple[int, str, int]


class Server(asyncio.Protocol):
    """Welcomes every client with what it says the members are, and nothing else."""

    def __init__(self, node: int, members: Callable[[], list[Member]]) -> None:
        self._node = node
        self._members = members

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        welcome = Welcome(WIRE, "test", self._node, "raft", "leader", self._members())
        self._transport.write(encode_frame(WELCOME, encode_hello(welcome)))


@asynccontextmanager
async def servers(named: Callable[[list[int]], list[Member]], count: int = 3) -> AsyncIterator[list[int]]:
    """Start servers 1 to `count`, of which each names the members that `named` makes of all their ports."""
    loop, ports = asyncio.get_running_loop(), list[int]()
    started = []
    for node in range(1, count + 1):
        server = await loop.create_server(
            lambda node=node: Server(node, lambda: named(ports)),  # type: ignore[misc]
            HOST,
            0,
        )
        started.append(server)
        ports.append(server.sockets[0].getsockname()[1])
    try:
        yield ports
    finally:
        for server in started:
            server.close()
            await server.wait_closed()


def all_of(ports: list[int]) -> list[Member]:
    return [(node, HOST, port) for node, port in enumerate(ports, 1)]


async def test_a_client_connects_to_members_that_a_welcome_names_besides() -> None:
    async with servers(all_of) as ports:
        client = AsyncClient(cluster_of(ports[0]))
        await client.start()
        try:
            await until(lambda: sorted(client.reachable) == [1, 2, 3])
            assert sorted(client.servers) == [1, 2, 3]
        finally:
            await client.close()


async def test_a_blocking_client_connects_to_members_that_a_welcome_names_besides() -> None:
    async with servers(all_of) as ports:
        client = await asyncio.to_thread(BlockingClient, cluster_of(ports[0]))
        try:
            await until(lambda: sorted(client.reachable) == [1, 2, 3])
        finally:
            await asyncio.to_thread(client.close)


async def test_a_client_keeps_the_members_that_a_welcome_leaves_out() -> None:
    """A server that was cut off for long may name members of long ago."""
    async with servers(lambda ports: all_of(ports)[:1]) as ports:
        client = AsyncClient(cluster_of(*ports))
        await client.start()
        try:
            await until(lambda: sorted(client.reachable) == [1, 2, 3])
        finally:
            await client.close()


@pytest.mark.parametrize("address", [("", 1), ("a b", 1), (HOST, 0), (HOST, 70_000)])
async def test_a_client_leaves_a_server_whose_welcome_names_what_is_no_address(
    address: tuple[str, int],
) -> None:
    async with servers(lambda ports: [(1, HOST, ports[0]), (2, *address)], 1) as ports:
        config = cluster_of(ports[0])
        async with viewstamp.connect(config, Counter, timeout_s=0.3, exactly_once=False) as counter:
            with pytest.raises(viewstamp.NotExecuted):
                await counter.add(1)
