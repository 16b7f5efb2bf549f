"""What every journal and every snapshot store must pass, shipped for those who write another.

Give each check in `CHECKS` a fresh `Bed`. A check raises `AssertionError` where a promise is broken::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_mine(check: Check) -> None:
        check(MyBed())
"""

import threading
from collections.abc import Callable, Iterator
from typing import Final, Protocol, TypeAlias

import xxhash

from viewstamp.core.errors import StorageError
from viewstamp.core.events import SnapshotToken
from viewstamp.core.ids import PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.snapshots import SnapshotMeta, read_whole
from viewstamp.storage.directory import DataDirectory
from viewstamp.storage.journal import Journal

Write: TypeAlias = tuple[PersistSeq, tuple[bytes, ...]]


class Bed(Protocol):
    """Where one check tries one implementation: a medium that is empty at first and outlives its openings."""

    def open(self) -> DataDirectory:
        """Open what the medium holds. Whatever was open before has been closed or has crashed."""
        ...

    def crash(self) -> None:
        """End what is open without closing it: of what was not synced, anything may be lost."""
        ...


Check: TypeAlias = Callable[[Bed], None]


def records_of(seq: int) -> tuple[bytes, ...]:
    """Return records for a write, different for each number, of several lengths."""
    return tuple(b"%d/%d/" % (seq, part) + b"x" * (seq * 7 % 90) for part in range(1 + seq % 3))


def append_range(journal: Journal, first: int, last: int) -> None:
    """Append the writes first..last."""
    for seq in range(first, last + 1):
        journal.append(PersistSeq(seq), records_of(seq))


def recovered_writes(directory: DataDirectory) -> list[Write]:
    """Return what was recovered, after checking that it is contiguous and ends where it says."""
    writes = list(directory.recovered.writes)
    seqs = [seq for seq, _ in writes]
    if seqs:
        assert seqs == list(range(seqs[0], directory.recovered.written + 1)), "the numbers have a gap"
    assert directory.journal.written == directory.journal.durable == directory.recovered.written
    return writes


def expected_writes(first: int, last: int) -> list[Write]:
    """Return what `append_range` appended."""
    return [(PersistSeq(seq), records_of(seq)) for seq in range(first, last + 1)]


def check_empty_at_first(bed: Bed) -> None:
    """A new medium has nothing, and says so."""
    directory = bed.open()
    assert not recovered_writes(directory)
    assert directory.recovered.written == 0
    assert directory.recovered.snapshot is None
    assert directory.journal.live_bytes == 0
    assert directory.journal.begin_sync() is None
    assert directory.journal.sync() == 0
    directory.close()


def check_synced_writes_survive_close(bed: Bed) -> None:
    """What was synced is there after an orderly end, as often as one looks."""
    directory = bed.open()
    append_range(directory.journal, 1, 20)
    assert directory.journal.sync() == 20
    directory.close()
    directory.close()
    directory = bed.open()
    assert recovered_writes(directory) == expected_writes(1, 20)
    assert recovered_writes(directory) == expected_writes(1, 20), "the writes can be read once only"
    directory.close()


def check_synced_writes_survive_crash(bed: Bed) -> None:
    """What was synced is there after a crash; what was not is a prefix of what was appended."""
    directory = bed.open()
    append_range(directory.journal, 1, 20)
    directory.journal.sync()
    append_range(directory.journal, 21, 30)
    assert directory.journal.durable == 20
    assert directory.journal.written == 30
    bed.crash()
    writes = recovered_writes(bed.open())
    assert len(writes) >= 20
    assert writes == expected_writes(1, len(writes))


def check_numbers_go_on(bed: Bed) -> None:
    """The numbers of writes go on over restarts, with and without a crash."""
    for first in range(1, 40, 3):
        directory = bed.open()
        assert directory.journal.written == first - 1
        append_range(directory.journal, first, first + 2)
        directory.journal.sync()
        if first % 2:
            bed.crash()
        else:
            directory.close()
    assert recovered_writes(bed.open()) == expected_writes(1, 39)


