"""State transfer: the parts by themselves, and whole transfers through a cluster."""

from random import Random

import pytest

from tests.protocols.viewstamped.harness import MS, Cluster, cluster_of
from viewstamp.core.effects import Stage
from viewstamp.core.events import Directed, DirectiveToken, Received, SnapshotToken, Staged, TakeSnapshot
from viewstamp.core.ids import Incarnation, Instant, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.outbox import Outbox
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.protocols.viewstamped import backup
from viewstamp.protocols.viewstamped.heartbeats import BUSY_MS_MAX, Heartbeats
from viewstamp.protocols.viewstamped.membership import Member
from viewstamp.protocols.viewstamped.messages import (
    Append,
    Chunk,
    ChunkReceived,
    Ping,
    Pong,
    Position,
    StagedPart,
)
from viewstamp.protocols.viewstamped.options import ViewstampedOptions
from viewstamp.protocols.viewstamped.state import State
from viewstamp.protocols.viewstamped.state_transfer import Progress, SnapshotReceiver, SnapshotSender, part_of

HERE = Viewstamp(View(2), Seqno(9))
SNAPSHOT_BYTES = b"0123456789"
SNAPSHOT = BytesSnapshot(HERE, b"header", SNAPSHOT_BYTES)
SMALL = ViewstampedOptions(log_bytes_max=400, snapshot_chunk_bytes=100, snapshot_window_chunks=2)


def chunk(offset: int, data: bytes, snapshot: BytesSnapshot = SNAPSHOT) -> Chunk:
    return Chunk(Incarnation(1), View(2), snapshot.meta, offset, data)


def receiving(window: int = 8) -> tuple[SnapshotReceiver, Outbox]:
    outbox = Outbox(PersistSeq(0))
    me = Member(NodeId(2), Incarnation(1))
    state = State(
        me, (), ViewstampedOptions(snapshot_window_chunks=window), outbox, Random(1), Instant(0), None
    )
    return SnapshotReceiver(state), outbox


# The parts


def test_chunks_stop_when_the_window_is_full_and_go_on_when_acknowledged() -> None:
    sender = SnapshotSender(SNAPSHOT, 0)
    assert [sender.next_chunk(4, 2) for _ in range(3)] == [(0, b"0123"), (4, b"4567"), None]
    sender.heard(4)
    assert sender.next_chunk(4, 2) == (8, b"89")
    assert sender.next_chunk(4, 2) is None


def test_chunks_are_sent_again_when_nothing_moved_for_a_tick() -> None:
    sender = SnapshotSender(SNAPSHOT, 0)
    while sender.next_chunk(4, 2) is not None:
        pass
    sender.heard(4)
    sender.rewind_if_stuck()
    assert sender.sent == 8
    sender.rewind_if_stuck()
    assert sender.next_chunk(4, 2) == (4, b"4567")


def test_sending_begins_where_the_backup_is_when_it_restarted_with_less() -> None:
    sender = SnapshotSender(SNAPSHOT, 8)
    sender.heard(0)
    sender.rewind_if_stuck()
    sender.rewind_if_stuck()
    assert sender.next_chunk(4, 2) == (0, b"0123")


def test_an_empty_snapshot_takes_one_chunk_when_it_is_sent() -> None:
    sender = SnapshotSender(BytesSnapshot(HERE, b"", b""), 0)
    assert sender.next_chunk(4, 2) == (0, b"")
    assert sender.next_chunk(4, 2) is None


def test_nothing_is_sent_when_the_backup_has_the_whole_snapshot() -> None:
    assert SnapshotSender(SNAPSHOT, 10).next_chunk(4, 2) is None


def test_a_part_belongs_to_a_snapshot_when_viewstamp_and_digest_are_equal() -> None:
    digest = SNAPSHOT.meta.digest
    assert part_of(SNAPSHOT, StagedPart(HERE, digest, 10))
    assert not part_of(SNAPSHOT, StagedPart(HERE, digest, 11))
    assert not part_of(SNAPSHOT, StagedPart(HERE, digest, -1))
    assert not part_of(SNAPSHOT, StagedPart(HERE, digest + 1, 4))


def test_progress_counts_bytes_in_flight_when_entries_are_sent_and_acknowledged() -> None:
    backup = Progress(NodeId(2))
    assert backup.state == "probe"
    backup.continue_from(Seqno(3))
    backup.sent(Seqno(5), 100)
    backup.sent(Seqno(8), 50)
    assert (backup.next, backup.unacknowledged_bytes, backup.state) == (9, 150, "replicate")
    backup.acknowledged(Seqno(5))
    assert (backup.matched, backup.unacknowledged_bytes) == (5, 50)
    backup.acknowledged(Seqno(4))
    assert (backup.matched, backup.next) == (5, 9)


