"""A journal read back: whole, from any released beginning on, and with holes."""

import time
from collections.abc import Iterator

import pytest

from viewstamp.core.errors import JournalCorrupt
from viewstamp.core.ids import Incarnation, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.protocol import Recovered
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.protocols.raft.journal import CONFIGURATION, HardState, Marker, Record, Replay, replay
from viewstamp.protocols.replication.configuration import Configuration, encode_configuration
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, Truncation, encode_record

ALONE = Configuration(((NodeId(1), Incarnation(7)),))
BOOTSTRAP = (HardState(0, None), Marker(0, 0, 0, ALONE))


def entry(term: int, seqno: int, data: bytes = b"x") -> EntryRecord:
    return EntryRecord(term, seqno, COMMAND, data)


def snapshot(view: int, seqno: int) -> BytesSnapshot:
    return BytesSnapshot(Viewstamp(View(view), Seqno(seqno)), encode_configuration(ALONE), b"body")


def read(
    *writes: tuple[Record, ...], first: int = 1, kept: BytesSnapshot | None = None
) -> tuple[Replay, bool]:
    numbered = [
        (PersistSeq(seq), tuple(map(encode_record, records))) for seq, records in enumerate(writes, first)
    ]
    return replay(Recovered(numbered, PersistSeq(first + len(writes) - 1 if writes else 0), kept))


def terms(state: Replay) -> list[int]:
    log = state.log
    return [log.entry(seqno).view for seqno in range(log.base_seqno + 1, log.last_seqno + 1)]


def test_replay_when_nothing_was_written_is_a_node_without_a_log() -> None:
    state, gave_way = read()
    assert not state.rebuilt.bootstrapped
    assert not gave_way


def test_replay_when_a_conflict_was_cut_off_in_the_same_write() -> None:
    state, _ = read(BOOTSTRAP, (entry(1, 1), entry(1, 2), entry(1, 3)), (Truncation(1), entry(2, 2)))
    assert terms(state) == [1, 2]
    assert state.log.durable_seqno == 2


def test_replay_when_term_and_vote_were_written_last_wins() -> None:
    state, _ = read(BOOTSTRAP, (HardState(3, NodeId(2)),), (HardState(4, None),))
    assert (state.term, state.vote) == (4, None)


def test_replay_when_it_begins_after_what_was_released() -> None:
    writes: list[tuple[Record, ...]] = [BOOTSTRAP]
    writes += [(entry(1, seqno),) for seqno in range(1, 11)]
    writes += [(HardState(1, None), Marker(1, 5, 10, ALONE))]
    writes += [(entry(1, seqno),) for seqno in range(11, 14)]
    writes += [(HardState(1, None), Marker(1, 9, 13, ALONE)), (entry(2, 14),)]
    released_before = 11  # the write of entry 10
    whole, _ = read(*writes, kept=snapshot(1, 12))
    for first in range(1, released_before + 1):
        state, _ = read(*writes[first - 1 :], first=first, kept=snapshot(1, 12))
        assert state.log.base == whole.log.base == Viewstamp(View(1), Seqno(9))
        assert terms(state) == terms(whole) == [1, 1, 1, 1, 2]
        assert state.term == whole.term
    for first in range(released_before + 1, released_before + 4):
        with pytest.raises(JournalCorrupt):
            read(*writes[first - 1 :], first=first, kept=snapshot(1, 12))


def test_replay_when_the_snapshot_is_missing_or_too_old_is_refused() -> None:
    writes = (BOOTSTRAP, (entry(1, 1), entry(1, 2)), (HardState(1, None), Marker(1, 2, 2, ALONE)))
    with pytest.raises(JournalCorrupt, match="something between is missing"):
        read(*writes)
    with pytest.raises(JournalCorrupt, match="something between is missing"):
        read(*writes, kept=snapshot(1, 1))
    state, _ = read(*writes, kept=snapshot(1, 2))
    assert state.log.last == Viewstamp(View(1), Seqno(2))


def test_term_is_at_least_that_of_the_snapshot_when_its_own_write_was_lost() -> None:
    state, gave_way = read(BOOTSTRAP, (HardState(2, NodeId(1)), entry(2, 1)), kept=snapshot(3, 9))
    assert gave_way
    assert (state.term, state.vote) == (3, None)
    state, gave_way = read(BOOTSTRAP, (HardState(3, NodeId(1)), entry(2, 1)), kept=snapshot(3, 9))
    assert (state.term, state.vote) == (3, NodeId(1))


def test_replay_when_the_snapshot_is_newer_than_the_journal_knows() -> None:
    writes = (BOOTSTRAP, (entry(1, 1), entry(1, 2), entry(1, 3)))
    state, gave_way = read(*writes, kept=snapshot(1, 2))
    assert not gave_way, "it is our own: the log stays as it is"
    assert terms(state) == [1, 1, 1]
    state, gave_way = read(*writes, kept=snapshot(2, 2))
    assert gave_way, "it was received, and contradicts the log"
    assert (terms(state), state.log.base) == ([], Viewstamp(View(2), Seqno(2)))
    state, gave_way = read(*writes, kept=snapshot(2, 9))
    assert gave_way, "it was received, and is ahead of the log"
    assert state.log.durable_seqno == 9


def test_replay_when_entries_leave_a_hole_is_refused() -> None:
    with pytest.raises(JournalCorrupt, match="does not follow"):
        read(BOOTSTRAP, (entry(1, 1),), (entry(1, 3),))
    with pytest.raises(JournalCorrupt, match="missing"):
        read(BOOTSTRAP, (entry(1, 2),))


def test_replay_when_the_bootstrap_record_is_missing_is_refused() -> None:
    with pytest.raises(JournalCorrupt, match="bootstrap record"):
        read((entry(1, 1),))


def test_replay_when_a_record_is_not_ours_is_refused() -> None:
    with pytest.raises(JournalCorrupt, match="not one of raft's"):
        replay(Recovered([(PersistSeq(1), (b"\x93\x63\x01\x02",))], PersistSeq(1)))


def test_configuration_when_its_entry_is_cut_off_is_the_one_before() -> None:
    two = Configuration(((NodeId(1), Incarnation(7)), (NodeId(2), Incarnation(8))))
    change = EntryRecord(1, 2, CONFIGURATION, encode_configuration(two))
    state, _ = read(BOOTSTRAP, (entry(1, 1), change))
    assert state.membership.current == two
    state, _ = read(BOOTSTRAP, (entry(1, 1), change), (Truncation(1), entry(2, 2)))
    assert state.membership.current == ALONE


def test_replay_when_a_million_entries_are_in_the_journal_takes_seconds() -> None:
    count = 1_000_000

    def writes() -> Iterator[tuple[PersistSeq, tuple[bytes, ...]]]:
        yield PersistSeq(1), tuple(map(encode_record, BOOTSTRAP))
        for seqno in range(1, count + 1):
            yield PersistSeq(seqno + 1), (encode_record(EntryRecord(1, seqno, COMMAND, b"0123456789abcdef")),)

    begun = time.process_time()
    state, _ = replay(Recovered(writes(), PersistSeq(count + 1)))
    assert state.log.last_seqno == count
    assert time.process_time() - begun < 15
