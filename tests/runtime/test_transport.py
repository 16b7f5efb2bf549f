import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from tests.runtime.fakes import (
    CLIENT_HELLO,
    DriverlessTransport,
    RecordingInbox,
    Visitor,
    cluster_of,
    hello_frame,
    peer_hello,
    quick_config,
    until,
    visiting,
)
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import ClientAddress, Incarnation, NodeId
from viewstamp.core.messages import KeepAlive, encode_message
from viewstamp.link.framing import CLIENT, HELLO, PEER, REFUSAL, SERVER, WELCOME, encode_frame
from viewstamp.link.handshake import Range, decode_refusal, decode_welcome
from viewstamp.runtime.addresses import free_ports
from viewstamp.runtime.config import ClusterConfig, NodeConfig
from viewstamp.runtime.metrics import Metrics
from viewstamp.runtime.system import monotonic_us


class Node:
    """A transport under test, with what it told."""

    def __init__(
        self,
        cluster: ClusterConfig,
        node: int,
        config: NodeConfig,
        incarnation: int = 1,
        *,
        on_demand: bool = False,
    ) -> None:
        self.cluster = cluster
        self.port = cluster.addresses[NodeId(node)][1]
        self.inbox = RecordingInbox()
        self.metrics = Metrics()
        self.transport = DriverlessTransport(
            cluster,
            NodeId(node),
            config,
            incarnation=Incarnation(incarnation),
            write_routing="leader",
            clock=monotonic_us,
            rng=Random(node),
            metrics=self.metrics,
            inbox=self.inbox,
            dials_on_demand=on_demand,
        )

    async def start(self) -> None:
        await self.transport.start(("127.0.0.1", self.port))


@asynccontextmanager
async def lone_node(config: NodeConfig | None = None, *, size: int = 2) -> AsyncIterator[Node]:
    """Node 1 of a cluster whose other members do not run."""
    node = Node(cluster_of(*free_ports(size)), 1, config or quick_config())
    await node.start()
    try:
        yield node
    finally:
        await node.transport.stop()


@asynccontextmanager
async def pair(config: NodeConfig | None = None) -> AsyncIterator[tuple[Node, Node]]:
    cluster = cluster_of(*free_ports(2))
    one, two = (Node(cluster, node, config or quick_config()) for node in (1, 2))
    await one.start()
    await two.start()
    try:
        await until(lambda: one.transport.connected_peers() and two.transport.connected_peers())
        yield one, two
    finally:
        await one.transport.stop()
        await two.transport.stop()


async def greet(visitor: Visitor) -> None:
    """Say a client's hello and hear the welcome."""
    visitor.say(hello_frame(CLIENT_HELLO))
    kind, _ = await visitor.frame()
    assert kind == WELCOME


async def test_members_exchange_messages_when_both_run() -> None:
    async with pair() as (one, two):
        one.transport.send(NodeId(2), b"to two")
        two.transport.send(NodeId(1), b"to one")
        await until(lambda: one.inbox.peer_frames and two.inbox.peer_frames)
        assert one.inbox.peer_frames == [(NodeId(2), b"to one")]
        assert two.inbox.peer_frames == [(NodeId(1), b"to two")]
        assert one.inbox.changes == [(NodeId(2), False), (NodeId(2), True)][-len(one.inbox.changes) :]


async def test_messages_keep_their_order_when_many_are_sent_in_a_turn() -> None:
    async with pair() as (one, two):
        messages = [bytes([n % 251]) * n for n in range(500)]
        for message in messages:
            one.transport.send(NodeId(2), message)
        await until(lambda: len(two.inbox.peer_frames) == len(messages))
        assert [payload for _, payload in two.inbox.peer_frames] == messages


async def test_message_is_lost_and_counted_when_the_member_is_away() -> None:
    async with lone_node() as node:
        node.transport.send(NodeId(2), b"lost")
        node.transport.send(NodeId(9), b"nobody")
        node.transport.tally()
        assert node.metrics.peer_messages_dropped == 1
        assert node.metrics.peer_messages_out == 0


