"""A journal read back: what is accepted, and what is refused."""

import pytest

from viewstamp.core.errors import JournalCorrupt
from viewstamp.core.ids import NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.protocol import Recovered
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.protocols.primary_backup.journal import Base, Promise, replay
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, Truncation, encode_record


def entry(view: int, seqno: int) -> bytes:
    return encode_record(EntryRecord(view, seqno, COMMAND, b"%d" % seqno))


BOOTSTRAP = (encode_record(Promise(1, NodeId(0), granted=True)), encode_record(Base(0, 0, 0)))


def writes(*records: tuple[bytes, ...]) -> tuple[tuple[PersistSeq, tuple[bytes, ...]], ...]:
    return tuple((PersistSeq(seq), each) for seq, each in enumerate(records, start=1))


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
    assert (found.epoch, found.candidate, found.granted) == (3, None, False)
