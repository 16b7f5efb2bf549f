"""The bare pipe: what replication costs at the least in Python on one machine.

    python -m benchmarks.loads.pipe_server follower FILE PORT
    python -m benchmarks.loads.pipe_server leader FILE PORT FOLLOWER_PORT FOLLOWER_PORT

Not a protocol: no elections, sessions or checks; only framing, batching, replication to two followers, a sync
on each, and a reply once a majority has synced. Prints a line when it listens.
"""

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable
from functools import partial

import msgspec
import uvloop

from benchmarks.loads.pipe_framing import Framed

HOST = "127.0.0.1"
FILE_BYTES = 256 << 20
NUMBER_BYTES = 8

Entry = tuple[int, int, str, bytes]
"""Client, number, key, value."""
ENCODER = msgspec.msgpack.Encoder()
ENTRIES = msgspec.msgpack.Decoder(list[Entry])
ENTRY = msgspec.msgpack.Decoder(Entry)


class Disk:
    """A preallocated file that is written from its beginning again when it is full."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
        os.posix_fallocate(self.descriptor, 0, FILE_BYTES)
        self._offset = 0

    def write(self, data: bytes) -> None:
        if self._offset + len(data) > FILE_BYTES:
            self._offset = 0
        self._offset += os.pwrite(self.descriptor, data, self._offset)

    def sync(self) -> None:
        os.fdatasync(self.descriptor)


class Follower(Framed):
    """Writes what it gets, syncs once a turn, and answers with the number of the last entry."""

    def __init__(self, disk: Disk, values: dict[str, bytes]) -> None:
        super().__init__()
        self._disk = disk
        self._values = values

    def frames(self, frames: list[bytes]) -> None:
        for frame in frames:
            self._disk.write(frame)
            for _, _, key, value in ENTRIES.decode(frame[NUMBER_BYTES:]):
                self._values[key] = value
        self._disk.sync()
        self.send(frames[-1][:NUMBER_BYTES])


class Leader:
    """Gathers what clients send in a turn, replicates it as one batch, answers when two of three have it."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._values: dict[str, bytes] = {}
        self._sessions: dict[int, int] = {}
        self._waiting: list[tuple[Framed, Entry]] = []
        self._under_way: deque[tuple[int, list[tuple[Framed, Entry]]]] = deque()
        self._last = 0
        self._scheduled = False
        self._loop = asyncio.get_running_loop()
        self.followers: list[Framed] = []
        self.synced: dict[object, int] = {}
        """Up to which entry each node has synced."""

    def submit(self, client: Framed, entries: list[Entry]) -> None:
        self._waiting += [(client, entry) for entry in entries]
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._under_way and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        batch, self._waiting = self._waiting, []
        self._last += len(batch)
        data = self._last.to_bytes(NUMBER_BYTES, "little") + ENCODER.encode([entry for _, entry in batch])
        for follower in self.followers:
            follower.send(data)
        self._under_way.append((self._last, batch))
        self._disk.write(data)
        done = self._loop.run_in_executor(None, self._disk.sync)
        done.add_done_callback(partial(self._on_own_synced, self._last))

    def _on_own_synced(self, last: int, _: object) -> None:
        self.on_synced(self, last)

    def on_synced(self, who: object, last: int) -> None:
        self.synced[who] = last
        by_majority = sorted(self.synced.values())[-2] if len(self.synced) > 1 else 0
        while self._under_way and self._under_way[0][0] <= by_majority:
            self._answer(self._under_way.popleft()[1])
        self._schedule()

    def _answer(self, batch: list[tuple[Framed, Entry]]) -> None:
        answers: dict[Framed, list[tuple[int, int]]] = {}
        for client, (number, turn, key, value) in batch:
            self._sessions[number] = turn
            self._values[key] = value
            answers.setdefault(client, []).append((number, turn))
        for client, answered in answers.items():
            client.send(ENCODER.encode(answered))


class ToFollower(Framed):
    """The leader's end of the connection to a follower."""

    def __init__(self, leader: Leader) -> None:
        super().__init__()
        self._leader = leader

    def frames(self, frames: list[bytes]) -> None:
        self._leader.on_synced(self, int.from_bytes(frames[-1], "little"))


class FromClient(Framed):
    """The leader's end of a client's connection."""

    def __init__(self, leader: Leader) -> None:
        super().__init__()
        self._leader = leader

    def frames(self, frames: list[bytes]) -> None:
        self._leader.submit(self, [ENTRY.decode(frame) for frame in frames])


async def serve(role: str, path: str, port: int, followers: list[int]) -> None:
    loop = asyncio.get_running_loop()
    disk = Disk(path)
    make: Callable[[], Framed]
    if role == "follower":
        make = partial(Follower, disk, {})
    else:
        leader = Leader(disk)
        for follower in followers:
            _, link = await loop.create_connection(partial(ToFollower, leader), HOST, follower)
            leader.followers.append(link)
        make = partial(FromClient, leader)
    server = await loop.create_server(make, HOST, port)
    print(f"listening on {port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), [int(port) for port in sys.argv[4:]]))
