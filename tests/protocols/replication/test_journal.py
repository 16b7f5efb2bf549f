"""A log read back from a journal: what is history, what is a hole."""

import pytest

from tests.mutants.lone import entry, records
from viewstamp.core.errors import JournalCorrupt
from viewstamp.core.ids import ORIGIN, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.protocol import Recovered
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.protocols.replication.journal import RebuiltLog


def at(view: int, seqno: int) -> Viewstamp:
    return Viewstamp(View(view), Seqno(seqno))


def rebuilt(last: int, base: Viewstamp = ORIGIN) -> RebuiltLog:
    """Return a log of entries of view 1 after `base`, each in a write of its own."""
    log = RebuiltLog()
    log.move_base(base, base.seqno, PersistSeq(1))
    for seqno in range(base.seqno + 1, last + 1):
        add(log, seqno)
    return log


def add(log: RebuiltLog, seqno: int, view: int = 1) -> None:
    made = entry(view, seqno)
    log.append(made, records(made)[0], PersistSeq(seqno + 1))


def test_entry_when_one_before_it_is_missing_is_a_hole() -> None:
    log = rebuilt(3)
    with pytest.raises(JournalCorrupt, match="does not follow"):
        add(log, 5)


def test_entries_when_their_predecessors_were_released_are_history() -> None:
    log = RebuiltLog()
    for seqno in (7, 8):
        add(log, seqno)
    log.move_base(at(1, 7), 8, PersistSeq(20))
    assert (log.log.base, log.log.last) == (at(1, 7), at(1, 8))


def test_base_when_entries_stay_behind_it_shortens_the_log() -> None:
    log = rebuilt(5)
    assert log.move_base(at(1, 3), 5, PersistSeq(9)) == "shortened"
    assert (log.log.base_seqno, log.log.last_seqno) == (3, 5)


def test_base_when_nothing_stays_behind_it_empties_the_log() -> None:
    log = rebuilt(5)
    assert log.move_base(at(2, 9), 9, PersistSeq(9)) == "emptied"
    assert (log.log.base, log.log.last) == (at(2, 9), at(2, 9))


def test_cut_when_it_goes_below_the_base_is_corrupt() -> None:
    log = rebuilt(6, at(1, 4))
    with pytest.raises(JournalCorrupt, match="before its base"):
        log.truncate(3)


def test_log_when_it_does_not_reach_down_to_the_snapshot_is_corrupt() -> None:
    log = rebuilt(6, at(1, 4))
    with pytest.raises(JournalCorrupt, match="something between is missing"):
        log.finish(Recovered(written=PersistSeq(7)))


def test_log_when_the_snapshot_is_newer_gives_way_to_it() -> None:
    log = rebuilt(6)
    snapshot = BytesSnapshot(at(2, 9), b"", b"machine")
    assert log.finish(Recovered(written=PersistSeq(7), snapshot=snapshot))
    assert (log.log.base, log.log.last) == (at(2, 9), at(2, 9))


def test_log_when_it_holds_the_entry_of_the_snapshot_stays() -> None:
    log = rebuilt(6)
    snapshot = BytesSnapshot(at(1, 4), b"", b"machine")
    assert not log.finish(Recovered(written=PersistSeq(7), snapshot=snapshot))
    assert (log.log.base_seqno, log.log.last_seqno, log.log.durable_seqno) == (0, 6, 6)


def test_journal_when_it_is_empty_is_a_node_without_a_log() -> None:
    log = RebuiltLog()
    assert not log.finish(Recovered())
    assert not log.bootstrapped
    with pytest.raises(JournalCorrupt, match="bootstrap record"):
        RebuiltLog().finish(Recovered(written=PersistSeq(1)))