def test_receiving_stages_pieces_in_order_when_they_come_twice_or_early() -> None:
    parts, outbox = receiving()
    token = SnapshotToken(7)
    assert parts.take(chunk(0, b"0123"), token)
    assert parts.take(chunk(0, b"0123"), token)
    assert parts.take(chunk(8, b"89"), token)
    assert parts.take(chunk(4, b"456789"), token)
    staged = [(each.offset, each.data) for each in outbox.take() if isinstance(each, Stage)]
    assert staged == [(0, b"0123"), (4, b"456789")]
    assert parts.part == StagedPart(HERE, SNAPSHOT.meta.digest, 10)
    assert not parts.finished(SnapshotToken(8))
    assert parts.finished(token)
    assert parts.part is None


def test_receiving_keeps_early_pieces_no_more_than_a_window_of_them() -> None:
    parts, outbox = receiving(window=2)
    for offset in (8, 6, 4, 2):
        assert parts.take(chunk(offset, SNAPSHOT_BYTES[offset : offset + 2]), SnapshotToken(7))
    assert outbox.take() == []
    assert parts.take(chunk(0, b"01"), SnapshotToken(7))
    assert parts.take(chunk(2, b"23"), SnapshotToken(7))
    assert parts.take(chunk(4, b"45"), SnapshotToken(7))
    staged = [(each.offset, each.data) for each in outbox.take() if isinstance(each, Stage)]
    assert staged == [(0, b"01"), (2, b"23"), (4, b"45"), (6, b"67"), (8, b"89")]


def test_receiving_forgets_early_pieces_of_another_snapshot() -> None:
    parts, outbox = receiving()
    other = BytesSnapshot(Viewstamp(View(3), Seqno(12)), b"", b"abcdefgh")
    parts.take(chunk(4, b"4567"), SnapshotToken(1))
    parts.take(chunk(0, b"abcd", other), SnapshotToken(2))
    staged = [each.data for each in outbox.take() if isinstance(each, Stage)]
    assert staged == [b"abcd"]


def test_receiving_refuses_pieces_when_they_do_not_fit_the_snapshot() -> None:
    parts, outbox = receiving()
    for bad in (chunk(-1, b"0"), chunk(8, b"0123"), chunk(0, b"")):
        assert not parts.take(bad, SnapshotToken(1))
    assert outbox.take() == []


def test_receiving_begins_again_when_another_snapshot_arrives() -> None:
    parts, outbox = receiving()
    other = BytesSnapshot(Viewstamp(View(3), Seqno(12)), b"", b"abc")
    parts.take(chunk(0, b"0123"), SnapshotToken(1))
    parts.take(chunk(0, b"abc", other), SnapshotToken(2))
    tokens = [each.token for each in outbox.take() if isinstance(each, Stage)]
    assert tokens == [1, 2]
    assert not parts.finished(SnapshotToken(1))


# Whole transfers


def compacted(*nodes: int, latency_us: int = MS, count: int = 40) -> Cluster:
    """Return a cluster whose logs no longer begin at the beginning; the last node was down meanwhile."""
    cluster = cluster_of(*nodes, options=SMALL, latency_us=latency_us)
    cluster.crash(nodes[-1])
    cluster.form(*nodes[:-1])
    for number in range(count):
        cluster.write(f"{number:050}")
    cluster.run(100)
    assert cluster.core(nodes[0]).positions.log.base.seqno > 10
    cluster.sent.clear()
    return cluster


def test_the_whole_state_is_sent_when_the_log_no_longer_reaches_back() -> None:
    cluster = compacted(1, 2, 3)
    cluster.start(3)
    cluster.form(1, 2, 3)
    cluster.run(100)
    assert cluster.hosts[NodeId(3)].restored == 1
    assert cluster.commands(3) == cluster.commands(1)
    cluster.write("more")
    cluster.crash(1, 2, 3)
    cluster.start(1, 2, 3)
    cluster.form(1, 2, 3)
    cluster.write("end")
    cluster.run(100)
    assert cluster.commands(3) == cluster.commands(1)


def test_heartbeats_go_on_when_a_snapshot_takes_long() -> None:
    cluster = compacted(1, 2, 3, latency_us=20 * MS)
    started = cluster.now
    cluster.start(3)
    cluster.form(1, 2, 3)
    assert cluster.now - started > 500 * MS
    beats = [each for _, to, each in cluster.sent if isinstance(each, Ping | Pong) and to == 3]
    assert len(beats) >= 5
    assert cluster.views_at(1)[3:] == [(1, 2), (1, 2, 3)]


