"""What may not come over a connection ends it, and nobody else notices: kinds, roles, slowness."""

import asyncio

import pytest
from xxhash import xxh3_64_intdigest

from tests.runtime.fakes import CLIENT_HELLO, hello_frame, peer_hello, quick_config, until, visiting
from tests.runtime.test_transport import greet, lone_node
from viewstamp.link.framing import (
    CLIENT,
    HELLO,
    PEER,
    REFUSAL,
    SERVER,
    WELCOME,
    encode_frame,
)
from viewstamp.link.handshake import decode_refusal, encode_hello


def frame_of_kind(kind: int) -> bytes:
    """Return a frame that is sound but for its kind, which may be one that no version has."""
    word = int.from_bytes(encode_frame(PEER, b"abc")[:8], "little") & ~(0xFF << 24) | kind << 24
    return word.to_bytes(8, "little") + xxh3_64_intdigest(b"abc", word).to_bytes(8, "little") + b"abc"


def test_frame_of_a_kind_is_the_encoders_when_there_is_one() -> None:
    assert frame_of_kind(CLIENT) == encode_frame(CLIENT, b"abc")


@pytest.mark.parametrize("kind", [0, 7, PEER | 0x80, CLIENT | 0x80, 255])
@pytest.mark.parametrize("who", ["stranger", "client", "member"])
async def test_connection_is_closed_when_a_frame_is_of_no_known_kind(who: str, kind: int) -> None:
    """Such as one with a flag for compression, which there is none of."""
    async with lone_node() as node, visiting(node.port) as other, visiting(node.port) as visitor:
        await greet(other)
        if who != "stranger":
            visitor.say(hello_frame(CLIENT_HELLO if who == "client" else peer_hello(node.cluster, 2)))
            assert (await visitor.frame())[0] == WELCOME
        visitor.say(frame_of_kind(kind))
        await visitor.closed()
        await until(lambda: node.metrics.violations == 1)
        assert not node.inbox.peer_frames
        assert not node.inbox.client_frames
        other.say(encode_frame(CLIENT, b"unharmed"))
        await until(lambda: node.inbox.client_frames)


@pytest.mark.parametrize("kind", [HELLO, CLIENT, SERVER, WELCOME, REFUSAL])
async def test_member_is_cut_off_when_it_sends_what_members_may_not(kind: int) -> None:
    async with lone_node() as node:
        hello = peer_hello(node.cluster, 2)
        async with visiting(node.port, hello_frame(hello)) as member:
            assert (await member.frame())[0] == WELCOME
            member.say(encode_frame(kind, encode_hello(hello)))
            await member.closed()
        await until(lambda: node.metrics.violations == 1)
        assert not node.inbox.peer_frames
        assert not node.inbox.client_frames


async def test_stranger_is_refused_in_time_when_its_hello_comes_byte_by_byte() -> None:
    impatient = quick_config(hello_timeout_ms=200)
    async with lone_node(impatient) as node, visiting(node.port) as stranger:
        refused = asyncio.create_task(stranger.frame())
        hello = hello_frame(peer_hello(node.cluster, 2, cluster_id="x" * 3_000))
        sent = 0
        while sent < len(hello) and not refused.done():
            stranger.say(hello[sent : sent + 1])
            sent += 1
            await asyncio.wait([refused], timeout=0.005)
        kind, payload = await refused
        assert (kind, decode_refusal(payload)) == (REFUSAL, "no hello in time")
        assert sent < len(hello), "a byte wins it no time"
