"""Small stand-ins for what surrounds a part of the runtime, and a socket that says what a test wants."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

from viewstamp.core.errors import StorageError
from viewstamp.core.ids import ORIGIN, ClientAddress, Instant, NodeId, PersistSeq, View, Viewstamp
from viewstamp.core.protocol import Status
from viewstamp.link.framing import HELLO, Splitter, encode_frame
from viewstamp.link.handshake import ANY_NODE, WIRE, Hello, encode_hello
from viewstamp.replica.events import Announced, ReplicaEffect, ReplicaEvent
from viewstamp.runtime.config import ClusterConfig, Member, NodeConfig
from viewstamp.runtime.transport import Transport
from viewstamp.storage.memory import MemoryJob, MemoryJournal

WAIT_S = 30.0
"""No condition of a test is waited for longer."""
LATE_S = 5.0
"""How late a busy machine may make an end that is due; that it is due in time is tested in virtual time."""


async def until(condition: Callable[[], object], *, timeout_s: float = WAIT_S) -> None:
    """Wait for a condition, with a bound."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  any condition at all
            await asyncio.sleep(0.001)


class DriverlessTransport(Transport):
    """Flushes once a turn of the loop, as a driver would."""

    def send(self, to: NodeId, payload: bytes) -> None:
        super().send(to, payload)
        asyncio.get_running_loop().call_soon(self.flush)

    def respond(self, to: ClientAddress, payload: bytes) -> None:
        super().respond(to, payload)
        asyncio.get_running_loop().call_soon(self.flush)


class ScriptedReplica:
    """Answers each event by what a function says, and remembers all events."""

    def __init__(self, answer: Callable[[ReplicaEvent], Iterable[ReplicaEffect]] | None = None) -> None:
        self.answer = answer or (lambda event: ())
        self.events: list[ReplicaEvent] = []
        self.deadline: Instant | None = None
        self.leader: NodeId | None = None
        self.view = View(1)
        self.leader_news: object = None
        self.now = Instant(0)
        self.reads = SimpleNamespace(ready={}, slice_calls=64)
        self.applied = ORIGIN
        self.has_waiting = False
        self.refused = 0

    def step(self, event: ReplicaEvent, now: Instant) -> Sequence[ReplicaEffect]:
        self.events.append(event)
        self.now = now
        return list(self.answer(event))

    def rest(self, _event: ReplicaEvent) -> Iterable[ReplicaEffect]:
        """Want nothing more: an answer for tests of deadlines."""
        self.deadline = None
        return ()

    def status(self, now: Instant) -> Status:
        stamp = Viewstamp(View(1), 0)  # type: ignore[arg-type]
        return Status(NodeId(1), "follower", self.view, self.leader, stamp, 0, 0, 0, 0, (NodeId(1),))