def silenced_with_the_whole_state(monkeypatch: pytest.MonkeyPatch, bytes_per_ms: int) -> Cluster:
    """Return a cluster in which 3 has received a snapshot and then is not heard for half a second."""
    monkeypatch.setattr(backup, "RESTORED_BYTES_PER_MS", bytes_per_ms)
    cluster = compacted(1, 2, 3)
    cluster.start(3)

    def has_all() -> bool:
        snapshot = cluster.core(1).positions.snapshot
        assert snapshot is not None
        whole = snapshot.meta.size_bytes
        parts = [each.staged.offset for _, _, each in cluster.sent if isinstance(each, ChunkReceived)]
        return whole in parts

    assert cluster.run(5_000, until=has_all)
    cluster.run(5)
    cluster.isolate(3)
    cluster.run(520)
    return cluster


def test_view_stays_when_a_backup_is_silent_while_it_restores_a_large_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = silenced_with_the_whole_state(monkeypatch, 1)
    assert cluster.views_at(1)[3:] == [(1, 2), (1, 2, 3)]
    cluster.heal()
    cluster.form(1, 2, 3)
    assert cluster.views_at(1)[3:] == [(1, 2), (1, 2, 3)]


def test_backup_is_removed_when_it_is_silent_for_longer_than_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = silenced_with_the_whole_state(monkeypatch, 10**9)
    assert cluster.views_at(1)[3:] == [(1, 2), (1, 2, 3), (1, 2)]


def test_backup_is_removed_when_its_connection_breaks_whatever_it_had_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = silenced_with_the_whole_state(monkeypatch, 1)
    cluster.down((1, 2), 3)
    cluster.form(1, 2, within_ms=1_000)


def test_no_more_than_a_minute_of_silence_is_believed() -> None:
    state = State(
        Member(NodeId(1), Incarnation(1)),
        (),
        ViewstampedOptions(),
        Outbox(PersistSeq(0)),
        Random(1),
        Instant(0),
        None,
    )
    beats = Heartbeats(state)
    beats.excuse(NodeId(2), 10**12)
    state.now = Instant(BUSY_MS_MAX * MS - 1)
    assert beats.is_busy(NodeId(2))
    state.now = Instant(BUSY_MS_MAX * MS)
    assert not beats.is_busy(NodeId(2))
    beats.excuse(NodeId(2), -5)
    assert not beats.is_busy(NodeId(2))


def test_no_piece_is_sent_twice_when_nothing_is_lost() -> None:
    cluster = compacted(1, 2, 3, latency_us=20 * MS)
    cluster.start(3)
    cluster.form(1, 2, 3)
    offsets = [each.offset for _, _, each in cluster.sent if isinstance(each, Chunk)]
    assert len(offsets) == len(set(offsets)) > 5


@pytest.mark.parametrize("seed", range(2, 5))
def test_no_piece_is_sent_twice_when_messages_overtake_one_another(seed: int) -> None:
    cluster = compacted(1, 2, 3)
    rng = Random(seed)
    cluster.meddle = lambda *_: (rng.randrange(3 * MS),)
    started = cluster.now
    cluster.start(3)
    cluster.form(1, 2, 3)
    offsets = [each.offset for _, _, each in cluster.sent if isinstance(each, Chunk)]
    assert len(offsets) == len(set(offsets)) > 5
    assert cluster.now - started < 600 * MS, "as long as in order"


@pytest.mark.parametrize("seed", range(10))
def test_a_transfer_ends_when_a_third_of_all_messages_is_lost(seed: int) -> None:
    cluster = compacted(1, 2, 3)
    # Not every third: where all rounds take equally many messages, the same ones would always be lost.
    rng = Random(seed)
    cluster.meddle = lambda *_: () if rng.random() < 1 / 3 else None
    cluster.start(3)
    cluster.form(1, 2, 3, within_ms=30_000)
    assert cluster.commands(3) == cluster.commands(1)


