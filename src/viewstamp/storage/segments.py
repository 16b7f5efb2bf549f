"""The directory of a journal's segments: making the next one ready, deleting the oldest.

The rules of this file:

1. A segment gets its final name only when it is zero-filled, has its header, and both are durable.
2. Segments are deleted oldest first, each deletion durable before the next: a crash leaves no hole.
3. Whatever has another name than a segment's is the remains of a crash and may be deleted.
"""

import contextlib
import errno
from typing import Final

from viewstamp.core.errors import MOVE_AWAY, JournalCorrupt
from viewstamp.core.ids import PersistSeq
from viewstamp.storage.files import File, FileSystem, explained, fill_with_zeros, read_all, write_all
from viewstamp.storage.framing import (
    FRAME_ALIGNMENT,
    SEGMENT_BYTES_MAX,
    SEGMENT_HEADER_BYTES,
    Identity,
    SegmentHeader,
    encode_segment_header,
)

REMEDY: Final = f"nothing was changed: {MOVE_AWAY}"
"""What a person can do about damage."""

SEGMENT_BYTES: Final = 16 << 20
SEGMENT_BYTES_MIN: Final = 4096
_SUFFIX: Final = ".wal"
_SPARE: Final = "spare.tmp"
_FIRST_SEQ: Final = PersistSeq(1)


def segment_name(segment: int) -> str:
    """Return the file name of a segment; names sort like numbers."""
    return f"{segment:016x}{_SUFFIX}"


def segment_number(name: str) -> int | None:
    """Return the number of the segment with this file name; None: no segment has it."""
    with contextlib.suppress(ValueError):
        number = int(name.removesuffix(_SUFFIX), 16)
        return number if name == segment_name(number) else None
    return None


class SegmentFolder:
    """The files of one journal. The spare and the deletions may be used from two threads."""

    def __init__(self, files: FileSystem, path: str, identity: Identity, segment_bytes: int) -> None:
        assert SEGMENT_BYTES_MIN <= segment_bytes <= SEGMENT_BYTES_MAX
        assert segment_bytes % FRAME_ALIGNMENT == 0
        self.files = files
        self.path = path
        self.identity = identity
        self.segment_bytes = segment_bytes
        self._guard = files.guard()
        """Held while the spare or the set of segments changes."""
        self._spare: File | None = None
        """Zero-filled, durable, under the name `_SPARE`; or None."""
        self._refused = False
        """Whether the disk was too full for a spare since the last segment was begun."""
        self.segments: list[tuple[int, PersistSeq]] = []
        """(number, number of its first write) of each segment, ascending, without a gap; the last is open."""

    def file_path(self, segment: int) -> str:
        """Return the path of a segment."""
        return f"{self.path}/{segment_name(segment)}"

    def numbers(self) -> list[int]:
        """Return the numbers of the segments that exist, ascending."""
        with explained("list", self.path):
            names = self.files.listdir(self.path)
        return [number for number in map(segment_number, names) if number is not None]

    def remove_remains(self) -> None:
        """Delete what a crash left half done."""
        with explained("clean up", self.path):
            for name in self.files.listdir(self.path):
                if segment_number(name) is None:
                    self.files.unlink(f"{self.path}/{name}")

    def open(self, segment: int, *, writable: bool) -> File:
        """Open an existing segment."""
        path = self.file_path(segment)
        with explained("open", path):
            return self.files.open(path, writable=writable)

    def begin(self, header: SegmentHeader) -> File:
        """Make the segment with this header durable under its name, and open it.

        Uses the spare where it is there and large enough. The segment before must be durable to its end.
        """
        path = self.file_path(header.segment)
        with self._guard, explained("make the journal segment", path):
            file = self._take_spare(header.size_bytes)
            write_all(file, encode_segment_header(header, self.identity), 0)
            file.fdatasync()
            self.files.rename(f"{self.path}/{_SPARE}", path)
            self.files.sync_directory(self.path)
            self.segments.append((header.segment, header.first_seq))
        return file

    def prepare_spare(self) -> None:
        """Have the next segment ready. A full disk is not an error yet: only `begin` needs the space."""
        with self._guard, explained("make the next journal segment in", self.path):
            if not self.wants_spare:
                return
            try:
                self._spare = self._make_spare(self.segment_bytes)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                self._refused = True

    @property
    def wants_spare(self) -> bool:
        """Whether the next segment is not ready, and there is hope that it can be made."""
        return self._spare is None and not self._refused

    def _take_spare(self, size_bytes: int) -> File:
        spare = self._spare
        self._spare = None
        self._refused = False
        if spare is not None and size_bytes == self.segment_bytes:
            return spare
        if spare is not None:
            spare.close()
            self.files.unlink(f"{self.path}/{_SPARE}")
        return self._make_spare(size_bytes)

    def _make_spare(self, size_bytes: int) -> File:
        path = f"{self.path}/{_SPARE}"
        file = self.files.create(path)
        try:
            fill_with_zeros(file, size_bytes)
            # Not needed for safety, since `begin` syncs as well: so that it has little left to wait for.
            file.fdatasync()
        except OSError:
            file.close()
            self.files.unlink(path)
            raise
        return file

    def discard_before(self, before: PersistSeq) -> None:
        """Delete the segments that hold only writes lower than `before`, oldest first, never the last."""
        if not self.can_discard_before(before):
            return
        with self._guard, explained("delete a journal segment in", self.path):
            while self.can_discard_before(before):
                self.files.unlink(self.file_path(self.segments[0][0]))
                self.files.sync_directory(self.path)
                del self.segments[0]

    def can_discard_before(self, before: PersistSeq) -> bool:
        """Return whether `discard_before` would delete something."""
        return len(self.segments) > 1 and self.segments[1][1] <= before

    def close(self) -> None:
        """Delete the spare, which the next opening would delete as well."""
        with self._guard:
            if self._spare is not None:
                self._spare.close()
                self._spare = None
                with contextlib.suppress(OSError):
                    self.files.unlink(f"{self.path}/{_SPARE}")


def first_segment(folder: SegmentFolder) -> None:
    """Begin an empty journal."""
    header = SegmentHeader(1, _FIRST_SEQ, 0, _FIRST_SEQ, folder.segment_bytes)
    folder.begin(header).close()


def read_segment(folder: SegmentFolder, segment: int) -> bytes:
    """Return the whole segment, never more than the format's limit.

    Raises:
        JournalCorrupt: it is shorter or longer than any segment.
        StorageError: it cannot be read.
    """
    path = folder.file_path(segment)
    file = folder.open(segment, writable=False)
    try:
        with explained("read", path):
            size = file.size()
            if not SEGMENT_HEADER_BYTES <= size <= SEGMENT_BYTES_MAX:
                raise JournalCorrupt(f"{path} is damaged: it has {size} bytes; {REMEDY}")
            return read_all(file, size, 0)
    finally:
        file.close()