async def test_member_is_told_down_once_when_it_stays_away() -> None:
    async with lone_node() as node:
        await until(lambda: sum(link.dials for link in node.transport._links.values()) >= 3)
        assert node.inbox.changes == [(NodeId(2), False)]


async def test_nobody_is_dialled_when_that_is_on_demand_and_nothing_is_sent() -> None:
    cluster, config = cluster_of(*free_ports(2)), quick_config()
    one, two = (Node(cluster, number, config, on_demand=True) for number in (1, 2))
    await one.start()
    await two.start()
    try:
        await asyncio.sleep(0)
        assert not one.inbox.changes
        one.transport.send(NodeId(2), b"first")
        one.transport.send(NodeId(2), b"second")
        await until(lambda: one.inbox.changes == [(2, True)])
        assert not two.inbox.changes, "the other direction is not dialled"
        one.transport.send(NodeId(2), b"third")
        await until(lambda: two.inbox.peer_frames == [(1, b"first"), (1, b"second"), (1, b"third")])
    finally:
        await one.transport.stop()
        await until(lambda: two.inbox.changes == [(1, False)])
        await two.transport.stop()


async def test_each_send_is_answered_when_members_are_dialled_on_demand_and_away() -> None:
    node = Node(cluster_of(*free_ports(2)), 1, quick_config(), on_demand=True)
    await node.start()
    try:
        for attempt in range(1, 4):
            node.transport.send(NodeId(2), b"nobody")
            await until(lambda attempt=attempt: node.inbox.changes == [(2, False)] * attempt)  # type: ignore[misc]
    finally:
        await node.transport.stop()


async def test_member_is_told_down_and_up_again_when_it_restarts() -> None:
    async with pair() as (one, two):
        one.inbox.changes.clear()
        await two.transport.stop()
        await until(lambda: one.inbox.changes == [(NodeId(2), False)])
        again = Node(two.cluster, 2, quick_config(), incarnation=1)
        await again.start()
        await until(lambda: one.inbox.changes == [(NodeId(2), False), (NodeId(2), True)])
        await again.transport.stop()


async def test_member_is_dialled_at_once_when_it_calls_after_a_long_absence() -> None:
    slow = quick_config(dial_backoff_min_ms=60_000, dial_backoff_max_ms=60_000)
    cluster = cluster_of(*free_ports(2))
    one, two = Node(cluster, 1, slow), Node(cluster, 2, slow)
    await one.start()
    await until(lambda: one.inbox.changes == [(NodeId(2), False)])
    await two.start()
    await until(lambda: one.transport.connected_peers() == [NodeId(2)])
    await one.transport.stop()
    await two.transport.stop()


async def test_newest_connection_wins_when_a_member_connects_twice() -> None:
    async with lone_node() as node:
        hello = hello_frame(peer_hello(node.cluster, 2))
        async with visiting(node.port, hello) as older, visiting(node.port) as newer:
            assert (await older.frame())[0] == WELCOME
            newer.say(hello)
            assert (await newer.frame())[0] == WELCOME
            await older.closed()
            newer.say(encode_frame(PEER, b"still here"))
            await until(lambda: node.inbox.peer_frames == [(NodeId(2), b"still here")])


async def test_client_is_welcomed_and_answered_when_it_says_hello() -> None:
    async with lone_node() as node, visiting(node.port, hello_frame(CLIENT_HELLO)) as client:
        kind, payload = await client.frame()
        assert kind == WELCOME
        assert decode_welcome(payload).node == 1
        client.say(encode_frame(CLIENT, b"question"))
        await until(lambda: node.inbox.client_frames)
        address, question = node.inbox.client_frames[0]
        assert question == b"question"
        node.transport.respond(address, b"answer")
        node.transport.respond(ClientAddress(address + 1), b"to nobody")
        assert await client.frame() == (SERVER, b"answer")


