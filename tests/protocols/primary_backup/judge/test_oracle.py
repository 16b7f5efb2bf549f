"""What the judge sees of a fenced node: its disk, its promises, its positions."""

import pytest

from tests.protocols.primary_backup.fenced_world import bootstrapped
from viewstamp.core.ids import Incarnation, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.protocols.primary_backup import DEFINITION
from viewstamp.protocols.primary_backup.journal import Base, Promise, SyncRecord
from viewstamp.protocols.primary_backup.judge.oracle import make_image
from viewstamp.protocols.primary_backup.messages import AppendResponse, Fence, FenceResponse
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, encode_record

ROSTER = tuple((NodeId(node), Incarnation(100 * (node + 1))) for node in range(3))


def record(version: int, *members: int, epoch: int = 1) -> SyncRecord:
    return SyncRecord(epoch, version, NodeId(members[0]), tuple(map(NodeId, members)), ROSTER)


def entry(view: int, seqno: int) -> bytes:
    return encode_record(EntryRecord(view, seqno, COMMAND, b"%d" % seqno))


BOOTSTRAP = (encode_record(Promise(1, NodeId(0), granted=True)), encode_record(Base(0, 0, 0)))


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


def test_progress_is_owed_when_a_majority_that_counts_has_a_synchronous_member() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    images = {node: member.disk.image for node, member in world.nodes.items()}
    incarnations = {node: member.incarnation for node, member in world.nodes.items()}
    owes = world.oracle.owes_progress
    assert owes(incarnations, images)
    assert owes({NodeId(1): incarnations[NodeId(1)], NodeId(2): incarnations[NodeId(2)]}, images)
    assert not owes({NodeId(1): incarnations[NodeId(1)]}, images)
    assert not owes({NodeId(1): incarnations[NodeId(1)], NodeId(2): None}, images)
    empty = {node: make_image() for node in incarnations}
    assert owes(dict.fromkeys(incarnations), empty)
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
