"""What readers of the log get: positions, the newest snapshot in pieces, the last entries."""

from typing import TypeVar

import pytest

from tests.replica.fakes import HERE, Bench, call, replies, submit
from viewstamp.core.effects import Apply, Capture, Entry, Refuse
from viewstamp.core.events import Captured, Queried, SnapshotToken
from viewstamp.core.ids import ORIGIN, ClientAddress, Seqno, View, Viewstamp
from viewstamp.core.messages import (
    LogPart,
    OperatorMessage,
    PositionReply,
    ReadLog,
    ReadPosition,
    ReadSnapshot,
    ServerMessage,
    SnapshotPart,
)
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.replica.events import Save
from viewstamp.replica.exports import READERS_MAX, LogTail
from viewstamp.replica.options import ReplicaOptions
from viewstamp.stream.records import CHUNK_BYTES, Chunk, LogEntry, Record, split_record

R = TypeVar("R", bound=ServerMessage)
ALL = 1 << 20


def ask(bench: Bench, message: OperatorMessage, kind: type[R], source: ClientAddress = HERE) -> R:
    (reply,) = bench.do(message, source)
    assert isinstance(reply, kind)
    return reply


def records_in(data: bytes) -> list[Record]:
    view, found = memoryview(data), []
    while view:
        first = split_record(view)
        assert first is not None
        found.append(first[0])
        view = view[first[1] :]
    return found


def at(seqno: int, view: int = 1) -> Viewstamp:
    return Viewstamp(View(view), Seqno(seqno))


def bench_with(entries: int, log_tail_bytes_max: int = 1 << 20) -> Bench:
    bench = Bench(options=ReplicaOptions(log_tail_bytes_max=log_tail_bytes_max))
    for number in range(1, entries + 1):
        bench.do(submit(0, (number, call("add", number))))
    return bench


def save(bench: Bench) -> BytesSnapshot:
    """Take a snapshot that is durable afterwards."""
    (saving,) = [
        effect
        for effect in bench.feed(Capture(SnapshotToken(1), bench.replica.applied, b"members"))
        if isinstance(effect, Save)
    ]
    snapshot = BytesSnapshot(saving.viewstamp, saving.header, b"".join(saving.parts))
    bench.step(Captured(SnapshotToken(1), snapshot))
    return snapshot


def test_entries_after_a_position_are_those_that_were_applied() -> None:
    bench = bench_with(5)
    part = ask(bench, ReadLog(3, at(2), ALL), LogPart)
    entries = records_in(part.records)
    assert [entry.viewstamp for entry in entries if isinstance(entry, LogEntry)] == [at(3), at(4), at(5)]
    assert isinstance(entries[-1], LogEntry)
    assert entries[-1].digest == bench.replica.digest
    assert (part.request, part.applied, part.refusal) == (3, at(5), None)
    assert part.digest == bench.replica.state.chain.at(2)


def test_answer_is_empty_when_nothing_is_new() -> None:
    bench = bench_with(2)
    part = ask(bench, ReadLog(1, at(2), ALL), LogPart)
    assert (part.records, part.refusal) == (b"", None)
    assert part.digest == bench.replica.digest


def test_reader_follows_without_a_gap_when_answers_are_short() -> None:
    bench = bench_with(50)
    seen, after = [], ORIGIN
    while entries := records_in(ask(bench, ReadLog(1, after, 700), LogPart).records):
        assert len(entries) < 5
        seen += [entry.viewstamp for entry in entries if isinstance(entry, LogEntry)]
        after = seen[-1]
    assert seen == [at(number) for number in range(1, 51)]


def test_one_entry_comes_when_no_bytes_are_allowed() -> None:
    bench = bench_with(3)
    for bytes_max in (0, -1, -(1 << 62)):
        assert len(records_in(ask(bench, ReadLog(1, ORIGIN, bytes_max), LogPart).records)) == 1


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (at(0), "compacted"),
        (at(3), "compacted"),
        (at(21), "applied up to 1.20 only"),
        (at(19, view=2), "another history"),
        (at(-1), "compacted"),
        (at(1 << 62), "only"),
    ],
)
def test_position_is_refused_when_it_is_not_in_the_tail(after: Viewstamp, reason: str) -> None:
    bench = bench_with(20, log_tail_bytes_max=2_000)
    part = ask(bench, ReadLog(1, after, ALL), LogPart)
    assert part.records == b""
    assert reason in str(part.refusal)


def test_tail_keeps_to_its_bytes() -> None:
    tail = LogTail(10_000)
    for number in range(1, 1_001):
        tail.add(Entry(at(number), bytes(number % 300)), number)
        assert tail.size_bytes <= 10_000
        assert len(tail._entries) <= 2 * 50 + 2
        oldest = tail.base
        found = tail.after(oldest, 1 << 30)
        assert found is not None
        assert [entry.seqno for entry in found] == list(range(oldest.seqno + 1, number + 1))


def test_entry_that_is_larger_than_the_tail_is_not_kept() -> None:
    tail = LogTail(1_000)
    tail.add(Entry(at(1), bytes(2_000)), 5)
    assert (tail.base, tail.base_digest, tail.size_bytes) == (at(1), 5, 0)
    assert tail.after(at(1), ALL) == []