async def test_client_is_told_gone_once_when_it_leaves() -> None:
    async with lone_node() as node:
        async with visiting(node.port) as client:
            await greet(client)
            assert node.transport.clients_connected == 1
        await until(lambda: node.inbox.gone)
        assert node.inbox.gone == [ClientAddress(1)]
        assert node.transport.clients_connected == 0


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\x16\x03\x01\x00\xee",
        bytes(64),
        encode_frame(PEER, b"no hello"),
        encode_frame(CLIENT, b"no hello"),
        encode_frame(WELCOME, b"no hello"),
        encode_frame(HELLO, b"\xc1"),
        encode_frame(HELLO, bytes(5000)),
        hello_frame(CLIENT_HELLO)[:-1] + b"\1",
    ],
    ids=["http", "ssh", "tls", "zeros", "peer", "client", "welcome", "unreadable", "long", "damaged"],
)
async def test_stranger_is_cut_off_when_its_first_bytes_are_no_hello(garbage: bytes) -> None:
    async with lone_node() as node, visiting(node.port) as other:
        await greet(other)
        async with visiting(node.port, garbage) as stranger:
            await stranger.closed()
        assert node.metrics.violations == 1
        assert node.transport.strangers_connected == 0
        other.say(encode_frame(CLIENT, b"unharmed"))
        await until(lambda: node.inbox.client_frames)


@pytest.mark.parametrize("drip", [b"", hello_frame(CLIENT_HELLO)[:-1]], ids=["silent", "slow"])
async def test_stranger_is_refused_when_its_hello_takes_too_long(drip: bytes) -> None:
    impatient = quick_config(hello_timeout_ms=200)
    async with lone_node(impatient) as node, visiting(node.port, drip) as stranger:
        kind, payload = await stranger.frame()
        assert (kind, decode_refusal(payload)) == (REFUSAL, "no hello in time")
        await stranger.closed()
        assert node.metrics.connections_refused == 1


async def test_nothing_is_counted_when_a_stranger_just_leaves() -> None:
    async with lone_node() as node:
        async with visiting(node.port):
            await until(lambda: node.transport.strangers_connected == 1)
        await until(lambda: node.transport.strangers_connected == 0)
        assert node.metrics.violations == 0


async def test_member_is_refused_with_a_reason_when_its_hello_is_wrong() -> None:
    async with lone_node() as node:
        wrong = [
            (peer_hello(node.cluster, 1), "itself"),
            (peer_hello(node.cluster, 9), "not a member"),
            (peer_hello(node.cluster, 2, cluster_id="other"), "this is cluster"),
            (peer_hello(node.cluster, 2, to=2), "this is node 1"),
            (peer_hello(node.cluster, 2, digest=1), "another protocol"),
            (peer_hello(node.cluster, 2, wire=Range(9, 9)), "wire version"),
        ]
        for hello, reason in wrong:
            async with visiting(node.port, hello_frame(hello)) as visitor:
                kind, payload = await visitor.frame()
                assert kind == REFUSAL
                assert reason in decode_refusal(payload)
                await visitor.closed()
        assert node.metrics.connections_refused == len(wrong)
        assert node.inbox.peer_frames == []


async def test_refusal_is_told_once_when_the_same_stranger_tries_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with lone_node() as node:
        for name in ("other", "other", "third", "other"):
            hello = peer_hello(node.cluster, 2, cluster_id=name)
            async with visiting(node.port, hello_frame(hello)) as visitor:
                await visitor.closed()
        assert node.metrics.connections_refused == 4
    told = [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]
    assert [line.partition(", not ")[2] for line in told] == ["'other'", "'third'"]


@pytest.mark.parametrize(
    "frame",
    [
        hello_frame(CLIENT_HELLO),
        encode_frame(PEER, b"x"),
        encode_frame(SERVER, b"x"),
        encode_frame(REFUSAL, b"x"),
    ],
    ids=["second hello", "peer", "server", "refusal"],
)
async def test_client_is_cut_off_when_it_sends_what_clients_may_not(frame: bytes) -> None:
    async with lone_node() as node, visiting(node.port) as client:
        await greet(client)
        client.say(frame)
        await client.closed()
        assert node.inbox.peer_frames == []
        assert node.inbox.client_frames == []
        await until(lambda: node.metrics.violations == 1)


