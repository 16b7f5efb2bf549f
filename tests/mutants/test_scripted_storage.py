"""Scripts for storage mutations that whole-directory damage does not single out."""

import struct
from random import Random

import pytest
import xxhash

from tests.storage.beds import PATH, open_on
from viewstamp.core.errors import JournalCorrupt, StorageError
from viewstamp.core.ids import PersistSeq, Seqno, View, Viewstamp
from viewstamp.sim.world.disk import SimFileSystem
from viewstamp.storage.framing import (
    FRAME_HEADER_BYTES,
    SEGMENT_BYTES_MAX,
    FrameHeader,
    decode_frame_header,
    encode_frame,
)
from viewstamp.storage.snapshots import read_snapshot_header
from viewstamp.storage.wal import Tail, Wal

FORMAT_OFFSET = 8
"""Of a snapshot's format, behind the magic bytes."""


def written(files: SimFileSystem, first: int, last: int) -> None:
    directory = open_on(files)
    for seq in range(first, last + 1):
        directory.journal.append(PersistSeq(seq), [b"%d" % seq * 300])
        directory.journal.sync()
    files.crash()


def segments(files: SimFileSystem) -> list[str]:
    return sorted(path for path in files.paths() if path.endswith(".wal"))


def test_refused_when_a_segment_is_stored_under_another_number() -> None:
    files = SimFileSystem(Random(1))
    written(files, 1, 2)
    (path,) = segments(files)
    image = files.image()
    image[path.replace("1.wal", "2.wal")] = image.pop(path)
    with pytest.raises(JournalCorrupt):
        open_on(SimFileSystem.from_image(image, Random(1)))


def test_refused_when_a_segment_is_an_older_copy_of_itself() -> None:
    files = SimFileSystem(Random(1))
    written(files, 1, 3)
    (first,) = segments(files)
    older = files.read(first)
    written(files, 4, 20)
    assert len(segments(files)) > 1
    files.overwrite(first, older)
    with pytest.raises(JournalCorrupt):
        open_on(files)


def test_nothing_is_written_behind_a_sync_that_failed() -> None:
    files = SimFileSystem(Random(1))
    journal = open_on(files).journal
    assert isinstance(journal, Wal)
    tail: Tail = journal._tail
    files.faults.sync_error = 1.0
    tail.write([[b"x" * 100]], PersistSeq(1))
    with pytest.raises(StorageError):
        tail.flush()
    files.faults.sync_error = 0.0
    with pytest.raises(AssertionError):
        tail.write([[b"y" * 100]], PersistSeq(1))


def test_snapshot_of_a_newer_format_is_refused() -> None:
    files = SimFileSystem(Random(1))
    directory = open_on(files)
    directory.snapshots.save(Viewstamp(View(1), Seqno(1)), b"header", [b"body"])
    seed = directory.identity.seed
    (path,) = [path for path in files.paths() if path.endswith(".snap")]
    content = bytearray(files.read(path))
    struct.pack_into("<I", content, FORMAT_OFFSET, 2)
    head = content[: -len(b"body") - 8]
    struct.pack_into("<Q", content, len(head), xxhash.xxh3_64_intdigest(bytes(head), seed))
    files.overwrite(path, bytes(content))
    answer = read_snapshot_header(files.open(path, writable=False), seed)
    assert isinstance(answer, str)
    assert "format 2" in answer
    assert path.startswith(PATH)


@pytest.mark.parametrize("offset", [1 << 31, SEGMENT_BYTES_MAX - FRAME_HEADER_BYTES])
def test_frame_knows_its_place_when_that_is_beyond_two_gigabytes(offset: int) -> None:
    header = FrameHeader(0, 3, 1, PersistSeq(1), PersistSeq(1), 1, offset, 0, 0, 0)
    frame, check = encode_frame(header, b"abc", seed=7)
    found = decode_frame_header(frame, 0, seed=7)
    assert found is not None
    assert (found.offset, found.check) == (offset, check)
