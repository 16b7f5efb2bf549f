"""Options, records, replays and the oracles: the parts that stories do not reach."""

import msgspec
import pytest

from tests.protocols.primary_backup.course_world import CourseWorld
from tests.protocols.primary_backup.fenced_world import bootstrapped
from viewstamp.core.errors import ConfigurationError, JournalCorrupt
from viewstamp.core.ids import Incarnation, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.protocol import Recovered
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.protocols.primary_backup import COURSE, DEFINITION, CourseOptions, PrimaryBackupOptions
from viewstamp.protocols.primary_backup.course.messages import Replicated
from viewstamp.protocols.primary_backup.journal import Base, Promise, SyncRecord, replay
from viewstamp.protocols.primary_backup.judge.oracle import make_image
from viewstamp.protocols.primary_backup.messages import AppendResponse, Fence, FenceResponse
from viewstamp.protocols.registry import LABORATORY_NAMES, PROTOCOL_NAMES, protocol_definition
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, Truncation, encode_record

ROSTER = tuple((NodeId(node), Incarnation(100 * (node + 1))) for node in range(3))


def record(version: int, *members: int, epoch: int = 1) -> SyncRecord:
    return SyncRecord(epoch, version, NodeId(members[0]), tuple(map(NodeId, members)), ROSTER)


def entry(view: int, seqno: int) -> bytes:
    return encode_record(EntryRecord(view, seqno, COMMAND, b"%d" % seqno))


BOOTSTRAP = (encode_record(Promise(1, NodeId(0), granted=True)), encode_record(Base(0, 0, 0)))


def writes(*records: tuple[bytes, ...]) -> tuple[tuple[PersistSeq, tuple[bytes, ...]], ...]:
    return tuple((PersistSeq(seq), each) for seq, each in enumerate(records, start=1))


@pytest.mark.parametrize(
    ("name", "value"), [("heartbeat_ms", 0), ("reads_max", -1), ("silence_ms", 150), ("log_bytes_max", 0)]
)
def test_option_is_refused_when_it_cannot_be(name: str, value: int) -> None:
    with pytest.raises(ConfigurationError, match=name):
        PrimaryBackupOptions(**{name: value})  # type: ignore[arg-type]


def test_courses_option_is_refused_when_it_cannot_be() -> None:
    with pytest.raises(ConfigurationError, match="catch_up_window"):
        CourseOptions(catch_up_window=0)


def test_mode_cannot_be_changed_when_a_cluster_file_says_so() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"mode": "course"}, PrimaryBackupOptions)


def test_courses_form_is_for_laboratories_when_it_is_looked_up() -> None:
    assert protocol_definition("primary_backup") is DEFINITION
    assert protocol_definition("primary_backup_course") is COURSE
    assert "primary_backup_course" in LABORATORY_NAMES
    assert "primary_backup_course" not in PROTOCOL_NAMES
    assert not COURSE.guarantees.safe_under_partition
    assert DEFINITION.guarantees.safe_under_partition


def test_replay_continues_where_the_journal_ends_when_it_is_whole() -> None:
    found, gave_way = replay(
        Recovered(
            writes=writes(BOOTSTRAP, (entry(1, 1), entry(1, 2)), (encode_record(Truncation(1)), entry(2, 2))),
            written=PersistSeq(3),
        )
    )
    assert not gave_way
    assert (found.epoch, found.candidate, found.granted, found.rebuilt.bootstrapped) == (1, 0, True, True)
    assert found.log.last == Viewstamp(View(2), Seqno(2))
    assert found.log.durable_seqno == 2


@pytest.mark.parametrize(
    "records",
    [
        ((entry(1, 1),),),
        (BOOTSTRAP, (entry(1, 1), entry(1, 3))),
        (BOOTSTRAP, (b"\x93\x63\x01\x02",)),
        ((*BOOTSTRAP[:1], encode_record(Base(1, 5, 5))), (entry(1, 7),)),
        ((*BOOTSTRAP[:1], encode_record(Base(1, 5, 5))), (encode_record(Truncation(3)),)),
        ((*BOOTSTRAP[:1], encode_record(Base(1, 5, 5))),),
    ],
    ids=["no bootstrap", "gap", "no record", "gap after the base", "cut below the base", "snapshot gone"],
)
def test_replay_is_refused_when_something_is_missing(records: tuple[tuple[bytes, ...], ...]) -> None:
    with pytest.raises(JournalCorrupt):
        replay(Recovered(writes=writes(*records), written=PersistSeq(len(records))))


def test_log_gives_way_when_a_newer_snapshot_is_on_disk() -> None:
    snapshot = BytesSnapshot(Viewstamp(View(3), Seqno(9)), b"", b"state")
    found, gave_way = replay(
        Recovered(writes=writes(BOOTSTRAP, (entry(1, 1),)), written=PersistSeq(2), snapshot=snapshot)
    )
    assert gave_way
    assert found.log.base == snapshot.meta.viewstamp


