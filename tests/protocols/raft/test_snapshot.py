import msgspec
import pytest

from tests.protocols.raft.harness import Cluster, Letter, kinds, propose_all
from viewstamp.core.effects import Stage
from viewstamp.core.events import Received, TakeSnapshot
from viewstamp.core.ids import Instant, NodeId, Seqno, View, Viewstamp
from viewstamp.core.snapshots import BytesSnapshot, SnapshotMeta
from viewstamp.protocols.raft import RaftOptions
from viewstamp.protocols.raft.messages import AppendEntries, SnapshotAck, SnapshotChunk
from viewstamp.protocols.replication.configuration import encode_configuration
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, encode_record


def lagging(*, padding: int = 1_000, **options: int) -> tuple[Cluster, int, int]:
    """A cluster, its leader, and a follower that is cut off and needs a snapshot."""
    values = {"log_bytes_max": 400, "snapshot_chunk_bytes": 100, "snapshot_window_chunks": 3, **options}
    cluster = Cluster(3, options=RaftOptions(**values))
    cluster.padding = padding
    leader = cluster.elect()
    follower = cluster.followers()[0]
    cluster.isolate(follower)
    propose_all(cluster, [b"command %d" % number for number in range(30)])
    assert cluster.core(leader).state.log.base_seqno > cluster.core(follower).state.log.last_seqno
    return cluster, leader, follower


def agrees(cluster: Cluster, one: int, other: int) -> bool:
    return cluster.nodes[NodeId(one)].machine == cluster.nodes[NodeId(other)].machine


def test_follower_when_it_needs_what_is_compacted_gets_a_snapshot() -> None:
    cluster, leader, follower = lagging()
    cluster.heal()
    cluster.run(300)
    assert agrees(cluster, leader, follower)
    disk = cluster.nodes[NodeId(follower)].disk
    assert disk.released > 1, "what the snapshot replaced may go"
    assert cluster.core(leader).replication.progress[NodeId(follower)].state == "replicate"
    cluster.propose(leader, b"after")
    cluster.run(150)
    assert cluster.commands(follower)[-1] == b"after"


def move(cluster: Cluster, leader: int) -> Letter | None:
    """Deliver the oldest message; where there is none, let time pass until the leader's next heartbeat."""
    if not cluster.letters:
        deadline = cluster.core(leader).deadline
        assert deadline is not None
        cluster.now = Instant(max(cluster.now, deadline))
        cluster.wake(leader)
    return cluster.deliver_next()


def test_chunks_when_they_are_under_way_stay_in_the_window() -> None:
    cluster, leader, follower = lagging(padding=5_000)
    cluster.heal()
    most = 0
    while not agrees(cluster, leader, follower):
        chunks = [letter for letter in cluster.letters if isinstance(letter.message, SnapshotChunk)]
        most = max(most, len(chunks))
        move(cluster, leader)
    assert most == 3


def test_follower_when_the_log_grows_during_each_transfer_catches_up_with_one_snapshot() -> None:
    cluster, leader, follower = lagging(padding=2_000)
    progress = cluster.core(leader).replication.progress[NodeId(follower)]
    cluster.heal()
    sent = set[int]()
    for number in range(120):
        cluster.propose(leader, b"during %d" % number)
        for _ in range(4):
            letter = move(cluster, leader)
            if letter is not None and isinstance(letter.message, SnapshotChunk):
                sent.add(letter.message.meta.viewstamp.seqno)
    assert len(sent) == 1
    cluster.run(300)
    assert (progress.state, progress.catches_up) == ("replicate", False)
    assert agrees(cluster, leader, follower)


def test_heartbeats_when_a_snapshot_is_under_way_pass_between_its_chunks() -> None:
    cluster, leader, follower = lagging(padding=5_000)
    cluster.heal()
    while not any(isinstance(letter.message, SnapshotChunk) for letter in cluster.letters):
        move(cluster, leader)
    cluster.pass_to(cluster.core(leader).deadline)
    cluster.wake(leader)
    under_way = kinds([letter for letter in cluster.letters if letter.to == follower])
    assert "AppendEntries" in under_way[:4]


