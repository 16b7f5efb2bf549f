"""Bytes that a server needs for each key and for each session.

python -m benchmarks.waiting.memory
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.waiting.lab import cluster, fill, resident_bytes
from viewstamp.core.messages import (
    SECRET_BYTES,
    ClientMessage,
    Identify,
    OpenSession,
    ServerMessage,
    SessionOpened,
    Submit,
    client_number,
    decode_server_message,
    encode_message,
)
from viewstamp.link.framing import CLIENT, HELLO, SERVER, Splitter, encode_frame
from viewstamp.link.handshake import ANY_NODE, WIRE, Hello, encode_hello
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.connecting import connect
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.load import wait_for_leader
from viewstamp.testkit.processes import ServerGroup

KEYS = 200_000
VALUE_BYTES = 32
SESSIONS = 20_000
AT_ONCE = 500
FRAME_BYTES_MAX = 1 << 24
READ_BYTES = 1 << 16
OPTIONS = {"log_bytes_max": 4 << 20, "replica": {"clients_per_connection_max": SESSIONS}}
"""So that the log's own share of the memory stays small, and one connection may open all sessions."""


class Line:
    """A connection that speaks for many clients."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._splitter = Splitter(FRAME_BYTES_MAX)

    @classmethod
    async def open(cls, address: Address) -> "Line":
        line = cls(*await asyncio.open_connection(*address))
        hello = Hello(WIRE, "client", "", 0, ANY_NODE, ANY_NODE, 0)
        line._writer.write(encode_frame(HELLO, encode_hello(hello)))
        return line

    def say(self, messages: Sequence[ClientMessage]) -> None:
        """Send messages."""
        for message in messages:
            self._writer.write(encode_frame(CLIENT, encode_message(message)))

    async def ask(self, messages: Sequence[ClientMessage]) -> list[ServerMessage]:
        """Send messages, and return as many answers."""
        self.say(messages)
        answers: list[ServerMessage] = []
        while len(answers) < len(messages):
            for kind, payload in self._splitter.split(await self._reader.read(READ_BYTES)):
                if kind == SERVER:
                    answers.append(decode_server_message(payload))
        return answers

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def open_sessions(line: Line, first: int, count: int) -> None:
    """Open sessions, and let each keep the result of a command."""
    secrets = [number.to_bytes(SECRET_BYTES, "big") for number in range(first, first + count)]
    clients = [client_number(secret) for secret in secrets]
    line.say([Identify(client, secret) for client, secret in zip(clients, secrets, strict=True)])
    opened = await line.ask([OpenSession(client) for client in clients])
    command = msgspec.Raw(msgspec.msgpack.encode(["set", "session", b"x" * VALUE_BYTES]))
    sessions = [one for one in opened if isinstance(one, SessionOpened)]
    assert len(sessions) == count, opened
    await line.ask([Submit(one.client, one.session, 0, [(1, command)]) for one in sessions])


async def measure_on(group: ServerGroup) -> dict[str, Any]:
    server = group.servers[(await wait_for_leader(group)).node]
    empty = resident_bytes(server.pid)
    async with connect(group.cluster, KeyValueStore, timeout_s=60.0) as store:
        await fill(store, [f"key{number:08d}" for number in range(KEYS)], b"x" * VALUE_BYTES)
    filled = resident_bytes(server.pid)
    line = await Line.open(group.cluster.addresses[server.node])
    for begin in range(1, SESSIONS, AT_ONCE):
        await open_sessions(line, begin, AT_ONCE)
    served = resident_bytes(server.pid)
    await line.close()
    return {
        "empty_bytes": empty,
        "bytes_per_key": round((filled - empty) / KEYS),
        "bytes_per_session": round((served - filled) / SESSIONS),
    }


def measure(directory: Path | None = None) -> dict[str, Any]:
    """Return the memory of an empty server, and what each key and session adds to the leader's."""
    with cluster(directory, options=OPTIONS) as group:
        return asyncio.run(measure_on(group))


if __name__ == "__main__":
    print(measure())
