import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest

from tests.runtime.fakes import Diary, DiaryJournal, ScriptedReplica, until
from viewstamp.core.effects import Persist, Release, Send, Stage
from viewstamp.core.errors import Diverged, ProtocolViolation, StorageError
from viewstamp.core.events import (
    PeerDown,
    PeerUp,
    Persisted,
    Received,
    SnapshotToken,
    Staged,
    TakeSnapshot,
    Woke,
)
from viewstamp.core.ids import ORIGIN, ClientAddress, Incarnation, Instant, NodeId, PersistSeq
from viewstamp.core.messages import AdminReply, AskStatus, KeepAlive, OpenSession, encode_message
from viewstamp.core.protocol import Guarantees, ProtocolDefinition
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.replica.events import ClientGone, Halt, ReplicaEffect, ReplicaEvent, Requested, Respond
from viewstamp.replica.replica import Replica
from viewstamp.runtime.config import NodeConfig
from viewstamp.runtime.driver import Driver
from viewstamp.runtime.metrics import Metrics
from viewstamp.runtime.system import Loop, loop_factory, monotonic_us
from viewstamp.runtime.turns import STALL_US
from viewstamp.storage.memory import MemoryMedium, open_memory_directory


class Note(msgspec.Struct, frozen=True, array_like=True, tag=1):
    text: str


def _unused(*_arguments: object) -> Any:
    raise AssertionError


DEFINITION = ProtocolDefinition(
    name="notes",
    guarantees=Guarantees("never", "minority", True, True, "linearizable", False),
    options_type=Note,
    message_type=Note,
    make_core=_unused,
    make_oracle=_unused,
)
NODE, PEER, CLIENT = NodeId(1), NodeId(2), ClientAddress(5)
NOTE = Received(PEER, Note("x"))
NOTE_BYTES = msgspec.msgpack.encode(Note("x"))


def persist(seq: int) -> Persist:
    return Persist(PersistSeq(seq), (b"record",))


class Bench:
    """A driver between a scripted replica, a diary and a journal whose disk can be held up or broken."""

    def __init__(self, replica: ScriptedReplica, config: NodeConfig, clock: Callable[[], Instant]) -> None:
        self.replica = replica
        self.diary = Diary()
        self.gate = threading.Event()
        self.gate.set()
        self.failures: list[BaseException] = []
        medium = MemoryMedium()
        directory = open_memory_directory(medium, cluster_id="c", node=NODE, incarnation=Incarnation(1))
        self.journal = DiaryJournal(medium, self.diary, self.gate)
        directory.journal = self.journal
        self.metrics = Metrics()
        self.driver = Driver(
            cast("Replica", replica),
            DEFINITION,
            directory,
            config,
            node=NODE,
            clock=clock,
            metrics=self.metrics,
            failed=self.failures.append,
        )
        self.driver.start(self.diary)

    @property
    def lines(self) -> list[str]:
        """What happened, without the writes that had nothing to write."""
        return [line for line in self.diary.lines if line != "flush"]


@asynccontextmanager
async def bench(
    answer: Callable[[ReplicaEvent], Iterable[ReplicaEffect]] | None = None,
    *,
    placement: str = "inline",
    clock: Callable[[], Instant] = monotonic_us,
) -> AsyncIterator[Bench]:
    config = NodeConfig(sync_placement=placement)  # type: ignore[arg-type]
    made = Bench(ScriptedReplica(answer), config, clock)
    try:
        yield made
    finally:
        made.gate.set()
        await made.driver.stop()


def writing(event: ReplicaEvent) -> list[ReplicaEffect]:
    """Persist and send early for each message; answer the client when the write is durable."""
    if isinstance(event, Received):
        number = int(event.message.text)
        return [persist(number), Send(PEER, Note("early"))]
    if isinstance(event, Persisted):
        return [Respond(CLIENT, AdminReply(event.seq, None))]
    return []


async def test_answer_comes_after_the_sync_and_early_messages_before_it() -> None:
    async with bench(writing) as b:
        b.driver.feed(Received(PEER, Note("1")))
        await until(lambda: "respond 5" in b.lines)
        assert b.lines == ["send 2", "sync 1", "respond 5"]
        early = b.diary.lines.index("send 2")
        assert "flush" in b.diary.lines[early : b.diary.lines.index("sync 1")]
        assert b.diary.lines[-1] == "flush"


def answering(event: ReplicaEvent) -> list[ReplicaEffect]:
    """Answer clients as often as a message says."""
    if isinstance(event, Received):
        return [Respond(CLIENT, AdminReply(number, None)) for number in range(int(event.message.text))]
    return []


async def test_answer_leaves_at_once_when_it_is_alone_and_with_the_turn_when_there_are_several() -> None:
    async with bench(answering) as b:
        b.driver.peer_frame(PEER, msgspec.msgpack.encode(Note("2")))
        assert b.diary.lines == ["respond 5", "respond 5"]
        b.driver.peer_frame(PEER, msgspec.msgpack.encode(Note("1")))
        assert b.diary.lines[2:] == ["respond 5", "flush"]


