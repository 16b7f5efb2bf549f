"""Nodes that a configuration does not list, where ids are ports on one host; and a node without cables."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import msgspec
import pytest

from tests.runtime.fakes import (
    DriverlessTransport,
    RecordingInbox,
    cluster_of,
    hello_frame,
    peer_hello,
    quick_config,
    until,
    visiting,
)
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.link.framing import CLIENT, WELCOME, encode_frame
from viewstamp.link.handshake import Doorkeeper, decode_welcome
from viewstamp.runtime.addresses import free_ports
from viewstamp.runtime.config import ClusterConfig, Member
from viewstamp.runtime.metrics import Metrics
from viewstamp.runtime.system import monotonic_us

HOST = "127.0.0.1"


def open_cluster(port: int, **fields: object) -> ClusterConfig:
    """Return what the node on this port believes: only it is listed."""
    config = ClusterConfig(cluster_id="open", members=(Member(port, HOST, port),), open_host=HOST)
    return msgspec.structs.replace(config, **fields)


class Guest:
    """A transport whose node is called after its port."""

    def __init__(self, port: int) -> None:
        self.node = NodeId(port)
        self.inbox = RecordingInbox()
        self.transport = DriverlessTransport(
            open_cluster(port),
            self.node,
            quick_config(),
            incarnation=Incarnation(port),
            write_routing="leader",
            clock=monotonic_us,
            rng=Random(port),
            metrics=Metrics(),
            inbox=self.inbox,
            guests=lambda: [NodeId(1234)],
        )


@asynccontextmanager
async def guests(count: int) -> AsyncIterator[list[Guest]]:
    async with AsyncExitStack() as stack:
        made = [Guest(port) for port in free_ports(count)]
        for guest in made:
            await guest.transport.start((HOST, guest.node))
            stack.push_async_callback(guest.transport.stop)
        yield made


async def meet(one: Guest, two: Guest) -> None:
    """Let them dial each other: what is sent before that is lost."""
    one.transport.send(two.node, b"lost")
    await until(lambda: one.transport.connected_peers() and two.transport.connected_peers())


def test_address_is_the_port_when_an_open_cluster_does_not_list_the_node() -> None:
    listed = ClusterConfig(cluster_id="x", members=(Member(7, "far", 1),), open_host=HOST)
    assert listed.address_of(NodeId(7)) == ("far", 1)
    assert listed.address_of(NodeId(9)) == (HOST, 9)
    assert listed.address_of(NodeId(0)) is None
    assert listed.address_of(NodeId(65536)) is None
    assert cluster_of(5).address_of(NodeId(9)) is None


def test_configurations_mean_the_same_when_an_open_cluster_lists_others() -> None:
    assert open_cluster(7).digest == open_cluster(8).digest
    assert open_cluster(7).digest != open_cluster(7, cluster_id="other").digest


def test_open_cluster_is_refused_when_the_protocol_has_fixed_members() -> None:
    with pytest.raises(ConfigurationError, match="members of raft are those listed"):
        open_cluster(7).check()


def test_host_of_guests_is_refused_when_it_is_none() -> None:
    with pytest.raises(ConfigurationError, match="cannot be a host"):
        open_cluster(7, open_host="no host")


def test_open_host_is_kept_when_the_configuration_is_written() -> None:
    assert ClusterConfig.from_toml(open_cluster(7).to_toml().encode()) == open_cluster(7)


def test_hello_of_a_guest_is_accepted_when_its_id_can_be_a_port() -> None:
    door = Doorkeeper(open_cluster(7).identity(NodeId(7), "leader"))
    assert door.refuse(peer_hello(open_cluster(9), 9, to=7, members=[])) is None
    assert "not a member" in str(door.refuse(peer_hello(open_cluster(9), 70_000, to=7)))


def test_welcome_lists_guests_once_when_some_are_listed() -> None:
    door = Doorkeeper(open_cluster(7).identity(NodeId(7), "leader"))
    welcome = decode_welcome(door.welcome_with([NodeId(7), NodeId(9)]))
    assert welcome.members == [(7, HOST, 7), (9, HOST, 9)]


async def test_guests_exchange_messages_when_neither_lists_the_other() -> None:
    async with guests(2) as (one, two):
        await meet(one, two)
        one.transport.send(two.node, b"to two")
        two.transport.send(one.node, b"to one")
        await until(lambda: one.inbox.peer_frames and two.inbox.peer_frames)
        assert one.inbox.peer_frames == [(two.node, b"to one")]
        assert two.inbox.peer_frames[-1] == (one.node, b"to two")


async def test_guest_is_dialled_once_when_something_is_sent_before_the_start() -> None:
    one, two = (Guest(port) for port in free_ports(2))
    await two.transport.start((HOST, two.node))
    one.transport.send(two.node, b"lost")
    await one.transport.start((HOST, one.node))
    await until(lambda: one.transport.connected_peers() and two.transport.connected_peers())
    assert one.inbox.changes == [(two.node, True)]
    one.transport.tally()
    assert one.transport._metrics.dials == 1
    await one.transport.stop()
    await two.transport.stop()


async def test_welcome_names_the_nodes_that_take_part_when_a_client_comes() -> None:
    client = hello_frame(msgspec.structs.replace(peer_hello(open_cluster(1), -1, to=-1), role="client"))
    async with guests(1) as (one,), visiting(one.node, client) as visitor:
        kind, payload = await visitor.frame()
        assert kind == WELCOME
        assert (1234, HOST, 1234) in decode_welcome(payload).members


async def test_nothing_passes_when_a_node_is_silenced_until_it_is_not() -> None:
    client = hello_frame(msgspec.structs.replace(peer_hello(open_cluster(1), -1, to=-1), role="client"))
    async with guests(2) as (one, two), visiting(one.node, client) as visitor:
        assert (await visitor.frame())[0] == WELCOME
        await meet(one, two)
        one.transport.silenced = True
        two.transport.send(one.node, b"unheard")
        visitor.say(encode_frame(CLIENT, b"unheard"))
        one.transport.send(two.node, b"unsaid")
        await asyncio.sleep(0.05)  # what was written before must have come: it is looked at and dropped
        one.transport.silenced = False
        two.transport.send(one.node, b"heard")
        one.transport.send(two.node, b"said")
        await until(lambda: one.inbox.peer_frames and (one.node, b"said") in two.inbox.peer_frames)
        assert one.inbox.peer_frames == [(two.node, b"heard")]
        assert (one.node, b"unsaid") not in two.inbox.peer_frames
        assert one.inbox.client_frames == []
