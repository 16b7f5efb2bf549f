"""Whatever a server says after its welcome: calls end in time, and never in a result that was not sent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import msgspec
import pytest

import viewstamp
from tests.runtime.fakes import cluster_of
from tests.runtime.machines import Counter
from viewstamp.core.errors import CallError
from viewstamp.core.messages import RESULT, AdminReply, Notified, Results, ServerMessage, encode_message
from viewstamp.link.framing import PEER, REFUSAL, SERVER, WELCOME, encode_frame
from viewstamp.link.handshake import WIRE, Welcome, encode_hello
from viewstamp.runtime.config import ClusterConfig

HOST = "127.0.0.1"
WELCOMED = encode_frame(WELCOME, encode_hello(Welcome(WIRE, "test", 1, "raft", "leader", [(1, HOST, 1)])))


def said(message: ServerMessage) -> bytes:
    return encode_frame(SERVER, encode_message(message))


ANSWERS = {
    "no frame": b"\xff" * 100,
    "no message": encode_frame(SERVER, b"\xc1"),
    "nothing": encode_frame(SERVER, b""),
    "deep": encode_frame(SERVER, b"\x91" * 100_000),
    "a member's frame": encode_frame(PEER, b"x"),
    "a second welcome": WELCOMED,
    "a refusal that is not a text": encode_frame(REFUSAL, b"\xff\x1b[31m\n" * 100),
    "a result that nobody asked for": said(Results(1, 2**63, [(2**64 - 1, RESULT, msgspec.Raw(b"\x05"))])),
    "an answer to no directive": said(AdminReply(2**63, None)),
    "a notification that is none": said(Notified(1, 0, msgspec.Raw(b"\xff\xff"))),
}


class Liar(asyncio.Protocol):
    """Welcomes every client, and answers everything else alike."""

    def __init__(self, answer: bytes) -> None:
        self._answers = iter((WELCOMED, *(answer for _ in range(100))))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(next(self._answers, b""))


@asynccontextmanager
async def liar(answer: bytes) -> AsyncIterator[ClusterConfig]:
    server = await asyncio.get_running_loop().create_server(lambda: Liar(answer), HOST, 0)
    try:
        yield cluster_of(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("name", ANSWERS)
async def test_call_fails_in_time_when_its_server_answers_nonsense(name: str) -> None:
    async with liar(ANSWERS[name]) as config:
        async with viewstamp.connect(config, Counter, timeout_s=0.2, exactly_once=False) as counter:
            with pytest.raises(CallError) as caught:
                await counter.add(1)
        assert str(caught.value).isprintable()
        await asyncio.to_thread(_block, config)


def _block(config: ClusterConfig) -> None:
    with (
        viewstamp.connect_blocking(config, Counter, timeout_s=0.2, exactly_once=False) as counter,
        pytest.raises(CallError) as caught,
    ):
        counter.add(1)
    assert str(caught.value).isprintable()