async def test_client_is_cut_off_when_a_frame_is_over_its_limit() -> None:
    async with lone_node(quick_config(client_frame_bytes_max=1000)) as node, visiting(node.port) as client:
        await greet(client)
        client.say(encode_frame(CLIENT, bytes(1000)))
        await until(lambda: len(node.inbox.client_frames) == 1)
        client.say(encode_frame(CLIENT, bytes(1001)))
        await client.closed()
        assert len(node.inbox.client_frames) == 1


async def test_end_of_stream_is_a_violation_when_it_is_in_a_frame() -> None:
    async with lone_node() as node, visiting(node.port) as client:
        await greet(client)
        client.say(encode_frame(CLIENT, b"cut")[:-1])
        client.writer.write_eof()
        await client.closed()
        await until(lambda: node.metrics.violations == 1)
        assert node.inbox.client_frames == []


async def test_client_is_refused_when_there_are_as_many_as_may_be() -> None:
    async with lone_node(quick_config(clients_max=1)) as node, visiting(node.port) as first:
        await greet(first)
        async with visiting(node.port) as second:
            await greet(second)  # it may be an operator
            second.say(encode_frame(CLIENT, encode_message(KeepAlive(1, 1))))
            kind, payload = await second.frame()
            assert kind == REFUSAL
            assert "limit" in decode_refusal(payload)
        async with visiting(node.port, hello_frame(peer_hello(node.cluster, 2))) as member:
            assert (await member.frame())[0] == WELCOME


async def test_member_gets_in_when_strangers_fill_their_room() -> None:
    config = quick_config(strangers_max=20)
    async with lone_node(config) as node:
        idle = [await asyncio.open_connection("127.0.0.1", node.port) for _ in range(200)]
        async with visiting(node.port, hello_frame(peer_hello(node.cluster, 2))) as member:
            assert (await member.frame())[0] == WELCOME
            assert node.transport.strangers_connected <= 20
        for _, writer in idle:
            writer.transport.abort()
        await until(lambda: node.transport.strangers_connected == 0)


async def test_node_serves_when_many_connect_and_leave_at_once() -> None:
    async with lone_node() as node:
        for _ in range(300):
            _, writer = await asyncio.open_connection("127.0.0.1", node.port)
            writer.transport.abort()
        async with visiting(node.port) as client:
            await greet(client)
        await until(lambda: node.transport.strangers_connected == node.transport.clients_connected == 0)


async def test_client_is_cut_off_when_its_unread_replies_pass_the_cap() -> None:
    config = quick_config(client_send_bytes_max=4 << 20)
    async with lone_node(config) as node, visiting(node.port) as deaf, visiting(node.port) as other:
        await greet(deaf)
        await greet(other)
        deaf.reader._transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(40):
            node.transport.respond(ClientAddress(1), bytes(1 << 20))
            node.transport.flush()
        await until(lambda: node.inbox.gone == [ClientAddress(1)])
        node.transport.respond(ClientAddress(2), b"unharmed")
        assert await other.frame() == (SERVER, b"unharmed")


async def test_client_is_cut_off_when_the_replies_of_one_turn_pass_the_cap() -> None:
    config = quick_config(client_send_bytes_max=4 << 20)
    async with lone_node(config) as node, visiting(node.port) as client:
        await greet(client)
        connection = node.transport._clients[ClientAddress(1)]
        for _ in range(40):
            node.transport.respond(ClientAddress(1), bytes(1 << 20))
        assert connection.waiting_bytes <= 6 << 20, "nothing more is kept for it"
        await until(lambda: node.inbox.gone == [ClientAddress(1)])


