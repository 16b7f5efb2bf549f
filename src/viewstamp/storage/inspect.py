"""Looking into a data directory without a lock and without changing anything, damaged or not.

A server may be using it meanwhile: what is seen is then a moment of it, and an unfinished tail is normal.
"""

from collections.abc import Generator, Iterator
from typing import Literal, TypeAlias

import msgspec

from viewstamp.core.errors import ConfigurationError, StorageError
from viewstamp.core.ids import PersistSeq
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.storage.directory import JOURNAL_NAME, SNAPSHOTS_NAME
from viewstamp.storage.files import FileSystem, explained
from viewstamp.storage.framing import FORMAT_VERSION, Identity, SegmentHeader, frame_bytes
from viewstamp.storage.identity import IdentityFile, read_identity
from viewstamp.storage.recovery import (
    Damage,
    Position,
    SegmentReader,
    beginning,
    check_segment_header,
    decode_writes,
)
from viewstamp.storage.segments import SEGMENT_BYTES, SegmentFolder, read_segment
from viewstamp.storage.snapshots import SNAPSHOT_SUFFIX, FileSnapshotStore


class SegmentSeen(msgspec.Struct, frozen=True, tag="segment"):
    """A segment whose header verified."""

    path: str
    segment: int
    first_seq: PersistSeq
    size_bytes: int


class FrameSeen(msgspec.Struct, frozen=True, tag="frame"):
    """A frame that verified: one synced group of atomic writes."""

    path: str
    offset: int
    stored_bytes: int
    """Space that it takes."""
    first_seq: PersistSeq
    floor: PersistSeq
    """Writes numbered lower were released when it was written."""
    writes: tuple[tuple[bytes, ...], ...]
    """Empty: a mark, which the journal leaves when it is closed."""


class SnapshotSeen(msgspec.Struct, frozen=True, tag="snapshot"):
    """A snapshot that verified."""

    path: str
    meta: SnapshotMeta


class ProblemSeen(msgspec.Struct, frozen=True, tag="problem"):
    """Something that is not as it was written, from this byte of this file on."""

    path: str
    offset: int
    kind: Literal["torn", "damaged"]
    """torn: a crash left it unfinished, the next start wipes it. damaged: the next start refuses."""
    reason: str


Seen: TypeAlias = SegmentSeen | FrameSeen | SnapshotSeen | ProblemSeen


def inspect_identity(files: FileSystem, path: str) -> IdentityFile:
    """Return whose data directory it is, what runs on it, and what an operator skipped.

    Raises:
        ConfigurationError: it is none, or a newer program's.
        JournalCorrupt: its identity is damaged.
    """
    found = files.status(path)
    content = read_identity(files, path) if found is not None and found.kind == "directory" else None
    if content is None:
        raise ConfigurationError(f"{path} is not a data directory: it has no identity file")
    assert content.identity.format_version == FORMAT_VERSION
    return content


def inspect_journal(files: FileSystem, path: str, identity: Identity) -> Iterator[Seen]:
    """Go through the journal of the data directory `path` in order; what follows a problem is shown as well.

    Raises:
        StorageError: it cannot be read.
    """
    folder = SegmentFolder(files, f"{path}/{JOURNAL_NAME}", identity, SEGMENT_BYTES)
    numbers = folder.numbers()
    if not numbers:
        yield ProblemSeen(folder.path, 0, "damaged", "it holds no segments")
    expected: Position | None = None
    previous: int | None = None
    for number in numbers:
        if previous is not None and number != previous + 1:
            yield ProblemSeen(folder.file_path(previous + 1), 0, "damaged", "it is missing")
            expected = None
        expected = yield from _inspect_segment(folder, number, expected, last=number == numbers[-1])
        previous = number


def _inspect_segment(
    folder: SegmentFolder, number: int, expected: Position | None, *, last: bool
) -> Generator[Seen, None, Position | None]:
    path = folder.file_path(number)
    try:
        data = read_segment(folder, number)
    except StorageError as error:
        yield ProblemSeen(path, 0, "damaged", str(error))
        return None
    header = check_segment_header(data, number, folder.identity, expected)
    if isinstance(header, Damage):
        yield ProblemSeen(path, header.offset, "damaged", header.reason)
        return None
    yield SegmentSeen(path, number, header.first_seq, len(data))
    return (yield from _inspect_frames(path, data, header, folder.identity.seed, last=last))


def _inspect_frames(
    path: str, data: bytes, header: SegmentHeader, seed: int, *, last: bool
) -> Generator[Seen, None, Position | None]:
    reader = SegmentReader(data, beginning(header), seed)
    for frame in reader:
        found = frame.header
        try:
            writes = decode_writes(frame)
        except ValueError as error:
            yield ProblemSeen(path, found.offset, "damaged", str(error))
            return None
        size = frame_bytes(found.length)
        yield FrameSeen(path, found.offset, size, found.first_seq, found.floor, writes)
    end = reader.end()
    if end.damage is not None:
        yield ProblemSeen(path, end.damage.offset, "damaged", end.damage.reason)
        return None
    if end.kind == "torn":
        reason = "a write was not finished" if last else "the segment is not complete"
        yield ProblemSeen(path, end.position.offset, "torn" if last else "damaged", reason)
    return end.position


def inspect_snapshots(files: FileSystem, path: str, identity: Identity) -> Iterator[Seen]:
    """Go through the snapshots of the data directory `path`, the oldest first.

    Raises:
        StorageError: they cannot be read.
    """
    directory = f"{path}/{SNAPSHOTS_NAME}"
    store = FileSnapshotStore(files, directory, identity.seed)
    with explained("list", directory):
        names = files.listdir(directory)
    for name in names:
        if name.endswith(SNAPSHOT_SUFFIX):
            meta = store.examine(name)
            file_path = f"{directory}/{name}"
            if isinstance(meta, str):
                yield ProblemSeen(file_path, 0, "damaged", meta)
            else:
                yield SnapshotSeen(file_path, meta)