def test_tail_begins_at_a_snapshot_that_was_installed() -> None:
    snapshot = bench_with(9).save()
    bench = bench_with(2)
    bench.install(snapshot)
    assert "compacted" in str(ask(bench, ReadLog(1, at(2), ALL), LogPart).refusal)
    part = ask(bench, ReadLog(1, at(9), ALL), LogPart)
    assert (part.refusal, part.digest) == (None, bench.replica.digest)


def test_entry_of_the_protocol_is_one_without_data() -> None:
    bench = bench_with(1)
    bench.feed(Apply(Entry(at(2), b"")))
    (entry,) = records_in(ask(bench, ReadLog(1, at(1), ALL), LogPart).records)
    assert entry == LogEntry(View(1), Seqno(2), bench.replica.digest, b"")


def test_position_is_told_after_a_round() -> None:
    bench = bench_with(3)
    reply = ask(bench, ReadPosition(8), PositionReply)
    assert reply == PositionReply(8, at(3), bench.replica.digest)
    assert any(isinstance(event, Queried) for event in bench.core.events)


def test_position_waits_when_the_core_does_not_answer() -> None:
    bench = bench_with(3)
    bench.core.answering = False
    assert bench.do(ReadPosition(8)) == []
    (asked,) = [event for event in bench.core.events if isinstance(event, Queried)]
    (reply,) = replies(bench.feed(Refuse(asked.token)))
    assert isinstance(reply, PositionReply)
    assert "ask the leader" in str(reply.refusal)


def test_positions_beyond_the_limit_are_refused() -> None:
    bench = bench_with(1)
    bench.core.answering = False
    for number in range(READERS_MAX):
        assert bench.do(ReadPosition(number)) == []
    assert "too many" in str(ask(bench, ReadPosition(99), PositionReply).refusal)


def test_snapshot_is_read_in_pieces() -> None:
    bench = bench_with(3)
    bench.replica.machine.log = ["x" * 1000] * 600
    snapshot = save(bench)
    body, offset = b"", 0
    while offset < snapshot.meta.size_bytes:
        part = ask(bench, ReadSnapshot(1, offset), SnapshotPart)
        assert part.meta == snapshot.meta
        (chunk,) = records_in(part.records)
        assert isinstance(chunk, Chunk)
        assert chunk.offset == offset
        assert len(chunk.data) <= CHUNK_BYTES
        body += chunk.data
        offset = len(body)
    assert body == snapshot.body
    assert {what: used for what, used, _ in bench.replica.queues()}["snapshots being read"] == 0


def test_snapshot_that_is_being_read_stays_when_a_newer_one_comes() -> None:
    bench = bench_with(3)
    bench.replica.machine.log = ["x" * 1000] * 600
    old = save(bench)
    assert ask(bench, ReadSnapshot(1, 0), SnapshotPart).meta == old.meta
    bench.do(submit(0, (9, call("add", 1))))
    new = save(bench)
    assert ask(bench, ReadSnapshot(1, CHUNK_BYTES), SnapshotPart).meta == old.meta
    assert ask(bench, ReadSnapshot(1, 0), SnapshotPart, ClientAddress(8)).meta == new.meta
    bench.gone()
    assert "begin again" in str(ask(bench, ReadSnapshot(1, CHUNK_BYTES), SnapshotPart).refusal)


def test_snapshot_is_refused_when_it_is_too_old_or_there_is_none() -> None:
    bench = bench_with(3)
    assert "no snapshot" in str(ask(bench, ReadSnapshot(1, 0), SnapshotPart).refusal)
    save(bench)
    assert ask(bench, ReadSnapshot(1, 0, 3), SnapshotPart).refusal is None
    assert "new enough" in str(ask(bench, ReadSnapshot(1, 0, 4), SnapshotPart).refusal)


@pytest.mark.parametrize("offset", [-1, -(1 << 62), 1 << 62])
def test_offset_outside_the_snapshot_gets_nothing(offset: int) -> None:
    bench = bench_with(3)
    bench.replica.machine.log = ["x" * 1000] * 600
    save(bench)
    ask(bench, ReadSnapshot(1, 0), SnapshotPart)
    assert ask(bench, ReadSnapshot(1, offset), SnapshotPart).records == b""


def test_readers_beyond_the_limit_are_refused() -> None:
    bench = bench_with(3)
    bench.replica.machine.log = ["x" * 1000] * 600
    save(bench)
    for number in range(READERS_MAX):
        assert ask(bench, ReadSnapshot(1, 0), SnapshotPart, ClientAddress(100 + number)).refusal is None
    assert "too many" in str(ask(bench, ReadSnapshot(1, 0), SnapshotPart, ClientAddress(99)).refusal)
    bench.gone(ClientAddress(100))
    assert ask(bench, ReadSnapshot(1, 0), SnapshotPart, ClientAddress(99)).refusal is None


def test_node_that_starts_from_a_snapshot_offers_it() -> None:
    snapshot = bench_with(4).save()
    bench = Bench(snapshot=snapshot)
    assert ask(bench, ReadSnapshot(1, 0), SnapshotPart).meta == snapshot.meta
    assert ask(bench, ReadLog(1, at(4), ALL), LogPart).refusal is None
