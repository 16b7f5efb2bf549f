"""A disk that hangs ends the node, after its sockets (`runtime.disk_hang`)."""

import asyncio
import socket
import threading
from contextlib import closing

import pytest

from tests.runtime.machines import Counter
from viewstamp.core.ids import NodeId
from viewstamp.runtime.disk_hang import SAMPLE_S, DiskHang
from viewstamp.runtime.local import local_cluster


class Bench:
    def __init__(self, limit_ms: int = 1_000) -> None:
        self.sync: object = None
        self.done: list[str] = []
        self.hang = DiskHang(
            NodeId(1),
            lambda: self.sync,
            limit_ms=limit_ms,
            sever=lambda: self.done.append("severed"),
            end=lambda: self.done.append("ended"),
        )

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / SAMPLE_S)):
            self.hang.sample(SAMPLE_S)


def test_the_sockets_are_closed_before_the_node_ends_when_a_sync_hangs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    bench.sync = object()
    bench.wait(1)
    assert bench.done == []
    bench.wait(SAMPLE_S)
    assert bench.done == ["severed", "ended"]
    assert "its disk has not finished a sync for 1 s" in caplog.text


def test_nothing_happens_when_each_sync_is_quick_however_long_they_take_together() -> None:
    bench = Bench()
    for _ in range(10):
        bench.sync = object()
        bench.wait(0.75)
    bench.sync = None
    bench.wait(5)
    assert bench.done == []


def test_there_is_no_thread_when_the_limit_is_zero() -> None:
    before = threading.active_count()
    Bench(limit_ms=0).hang.start()
    assert threading.active_count() == before


async def test_every_socket_is_dead_when_the_transport_is_severed_in_another_thread() -> None:
    async with local_cluster(Counter, replicas=2) as cluster:
        leader = await cluster.leader()
        address = cluster.config.addresses[leader]
        with closing(await asyncio.to_thread(socket.create_connection, address, 10)) as client:
            transport = cluster.servers[leader]._transport
            assert transport is not None
            await asyncio.to_thread(transport.sever)
            client.settimeout(10)
            assert await asyncio.to_thread(client.recv, 1) == b""
        with pytest.raises(OSError):  # noqa: PT011  refused or reset, as the system likes
            (await asyncio.to_thread(socket.create_connection, address, 10)).close()