def check_records_of_all_shapes(bed: Bed) -> None:
    """A record is any bytes: none, zeros, more than a buffer."""
    shapes = [b"", b"\0", bytes(511), bytes(512), bytes(5000), b"\xff" * 3000, bytes(range(256)) * 30, b"a"]
    directory = bed.open()
    for seq, shape in enumerate(shapes, 1):
        directory.journal.append(PersistSeq(seq), (shape, b"end", shape))
        directory.journal.sync()
    directory.journal.append(PersistSeq(len(shapes) + 1), shapes)
    directory.journal.sync()
    assert directory.journal.live_bytes == sum(map(len, shapes)) * 3 + 3 * len(shapes)
    bed.crash()
    writes = recovered_writes(bed.open())
    assert [records for _, records in writes] == [(shape, b"end", shape) for shape in shapes] + [
        tuple(shapes)
    ]


def check_wrong_number_is_refused(bed: Bed) -> None:
    """A gap in the numbers, or an empty write, is the caller's mistake."""
    journal = bed.open().journal
    append_range(journal, 1, 2)
    for seq, records in ((2, (b"",)), (4, (b"",)), (3, ())):
        try:
            journal.append(PersistSeq(seq), records)
        except AssertionError:
            continue
        raise AssertionError(f"write {seq} with {len(records)} records was taken in after write 2")


def check_appends_gather_while_a_job_is_open(bed: Bed) -> None:
    """One job is open at a time; what is appended meanwhile waits for the next."""
    directory = bed.open()
    journal = directory.journal
    append_range(journal, 1, 3)
    job = journal.begin_sync()
    assert job is not None
    assert job.seq == 3
    append_range(journal, 4, 5)
    job.write()
    job.flush()
    assert journal.durable == 0, "durable only when the job is finished"
    assert journal.finish_sync(job) == 3
    assert journal.sync() == 5
    directory.close()
    assert recovered_writes(bed.open()) == expected_writes(1, 5)


def check_job_runs_in_a_thread(bed: Bed) -> None:
    """A job runs in another thread while this one appends."""
    directory = bed.open()
    journal = directory.journal
    written = 0
    for _ in range(10):
        append_range(journal, written + 1, written + 5)
        job = journal.begin_sync()
        assert job is not None
        thread = threading.Thread(target=job.run)
        thread.start()
        append_range(journal, written + 6, written + 10)
        thread.join()
        written += 10
        assert journal.finish_sync(job) == written - 5
    assert journal.sync() == written
    directory.close()
    assert recovered_writes(bed.open()) == expected_writes(1, written)


def check_release_forgets_only_what_is_released(bed: Bed) -> None:
    """Whatever is not released stays, however often the journal is tidied and opened again."""
    released = 1
    for first in range(1, 400, 50):
        directory = bed.open()
        writes = recovered_writes(directory)
        begin = writes[0][0] if writes else first
        assert begin <= released
        assert writes == expected_writes(begin, first - 1)
        journal = directory.journal
        for seq in range(first, first + 50):
            journal.append(PersistSeq(seq), records_of(seq))
            journal.sync()
        released = first + 25
        journal.release(PersistSeq(released))
        journal.release(PersistSeq(released - 10))
        assert journal.live_bytes == sum(len(r) for s in range(released, first + 50) for r in records_of(s))
        upkeep = journal.begin_upkeep()
        if upkeep is not None:
            upkeep()
        bed.crash()


def check_release_waits_for_what_replaces_it(bed: Bed) -> None:
    """A release is carried out no sooner than everything appended before it is durable."""
    directory = bed.open()
    journal = directory.journal
    append_range(journal, 1, 300)
    journal.sync()
    append_range(journal, 301, 301)
    journal.release(PersistSeq(301))
    assert journal.live_bytes == sum(map(len, records_of(301)))
    upkeep = journal.begin_upkeep()
    if upkeep is not None:
        upkeep()
    bed.crash()
    directory = bed.open()
    writes = recovered_writes(directory)
    if directory.recovered.written == 300:
        assert writes == expected_writes(1, 300), "released by a write that was lost"
    else:
        assert writes[-1] == expected_writes(301, 301)[0]


