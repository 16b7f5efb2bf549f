"""Factories on the running loop, customers, and what tests say about them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self

from viewstamp.core.ids import NodeId
from viewstamp.runtime.addresses import LOOPBACK, Address, free_ports
from viewstamp.services.records import MapOp
from viewstamp_labs.cs6650.arguments import ServerArguments
from viewstamp_labs.cs6650.messages import NO_ORDER, CustomerRequest, Positions, RequestType
from viewstamp_labs.cs6650.server import FactoryServer
from viewstamp_labs.cs6650.stubs import ClientStub

WITHIN_S = 20.0


def address_book(size: int) -> dict[NodeId, Address]:
    """Return factories from 0 up and where they listen."""
    return {NodeId(node): (LOOPBACK, port) for node, port in enumerate(free_ports(size))}


def arguments_of(book: dict[NodeId, Address], node: NodeId) -> ServerArguments:
    peers = {peer: address for peer, address in book.items() if peer != node}
    return ServerArguments(book[node][1], node, peers)


class Factories:
    """Some factories on this loop. Leave the block, and they have stopped."""

    def __init__(self, size: int, *, running: Iterable[int] | None = None, **options: Any) -> None:
        self.book = address_book(size)
        self.servers: dict[int, FactoryServer] = {}
        self._options = options
        self._running = range(size) if running is None else running

    async def __aenter__(self) -> Self:
        for node in self._running:
            await self.start(node)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in list(self.servers):
            await self.stop(node)

    async def start(self, node: int) -> None:
        """Start a factory, with an empty memory."""
        server = FactoryServer(arguments_of(self.book, NodeId(node)), **self._options)
        await server.start(LOOPBACK)
        self.servers[node] = server

    async def stop(self, node: int) -> None:
        """Stop a factory; its connections break."""
        await self.servers.pop(node).stop()

    def address(self, node: int) -> Address:
        return self.book[NodeId(node)]

    def positions(self, node: int) -> Positions:
        return self.servers[node].factory.positions

    def where(self, node: int) -> tuple[int, int, int]:
        """Return (primary_id, last_index, committed_index)."""
        found = self.positions(node)
        return found.primary_id, found.last_index, found.committed_index

    def log(self, node: int) -> list[bytes]:
        return self.servers[node].factory.log_entries()

    def records(self, node: int) -> dict[int, int]:
        return self.servers[node].factory.records.customer_record

    async def customer(self, node: int) -> ClientStub:
        return await ClientStub.connect(self.address(node))

    async def orders(self, node: int, customer: int, numbers: Iterable[int]) -> None:
        """Let a customer order at a factory, one robot after the other."""
        stub = await self.customer(node)
        for number in numbers:
            await stub.order(order(customer, number))
        stub.close()


def order(customer: int, number: int) -> CustomerRequest:
    return CustomerRequest(customer, number, RequestType.ORDER)


def read(customer: int) -> CustomerRequest:
    return CustomerRequest(customer, NO_ORDER, RequestType.READ)


def applied(log: Iterable[MapOp]) -> dict[int, int]:
    """Return the records that these operations make."""
    return {operation.arg1: operation.arg2 for operation in log}


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until it holds; fail after a while."""
    async with asyncio.timeout(WITHIN_S):
        while not await holds():  # noqa: ASYNC110  nothing here announces it
            await asyncio.sleep(0.005)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until it holds."""

    async def holds() -> bool:
        return condition()

    try:
        await eventually(holds)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None