class Diary:
    """An outlet and a journal's disk in one: what happened, in order, as short words."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.dirty = ["whatever was sent"]
        self.waiting: list[bytes] = []

    def send(self, to: NodeId, payload: bytes) -> None:
        self.lines.append(f"send {to}")

    def respond(self, to: ClientAddress, payload: bytes) -> None:
        self.lines.append(f"respond {to}")

    def flush(self) -> None:
        self.lines.append("flush")

    def move(self, node: NodeId, address: tuple[str, int]) -> None:
        self.lines.append(f"node {node} is at {address[0]}:{address[1]}")

    def serve_waiting(self) -> bool:
        return False


class DiaryJob(MemoryJob):
    """A sync that is written into a diary, or fails."""

    def __init__(self, journal: "DiaryJournal", seq: PersistSeq) -> None:
        super().__init__(seq)
        self._journal = journal

    def run(self) -> None:
        journal = self._journal
        journal.gate.wait(WAIT_S)
        if journal.error is not None:
            raise journal.error
        journal.diary.lines.append(f"sync {self.seq}")
        super().run()


class DiaryJournal(MemoryJournal):
    """A memory journal whose syncs can be watched, held up and broken."""

    def __init__(self, medium: Any, diary: Diary, gate: Any) -> None:
        super().__init__(medium)
        self.diary = diary
        self.gate = gate
        self.error: StorageError | None = None

    def begin_sync(self) -> MemoryJob | None:
        job = super().begin_sync()
        if job is None:
            return None
        self._job = DiaryJob(self, job.seq)
        return self._job


class RecordingInbox:
    """What a transport told its driver, in order."""

    def __init__(self) -> None:
        self.peer_frames: list[tuple[NodeId, bytes]] = []
        self.client_frames: list[tuple[ClientAddress, bytes]] = []
        self.changes: list[tuple[NodeId, bool]] = []
        self.gone: list[ClientAddress] = []
        self.announced: list[Announced] = []
        self.in_time = True
        self.turns_wanted = 0

    def has_time(self) -> bool:
        return self.in_time

    def work_waits(self) -> None:
        self.turns_wanted += 1

    def peer_frame(self, source: NodeId, payload: bytes) -> None:
        self.peer_frames.append((source, payload))

    def client_frame(self, source: ClientAddress, payload: bytes, principal: str) -> None:
        self.client_frames.append((source, payload))

    def peer_changed(self, peer: NodeId, is_up: bool) -> None:
        self.changes.append((peer, is_up))

    def peer_announced(self, said: Announced) -> None:
        self.announced.append(said)

    def client_gone(self, source: ClientAddress) -> None:
        self.gone.append(source)


def cluster_of(*ports: int, cluster_id: str = "test", protocol: str = "raft") -> ClusterConfig:
    """Return a cluster on loopback whose nodes are numbered from 1."""
    members = tuple(Member(node, "127.0.0.1", port) for node, port in enumerate(ports, 1))
    return ClusterConfig(cluster_id=cluster_id, members=members, protocol=protocol)


def quick_config(**fields: Any) -> NodeConfig:
    """Return limits and times that suit a test: short only where it costs nothing to be late."""
    times: dict[str, Any] = {"hello_timeout_ms": 60_000, "dial_backoff_max_ms": 100, "dial_timeout_ms": 500}
    return NodeConfig(**{**times, **fields})


def peer_hello(cluster: ClusterConfig, node: int, to: int = 1, incarnation: int = 7, **fields: Any) -> Hello:
    """Return the hello of a member, with some fields as a test wants them."""
    hello: dict[str, Any] = {
        "wire": WIRE,
        "role": "peer",
        "cluster_id": cluster.cluster_id,
        "digest": cluster.digest,
        "node": node,
        "to": to,
        "incarnation": incarnation,
        "members": list(cluster.node_ids),
        "must_agree": cluster.must_agree,
        "options": cluster.options_digest,
    }
    return Hello(**{**hello, **fields})


CLIENT_HELLO = Hello(WIRE, "client", "", 0, ANY_NODE, ANY_NODE, 0)


def hello_frame(hello: Hello) -> bytes:
    """Return a whole HELLO frame."""
    return encode_frame(HELLO, encode_hello(hello))


class Visitor:
    """A plain connection to a port, for saying anything at all."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._splitter = Splitter(1 << 26)
        self._frames: list[tuple[int, bytes]] = []

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def frame(self) -> tuple[int, bytes]:
        """Return the next frame; `ConnectionError` where the other side closes first."""
        while not self._frames:
            async with asyncio.timeout(WAIT_S):
                data = await self.reader.read(1 << 16)
            if not data:
                raise ConnectionResetError
            self._frames += self._splitter.split(data)
        return self._frames.pop(0)

    async def closed(self) -> None:
        """Wait until the other side has closed; what it says before is not looked at."""
        async with asyncio.timeout(WAIT_S):
            try:
                while await self.reader.read(1 << 16):
                    pass
            except ConnectionError:
                return


@asynccontextmanager
async def visiting(port: int, first: bytes = b"") -> AsyncIterator[Visitor]:
    """Connect to a port of loopback, and leave at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        visitor = Visitor(reader, writer)
        visitor.say(first)
        yield visitor
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()