def test_transfer_when_the_leader_changes_goes_on_where_it_was() -> None:
    cluster, leader, follower = lagging(padding=3_000)
    other = next(node for node in cluster.members if node not in {leader, follower})
    cluster.core(leader).state.snapshot = cluster.core(other).state.snapshot
    cluster.heal()
    received = 0
    while received < 10:
        letter = move(cluster, leader)
        received += letter is not None and isinstance(letter.message, SnapshotChunk)
    staged = len(cluster.nodes[NodeId(follower)].staging)
    assert staged == 1_000
    cluster.crash(leader)
    cluster.letters.clear()
    offsets: list[int] = []

    def note(letter: Letter) -> bool:
        if isinstance(letter.message, SnapshotChunk):
            offsets.append(letter.message.offset)
        return False

    cluster.blocked = note
    cluster.run(3_000)
    assert agrees(cluster, other, follower)
    assert offsets[0] == 0, "the new leader does not know better"
    assert offsets[1] == staged


def test_transfer_when_chunks_are_lost_goes_on() -> None:
    cluster, leader, follower = lagging(padding=2_000)
    count = 0

    def loses(letter: Letter) -> bool:
        nonlocal count
        of_snapshot = isinstance(letter.message, SnapshotChunk | SnapshotAck)
        count += of_snapshot
        return of_snapshot and count % 3 == 2

    cluster.blocked = loses
    cluster.run_until(lambda: agrees(cluster, leader, follower), 20_000)


def test_transfer_when_the_follower_restarts_begins_anew() -> None:
    cluster, leader, follower = lagging(padding=2_000)
    cluster.heal()
    cluster.run(100)
    cluster.wake(leader)
    for _ in range(8):
        cluster.deliver_next()
    cluster.crash(follower)
    cluster.start(follower)
    cluster.run(1_500)
    assert agrees(cluster, cluster.leader or 0, follower)


def test_snapshot_when_the_body_is_empty_arrives() -> None:
    cluster, leader, follower = lagging()
    newest = cluster.core(leader).state.snapshot
    assert newest is not None
    state = cluster.core(follower).state
    empty = BytesSnapshot(newest.meta.viewstamp, newest.meta.header, b"")
    chunk = SnapshotChunk(
        term=cluster.core(leader).state.term, to=state.incarnation, meta=empty.meta, offset=0, data=b""
    )
    effects = cluster.core(follower).step(Received(NodeId(leader), chunk), cluster.now)
    assert next(type(effect) for effect in effects) is Stage


def test_snapshot_when_it_is_older_than_what_is_applied_is_acknowledged_and_not_installed() -> None:
    cluster, leader, follower = lagging()
    cluster.heal()
    cluster.run(300)
    state = cluster.core(follower).state
    applied = state.applied
    old = cluster.core(leader).state.snapshot
    assert old is not None
    cluster.letters.clear()
    chunk = SnapshotChunk(
        term=state.term, to=state.incarnation, meta=old.meta, offset=0, data=old.read(0, 50)
    )
    cluster.feed_message(leader, follower, chunk)
    assert state.applied == applied
    assert [type(letter.message).__name__ for letter in cluster.letters] == ["AppendResponse"]


def install(cluster: Cluster, leader: int, follower: int, view: int, seqno: int) -> None:
    header = encode_configuration(cluster.core(follower).state.membership.current)
    machine = cluster.history[seqno][1].to_bytes(8, "big")
    snapshot = BytesSnapshot(Viewstamp(View(view), Seqno(seqno)), header, machine)
    state = cluster.core(follower).state
    cluster.feed_message(
        leader,
        follower,
        SnapshotChunk(term=state.term, to=state.incarnation, meta=snapshot.meta, offset=0, data=machine),
    )


@pytest.mark.parametrize("slow", [True, False])
def test_suffix_when_it_matches_the_snapshot_stays(slow: bool) -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = cluster.followers()[0]
    cluster.nodes[NodeId(follower)].disk.held = slow
    propose_all(cluster, [b"a", b"b", b"c"])
    state = cluster.core(follower).state
    assert (state.committed, state.log.last_seqno) == (3, 4)
    state.committed = state.applied = 1
    cluster.nodes[NodeId(follower)].applied = cluster.nodes[NodeId(follower)].applied[:1]
    cluster.oracle.forget(NodeId(follower))
    install(cluster, leader, follower, 1, 3)
    assert state.log.base == Viewstamp(View(1), Seqno(3))
    assert state.log.view_at(4) == 1
    cluster.nodes[NodeId(follower)].disk.held = False
    cluster.sync(follower)
    cluster.crash(follower)
    cluster.start(follower)
    assert cluster.core(follower).state.log.last_seqno == 4


