"""Which members owe progress: by what their disks show of the views that may come."""

from viewstamp.core.ids import Incarnation, NodeId, PersistSeq, View
from viewstamp.protocols.viewstamped.journal import (
    ENCODER,
    AcceptedValue,
    Decided,
    History,
    Promised,
    Record,
    Replay,
)
from viewstamp.protocols.viewstamped.judge.liveness import owes_progress
from viewstamp.protocols.viewstamped.membership import Member, Membership
from viewstamp.protocols.viewstamped.messages import Ballot

NODES = tuple(map(NodeId, (1, 2, 3)))


def member(node: int) -> Member:
    return Member(NodeId(node), Incarnation(node))


def view(number: int, *nodes: int) -> Membership:
    named = tuple(map(NodeId, nodes))
    return Membership(View(number), tuple(map(member, nodes)), named, named[0])


HISTORY = (view(1, 1), view(2, 1, 2), view(3, 1, 2, 3))


def disk_of(*records: Record) -> Replay:
    disk = Replay()
    disk.write(PersistSeq(1), [ENCODER.encode(record) for record in (History(HISTORY), *records)])
    return disk


def owed(alive: tuple[int, ...], **disks: Replay) -> bool:
    images = {node: disks.get(f"disk{node}", disk_of()) for node in NODES}
    return owes_progress(NODES, {NodeId(node): Incarnation(node) for node in alive}, images)


def test_a_majority_owes_progress_when_nothing_was_proposed() -> None:
    assert owed((1, 2))
    assert owed((2, 3))
    assert not owed((3,))


def test_nothing_is_owed_when_a_view_was_accepted_that_the_living_cannot_carry() -> None:
    accepted = AcceptedValue(View(4), Ballot(1, NodeId(1)), view(4, 1, 3))
    assert not owed((1, 2), disk1=disk_of(accepted))
    assert owed((1, 3), disk1=disk_of(accepted))


def test_nothing_is_owed_when_a_promised_proposer_may_leave_out_one_of_the_living() -> None:
    promised = Promised(View(4), Ballot(1, NodeId(1)))
    assert not owed((1, 2), disk1=disk_of(promised))
    assert owed((1, 2, 3), disk1=disk_of(promised))


def test_a_majority_owes_progress_when_the_promise_was_about_a_view_that_is_decided() -> None:
    assert owed((1, 2), disk1=disk_of(Promised(View(3), Ballot(1, NodeId(1)))))


def test_nothing_is_owed_when_the_living_cannot_leave_a_view_whose_successor_only_the_dead_know() -> None:
    shrunk, grown = view(4, 1, 2), view(5, 1, 2, 3)
    knows_less = disk_of(Decided(shrunk))
    knows_more = disk_of(Decided(shrunk), Decided(grown))
    assert not owed((2, 3), disk1=knows_more, disk2=knows_less, disk3=knows_less)
    assert owed((2, 3), disk1=knows_more, disk2=knows_more, disk3=knows_less)