async def test_one_sync_covers_all_writes_when_they_come_in_one_turn() -> None:
    async with bench(writing) as b:
        for number in (1, 2, 3):
            b.driver.feed(Received(PEER, Note(str(number))))
        await until(lambda: "respond 5" in b.lines)
        assert b.lines[3:] == ["sync 3", "respond 5"]
        assert b.metrics.syncs == 1
        assert b.metrics.persisted == 3


async def test_nothing_is_answered_when_the_sync_has_not_ended() -> None:
    async with bench(writing, placement="executor") as b:
        b.gate.clear()
        b.driver.feed(Received(PEER, Note("1")))
        await until(lambda: b.metrics.syncs_off_loop == 1)
        for number in (2, 3):
            b.driver.feed(Received(PEER, Note(str(number))))
            await asyncio.sleep(0)
        assert "respond 5" not in b.lines
        assert b.journal.durable == 0
        b.gate.set()
        await until(lambda: b.lines.count("respond 5") == 2)
        assert [line for line in b.lines if line != "send 2"] == [
            "sync 1",
            "respond 5",
            "sync 3",
            "respond 5",
        ]


async def test_loop_goes_on_when_the_disk_is_slow() -> None:
    async with bench(writing, placement="executor") as b:
        b.gate.clear()
        b.driver.feed(Received(PEER, Note("1")))
        b.replica.deadline = monotonic_us()
        await until(lambda: sum(isinstance(event, Woke) for event in b.replica.events) >= 5)
        assert b.journal.durable == 0
        b.replica.deadline = None


@pytest.mark.parametrize("placement", ["inline", "executor"])
async def test_node_stops_without_a_word_when_a_sync_fails(placement: str) -> None:
    async with bench(writing, placement=placement) as b:
        b.journal.error = StorageError("the disk said EIO")
        b.driver.feed(Received(PEER, Note("1")))
        await until(lambda: b.failures)
        b.journal.error = None
        events = len(b.replica.events)
        b.driver.feed(Received(PEER, Note("2")))
        for _ in range(5):
            await asyncio.sleep(0)
        assert [str(failure) for failure in b.failures] == ["the disk said EIO"]
        assert "respond 5" not in b.lines
        assert len(b.replica.events) == events


async def test_node_stops_when_a_step_breaks_an_invariant() -> None:
    def broken(event: ReplicaEvent) -> list[ReplicaEffect]:
        raise AssertionError("two leaders")

    async with bench(broken) as b:
        b.driver.feed(NOTE)
        assert [str(failure) for failure in b.failures] == ["two leaders"]
        b.driver.feed(NOTE)
        assert len(b.replica.events) == 1


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_node_stops_when_something_ends_a_step_half_way(raised: BaseException) -> None:
    def ended(event: ReplicaEvent) -> list[ReplicaEffect]:
        raise raised

    async with bench(ended) as b:
        with pytest.raises(type(raised)):
            b.driver.feed(NOTE)
        assert b.failures == [raised]
        b.driver.feed(NOTE)
        assert len(b.replica.events) == 1


async def test_node_stops_when_the_replica_halts() -> None:
    async with bench(lambda event: [Halt("state differs at 1.5")]) as b:
        b.driver.feed(NOTE)
        assert isinstance(b.failures[0], Diverged)


async def test_step_is_refused_when_an_effect_leads_back_into_the_replica() -> None:
    async with bench(lambda event: [Send(PEER, Note("x"))]) as b:
        b.diary.send = lambda to, payload: b.driver.feed(NOTE)  # type: ignore[method-assign]
        b.driver.feed(NOTE)
        assert "led back" in str(b.failures[0])


async def test_frames_become_events_when_they_can_be_read() -> None:
    async with bench() as b:
        request = OpenSession(7)
        b.driver.peer_frame(PEER, NOTE_BYTES)
        b.driver.client_frame(CLIENT, encode_message(request), "client/shop")
        b.driver.peer_changed(PEER, True)
        b.driver.peer_changed(PEER, False)
        b.driver.client_gone(CLIENT)
        assert b.replica.events == [
            NOTE,
            Requested(CLIENT, request, encode_message(request), "client/shop"),
            PeerUp(PEER),
            PeerDown(PEER),
            ClientGone(CLIENT),
        ]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x92\x09\xa1x",
        b"\x92\x01\xa2\xff\xff",
        b"\x91" * 100_000,
        NOTE_BYTES + b"\0",
        NOTE_BYTES[:-1],
    ],
    ids=["empty", "invalid", "unknown tag", "not utf-8", "deep", "trailing", "short"],
)
async def test_frames_are_violations_and_nothing_happens_when_they_cannot_be_read(payload: bytes) -> None:
    async with bench() as b:
        with pytest.raises(ProtocolViolation):
            b.driver.peer_frame(PEER, payload)
        with pytest.raises(ProtocolViolation):
            b.driver.client_frame(CLIENT, payload, "client/shop")
        assert b.replica.events == []
        assert b.failures == []