def test_image_reads_like_a_restart_when_it_is_written() -> None:
    image = make_image()
    image.write(PersistSeq(1), BOOTSTRAP)
    image.write(PersistSeq(2), (entry(1, 1), entry(1, 2)))
    assert (image.view, image.promises) == (1, {"epoch granted to": 0})
    assert image.holds(Viewstamp(View(1), Seqno(2)))
    assert not image.holds(Viewstamp(View(2), Seqno(2)))
    assert (image.data(Seqno(1)), image.data(Seqno(9))) == (b"1", None)
    image.snapshot(BytesSnapshot(Viewstamp(View(2), Seqno(5)), b"", b"").meta)
    assert image.last == image.base == Viewstamp(View(2), Seqno(5))


def test_epoch_only_heard_of_is_not_a_grant_when_it_is_on_disk() -> None:
    image = make_image()
    image.write(PersistSeq(1), (encode_record(Promise(4, NodeId(2), granted=False)),))
    assert (image.view, image.promises) == (4, {"epoch granted to": None})


def test_fenced_promises_are_seen_as_broken_when_the_disk_does_not_hold_them() -> None:
    oracle = DEFINITION.make_oracle((NodeId(0), NodeId(1), NodeId(2)))
    image = oracle.make_image()
    image.write(PersistSeq(1), BOOTSTRAP)
    for message in (
        Fence(2, trial=False, by_operator=True, campaign=1),
        FenceResponse(2, Incarnation(1), 2, trial=False, granted=True, campaign=1, record=record(1, 0, 1)),
        FenceResponse(1, Incarnation(1), 2, trial=True, granted=True, campaign=1, record=record(1, 0, 1)),
        AppendResponse(
            epoch=1,
            incarnation=Incarnation(1),
            matched_view=1,
            matched_seqno=5,
            round=0,
            version=0,
            reached=5,
        ),
        AppendResponse(
            epoch=1,
            incarnation=Incarnation(1),
            matched_view=0,
            matched_seqno=0,
            round=0,
            version=1,
            reached=0,
        ),
    ):
        assert oracle.broken_promise(NodeId(0), message, image) is not None, message
    assert (
        oracle.broken_promise(
            NodeId(0),
            AppendResponse(
                epoch=1,
                incarnation=Incarnation(1),
                matched_view=0,
                matched_seqno=0,
                round=0,
                version=0,
                reached=0,
            ),
            image,
        )
        is None
    )


def test_course_promise_is_seen_as_broken_when_the_disk_does_not_hold_it() -> None:
    oracle = COURSE.make_oracle((NodeId(0), NodeId(1)))
    assert oracle.broken_promise(NodeId(1), Replicated(2, 1), oracle.make_image()) is not None


def test_progress_is_owed_when_a_majority_that_counts_has_a_synchronous_member() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    images = {node: member.disk.image for node, member in world.nodes.items()}
    lives = {node: member.incarnation for node, member in world.nodes.items()}
    owes = world.oracle.owes_progress
    assert owes(lives, images)
    assert owes({NodeId(1): lives[NodeId(1)], NodeId(2): lives[NodeId(2)]}, images)
    assert not owes({NodeId(1): lives[NodeId(1)]}, images)
    assert not owes({NodeId(1): lives[NodeId(1)], NodeId(2): None}, images)
    empty = {node: make_image() for node in lives}
    assert owes(dict.fromkeys(lives), empty)
    assert not owes({NodeId(0): None, NodeId(1): None}, empty)


def test_committed_is_justified_by_the_disks_of_a_record_when_a_majority_has_it() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    images = {node: member.disk.image for node, member in world.nodes.items()}
    assert world.oracle.committed_by(Viewstamp(View(1), Seqno(2)), images)
    assert not world.oracle.committed_by(Viewstamp(View(1), Seqno(3)), images)
    assert not world.oracle.committed_by(Viewstamp(View(1), Seqno(2)), {**images, NodeId(2): make_image()})


def test_positions_that_went_back_are_found_when_a_node_is_judged() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    state = world.core(1).state
    world.oracle.check_step(NodeId(1), world.core(1))
    state.committed -= 1
    with pytest.raises(InvariantViolated, match="I9"):
        world.oracle.check_node(world.core(1))
    with pytest.raises(InvariantViolated, match="I8"):
        world.oracle.check_step(NodeId(1), world.core(1))


def test_positions_that_went_back_are_found_when_a_server_of_the_course_is_judged() -> None:
    world = CourseWorld(2)
    world.write(0, b"a", b"b")
    core = world.core(1)
    core.committed_index = 0
    with pytest.raises(InvariantViolated, match="I9"):
        world.oracle.check_node(core)
    with pytest.raises(InvariantViolated, match="I8"):
        world.oracle.check_step(NodeId(1), core)


def test_status_names_the_nodes_that_are_waited_for_when_a_member_does_not_serve() -> None:
    world = bootstrapped(3)
    assert world.core(0).status(world.now).waiting_for == ""
    assert [peer.state for peer in world.core(0).status(world.now).peers] == ["synchronous"] * 2
    world.crash(0)
    world.run(1_000)
    assert "promote one" in world.core(1).status(world.now).waiting_for
    world.crash(2)
    world.promote(1, 1)
    world.run(10)
    assert "a majority to grant" in world.core(1).status(world.now).waiting_for
