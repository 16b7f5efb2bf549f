"""The blocking driver of a link."""

import selectors
import socket
from collections.abc import Iterator
from random import Random

import msgspec
import pytest

from tests.runtime.fakes import WAIT_S, cluster_of
from viewstamp.core.ids import NodeId
from viewstamp.link.framing import WELCOME, encode_frame
from viewstamp.link.handshake import Doorkeeper, client_hello
from viewstamp.runtime.addresses import Address, free_ports
from viewstamp.runtime.client_base import CLIENT_LIMITS
from viewstamp.runtime.sockets import SocketLink
from viewstamp.runtime.system import monotonic_us

PEER = NodeId(1)
LIMITS = msgspec.structs.replace(CLIENT_LIMITS, send_bytes_max=100_000)


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as made:
        yield made


def link_to(address: Address, selector: selectors.BaseSelector) -> SocketLink:
    hello = client_hello("", None)
    return SocketLink(
        PEER, address, hello, limits=LIMITS, selector=selector, rng=Random(1), clock=monotonic_us
    )


def until_news(link: SocketLink, selector: selectors.BaseSelector) -> None:
    """Let the link run until its server's presence or absence is news."""
    for _ in range(1000):
        for _, events in selector.select(WAIT_S):
            if None in list(link.ready(events)):
                return


def test_messages_are_dropped_when_the_server_does_not_read(selector: selectors.BaseSelector) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        link = link_to(address, selector)
        assert not link.advance()
        server, _ = listening.accept()
        with server:
            cluster = cluster_of(address[1])
            server.sendall(encode_frame(WELCOME, Doorkeeper(cluster.identity(PEER, "leader")).welcome))
            until_news(link, selector)
            assert link.is_up
            for _ in range(1_000):
                link.send(bytes(50_000))
                link.write()
            assert link._dialer.dropped > 0
            assert len(link._unsent) + link._dialer.out.size <= 2 * LIMITS.send_bytes_max
            link.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "x" * 100])
def test_server_is_away_when_nothing_listens_there(host: str, selector: selectors.BaseSelector) -> None:
    link = link_to((host, free_ports(1)[0]), selector)
    if not link.advance():
        until_news(link, selector)
    assert not link.is_up
    assert link.due is not None
    link.close()
