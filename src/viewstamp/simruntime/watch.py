"""What is durable on the disk of one machine, read from the disk itself after each sync of it.

No node says what it has synced: after each call that made something durable the frames of the journal are
read that would survive any crash now, name and content, and the judge is told of the writes in them. So
whatever a node acknowledges is compared with what was synced, in the file and in its directory.
"""

from collections.abc import Iterator
from typing import Final

import xxhash

from viewstamp.core.errors import ConfigurationError, JournalCorrupt
from viewstamp.core.ids import NodeId, PersistSeq
from viewstamp.sim.judge.judge import Judge
from viewstamp.sim.world.content import Content
from viewstamp.sim.world.disk import SimFileSystem
from viewstamp.storage.directory import JOURNAL_NAME, SNAPSHOTS_NAME
from viewstamp.storage.framing import (
    FRAME_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    decode_frame_header,
    decode_segment_header,
    frame_bytes,
)
from viewstamp.storage.identity import read_identity
from viewstamp.storage.recovery import Frame, Position, after, beginning, decode_writes, follows
from viewstamp.storage.segments import segment_number
from viewstamp.storage.snapshots import SNAPSHOT_SUFFIX, read_snapshot_header

Writes = list[tuple[PersistSeq, tuple[bytes, ...]]]
_NOWHERE: Final = Position(0, SEGMENT_HEADER_BYTES, 0, PersistSeq(1), PersistSeq(1))


class DiskWatch:
    """Looks at one disk from outside."""

    def __init__(self, node: NodeId, files: SimFileSystem, path: str, judge: Judge) -> None:
        self._node = node
        self._files = files
        self._path = path
        self._judge = judge
        self._position = _NOWHERE
        """Behind the last frame that is durable."""
        self._snapshots: set[str] = set()
        self._told = False
        """Whether the judge is told: between the moment at which the node has read its disk, and its end."""

    @property
    def durable(self) -> PersistSeq:
        """The number of the last write that would survive any crash now."""
        return PersistSeq(self._position.next_seq - 1)

    def began(self) -> None:
        """The node has read its disk: the judge knows what is there, and is told of what comes."""
        self._told = True

    def ended(self) -> None:
        """The process has ended; what its disk holds has to be read again."""
        self._told = False
        self._position = _NOWHERE
        self._snapshots.clear()
        for folder in (JOURNAL_NAME, SNAPSHOTS_NAME):
            self.synced(f"{self._path}/{folder}")

    def synced(self, folder: str) -> None:
        """Something in this directory became durable."""
        if folder == f"{self._path}/{JOURNAL_NAME}":
            writes = self._new_writes(folder)
            if writes and self._told:
                self._judge.wrote(self._node, writes)
        elif folder == f"{self._path}/{SNAPSHOTS_NAME}":
            self._look_at_snapshots(folder)

    def _seed(self) -> int | None:
        """Return what the frames are checked with; None: the directory has no identity yet."""
        try:
            found = read_identity(self._files, self._path)
        except (ConfigurationError, JournalCorrupt, OSError):
            return None
        return None if found is None else found.identity.seed

    def _new_writes(self, folder: str) -> Writes:
        seed = self._seed()
        if seed is None:
            return []
        segments = [
            (number, content)
            for name, content in self._files.durable_files(folder).items()
            if (number := segment_number(name)) is not None and number >= self._position.segment
        ]
        writes: Writes = []
        for number, content in sorted(segments, key=lambda each: each[0]):
            if number != self._position.segment and not self._enter(number, content):
                break
            for frame in self._frames(content, seed):
                writes += enumerate_writes(frame)
        return writes

    def _enter(self, number: int, content: Content) -> bool:
        """Go on in the next segment, if its beginning is durable."""
        if not content.is_durable(0, SEGMENT_HEADER_BYTES):
            return False
        decoded = decode_segment_header(bytes(content.data))
        if isinstance(decoded, str) or decoded[0].segment != number:
            return False
        self._position = beginning(decoded[0])
        return True

    def _frames(self, content: Content, seed: int) -> Iterator[Frame]:
        data = content.data
        while True:
            position = self._position
            head = bytes(data[position.offset : position.offset + FRAME_HEADER_BYTES])
            header = decode_frame_header(head, 0, seed)
            if header is None or follows(header, position) is not None:
                return
            end = position.offset + frame_bytes(header.length)
            if end > len(data) or not content.is_durable(position.offset, end):
                return
            begin = position.offset + FRAME_HEADER_BYTES
            payload = bytes(data[begin : begin + header.length])
            if xxhash.xxh3_64_intdigest(payload) != header.digest:
                return
            self._position = after(header, position)
            yield Frame(header, payload)

    def _look_at_snapshots(self, folder: str) -> None:
        seed = self._seed()
        for name, content in self._files.durable_files(folder).items():
            if not name.endswith(SNAPSHOT_SUFFIX) or name in self._snapshots or seed is None:
                continue
            if not content.is_durable(0, len(content.data)):
                continue
            self._snapshots.add(name)
            meta = read_snapshot_header(_Reader(content), seed)
            if self._told and not isinstance(meta, str):
                self._judge.saved(self._node, meta)


def enumerate_writes(frame: Frame) -> Writes:
    """Return the writes of a frame with their numbers."""
    first = frame.header.first_seq
    return [(PersistSeq(first + index), records) for index, records in enumerate(decode_writes(frame))]


class _Reader:
    """The content of a file, to be read only."""

    def __init__(self, content: Content) -> None:
        self._content = content

    def pread(self, length: int, offset: int) -> bytes:
        return bytes(self._content.data[offset : offset + length])

    def size(self) -> int:
        return len(self._content.data)

    def pwrite(self, data: bytes, offset: int) -> int:
        raise AssertionError((data, offset))

    def fdatasync(self) -> None:
        raise AssertionError

    def close(self) -> None:
        """Nothing is held."""