def check_closing_forgets_nothing_that_was_not_replaced(bed: Bed) -> None:
    """A journal that is closed before what replaces its writes is durable keeps them."""
    directory = bed.open()
    journal = directory.journal
    append_range(journal, 1, 10)
    journal.sync()
    append_range(journal, 11, 11)
    journal.release(PersistSeq(11))
    directory.close()
    assert recovered_writes(bed.open())[:10] == expected_writes(1, 10)


def check_release_of_everything(bed: Bed) -> None:
    """Everything may be released; the numbers still go on."""
    directory = bed.open()
    append_range(directory.journal, 1, 10)
    directory.journal.sync()
    directory.journal.release(PersistSeq(11))
    assert directory.journal.live_bytes == 0
    append_range(directory.journal, 11, 11)
    directory.journal.sync()
    bed.crash()
    directory = bed.open()
    assert directory.recovered.written == 11
    assert recovered_writes(directory)[-1] == expected_writes(11, 11)[0]


def check_closed_journal_refuses(bed: Bed) -> None:
    """A journal that was closed takes in nothing."""
    directory = bed.open()
    directory.close()
    for attempt in (lambda: append_range(directory.journal, 1, 1), directory.journal.begin_sync):
        try:
            attempt()
        except StorageError:
            continue
        raise AssertionError("a closed journal was used")


def _at(view: int, seqno: int) -> Viewstamp:
    return Viewstamp(View(view), Seqno(seqno))


def _meta(viewstamp: Viewstamp, header: bytes, body: bytes) -> SnapshotMeta:
    return SnapshotMeta(viewstamp, header, len(body), xxhash.xxh3_64_intdigest(body))


def check_saved_snapshot_survives(bed: Bed) -> None:
    """A snapshot is durable when it was saved, and reads back in any pieces."""
    directory = bed.open()
    body = bytes(range(256)) * 40
    saved = directory.snapshots.save(_at(2, 7), b"header", iter([body[:1000], b"", body[1000:]]))
    assert saved.meta == _meta(_at(2, 7), b"header", body)
    bed.crash()
    directory = bed.open()
    found = directory.recovered.snapshot
    assert found is not None
    assert found is directory.snapshots.newest
    assert found.meta == _meta(_at(2, 7), b"header", body)
    assert read_whole(found) == body
    assert found.read(1000, 5000) == body[1000:6000]
    assert found.read(len(body) - 1, 50) == body[-1:]
    assert not found.read(len(body), 1)


def check_highest_viewstamp_wins(bed: Bed) -> None:
    """The newest snapshot is that with the highest viewstamp, whenever it was made."""
    directory = bed.open()
    for view, seqno in ((1, 5), (3, 2), (2, 90)):
        directory.snapshots.save(_at(view, seqno), b"", [b"%d.%d" % (view, seqno)])
    bed.crash()
    found = bed.open().recovered.snapshot
    assert found is not None
    assert read_whole(found) == b"3.2"


def check_snapshot_outlives_its_successors(bed: Bed) -> None:
    """A snapshot that was handed out stays readable, whatever is saved after it."""
    directory = bed.open()
    first = directory.snapshots.save(_at(1, 1), b"", [b"first"])
    for seqno in range(2, 7):
        directory.snapshots.save(_at(1, seqno), b"", [b"later"])
    assert read_whole(first) == b"first"
    directory.close()


def check_empty_snapshot(bed: Bed) -> None:
    """A machine may have nothing to say."""
    directory = bed.open()
    directory.snapshots.save(_at(1, 1), b"", [])
    staged = directory.snapshots.stage(SnapshotToken(1), _meta(_at(1, 2), b"", b""), 0, b"")
    assert staged is not None
    assert staged.snapshot is not None
    bed.crash()
    found = bed.open().recovered.snapshot
    assert found is not None
    assert found.meta == _meta(_at(1, 2), b"", b"")


