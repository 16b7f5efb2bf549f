from random import Random

import pytest

from viewstamp.core.ids import PersistSeq, Seqno, View, Viewstamp
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, Log, encode_record


def filled(terms: str, *, first_write: int = 1) -> Log:
    log = Log()
    for term in terms:
        add(log, int(term), write=first_write + log.last_seqno)
    return log


def add(log: Log, term: int, *, write: int, data: bytes = b"x") -> bytes:
    entry = EntryRecord(term, log.last_seqno + 1, COMMAND, data)
    record = encode_record(entry)
    log.append(entry, record, write)
    return record


def at(view: int, seqno: int) -> Viewstamp:
    return Viewstamp(View(view), Seqno(seqno))


def test_terms_when_asked_outside_the_log_are_unknown() -> None:
    log = filled("1122")
    assert [log.view_at(seqno) for seqno in (-1, 0, 1, 2, 3, 4, 5)] == [None, 0, 1, 1, 2, 2, None]
    log.compact(at(1, 2))
    assert [log.view_at(seqno) for seqno in (1, 2, 3, 4, 5)] == [None, 1, 2, 2, None]
    assert (log.base, log.last) == (at(1, 2), at(2, 4))


def test_entry_when_it_does_not_follow_is_our_own_fault() -> None:
    log = filled("1")
    with pytest.raises(AssertionError):
        log.append(EntryRecord(1, 5, COMMAND, b""), b"", 9)


def test_durable_when_writes_finish_and_are_cut_off() -> None:
    log = filled("111")
    log.persisted(2)
    assert log.durable_seqno == 2
    log.truncate(1)
    assert (log.durable_seqno, log.last_seqno) == (1, 1)
    add(log, 2, write=7)
    log.persisted(6)
    assert log.durable_seqno == 1, "what replaced entry 2 is in write 7"
    log.persisted(7)
    assert log.durable_seqno == 2


def test_reset_when_its_write_is_not_durable_counts_for_nothing() -> None:
    log = filled("111")
    log.persisted(3)
    log.reset(at(4, 10), 4)
    assert (log.durable_seqno, log.last, log.size_bytes) == (0, at(4, 10), 0)
    log.persisted(4)
    assert log.durable_seqno == 10


def test_records_when_limits_are_met_are_never_none() -> None:
    log = filled("11111")
    size = len(log.records(1, entries_max=1, bytes_max=10**6)[0])
    assert len(log.records(1, entries_max=3, bytes_max=10**6)) == 3
    assert len(log.records(1, entries_max=9, bytes_max=2 * size)) == 2
    assert len(log.records(1, entries_max=9, bytes_max=2 * size - 1)) == 1
    assert len(log.records(5, entries_max=9, bytes_max=1)) == 1


def test_last_not_after_when_terms_differ_is_a_term_back() -> None:
    log = filled("1122255")
    assert log.last_not_after(7, 4) == at(2, 5)
    assert log.last_not_after(9, 9) == at(5, 7)
    assert log.last_not_after(3, 2) == at(2, 3)
    assert log.last_not_after(7, 0) == at(0, 0)
    log.compact(at(2, 3))
    assert log.last_not_after(1, 9) == at(2, 3)


@pytest.mark.parametrize("seed", range(20))
def test_sizes_when_the_log_changes_in_any_way_add_up(seed: int) -> None:
    random = Random(seed)
    log, records, base = Log(), list[bytes](), 0
    for write in range(1, 200):
        action = random.randrange(10)
        if action < 7 or not records:
            records.append(add(log, 1, write=write, data=random.randbytes(random.randrange(20))))
        elif action == 7:
            keep = random.randrange(len(records) + 1)
            log.truncate(base + keep)
            del records[keep:]
        else:
            drop = random.randrange(len(records) + 1)
            log.compact(at(1, base + drop) if drop else log.base)
            del records[:drop]
            base += drop
        assert log.size_bytes == sum(map(len, records))
        seqno = base + random.randrange(len(records) + 1)
        assert log.bytes_after(seqno) == sum(map(len, records[seqno - base :]))
        limit = random.randrange(60)
        earliest = log.earliest_within(log.last_seqno, limit)
        assert log.bytes_after(earliest) <= limit
        assert earliest == base or log.bytes_after(earliest - 1) > limit


def test_first_write_when_entries_are_kept_is_the_oldest() -> None:
    log = filled("111", first_write=5)
    assert log.first_write(otherwise=PersistSeq(9)) == 5
    log.compact(at(1, 3))
    assert log.first_write(otherwise=PersistSeq(9)) == 9