def test_suffix_when_it_conflicts_with_the_snapshot_goes() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = cluster.followers()[0]
    cluster.isolate(follower)
    propose_all(cluster, [b"a", b"b"])
    state = cluster.core(follower).state
    stale = [encode_record(EntryRecord(0 + 1, seqno, COMMAND, b"stale")) for seqno in (2, 3, 4)]
    message = AppendEntries(
        term=1,
        to=state.incarnation,
        previous_view=1,
        previous_seqno=1,
        entries=stale,
        committed=0,
        round=0,
        attempt=0,
    )
    cluster.feed_message(leader, follower, message)
    assert state.log.last_seqno == 4
    cluster.history[3] = (2, cluster.history[3][1])
    cluster.core(follower).roles.become_follower(2, NodeId(leader))
    cluster.wake(follower)
    install(cluster, leader, follower, 2, 3)
    assert state.log.last == Viewstamp(View(2), Seqno(3))
    cluster.crash(follower)
    cluster.start(follower)
    assert cluster.core(follower).state.log.last == Viewstamp(View(2), Seqno(3))


def test_restart_when_a_snapshot_was_received_and_its_marker_was_not_written_goes_on_from_it() -> None:
    cluster, leader, follower = lagging()
    newest = cluster.core(leader).state.snapshot
    assert newest is not None
    cluster.crash(follower)
    node = cluster.nodes[NodeId(follower)]
    node.disk.keep_snapshot(newest)
    written = node.disk.written
    cluster.start(follower)
    state = cluster.core(follower).state
    assert state.log.base == newest.meta.viewstamp
    assert (node.disk.written, node.disk.released) == (written + 1, written + 1)
    cluster.crash(follower)
    cluster.start(follower)
    assert cluster.core(follower).state.log.base == newest.meta.viewstamp


@pytest.mark.parametrize(
    ("meta", "offset", "data"),
    [
        ({}, -1, b"x"),
        ({}, 2**60, b"x"),
        ({"size_bytes": 3}, 3, b"x"),
        ({"size_bytes": -1}, 0, b""),
        ({"size_bytes": 2**63}, 0, b"x"),
        ({}, 0, b""),
        ({"header": b"rubbish"}, 0, b"x"),
        ({"viewstamp": Viewstamp(View(99), Seqno(9))}, 0, b"x"),
        ({"viewstamp": Viewstamp(View(1), Seqno(-4))}, 0, b"x"),
        ({"viewstamp": Viewstamp(View(1), Seqno(2 + (1 << 40)))}, 0, b"x"),
    ],
)
def test_chunk_when_it_cannot_be_is_dropped(meta: dict[str, object], offset: int, data: bytes) -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = cluster.followers()[0]
    state = cluster.core(follower).state
    header = encode_configuration(state.membership.current)
    good = SnapshotMeta(Viewstamp(View(1), Seqno(50)), header, 100, 7)
    chunk = SnapshotChunk(
        term=1, to=state.incarnation, meta=msgspec.structs.replace(good, **meta), offset=offset, data=data
    )
    effects = cluster.core(follower).step(Received(NodeId(leader), chunk), cluster.now)
    assert list(effects) == []
    assert state.counters["malformed snapshot"] == 1


def test_chunk_when_it_is_not_the_next_says_which_is() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = cluster.followers()[0]
    state = cluster.core(follower).state
    cluster.letters.clear()
    header = encode_configuration(state.membership.current)
    meta = SnapshotMeta(Viewstamp(View(1), Seqno(50)), header, 100, 7)
    answers = []
    for offset, data in ((0, bytes(10)), (0, bytes(10)), (30, bytes(10)), (10, bytes(10)), (5, bytes(10))):
        cluster.feed_message(
            leader, follower, SnapshotChunk(term=1, to=state.incarnation, meta=meta, offset=offset, data=data)
        )
        answer = cluster.letters.pop().message
        answers.append((answer.offset, answer.gap))
    assert answers == [(10, False), (10, False), (10, True), (20, False), (20, False)]


def test_digest_when_it_is_wrong_begins_again() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = cluster.followers()[0]
    state = cluster.core(follower).state
    header = encode_configuration(state.membership.current)
    meta = SnapshotMeta(Viewstamp(View(1), Seqno(50)), header, 10, 7)
    cluster.feed_message(
        leader, follower, SnapshotChunk(term=1, to=state.incarnation, meta=meta, offset=0, data=bytes(10))
    )
    assert state.applied <= 1
    assert state.counters["snapshot with a wrong digest"] == 1
    cluster.letters.clear()
    cluster.feed_message(
        leader, follower, SnapshotChunk(term=1, to=state.incarnation, meta=meta, offset=5, data=bytes(5))
    )
    assert cluster.letters.pop().message.offset == 0