async def test_replica_is_woken_once_when_its_deadline_passes() -> None:
    async with bench() as b:
        b.replica.answer = b.replica.rest
        b.replica.deadline = Instant(monotonic_us() + 20_000)
        planned = b.replica.deadline
        b.driver.feed(PeerUp(PEER))
        b.replica.deadline = planned
        await until(lambda: Woke() in b.replica.events)
        assert b.replica.now >= planned
        assert b.replica.events == [PeerUp(PEER), Woke()]


async def test_deadline_is_met_when_it_moves_earlier() -> None:
    async with bench() as b:
        b.replica.deadline = Instant(monotonic_us() + 60_000_000)
        b.driver.feed(PeerUp(PEER))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        b.replica.answer = b.replica.rest
        b.driver.feed(PeerUp(PEER))
        b.replica.deadline = Instant(monotonic_us() + 5_000)
        await until(lambda: Woke() in b.replica.events)


@pytest.mark.parametrize("choice", ["asyncio", "uvloop"])
def test_sockets_are_read_before_a_deadline_when_the_process_stood_still(choice: Loop) -> None:
    now_us = 0

    async def stand_still() -> None:
        nonlocal now_us
        async with bench(clock=lambda: Instant(now_us)) as b:
            heartbeat, heard = await _wire(lambda: b.driver.feed(NOTE))

            def hold_up() -> None:
                nonlocal now_us
                heartbeat.send(b"x")
                now_us = 4 * STALL_US
                threading.Event().wait(3 * STALL_US / 1e6)  # until the loop's own timer is due

            trigger, held_up = await _wire(hold_up)
            b.replica.answer = b.replica.rest
            b.replica.deadline = Instant(STALL_US)
            b.driver.start(b.diary)
            await asyncio.sleep(0)
            trigger.send(b"x")
            await until(lambda: b.replica.events)
            for end in (heard, held_up, heartbeat, trigger):
                end.close()
            await asyncio.sleep(0)
            assert b.replica.events[0] == NOTE

    with asyncio.Runner(loop_factory=loop_factory(choice)) as runner:
        runner.run(stand_still())


async def _wire(arrived: Callable[[], None]) -> tuple[socket.socket, asyncio.Transport]:
    """Return a socket, and a transport that calls `arrived` for what is sent to it."""

    class Reader(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            arrived()

    near, far = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(Reader, sock=far)
    return near, transport


async def test_journal_is_released_when_the_replica_says_so() -> None:
    def answer(event: ReplicaEvent) -> list[ReplicaEffect]:
        if isinstance(event, PeerUp):
            return [persist(1), persist(2), Release(PersistSeq(2))]
        return []

    async with bench(answer) as b:
        b.driver.feed(PeerUp(PEER))
        await until(lambda: b.journal.durable == 2)
        assert b.journal.live_bytes == len(b"record")


async def test_broadcast_is_encoded_once_when_the_message_is_the_same_object() -> None:
    message = Note("to all")
    async with bench(lambda event: [Send(NodeId(n), message) for n in (2, 3, 4)]) as b:
        encoded = []
        b.diary.send = lambda to, payload: encoded.append(payload)  # type: ignore[method-assign]
        b.driver.feed(NOTE)
        assert len(encoded) == 3
        assert len({id(payload) for payload in encoded}) == 1


async def test_received_snapshot_is_staged_off_the_loop_and_answered() -> None:
    snapshot = BytesSnapshot(ORIGIN, b"", b"state")
    token = SnapshotToken(1)

    def answer(event: ReplicaEvent) -> list[ReplicaEffect]:
        if isinstance(event, PeerUp):
            return [Stage(token, snapshot.meta, 0, b"sta"), Stage(token, snapshot.meta, 3, b"te")]
        return []

    async with bench(answer) as b:
        b.driver.feed(PeerUp(PEER))
        await until(lambda: len(b.replica.events) == 2)
        (staged,) = [event for event in b.replica.events if isinstance(event, Staged)]
        assert staged.snapshot is not None
        assert staged.snapshot.meta == snapshot.meta


async def test_directive_of_the_node_itself_is_answered_to_it_alone() -> None:
    def answer(event: ReplicaEvent) -> list[ReplicaEffect]:
        assert isinstance(event, Requested)
        reply = AdminReply(event.message.request, "not now")  # type: ignore[union-attr]
        return [Respond(event.source, reply), Respond(event.source, reply)]

    async with bench(answer) as b:
        assert await b.driver.direct(TakeSnapshot()) == "not now"
        assert b.lines == []


async def test_other_messages_are_passed_on_when_the_address_is_a_client() -> None:
    async with bench(lambda event: [Respond(CLIENT, AdminReply(1, None))]) as b:
        b.driver.client_frame(CLIENT, encode_message(AskStatus(1)), "client/shop")
        b.driver.client_frame(CLIENT, encode_message(KeepAlive(1, 2)), "client/shop")
        assert b.lines == ["respond 5", "respond 5"]


async def test_nothing_is_fed_when_the_driver_has_stopped() -> None:
    async with bench() as b:
        await b.driver.stop()
        b.driver.feed(NOTE)
        b.driver.peer_frame(PEER, NOTE_BYTES)
        assert b.replica.events == []
