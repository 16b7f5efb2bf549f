"""A disk read back: recovery, and the image that the oracle keeps."""

import pytest

from viewstamp.core.errors import JournalCorrupt
from viewstamp.core.ids import ORIGIN, Incarnation, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.protocol import Recovered
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.protocols.replication.log import COMMAND, EntryRecord
from viewstamp.protocols.viewstamped.journal import (
    ENCODER,
    AcceptedValue,
    Decided,
    History,
    LogReset,
    LogStart,
    Promised,
    Record,
    Replay,
    Synchronised,
    replay_journal,
)
from viewstamp.protocols.viewstamped.membership import Member, Membership, first_view_of, successor
from viewstamp.protocols.viewstamped.messages import LOWEST, Ballot

ONE = Member(NodeId(1), Incarnation(11))
FIRST = first_view_of(ONE)
LOW, HIGH = Ballot(1, NodeId(1)), Ballot(2, NodeId(1))


def next_view(current: Membership, *, synchronised: bool = True) -> Membership:
    following = successor(current, current.members, synchronised=synchronised)
    assert following is not None
    return following


SECOND = next_view(FIRST)


def entry(view: int, seqno: int) -> EntryRecord:
    return EntryRecord(View(view), Seqno(seqno), COMMAND, f"{view}.{seqno}".encode())


def stamp(view: int, seqno: int) -> Viewstamp:
    return Viewstamp(View(view), Seqno(seqno))


def disk_of(*writes: tuple[Record, ...], first: int = 1) -> Replay:
    disk = Replay()
    for seq, records in enumerate(writes, start=first):
        disk.write(PersistSeq(seq), [ENCODER.encode(record) for record in records])
    return disk


def promises(disk: Replay) -> tuple[Ballot, Ballot | None, Membership | None]:
    acceptor = disk.acceptor()
    return (acceptor.promised, acceptor.accepted, acceptor.value)


def recovered(*writes: tuple[Record, ...], snapshot: BytesSnapshot | None = None) -> Recovered:
    encoded = tuple(
        (PersistSeq(seq), tuple(ENCODER.encode(record) for record in records))
        for seq, records in enumerate(writes, start=1)
    )
    return Recovered(encoded, PersistSeq(len(encoded)), snapshot)


def test_promises_come_back_when_they_are_of_the_next_instance() -> None:
    disk = disk_of((Decided(FIRST),), (Promised(View(2), LOW),), (AcceptedValue(View(2), HIGH, SECOND),))
    assert promises(disk) == (HIGH, HIGH, SECOND)
    assert disk.promises == {}
    assert (disk.view, disk.acceptor().instance) == (1, 2)


def test_promises_are_over_when_their_instance_was_decided() -> None:
    disk = disk_of((Promised(View(1), HIGH), AcceptedValue(View(1), HIGH, FIRST)), (Decided(FIRST),))
    assert promises(disk) == (LOWEST, None, None)


def test_a_promise_stays_when_it_is_higher_than_what_was_accepted() -> None:
    disk = disk_of((Decided(FIRST), AcceptedValue(View(2), LOW, SECOND), Promised(View(2), HIGH)))
    acceptor = disk.acceptor()
    assert (acceptor.promised, acceptor.accepted) == (HIGH, LOW)


def test_a_view_counts_once_when_it_was_written_twice() -> None:
    disk = disk_of((Decided(FIRST),), (Decided(FIRST),), (Decided(SECOND),))
    assert disk.history == [FIRST, SECOND]


def test_entries_replace_others_when_they_stand_at_their_place() -> None:
    disk = disk_of((entry(1, 1), entry(1, 2), entry(1, 3)), (entry(2, 2),))
    assert disk.last == stamp(2, 2)
    assert disk.data(Seqno(2)) == b"2.2"
    assert disk.data(Seqno(3)) is None
    assert not disk.holds(stamp(1, 2))


def test_replay_begins_anywhere_when_the_beginning_was_released() -> None:
    tail: list[tuple[Record, ...]] = [
        (Decided(next_view(SECOND)),),
        (entry(1, 5),),
        (entry(1, 4), entry(1, 5)),
        (entry(2, 6),),
        (History((FIRST, SECOND)), Synchronised(View(1)), Promised(View(3), LOW), LogStart(stamp(1, 4))),
        (entry(2, 7),),
    ]
    for begin in range(4):
        disk = disk_of(*tail[begin:])
        assert disk.history == [FIRST, SECOND]
        if begin < 3:
            assert (disk.base, disk.last) == (stamp(1, 4), stamp(2, 7))
        assert disk.acceptor().promised == LOW
        assert disk.synchronised == 1


def test_a_gap_in_the_log_is_an_error_when_it_is_read() -> None:
    with pytest.raises(JournalCorrupt, match="no entry 2"):
        disk_of((entry(1, 1),), (entry(1, 3),))


def test_recovery_refuses_when_the_snapshot_before_the_log_is_lost() -> None:
    writes: list[tuple[Record, ...]] = [(entry(1, 1), entry(1, 2)), (LogStart(stamp(1, 2)),)]
    with pytest.raises(JournalCorrupt, match="begins after entry"):
        replay_journal(recovered(*writes))
    assert replay_journal(recovered(*writes, snapshot=BytesSnapshot(stamp(1, 2), b"", b"s"))).base == stamp(
        1, 2
    )


def test_a_received_snapshot_replaces_the_log_when_it_was_reset() -> None:
    disk = disk_of((entry(1, 1), entry(1, 2)), (LogReset(stamp(4, 9)),), (entry(4, 10),))
    assert (disk.base, disk.last) == (stamp(4, 9), stamp(4, 10))


def test_an_image_counts_the_snapshot_when_the_journal_does_not_know_of_it_yet() -> None:
    disk = disk_of((entry(1, 1), entry(1, 2)))
    assert disk.base == ORIGIN
    disk.snapshot(BytesSnapshot(stamp(3, 9), b"", b"").meta)
    assert (disk.base, disk.last) == (stamp(3, 9), stamp(3, 9))
    assert disk.holds(stamp(1, 2))
    assert disk.holds(stamp(3, 9))
    assert not disk.holds(stamp(3, 10))
    assert disk.data(Seqno(1)) is None


def test_an_image_keeps_its_log_when_the_snapshot_covers_a_part_of_it() -> None:
    disk = disk_of((entry(1, 1), entry(1, 2), entry(1, 3)))
    disk.snapshot(BytesSnapshot(stamp(1, 2), b"", b"").meta)
    assert (disk.base, disk.last) == (ORIGIN, stamp(1, 3))
    assert not disk.holds(stamp(2, 3))


def test_journal_is_refused_when_a_record_is_none_of_this_protocol() -> None:
    with pytest.raises(JournalCorrupt, match="not one of viewstamped's"):
        Replay().write(PersistSeq(1), (b"\x93\x63\x01\x02",))
