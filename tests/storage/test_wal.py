"""The journal on a disk beyond the common promises: sizes, failures of the disk, what is kept ready."""

import errno
import struct
from random import Random

import pytest
import xxhash

from tests.storage.beds import CLUSTER, NODE, PATH, SEGMENT_BYTES, open_on
from viewstamp.core.errors import JournalCorrupt, StorageError
from viewstamp.core.ids import Incarnation, PersistSeq
from viewstamp.sim.world.content import DiskFaults
from viewstamp.sim.world.disk import SimFileSystem
from viewstamp.storage.directory import DataDirectory
from viewstamp.storage.framing import Identity
from viewstamp.storage.journal import Journal

JOURNAL = f"{PATH}/journal"
FIRST = f"{JOURNAL}/0000000000000001.wal"


def _fill(journal: Journal, count: int, size: int = 300) -> None:
    for _ in range(count):
        journal.append(PersistSeq(journal.written + 1), (b"r" * size,))
        journal.sync()


def _segment_count(files: SimFileSystem) -> int:
    return sum(path.endswith(".wal") for path in files.paths())


def test_segment_fits_when_a_write_is_larger_than_a_segment() -> None:
    files = SimFileSystem(Random(1))
    directory = open_on(files)
    large = bytes(range(256)) * 100
    assert len(large) > SEGMENT_BYTES * 4
    _fill(directory.journal, 2)
    directory.journal.append(PersistSeq(3), (large, large))
    _fill(directory.journal, 2)
    files.crash()
    writes = list(open_on(files).recovered.writes)
    assert writes[2] == (3, (large, large))
    assert len(writes) == 5


def test_group_is_split_when_it_is_larger_than_half_a_segment() -> None:
    files = SimFileSystem(Random(1))
    directory = open_on(files)
    for seq in range(1, 101):
        directory.journal.append(PersistSeq(seq), (b"%d" % seq * 50,))
    assert directory.journal.sync() == 100
    assert max(len(files.read(path)) for path in files.paths()) == SEGMENT_BYTES
    files.crash()
    assert len(list(open_on(files).recovered.writes)) == 100


def test_every_part_of_a_split_group_is_durable_when_the_next_is_written() -> None:
    """With the floor of a release in its last part only: what replaces the released may stand in any."""
    for operation in range(1, 60):
        files = SimFileSystem(Random(operation), faults=DiskFaults(torn=1.0))
        directory = open_on(files)
        _fill(directory.journal, 3)
        for seq in range(4, 40):
            directory.journal.append(PersistSeq(seq), (b"%d" % seq * 50,))
        directory.journal.release(PersistSeq(4))
        files.fail_at = files.operations + operation
        try:
            directory.journal.sync()
        except BaseException:  # noqa: BLE001  the power failure of the simulator
            files.crash()
        else:
            return
        writes = list(open_on(files).recovered.writes)
        first = writes[0][0]
        assert first == 1 or writes[-1][0] == 39, "released by a group that is not there as a whole"
        assert [seq for seq, _ in writes] == list(range(first, writes[-1][0] + 1))
    raise AssertionError("the scenario never ended")


def test_released_segments_are_deleted_when_upkeep_never_runs() -> None:
    files = SimFileSystem(Random(1))
    journal = open_on(files).journal
    for _ in range(40):
        _fill(journal, 3)
        journal.release(PersistSeq(journal.written - 2))
        assert _segment_count(files) <= 3


def test_next_segment_is_ready_when_upkeep_ran() -> None:
    files = SimFileSystem(Random(1))
    journal = open_on(files).journal
    assert journal.begin_upkeep() is None
    _fill(journal, 6)
    work = journal.begin_upkeep()
    assert work is not None
    assert journal.begin_upkeep() is None, "one at a time"
    work()
    assert f"{JOURNAL}/spare.tmp" in files.paths()
    before = files.operations
    _fill(journal, 7)
    assert _segment_count(files) == 2
    # 7 writes and 7 syncs; the header's write and sync, the rename, and the sync of the directory.
    assert files.operations - before == 18


def test_spare_is_removed_when_the_journal_is_closed_or_crashes() -> None:
    for crash in (False, True):
        files = SimFileSystem(Random(1), faults=DiskFaults(torn=0.0, kept=1.0))
        directory = open_on(files)
        _fill(directory.journal, 6)
        work = directory.journal.begin_upkeep()
        assert work is not None
        work()
        if crash:
            files.crash()
            open_on(files)
        else:
            directory.close()
        assert f"{JOURNAL}/spare.tmp" not in files.paths()


def test_process_must_end_when_a_sync_fails() -> None:
    files = SimFileSystem(Random(1))
    directory = open_on(files)
    _fill(directory.journal, 2)
    directory.journal.append(PersistSeq(3), (b"lost?",))
    files.faults.sync_error = 1.0
    with pytest.raises(StorageError, match=f"cannot sync {FIRST}: Input/output error"):
        directory.journal.sync()
    files.faults.sync_error = 0.0
    assert directory.journal.durable == 2
    for attempt in (directory.journal.sync, lambda: directory.journal.append(PersistSeq(4), (b"more",))):
        with pytest.raises(StorageError, match="the process must end"):
            attempt()
    content = files.read(FIRST)
    directory.close()
    assert files.read(FIRST) == content, "nothing is written after a failure"


def test_recovered_write_is_durable_when_its_sync_had_failed() -> None:
    """The kernel says that a second sync succeeded, and has dropped the pages: they must be written again."""
    files = SimFileSystem(Random(1), faults=DiskFaults(torn=0.0, kept=0.0))
    directory = open_on(files)
    _fill(directory.journal, 2)
    directory.journal.append(PersistSeq(3), (b"x" * 2000,))
    files.faults.sync_error = 1.0
    with pytest.raises(StorageError):
        directory.journal.sync()
    files.faults.sync_error = 0.0
    files.kill()
    assert open_on(files).recovered.written == 3
    files.crash()
    assert open_on(files).recovered.written == 3