# Compaction.


@pytest.mark.parametrize("dead_follower", [True, False])
def test_log_when_it_is_limited_stays_within_the_limit(dead_follower: bool) -> None:
    cluster = Cluster(3, options=RaftOptions(log_bytes_max=1_000))
    leader = cluster.elect()
    if dead_follower:
        cluster.crash(cluster.followers()[0])
    for number in range(500):
        cluster.propose(leader, b"%d" % number)
        cluster.settle()
        for node in cluster.nodes.values():
            if node.core is not None:
                assert node.core.status(cluster.now).log_bytes <= 1_000
                live = sum(len(r) for seq, rs in node.disk.writes if seq >= node.disk.released for r in rs)
                assert live <= 1_100
    assert cluster.core(leader).state.snapshot_seqno > 400


def test_log_when_there_is_no_limit_is_never_compacted() -> None:
    cluster = Cluster(1, options=RaftOptions(log_bytes_max=None))
    cluster.run(0)
    for number in range(300):
        cluster.propose(1, b"%d" % number)
    assert cluster.core(1).state.log.base_seqno == 0
    assert cluster.nodes[NodeId(1)].captures == []


def test_release_when_the_marker_is_not_durable_waits() -> None:
    cluster = Cluster(1, options=RaftOptions(log_bytes_max=200))
    cluster.run(0)
    node = cluster.nodes[NodeId(1)]
    node.hold_captures = True
    number = 0
    while not node.captures:
        number += 1
        cluster.propose(1, b"%d" % number)
    node.disk.held = True
    cluster.finish_captures(1)
    assert cluster.core(1).state.log.base_seqno > 0
    assert node.disk.released == 0
    node.disk.held = False
    cluster.sync(1)
    assert node.disk.released > 0


def test_capture_when_it_fails_is_tried_again_later() -> None:
    cluster = Cluster(1, options=RaftOptions(log_bytes_max=200))
    cluster.run(0)
    node = cluster.nodes[NodeId(1)]
    node.hold_captures = True
    while not node.captures:
        cluster.propose(1, b"0123456789")
    cluster.finish_captures(1, fails=True)
    cluster.propose(1, b"x")
    assert node.captures == []
    cluster.run(400)
    cluster.propose(1, b"y")
    assert len(node.captures) == 1


def test_restart_when_snapshots_were_taken_reads_the_rest() -> None:
    cluster = Cluster(3, options=RaftOptions(log_bytes_max=500))
    leader = cluster.elect()
    propose_all(cluster, [b"%d" % number for number in range(100)])
    cluster.run(200)
    machine = cluster.nodes[NodeId(leader)].machine
    for node in cluster.members:
        cluster.crash(node)
    for node in cluster.members:
        cluster.start(node)
    leader = cluster.elect()
    cluster.run(300)
    assert all(cluster.nodes[node].first > 0 for node in cluster.members)
    last = cluster.core(leader).state.applied
    assert last > 101
    assert cluster.history[last - 1][1] == machine or cluster.history[last][1] != machine


def test_directive_when_a_snapshot_is_wanted() -> None:
    cluster = Cluster(1)
    node = cluster.nodes[NodeId(1)]
    cluster.run(0)
    cluster.propose(1, b"x")
    cluster.direct(1, 1, TakeSnapshot())
    assert node.settled == {1: None}
    assert cluster.core(1).state.snapshot_seqno == 2
    cluster.direct(1, 2, TakeSnapshot())
    assert node.settled == {1: None, 2: None}
    node.hold_captures = True
    cluster.propose(1, b"y")
    cluster.direct(1, 3, TakeSnapshot())
    cluster.direct(1, 4, TakeSnapshot())
    assert len(node.captures) == 1
    cluster.finish_captures(1, fails=True)
    assert [token for token, refusal in node.settled.items() if refusal] == [3, 4]


def test_directive_when_nothing_is_applied_is_refused() -> None:
    cluster = Cluster(3, start=False)
    cluster.start(1)
    cluster.direct(1, 1, TakeSnapshot())
    assert "nothing is applied" in (cluster.nodes[NodeId(1)].settled[1] or "")
