"""A disk that hangs ends the node, after its sockets (`runtime.disk_hang`)."""

import asyncio
import socket
import threading
from contextlib import closing

import pytest

from tests.runtime.machines import Counter
from viewstamp.core.ids import NodeId
from viewstamp.runtime import transport
from viewstamp.runtime.disk_hang import SAMPLE_S, DiskHang, shut_down
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


def test_the_other_side_hears_the_end_at_once_and_nobody_connects_when_sockets_are_shut_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, closing(_connected(listening)) as client:
        server, _ = listening.accept()
        shut_down([server.fileno(), listening.fileno(), 1 << 20])
        client.settimeout(10)
        assert client.recv(1) == b""
        with pytest.raises(OSError):  # noqa: PT011  refused or reset, as the system likes
            _connected(listening).close()
        server.close()


def _connected(listening: socket.socket) -> socket.socket:
    return socket.create_connection(listening.getsockname(), 10)


async def test_every_socket_of_a_node_is_severed(monkeypatch: pytest.MonkeyPatch) -> None:
    severed: list[int] = []
    monkeypatch.setattr(transport, "shut_down", severed.extend)
    async with local_cluster(Counter, replicas=2) as cluster, cluster.connect() as counter:
        await counter.add(1)
        server = cluster.servers[await cluster.leader()]
        assert server._transport is not None
        await asyncio.to_thread(server._transport.sever)
    assert len(set(severed)) == len(severed) >= 4, "the port, the client, and the other member both ways"
