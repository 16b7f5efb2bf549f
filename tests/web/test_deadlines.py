"""Requests that are not whole in time: their connections are closed, and leave room for others."""

import asyncio
import contextlib
from typing import Any

import pytest

from tests.runtime.fakes import until
from viewstamp.runtime.addresses import free_ports
from viewstamp.web.deadlines import TimedProtocol
from viewstamp.web.serving import listen, serving

WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HALF = {
    "nothing": b"",
    "half of a head": b"GET / HTTP/1.1\r\nHost: x\r\n",
    "half of a body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc",
    "half of a second head": WHOLE + b"GET / HTTP",
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Read the request; answer "a", and "b" some time later."""
    assert scope["type"] == "http"
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await asyncio.sleep(0.5)
    await send({"type": "http.response.body", "body": b"b"})


@pytest.mark.parametrize("sent", HALF.values(), ids=HALF)
async def test_a_request_that_is_not_whole_in_time_ends_its_connection(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TimedProtocol, "request_s", 0.2)
    listener = listen(f"127.0.0.1:{free_ports(1)[0]}")
    async with serving(app, listener), asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(sent)
        with contextlib.suppress(ConnectionResetError):
            answer = await reader.read()
            assert answer.count(b"200 OK") == sent.count(WHOLE)
        writer.close()


async def test_bytes_that_drip_in_put_nothing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TimedProtocol, "request_s", 0.2)
    listener = listen(f"127.0.0.1:{free_ports(1)[0]}")
    async with serving(app, listener), asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        ended = asyncio.create_task(reader.read())
        while not ended.done():
            writer.write(b"x")
            await asyncio.wait([ended], timeout=0.02)
        assert isinstance(ended.exception(), ConnectionResetError | None)
        writer.close()


async def test_an_answer_may_take_longer_than_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TimedProtocol, "request_s", 0.2)
    listener = listen(f"127.0.0.1:{free_ports(1)[0]}")
    async with serving(app, listener), asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(WHOLE)
        assert (await reader.readuntil(b"ab")).startswith(b"HTTP/1.1 200 OK")
        writer.close()


async def test_others_are_answered_when_half_open_connections_take_all_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TimedProtocol, "request_s", 0.5)
    listener = listen(f"127.0.0.1:{free_ports(1)[0]}")
    answers: list[bytes] = []
    async with serving(app, listener, connections_max=8), asyncio.timeout(60):
        address = listener.getsockname()
        half = [await asyncio.open_connection(*address) for _ in range(20)]
        for _, writer in half:
            writer.write(HALF["half of a body"])

        async def ask() -> None:
            while b"HTTP/1.1 200 OK" not in answers:
                reader, writer = await asyncio.open_connection(*address)
                writer.write(WHOLE)
                answers.append((await reader.readline()).strip())
                writer.close()

        asking = asyncio.create_task(ask())
        await until(asking.done)
        await asking
        for _, writer in half:
            writer.close()