async def test_client_is_not_read_and_then_cut_off_when_it_does_not_read() -> None:
    config = quick_config(client_stall_timeout_ms=200)
    async with lone_node(config) as node, visiting(node.port) as deaf:
        await greet(deaf)
        deaf.reader._transport.pause_reading()  # type: ignore[attr-defined]
        node.transport.respond(ClientAddress(1), bytes(16 << 20))
        node.transport.flush()
        deaf.say(encode_frame(CLIENT, b"more") * 1000)
        await until(lambda: node.metrics.clients_stalled == 1)
        await until(lambda: node.inbox.gone == [ClientAddress(1)])
        assert node.inbox.client_frames == []


async def test_messages_are_dropped_when_a_member_does_not_read() -> None:
    ports = free_ports(3)
    cluster = cluster_of(*ports)
    node = Node(cluster, 1, quick_config(peer_send_bytes_max=4 << 20))
    healthy = Node(cluster, 3, quick_config())

    deaf: list[asyncio.BaseTransport] = []

    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            deaf.append(transport)
            transport.write(encode_frame(WELCOME, node.transport.doorkeeper.welcome))  # type: ignore[attr-defined]
            transport.pause_reading()  # type: ignore[attr-defined]

    server = await asyncio.get_running_loop().create_server(Deaf, "127.0.0.1", ports[1])
    await node.start()
    await healthy.start()
    await until(lambda: len(node.transport.connected_peers()) == 2)
    for number in range(40):
        node.transport.send(NodeId(2), bytes(1 << 20))
        node.transport.send(NodeId(3), bytes([number]))
        node.transport.flush()
    await until(lambda: len(healthy.inbox.peer_frames) == 40)
    connection = node.transport._links[NodeId(2)]._connection
    assert connection is not None
    assert connection.waiting_bytes <= 5 << 20
    assert connection.dropped > 20
    await node.transport.stop()
    await healthy.transport.stop()
    for transport in deaf:
        transport.abort()  # type: ignore[attr-defined]
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0)


async def test_listening_is_refused_when_the_port_is_taken() -> None:
    async with lone_node() as node:
        other = Node(node.cluster, 1, quick_config())
        with pytest.raises(
            ConfigurationError, match=r"127\.0\.0\.1:\d+: Address already in use; nothing was served"
        ):
            await other.start()


async def test_nothing_is_delivered_when_the_transport_has_halted() -> None:
    async with lone_node() as node, visiting(node.port) as client:
        await greet(client)
        node.transport.halt(abort=True)
        client.say(encode_frame(CLIENT, b"late"))
        await client.closed()
        assert node.inbox.client_frames == []
        assert node.inbox.gone == []


async def test_member_is_dialled_where_it_advertises_when_that_is_not_in_the_configuration() -> None:
    async with lone_node() as node:
        (port,) = free_ports(1)
        hello = peer_hello(node.cluster, 2, advertise=("127.0.0.1", port))
        async with visiting(node.port, hello_frame(hello)) as member:
            assert (await member.frame())[0] == WELCOME
            await until(lambda: node.transport._links[NodeId(2)].address == ("127.0.0.1", port))
            async with visiting(node.port, hello_frame(CLIENT_HELLO)) as client:
                _, payload = await client.frame()
                assert (2, "127.0.0.1", port) in decode_welcome(payload).members
        await until(lambda: node.transport._links[NodeId(2)].address == node.cluster.addresses[NodeId(2)])
        async with visiting(node.port, hello_frame(CLIENT_HELLO)) as client:
            _, payload = await client.frame()
            assert (2, *node.cluster.addresses[NodeId(2)]) in decode_welcome(payload).members


async def test_member_is_cut_off_when_it_advertises_what_is_not_an_address() -> None:
    async with lone_node() as node:
        hello = peer_hello(node.cluster, 2, advertise=("no host", 99))
        async with visiting(node.port, hello_frame(hello)) as member:
            await member.closed()
        await until(lambda: node.metrics.violations == 1)
