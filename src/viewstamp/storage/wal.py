"""The journal on a disk: a write-ahead log in zero-filled segments, one frame for each group commit.

The rules of this file:

1. Appending gathers; a `SyncJob` takes all that was gathered and writes it as one frame (or a few, where one
   would be too large), each durable before the next is begun. One job is open at a time. Recovery depends on
   it.
2. A segment is begun only when the one before is durable to its end.
3. After a failure nothing more is written: the process must end and recover.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from viewstamp.core.errors import StorageError
from viewstamp.core.ids import PersistSeq
from viewstamp.storage.direct import tail_of
from viewstamp.storage.files import File, FileSystem, explain, write_all
from viewstamp.storage.framing import (
    ESCAPED,
    FRAME_PAYLOAD_BYTES_MAX,
    SEGMENT_HEADER_BYTES,
    FrameHeader,
    Identity,
    SegmentHeader,
    encode_frame,
    escape,
    frame_bytes,
    has_zero_sector,
)
from viewstamp.storage.journal import SyncJob
from viewstamp.storage.recovery import Position, RecoveredJournal, beginning, make_durable, recover
from viewstamp.storage.segments import SEGMENT_BYTES, SegmentFolder, first_segment

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_RECORD_OVERHEAD_BYTES: Final = 8
"""More than the encoding adds to a record."""


class Tail:
    """The end of the journal on the disk. Only the open job uses it, in whatever thread that runs."""

    def __init__(self, folder: SegmentFolder, file: File, position: Position) -> None:
        self.folder = folder
        self.position = position
        """Behind the last frame written."""
        self.deletable_before = PersistSeq(0)
        """Segments that hold only writes numbered lower may be deleted. Set by the journal."""
        self.moved = True
        """Whether that changed, or a segment was begun, since an upkeep looked for segments to delete."""
        self._file = tail_of(file)
        self._seed = folder.identity.seed
        self._size_bytes = file.size()
        self._unsynced = False
        """Whether something was written to `_file` since its last sync."""
        self.failed = False
        """Whether the disk refused something. It is never asked again."""

    @property
    def half_full(self) -> bool:
        """Whether it is time to make the next segment ready."""
        return self.position.offset * 2 > self._size_bytes

    def write(self, writes: Sequence[Sequence[bytes]], floor: PersistSeq) -> None:
        """Write one frame behind the others, in a new segment if there is no room.

        Raises:
            StorageError: the disk refused; the process must end.
        """
        payload, flags = _encode(writes)
        size_bytes = frame_bytes(len(payload))
        if self.position.offset + size_bytes > self._size_bytes:
            self._begin_segment(SEGMENT_HEADER_BYTES + size_bytes)
        assert not self._unsynced, "a frame may be written only when everything before it is durable"
        position = self.position
        header = FrameHeader(
            flags=flags,
            length=len(payload),
            count=len(writes),
            first_seq=position.next_seq,
            floor=floor,
            segment=position.segment,
            offset=position.offset,
            previous=position.previous,
            digest=0,
            check=0,
        )
        frame, check = encode_frame(header, payload, self._seed)
        self._unsynced = True
        try:
            write_all(self._file, frame, position.offset)
        except OSError as error:
            self.failed = True
            raise explain(error, "write to", self.folder.file_path(position.segment)) from error
        self.position = Position(
            position.segment,
            position.offset + len(frame),
            check,
            PersistSeq(position.next_seq + len(writes)),
            floor,
        )

    def flush(self) -> None:
        """Wait until what was written is durable. A failure is final: the kernel may drop the pages."""
        try:
            self._file.fdatasync()
        except OSError as error:
            self.failed = True
            raise explain(error, "sync", self.folder.file_path(self.position.segment)) from error
        self._unsynced = False

    def _begin_segment(self, needed_bytes: int) -> None:
        assert not self._unsynced, "a segment may be begun only when the one before is durable"
        position = self.position
        size_bytes = max(needed_bytes, self.folder.segment_bytes)
        # The floor before this frame: the header is durable before the frame is, and may stay without it.
        header = SegmentHeader(
            position.segment + 1, position.next_seq, position.previous, position.floor, size_bytes
        )
        try:
            self.folder.discard_before(self.deletable_before)
            file = self.folder.begin(header)
        except StorageError:
            self.failed = True
            raise
        self._file.close()
        self._file = tail_of(file)
        self._size_bytes = size_bytes
        self.moved = True
        self.position = beginning(header)

    def close(self) -> None:
        """Close the last segment."""
        self._file.close()


def _encode(writes: Sequence[Sequence[bytes]]) -> tuple[bytes, int]:
    if not writes:
        return b"", 0
    payload = _ENCODE(writes)
    if has_zero_sector(payload):
        payload, flags = escape(payload), ESCAPED
    else:
        flags = 0
    if len(payload) > FRAME_PAYLOAD_BYTES_MAX:
        raise StorageError(f"a write of {len(payload)} bytes is more than a journal can hold")
    return payload, flags


class WalJob:
    """One group commit. See `journal.SyncJob`."""

    __slots__ = ("_floor", "_groups", "_tail", "flushed", "seq")

    def __init__(
        self, tail: Tail, groups: list[list[Sequence[bytes]]], seq: PersistSeq, floor: PersistSeq
    ) -> None:
        self._tail = tail
        self._groups = groups
        self._floor = floor
        self.seq = seq
        self.flushed = False
        """Whether everything up to `seq` is durable."""

    def write(self) -> None:
        """Hand the group to the disk; where it takes several frames, wait for all but the last."""
        tail = self._tail
        if len(self._groups) > 1:
            for group in self._groups[:-1]:
                tail.write(group, tail.position.floor)
                tail.flush()
        # Only the last frame may say that something is released: what replaces it may stand in any of them.
        tail.write(self._groups[-1], self._floor)

    def flush(self) -> None:
        """Wait until the group is durable."""
        self._tail.flush()
        self.flushed = True

    def run(self) -> None:
        """Do both."""
        self.write()
        self.flush()


class Wal:
    """The journal of one data directory. See `journal.Journal` for what each method promises."""

    def __init__(self, folder: SegmentFolder, file: File, found: RecoveredJournal) -> None:
        self._folder = folder
        self._tail = Tail(folder, file, found.position)
        self.written = found.written
        self.durable = found.written
        self.live_bytes = sum(found.sizes)
        self._sizes = deque(found.sizes)
        """Bytes of each write from `_floor` on."""
        self._floor = found.position.floor
        """Writes numbered lower are released."""
        self._releases: deque[tuple[PersistSeq, PersistSeq]] = deque()
        """(needs, before), both ascending: segments before `before` may go when `needs` is durable."""
        self._pending: list[Sequence[bytes]] = []
        """Appended and in no job yet."""
        self._pending_bytes = 0
        self._job: WalJob | None = None
        self._upkeep = False
        """Whether an upkeep is under way."""
        self._marked = found.written == 0 or found.marked
        """Whether nothing was written since the last mark."""
        self._closed = False

    def append(self, seq: PersistSeq, records: Sequence[bytes]) -> None:
        """Take in the atomic write number `written + 1`."""
        assert seq == self.written + 1, (seq, self.written)
        assert records
        if self._closed or self._tail.failed:
            raise _refusal()
        size = sum(map(len, records))
        self.written = seq
        self._pending.append(records)
        self._pending_bytes += size + _RECORD_OVERHEAD_BYTES * len(records)
        self._sizes.append(size)
        self.live_bytes += size

    def sync(self) -> PersistSeq:
        """Make everything appended durable, in this thread."""
        job = self.begin_sync()
        if job is None:
            return self.durable
        job.run()
        return self.finish_sync(job)

    def begin_sync(self) -> WalJob | None:
        """Return the job that makes everything appended so far durable."""
        if self._closed or self._tail.failed:
            raise _refusal()
        assert self._job is None, "a sync is under way"
        if not self._pending:
            return None
        limit = self._folder.segment_bytes // 2
        groups = [self._pending] if self._pending_bytes <= limit else _split(self._pending, limit)
        self._job = WalJob(self._tail, groups, self.written, self._floor)
        self._pending = []
        self._pending_bytes = 0
        # Until it is finished: a job that raised, or was dropped, leaves a journal that refuses everything.
        self._marked = False
        return self._job

    def finish_sync(self, job: SyncJob) -> PersistSeq:
        """Record that the open job has run."""
        assert job is self._job
        assert self._job.flushed
        self._job = None
        self.durable = job.seq
        if self._releases:
            self._let_go()
        return self.durable

    def release(self, before: PersistSeq) -> None:
        """Allow the writes numbered lower than `before` to be forgotten."""
        assert before <= self.written + 1, (before, self.written)
        if before <= self._floor:
            return
        for _ in range(before - self._floor):
            self.live_bytes -= self._sizes.popleft()
        self._floor = before
        self._releases.append((self.written, before))
        self._let_go()

    def _let_go(self) -> None:
        releases = self._releases
        while releases and releases[0][0] <= self.durable:
            self._tail.deletable_before = releases.popleft()[1]
            self._tail.moved = True

    def begin_upkeep(self) -> Callable[[], None] | None:
        """Return the work of making the next segment and deleting released ones, if it is time for either."""
        if self._upkeep or self._closed or self._tail.failed:
            return None
        wanted = self._tail.half_full and self._folder.wants_spare
        moved, self._tail.moved = self._tail.moved, False
        if not wanted and not (moved and self._folder.can_discard_before(self._tail.deletable_before)):
            return None
        self._upkeep = True
        return self._run_upkeep

    def _run_upkeep(self) -> None:
        self._folder.discard_before(self._tail.deletable_before)
        self._folder.prepare_spare()
        self._upkeep = False

    def close(self) -> None:
        """Write a mark if everything is durable, which the next opening takes as proof; close the files."""
        if self._closed:
            return
        idle = self._job is None and not self._pending and not self._tail.failed
        self._closed = True
        try:
            if idle and not self._marked:
                self._tail.write((), self._floor)
                self._tail.flush()
        finally:
            self._tail.close()
            self._folder.close()


def _refusal() -> StorageError:
    return StorageError("the journal is closed or has failed; the process must end")


def _split(writes: list[Sequence[bytes]], limit_bytes: int) -> list[list[Sequence[bytes]]]:
    """Cut a group so that each part but a single large write stays below the limit."""
    groups: list[list[Sequence[bytes]]] = [[]]
    size = 0
    for records in writes:
        length = sum(map(len, records)) + _RECORD_OVERHEAD_BYTES * len(records)
        if size and size + length > limit_bytes:
            groups.append([])
            size = 0
        groups[-1].append(records)
        size += length
    return groups


def open_wal(
    files: FileSystem, path: str, identity: Identity, *, segment_bytes: int = SEGMENT_BYTES
) -> tuple[Wal, RecoveredJournal]:
    """Recover the journal in the directory `path`, repair its tail, and open it for appending.

    The second part of the answer yields the writes; it can be used until something is released.

    Raises:
        JournalCorrupt: it is not what was written; nothing was changed.
        StorageError: the disk refused.
    """
    folder = SegmentFolder(files, path, identity, segment_bytes)
    found = recover(folder)
    folder.remove_remains()
    folder.segments = list(found.segments)
    file = folder.open(found.segments[-1][0], writable=True)
    make_durable(folder, found, file)
    return Wal(folder, file, found), found


def create_wal(
    files: FileSystem, path: str, identity: Identity, *, segment_bytes: int = SEGMENT_BYTES
) -> None:
    """Make an empty journal in the directory `path`, which exists and holds none. Durable when it returns."""
    folder = SegmentFolder(files, path, identity, segment_bytes)
    folder.remove_remains()
    first_segment(folder)
