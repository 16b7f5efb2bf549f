"""Load for the bare pipe: clients share connections of one process, at most 16.

python -m benchmarks.loads.pipe_load PORT
"""

import asyncio
import sys
from time import perf_counter
from typing import Any

import msgspec
import uvloop

from benchmarks.loads.lines import CONNECTIONS_MAX, KEYS, STRIDE, Plan, figures, serve
from benchmarks.loads.pipe_framing import Framed, framed

ENCODER = msgspec.msgpack.Encoder()
ANSWERS = msgspec.msgpack.Decoder(list[tuple[int, int]])


class Connection(Framed):
    """Calls of many clients; those of one turn leave together."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[tuple[int, int], asyncio.Future[None]] = {}
        self._leaving: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def call(self, client: int, turn: int, key: str, value: bytes) -> asyncio.Future[None]:
        if not self._leaving:
            self._loop.call_soon(self._flush)
        self._leaving.append(framed(ENCODER.encode((client, turn, key, value))))
        future = self._waiting[client, turn] = self._loop.create_future()
        return future

    def _flush(self) -> None:
        assert self._transport is not None
        self._transport.write(b"".join(self._leaving))
        self._leaving.clear()

    def frames(self, frames: list[bytes]) -> None:
        for frame in frames:
            for answered in ANSWERS.decode(frame):
                self._waiting.pop(answered).set_result(None)


async def connect_all(port: int) -> list[Connection]:
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(CONNECTIONS_MAX)]


async def run(plan: Plan, connections: list[Connection]) -> dict[str, Any]:
    latencies: list[float] = []
    value = b"x" * plan.value_bytes
    counted = perf_counter() + plan.warm_s
    end = counted + plan.seconds

    async def client(number: int) -> None:
        connection = connections[number % plan.connections]
        turn = 0
        while (began := perf_counter()) < end:
            await connection.call(number, turn, f"key{(number * STRIDE + turn) % KEYS}", value)
            turn += 1
            if began >= counted:
                latencies.append(perf_counter() - began)

    await asyncio.gather(*(client(number) for number in range(plan.clients)))
    return figures(latencies, perf_counter() - counted)


def main() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        connections = runner.run(connect_all(int(sys.argv[1])))
        serve(lambda plan: runner.run(run(plan, connections)))


if __name__ == "__main__":
    main()