def test_error_says_what_to_do_when_the_disk_is_full() -> None:
    files = SimFileSystem(Random(1))
    journal = open_on(files).journal
    files.capacity_bytes = SEGMENT_BYTES + 2000
    with pytest.raises(StorageError, match="the disk is full; free some space and start again"):
        _fill(journal, 30)
    durable = journal.durable
    assert durable > 5
    files.capacity_bytes = None
    files.crash()
    recovered = open_on(files)
    assert recovered.recovered.written >= durable
    _fill(recovered.journal, 30)


def test_upkeep_waits_when_the_disk_is_full() -> None:
    files = SimFileSystem(Random(1))
    journal = open_on(files).journal
    _fill(journal, 6)
    files.capacity_bytes = SEGMENT_BYTES + 2000
    work = journal.begin_upkeep()
    assert work is not None
    work()
    assert f"{JOURNAL}/spare.tmp" not in files.paths()
    assert journal.begin_upkeep() is None, "it is not tried again and again"
    files.capacity_bytes = None
    _fill(journal, 12)
    assert journal.begin_upkeep() is not None


def test_everything_is_proved_durable_when_the_journal_was_closed() -> None:
    """Behind the mark of an orderly end even the loss of the last group's sectors is found."""
    files = SimFileSystem(Random(1))
    directory = open_on(files)
    directory.journal.append(PersistSeq(1), (b"x" * 2000,))
    directory.journal.sync()
    directory.close()
    content = files.read(FIRST)
    files.overwrite(FIRST, content[:1024] + bytes(512) + content[1536:])
    with pytest.raises(JournalCorrupt, match="behind the last frame"):
        open_on(files)


def test_no_mark_is_added_when_nothing_was_written_since_the_last() -> None:
    files = SimFileSystem(Random(1))
    directory = open_on(files)
    _fill(directory.journal, 1)
    directory.close()
    content = files.read(FIRST)
    for _ in range(3):
        open_on(files).close()
    assert files.read(FIRST) == content


def _forge(files: SimFileSystem, field: int, value: int) -> None:
    """Change a field of the first frame and make its checksum right again."""
    content = bytearray(files.read(FIRST))
    head = list(struct.unpack_from("<4sIIIQQIIQQ", content, 512))
    head[field] = value
    packed = struct.pack("<4sIIIQQIIQQ", *head)
    seed = Identity(CLUSTER, NODE, Incarnation(7)).seed
    content[512:576] = packed + struct.pack("<Q", xxhash.xxh3_64_intdigest(packed, seed))
    files.overwrite(FIRST, bytes(content))


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        (2, 0xFFFFFFFF, "reaches beyond its segment"),
        (2, 5000, "reaches beyond its segment"),
        (2, 0, "content is damaged"),
        (3, 9, "holds 1 writes instead of 9"),
        (4, 2**63, "does not follow write 0"),
        (6, 2, "belongs to byte 512 of segment 2"),
        (7, 1024, "belongs to byte 1024 of segment 1"),
        (8, 1, "does not follow write 0"),
    ],
)
def test_refused_when_a_frame_header_is_forged(field: int, value: int, reason: str) -> None:
    files = SimFileSystem(Random(1))
    _fill(open_on(files).journal, 1)
    files.crash()
    _forge(files, field, value)
    with pytest.raises(JournalCorrupt, match=reason):
        open_on(files)


def test_refused_when_a_misdirected_write_was_followed_by_another() -> None:
    for distance in (512, 1024, -512):
        files = SimFileSystem(Random(1))
        journal = open_on(files).journal
        _fill(journal, 2)
        files.displace_next_bytes = distance
        _fill(journal, 1)
        _fill(journal, 1)
        files.crash()
        with pytest.raises(JournalCorrupt):
            open_on(files)


def test_bytes_are_as_documented_when_a_write_is_synced() -> None:
    """The format is a promise: a change of these bytes needs a new format version."""
    files = SimFileSystem(Random(1))
    directory = open_on(files)
    directory.journal.append(PersistSeq(1), (b"one", b"two"))
    directory.journal.sync()
    content = files.read(FIRST)
    assert len(content) == SEGMENT_BYTES
    assert xxhash.xxh3_64_hexdigest(content) == "2b7f991dd339d37f"
    assert content[512:516] == b"VSf1"
    assert content[576:587] == b"\x91\x92\xc4\x03one\xc4\x03tw"[:11]


def _open_twice(files: SimFileSystem) -> DataDirectory:
    open_on(files).close()
    return open_on(files)


def test_errors_of_reading_name_the_path() -> None:
    files = SimFileSystem(Random(1))
    journal = _open_twice(files).journal
    files.life += 1  # every open file is dead now
    journal.append(PersistSeq(1), (b"x",))
    with pytest.raises(StorageError, match=FIRST) as caught:
        journal.sync()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EBADF


def test_refused_when_the_journal_changes_after_it_was_verified() -> None:
    files = SimFileSystem(Random(1))
    _fill(open_on(files).journal, 3)
    files.crash()
    found = open_on(files).recovered
    (path,) = (path for path in files.paths() if path.endswith(".wal"))
    content = bytearray(files.read(path))
    second = content.index(b"r" * 300, content.index(b"r" * 300) + 300)
    content[second] ^= 1
    files.overwrite(path, bytes(content))
    with pytest.raises(JournalCorrupt, match="write 2 was there at the first reading"):
        list(found.writes)