def check_failed_parts_leave_nothing(bed: Bed) -> None:
    """Where the machine fails while it is captured, the snapshot before stays the newest."""

    def parts() -> Iterator[bytes]:
        yield b"half"
        raise KeyError("machine")

    directory = bed.open()
    directory.snapshots.save(_at(1, 1), b"", [b"whole"])
    try:
        directory.snapshots.save(_at(1, 2), b"", parts())
    except KeyError:
        directory.close()
    else:
        raise AssertionError("the failure of the machine was swallowed")
    found = bed.open().recovered.snapshot
    assert found is not None
    assert read_whole(found) == b"whole"


def check_staged_snapshot_survives(bed: Bed) -> None:
    """A snapshot received in pieces is durable when the last piece was taken in."""
    directory = bed.open()
    body = b"0123456789" * 100
    meta = _meta(_at(4, 4), b"members", body)
    for offset in range(0, 900, 100):
        assert directory.snapshots.stage(SnapshotToken(8), meta, offset, body[offset : offset + 100]) is None
    staged = directory.snapshots.stage(SnapshotToken(8), meta, 900, body[900:])
    assert staged is not None
    assert staged.token == 8
    assert staged.snapshot is not None
    assert read_whole(staged.snapshot) == body
    bed.crash()
    found = bed.open().recovered.snapshot
    assert found is not None
    assert found.meta == meta
    assert read_whole(found) == body


def check_staging_starts_again(bed: Bed) -> None:
    """A new token, or offset 0, drops what was staged before."""
    snapshots = bed.open().snapshots
    good, other = _meta(_at(4, 4), b"", b"abcdef"), _meta(_at(5, 5), b"", b"123456")
    assert snapshots.stage(SnapshotToken(1), good, 0, b"abc") is None
    assert snapshots.stage(SnapshotToken(2), other, 0, b"123") is None
    assert snapshots.stage(SnapshotToken(2), other, 0, b"1") is None
    staged = snapshots.stage(SnapshotToken(2), other, 1, b"23456")
    assert staged is not None
    assert staged.snapshot is not None
    assert read_whole(staged.snapshot) == b"123456"


def check_wrong_digest_is_refused(bed: Bed) -> None:
    """A snapshot that arrives damaged, or too long, is answered by None and leaves nothing."""
    directory = bed.open()
    meta = _meta(_at(4, 4), b"", b"abcdef")
    for body in (b"abcdeX", b"abcdefg"):
        staged = directory.snapshots.stage(SnapshotToken(1), meta, 0, body)
        assert staged is not None
        assert staged.snapshot is None
    assert directory.snapshots.newest is None
    directory.close()
    assert bed.open().recovered.snapshot is None


def check_unfinished_staging_is_forgotten(bed: Bed) -> None:
    """After a restart a snapshot is received from its beginning."""
    directory = bed.open()
    assert directory.snapshots.stage(SnapshotToken(1), _meta(_at(4, 4), b"", b"abcdef"), 0, b"abc") is None
    bed.crash()
    directory = bed.open()
    assert directory.recovered.snapshot is None
    staged = directory.snapshots.stage(SnapshotToken(1), _meta(_at(4, 4), b"", b"abcdef"), 0, b"abcdef")
    assert staged is not None
    assert staged.snapshot is not None


def check_identity_stays(bed: Bed) -> None:
    """The incarnation of a medium is drawn once."""
    first = bed.open().identity
    bed.crash()
    assert bed.open().identity == first


CHECKS: Final[tuple[Check, ...]] = (
    check_empty_at_first,
    check_synced_writes_survive_close,
    check_synced_writes_survive_crash,
    check_numbers_go_on,
    check_records_of_all_shapes,
    check_wrong_number_is_refused,
    check_appends_gather_while_a_job_is_open,
    check_job_runs_in_a_thread,
    check_release_forgets_only_what_is_released,
    check_release_waits_for_what_replaces_it,
    check_closing_forgets_nothing_that_was_not_replaced,
    check_release_of_everything,
    check_closed_journal_refuses,
    check_saved_snapshot_survives,
    check_highest_viewstamp_wins,
    check_snapshot_outlives_its_successors,
    check_empty_snapshot,
    check_failed_parts_leave_nothing,
    check_staged_snapshot_survives,
    check_staging_starts_again,
    check_wrong_digest_is_refused,
    check_unfinished_staging_is_forgotten,
    check_identity_stays,
)
