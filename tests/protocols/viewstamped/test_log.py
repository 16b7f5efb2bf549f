"""The log in memory, and how two of them are compared."""

from random import Random

import pytest

from viewstamp.core.ids import ORIGIN, PersistSeq, Seqno, View, Viewstamp
from viewstamp.protocols.viewstamped.journal import ENCODER, EntryRecord
from viewstamp.protocols.viewstamped.log import Log, Slot


def stamp(view: int, seqno: int) -> Viewstamp:
    return Viewstamp(View(view), Seqno(seqno))


def log_of(*views: int, base: Viewstamp = ORIGIN) -> Log:
    log = Log(base)
    for place, view in enumerate(views, start=base.seqno + 1):
        data = f"{view}.{place}".encode()
        record = ENCODER.encode(EntryRecord(View(view), Seqno(place), data))
        log.append(Slot(View(view), record, len(data), PersistSeq(place)))
    return log


def test_positions_are_known_when_entries_are_there() -> None:
    log = log_of(1, 1, 3, base=stamp(1, 7))
    assert (log.last, log.at(7), log.at(10), log.at(11), log.at(6)) == (
        stamp(3, 10), stamp(1, 7), stamp(3, 10), None, None,
    )  # fmt: skip
    assert log.holds(stamp(1, 9))
    assert not log.holds(stamp(3, 9))
    assert log.slot(10).data == b"3.10"


def test_entries_may_not_go_back_in_view() -> None:
    log = log_of(2)
    with pytest.raises(AssertionError):
        log.append(Slot(View(1), b"", 0, PersistSeq(1)))


def test_bytes_are_counted_when_the_log_grows_and_shrinks() -> None:
    log = log_of(1, 1, 2, 2)
    sizes = [len(log.slot(seqno).record) for seqno in range(1, 5)]
    assert log.size_bytes == sum(sizes)
    log.cut_after(3)
    assert (log.last, log.size_bytes) == (stamp(2, 3), sum(sizes[:3]))
    log.start_at(stamp(1, 2))
    assert (log.base, log.size_bytes, log.first_write()) == (stamp(1, 2), sizes[2], 3)
    log.reset(stamp(9, 90))
    assert (log.last, log.size_bytes, log.first_write()) == (stamp(9, 90), 0, None)


def test_records_are_taken_in_order_when_bounded_by_bytes() -> None:
    log = log_of(1, 1, 1, 1)
    one = len(log.slot(1).record)
    assert log.records(0, entries_max=9, bytes_max=2 * one) == tuple(log.slot(each).record for each in (1, 2))
    assert log.records(2, entries_max=9, bytes_max=1) == (log.slot(3).record,)
    assert log.records(4, entries_max=9, bytes_max=100) == ()
    assert log.records(0, entries_max=1, bytes_max=100) == (log.slot(1).record,)


def test_the_suffix_is_found_when_bytes_are_given() -> None:
    log = log_of(1, 1, 1, 1)
    one = len(log.slot(1).record)
    assert [log.suffix_of(size * one) for size in (0, 1, 2, 4, 9)] == [4, 3, 2, 0, 0]


def test_marks_name_the_last_entry_of_each_view() -> None:
    log = log_of(1, 1, 3, 3, 4, base=stamp(1, 2))
    assert log.marks() == (stamp(1, 2), stamp(1, 4), stamp(3, 6), stamp(4, 7))
    assert Log().marks() == (ORIGIN,)


@pytest.mark.parametrize(
    ("mine", "theirs", "agreed"),
    [
        ((1, 1, 2), (1, 1, 2), stamp(2, 3)),
        ((1, 1, 2), (1, 1, 1, 1), stamp(1, 2)),
        ((1, 1, 1, 1), (1, 1, 3), stamp(1, 2)),
        ((1, 1, 4, 4), (1, 1, 4, 4, 4), stamp(4, 4)),
        ((), (1, 2), ORIGIN),
        ((1, 2), (), ORIGIN),
        ((1, 2, 5), (1, 3, 4), stamp(1, 1)),
    ],
)
def test_agreement_is_the_last_common_entry(
    mine: tuple[int, ...], theirs: tuple[int, ...], agreed: Viewstamp
) -> None:
    assert log_of(*mine).agreement(log_of(*theirs).marks()) == agreed


def test_agreement_lies_before_the_base_when_entries_are_missing_here() -> None:
    mine = log_of(2, base=stamp(2, 9))
    assert mine.agreement(log_of(1, 1, 2, 2).marks()) == stamp(2, 4)
    assert mine.agreement(log_of(1, 1).marks()) is None


def test_agreement_is_right_when_logs_are_drawn_at_random() -> None:
    rng = Random(7)
    for _ in range(300):
        common = sorted(rng.choices(range(1, 5), k=rng.randrange(5)))
        mine = common + sorted(rng.choices(range(5, 8), k=rng.randrange(4)))
        theirs = common + sorted(rng.choices(range(8, 11), k=rng.randrange(4)))
        agreed = log_of(*mine).agreement(log_of(*theirs).marks())
        assert agreed is not None
        assert agreed.seqno == len(common)