def test_a_transfer_goes_on_where_it_stopped_when_the_primary_changed() -> None:
    cluster = compacted(1, 2, 3, 4, latency_us=20 * MS)
    for node in (1, 2, 3):
        cluster.step(node, Directed(DirectiveToken(1), TakeSnapshot()))
    cluster.run(50)
    digests = {host.snapshot.meta.digest for host in cluster.hosts.values() if host.snapshot is not None}
    cluster.start(4)
    received = cluster.hosts[NodeId(4)]
    assert cluster.run(3_000, until=lambda: len(received.staged) > 500)
    assert len(digests) == 1
    cluster.crash(1)
    cluster.sent.clear()
    cluster.form(2, 3, 4)
    again = [each.offset for source, to, each in cluster.sent if isinstance(each, Chunk) and source == 2]
    assert min(again) >= 500
    assert received.restored == 1
    assert cluster.commands(4) == cluster.commands(2)


def test_a_node_goes_on_from_a_snapshot_when_it_died_before_its_journal_heard_of_it() -> None:
    cluster = compacted(1, 2, 3)
    cluster.start(3)
    host = cluster.hosts[NodeId(3)]
    covered = host.snapshot
    assert cluster.run(3_000, until=lambda: host.snapshot is not covered)
    cluster.crash(3)
    assert host.restored == 0
    for _ in range(2):
        cluster.start(3)
        cluster.form(1, 2, 3)
        cluster.write("more")
        cluster.run(100)
        cluster.crash(3)
    cluster.start(3)
    cluster.form(1, 2, 3)
    cluster.write("end")
    cluster.run(100)
    assert cluster.commands(3) == cluster.commands(1)


def test_the_view_goes_back_when_a_joiner_dies_during_its_transfer() -> None:
    cluster = compacted(1, 2, 3, latency_us=20 * MS)
    cluster.start(3)
    assert cluster.run(3_000, until=lambda: len(cluster.hosts[NodeId(3)].staged) > 200)
    assert "3 to be synchronised" in cluster.waiting_for(1)
    cluster.crash(3)
    cluster.form(1, 2)
    cluster.write("goes on")
    assert cluster.views_at(1)[3:] == [(1, 2), (1, 2, 3), (1, 2)]


def test_a_damaged_snapshot_is_asked_for_again() -> None:
    cluster = compacted(1, 2, 3)
    cluster.start(3)
    host = cluster.hosts[NodeId(3)]
    assert cluster.run(3_000, until=lambda: len(host.staged) > 500)
    token = next(each.token for each in reversed(staged_effects(cluster)))
    cluster.step(3, Staged(token, None))
    cluster.form(1, 2, 3)
    assert cluster.commands(3) == cluster.commands(1)


def test_a_snapshot_is_sent_again_when_it_arrived_and_could_not_be_written() -> None:
    cluster = compacted(1, 2, 3)
    cluster.hosts[NodeId(3)].unwritable = 2
    cluster.start(3)
    cluster.form(1, 2, 3)
    assert cluster.hosts[NodeId(3)].unwritable == 0
    assert cluster.commands(3) == cluster.commands(1)


def test_a_primary_asks_about_a_snapshot_when_a_late_message_says_that_it_arrived() -> None:
    cluster = compacted(1, 2, 3)
    cluster.start(3)
    cluster.form(1, 2, 3)
    cluster.run(500)
    core = cluster.core(1)
    snapshot = core.positions.snapshot
    assert snapshot is not None
    arrived = StagedPart(snapshot.meta.viewstamp, snapshot.meta.digest, snapshot.meta.size_bytes)
    late = Position(core.group, core.view, (Viewstamp(View(0), Seqno(0)),), arrived)
    cluster.step(1, Received(NodeId(3), late))
    cluster.write("goes on")
    cluster.run(500)
    assert cluster.commands(3) == cluster.commands(1)
    assert cluster.commands(1)[-1] == "goes on"


def staged_effects(cluster: Cluster) -> list[Stage]:
    return cluster.hosts[NodeId(3)].stages


def test_the_suffix_is_sent_when_the_kept_log_reaches_back() -> None:
    options = ViewstampedOptions(log_bytes_max=8_000)
    cluster = cluster_of(1, 2, 3, options=options)
    for number in range(60):
        cluster.write(f"{number:050}")
    cluster.run(100)
    cluster.crash(3)
    cluster.form(1, 2)
    for number in range(20):
        cluster.write(f"{number:050}")
    assert cluster.core(1).positions.log.base.seqno > 0
    cluster.sent.clear()
    cluster.start(3)
    cluster.form(1, 2, 3)
    cluster.run(100)
    assert cluster.commands(3) == cluster.commands(1)
    assert not any(isinstance(each, Chunk) for _, _, each in cluster.sent)
    sent = sum(len(each.records) for _, to, each in cluster.sent if to == 3 and isinstance(each, Append))
    assert sent <= 25
