"""Streams and event loops of the simulated world (`simruntime.sockets`, `transports`, `loop`)."""

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from viewstamp.sim.world.world import World
from viewstamp.simruntime.host import Host
from viewstamp.simruntime.loop import SimLoop, make_loop
from viewstamp.simruntime.options import LoopOptions, SocketOptions
from viewstamp.simruntime.sockets import Network

PORT = 7000
ROUGH = SocketOptions(
    buffer_bytes=500, read_bytes_max=33, partial_writes=0.5, pieces=0.5, piece_delay_max_us=5_000
)


class Collector(asyncio.Protocol):
    """Keeps what arrives."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: list[BaseException | None] = []
        self.pauses = 0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)

    def pause_writing(self) -> None:
        self.pauses += 1


class Bench:
    def __init__(self, options: SocketOptions | None = None) -> None:
        self.world = World()
        self.network = Network(self.world, Random(1), options or SocketOptions())
        self.escaped: list[BaseException] = []
        self.server, self.client = self.host("127.0.0.1"), self.host("127.0.0.2")
        self.accepted: list[Collector] = []

    def host(self, name: str) -> Host:
        host = Host(name, self.world, Random(name))
        self.network.hosts[name] = host
        host.begin()
        return host

    def loop(self, host: Host) -> SimLoop:
        return make_loop(host, self.network, LoopOptions(), self.escaped.append)

    def run(
        self, host: Host, work: Callable[[SimLoop], Coroutine[Any, Any, Any]], seconds: float = 60
    ) -> Any:
        loop = self.loop(host)
        task = loop.create_task(work(loop))
        self.world.run_while(lambda: not task.done(), self.world.now_us + int(seconds * 1e6))
        return task.result()

    def accept(self) -> Collector:
        self.accepted.append(Collector())
        return self.accepted[-1]

    def connected(self) -> tuple[Collector, Collector]:
        """Return the two ends of a connection: the server's and the client's."""
        self.run(self.server, lambda loop: loop.create_server(self.accept, "127.0.0.1", PORT))
        _, ours = self.run(self.client, lambda loop: loop.create_connection(Collector, "127.0.0.1", PORT))
        self.settle()
        return self.accepted[0], ours

    def settle(self, seconds: float = 1) -> None:
        self.world.run_until(self.world.now_us + int(seconds * 1e6))


@pytest.mark.parametrize("options", [SocketOptions(), ROUGH, SocketOptions(deferred_writes=True)])
def test_bytes_arrive_once_and_in_order(options: SocketOptions) -> None:
    bench = Bench(options)
    theirs, ours = bench.connected()
    sent = b""
    for number in range(40):
        piece = bytes([number]) * (number * 7 % 90)
        ours.transport.write(piece)
        sent += piece
    ours.transport.close()
    bench.settle(30)
    assert theirs.received == sent
    assert (theirs.lost, ours.lost) == ([None], [None])


def test_a_writer_is_paused_while_its_other_end_reads_nothing() -> None:
    bench = Bench(SocketOptions(buffer_bytes=1_000))
    theirs, ours = bench.connected()
    theirs.transport.pause_reading()
    ours.transport.set_write_buffer_limits(high=2_000)
    ours.transport.write(bytes(10_000))
    bench.settle()
    assert ours.pauses == 1
    assert theirs.received == b""
    theirs.transport.resume_reading()
    bench.settle()
    assert len(theirs.received) == 10_000
    assert ours.transport.get_write_buffer_size() == 0


def test_nothing_gets_through_a_cut_until_it_is_healed() -> None:
    bench = Bench()
    theirs, ours = bench.connected()
    bench.network.cut = {("127.0.0.2", "127.0.0.1")}
    ours.transport.write(b"late")
    bench.settle(5)
    assert theirs.received == b""
    bench.network.cut = set()
    assert theirs.received == b"", "the kernel waits before it sends again"
    bench.settle(5)
    assert theirs.received == b"late"


def test_a_sender_gives_up_when_a_cut_lasts() -> None:
    bench = Bench()
    _, ours = bench.connected()
    bench.network.cut = {("127.0.0.2", "127.0.0.1")}
    ours.transport.write(b"lost")
    bench.settle(20)
    (error,) = ours.lost
    assert isinstance(error, TimeoutError)


def test_both_ends_hear_of_a_reset_and_what_was_not_read_is_lost() -> None:
    bench = Bench()
    theirs, ours = bench.connected()
    ours.transport.write(b"lost")
    bench.network.reset("127.0.0.1", "127.0.0.2")
    bench.settle()
    assert [type(error) for error in (*theirs.lost, *ours.lost)] == [ConnectionResetError] * 2
    assert theirs.received == b""


def test_the_kernel_closes_the_sockets_of_a_process_that_ended_and_is_silent_without_power() -> None:
    for powered in (True, False):
        bench = Bench()
        _, ours = bench.connected()
        bench.server.powered = powered
        bench.network.process_ended(bench.server)
        bench.server.end()
        bench.settle(5)
        assert bool(ours.lost) == powered
        bench.server.powered = True
        ours.transport.write(b"is somebody there?")
        bench.settle(5)
        assert len(ours.lost) == 1


def test_a_connection_is_refused_where_nothing_listens() -> None:
    bench = Bench()
    with pytest.raises(ConnectionRefusedError):
        bench.run(bench.client, lambda loop: loop.create_connection(Collector, "127.0.0.1", PORT))


def test_nothing_of_a_process_runs_after_its_end() -> None:
    bench = Bench()
    loop, said = bench.loop(bench.client), list[str]()

    async def work() -> None:
        for number in range(10):
            said.append(str(number))
            await asyncio.sleep(1)

    loop.create_task(work())
    bench.settle(2.5)
    bench.client.end()
    bench.settle(20)
    assert said == ["0", "1", "2"]


def test_timers_go_by_the_clock_of_their_host() -> None:
    bench = Bench()
    slow = Host("127.0.0.3", bench.world, Random(3), drift_ppm=-500_000)
    slow.begin()

    async def work(loop: SimLoop) -> float:
        before = loop.time()
        await asyncio.sleep(1)
        return loop.time() - before

    began_us = bench.world.now_us
    assert bench.run(slow, work) == pytest.approx(1, abs=0.001)
    assert bench.world.now_us - began_us == pytest.approx(2_000_000, abs=1_000)


def test_what_nothing_caught_is_reported() -> None:
    bench = Bench()
    bench.loop(bench.client).call_soon(lambda: 1 // 0)
    bench.settle()
    assert [type(error) for error in bench.escaped] == [ZeroDivisionError]
