"""Reading a journal back: what was written whole, what a crash tore, what was damaged.

The argument stands in docs/reference/disk-format.md. Its core: a frame is written only when everything before
it is durable, and a new segment is begun only when the one before is. Therefore only the very last frame can
be torn, and a tear leaves at least one of its sectors all zero. Everything else is damage, and damage is
never repaired here: it raises, and nothing is changed.
"""

from collections.abc import Iterator
from typing import Final, Literal

import msgspec
import xxhash

from viewstamp.core.errors import JournalCorrupt
from viewstamp.core.ids import PersistSeq
from viewstamp.storage.files import File, explained, read_all, write_all
from viewstamp.storage.framing import (
    ESCAPED,
    FRAME_ALIGNMENT,
    FRAME_HEADER_BYTES,
    FRAME_MAGIC,
    SECTOR_BYTES,
    SEGMENT_HEADER_BYTES,
    FrameHeader,
    Identity,
    SegmentHeader,
    decode_frame_header,
    decode_segment_header,
    frame_bytes,
    unescape,
)
from viewstamp.storage.segments import REMEDY, SegmentFolder, read_segment

Write = tuple[PersistSeq, tuple[bytes, ...]]

_ZERO_HEADER: Final = bytes(FRAME_HEADER_BYTES)
_ZERO_SECTOR: Final = bytes(SECTOR_BYTES)
_DECODER: Final = msgspec.msgpack.Decoder(tuple[tuple[bytes, ...], ...])


class Position(msgspec.Struct, frozen=True):
    """Where the next frame goes and what it must follow."""

    segment: int
    offset: int
    previous: int
    """Check of the last frame; 0: there is none."""
    next_seq: PersistSeq
    floor: PersistSeq
    """Writes numbered lower are known to be released."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """A frame that verified."""

    header: FrameHeader
    payload: bytes
    """As stored."""


class Damage(msgspec.Struct, frozen=True):
    """What is wrong, and from which byte of the segment on."""

    offset: int
    reason: str


class SegmentEnd(msgspec.Struct, frozen=True):
    """Where the whole frames of a segment stop, and what stands there."""

    kind: Literal["clean", "torn", "damaged"]
    position: Position
    damage: Damage | None = None
    """Where kind is damaged."""


def follows(header: FrameHeader, position: Position) -> str | None:
    """Say in what way this frame does not belong at `position`; None: it does."""
    if (header.segment, header.offset) != (position.segment, position.offset):
        return f"a frame stands here that belongs to byte {header.offset} of segment {header.segment}"
    if header.previous != position.previous or header.first_seq != position.next_seq:
        return f"the frame of write {header.first_seq} does not follow write {position.next_seq - 1}"
    return None


def after(frame: FrameHeader, position: Position) -> Position:
    """Return the position after a frame that stands at `position`."""
    return Position(
        position.segment,
        position.offset + frame_bytes(frame.length),
        frame.check,
        PersistSeq(frame.first_seq + frame.count),
        max(frame.floor, position.floor),
    )


class SegmentReader:
    """Goes through the frames of one segment in memory, and says where and why they stop."""

    def __init__(self, data: bytes, position: Position, seed: int) -> None:
        assert position.offset == SEGMENT_HEADER_BYTES
        self._data = data
        self._seed = seed
        self.position = position
        """After the last frame that was handed out."""

    def __iter__(self) -> Iterator[Frame]:
        data, seed = self._data, self._seed
        while True:
            position = self.position
            header = decode_frame_header(data, position.offset, seed)
            if header is None or follows(header, position) is not None:
                return
            begin = position.offset + FRAME_HEADER_BYTES
            payload = data[begin : begin + header.length]
            if position.offset + frame_bytes(header.length) > len(data):
                return
            if xxhash.xxh3_64_intdigest(payload) != header.digest:
                return
            self.position = after(header, position)
            yield Frame(header, payload)

    def end(self) -> SegmentEnd:
        """Judge what stands after the last whole frame."""
        position = self.position
        damage = self._damage_at_end() or self._later_frame()
        if damage is not None:
            return SegmentEnd("damaged", position, damage)
        untouched = self._data.count(b"\0", position.offset) == len(self._data) - position.offset
        return SegmentEnd("clean" if untouched else "torn", position)

    def _damage_at_end(self) -> Damage | None:
        data, offset = self._data, self.position.offset
        header = decode_frame_header(data, offset, self._seed)
        if header is None:
            # The header's sector was zero behind `offset` and is written as a whole: old or new, never half.
            if data[offset : offset + FRAME_HEADER_BYTES].strip(b"\0"):
                return Damage(offset, "a frame's header is damaged")
            return None
        misplaced = follows(header, self.position)
        if misplaced is not None:
            return Damage(offset, misplaced)
        end = offset + frame_bytes(header.length)
        if end > len(data):
            return Damage(offset, "a frame reaches beyond its segment")
        if not has_missing_sector(data, offset, end):
            return Damage(offset, "a frame's content is damaged")
        if data.count(b"\0", end) != len(data) - end:
            return Damage(end, "bytes stand behind the last frame, which was never finished")
        return None

    def _later_frame(self) -> Damage | None:
        data = self._data
        found = data.find(FRAME_MAGIC, self.position.offset + 1)
        while found >= 0:
            later = None if found % FRAME_ALIGNMENT else decode_frame_header(data, found, self._seed)
            if later is not None:
                reason = (
                    f"this was durable once, for the frame of write {later.first_seq} stands at byte {found}"
                )
                return Damage(self.position.offset, reason)
            found = data.find(FRAME_MAGIC, found + 1)
        return None


def has_missing_sector(data: bytes, begin: int, end: int) -> bool:
    """Return whether some sector's share of data[begin:end] is all zero, as no frame's share ever is."""
    sector = begin - begin % SECTOR_BYTES
    while sector < end:
        piece = data[max(sector, begin) : min(sector + SECTOR_BYTES, end)]
        if piece == _ZERO_SECTOR[: len(piece)]:
            return True
        sector += SECTOR_BYTES
    return False


def decode_writes(frame: Frame) -> tuple[tuple[bytes, ...], ...]:
    """Return the atomic writes of a frame.

    Raises:
        ValueError: it verified, and yet holds something else: another program wrote it.
    """
    header = frame.header
    if not header.count:
        return ()
    try:
        writes = _DECODER.decode(unescape(frame.payload) if header.flags & ESCAPED else frame.payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"a frame does not hold writes: {error}") from error
    if len(writes) != header.count:
        raise ValueError(f"a frame holds {len(writes)} writes instead of {header.count}")
    return writes


class RecoveredJournal:
    """A journal that was found whole. Iterating reads the writes from the disk again, in order.

    Raises, when iterated:
        JournalCorrupt: the disk does not return what it returned before.
    """

    def __init__(self, folder: SegmentFolder) -> None:
        self._folder = folder
        self.segments: list[tuple[int, PersistSeq]] = []
        """(number, number of its first write) of each segment, ascending, without a gap."""
        self.sizes: list[int] = []
        """Bytes of the records of each write from `floor` on."""
        self.position = Position(0, SEGMENT_HEADER_BYTES, 0, PersistSeq(1), PersistSeq(1))
        self.last_frame: int | None = None
        """Offset of the last frame, where it stands in the last segment."""
        self.marked = False
        """Whether the last frame is a mark: everything was durable when the journal was closed."""
        self.torn = False
        """Whether something unfinished stands behind the last frame and must be wiped."""

    @property
    def written(self) -> PersistSeq:
        """Number of the last write; 0: there is none."""
        return PersistSeq(self.position.next_seq - 1)

    def __iter__(self) -> Iterator[Write]:
        wanted, written = self.position.floor, self.written
        for number, _ in self.segments:
            for frame in self._frames(number):
                for seq, records in enumerate(decode_writes(frame), frame.header.first_seq):
                    if wanted == seq <= written:
                        wanted = PersistSeq(seq + 1)
                        yield PersistSeq(seq), records
        if wanted <= written:
            raise self._changed(f"write {wanted}")

    def _frames(self, number: int) -> Iterator[Frame]:
        data = read_segment(self._folder, number)
        decoded = decode_segment_header(data)
        if isinstance(decoded, str):
            raise self._changed(f"the header of segment {number}")
        return iter(SegmentReader(data, beginning(decoded[0]), self._folder.identity.seed))

    def _changed(self, what: str) -> JournalCorrupt:
        return JournalCorrupt(
            f"{self._folder.path}: {what} was there at the first reading and is no longer there; {REMEDY}"
        )


def beginning(header: SegmentHeader) -> Position:
    """Return the position of a segment's first frame."""
    return Position(header.segment, SEGMENT_HEADER_BYTES, header.previous, header.first_seq, header.floor)


def corrupt(path: str, damage: Damage) -> JournalCorrupt:
    """Return the one line for a person about damage."""
    return JournalCorrupt(f"{path} is damaged at byte {damage.offset}: {damage.reason}; {REMEDY}")


def check_segment_header(
    data: bytes, number: int, identity: Identity, expected: Position | None
) -> SegmentHeader | Damage:
    """Return the header of segment `number`, which goes on at `expected` if there is a segment before it."""
    decoded = decode_segment_header(data)
    if isinstance(decoded, str):
        return Damage(0, decoded)
    header, owner = decoded
    if owner != identity:
        return Damage(
            0, f"it belongs to node {owner.node} of cluster {owner.cluster_id!r}, or to an earlier life of it"
        )
    if header.segment != number:
        return Damage(0, f"it is segment {header.segment} under the name of segment {number}")
    if header.size_bytes != len(data):
        return Damage(0, f"it has {len(data)} bytes instead of {header.size_bytes}")
    if expected is not None and (header.previous, header.first_seq) != (expected.previous, expected.next_seq):
        return Damage(
            0,
            f"it begins with write {header.first_seq}, the segment before ends with {expected.next_seq - 1}",
        )
    return header


def recover(folder: SegmentFolder) -> RecoveredJournal:
    """Verify the whole journal without changing anything.

    Raises:
        JournalCorrupt: it is not what was written.
    """
    numbers = folder.numbers()
    if not numbers:
        raise JournalCorrupt(f"{folder.path} holds no journal, though the node was set up; {REMEDY}")
    found = RecoveredJournal(folder)
    for number in numbers:
        if found.segments and number != found.segments[-1][0] + 1:
            raise JournalCorrupt(f"{folder.file_path(found.segments[-1][0] + 1)} is missing; {REMEDY}")
        _recover_segment(folder, found, number)
        if found.torn and number != numbers[-1]:
            raise corrupt(
                folder.file_path(number), Damage(found.position.offset, "the segment is not complete")
            )
    oldest = found.segments[0][1]
    del found.sizes[: max(0, found.position.floor - oldest)]
    # Segments may be deleted before a frame repeats why: what is gone was released.
    found.position = msgspec.structs.replace(found.position, floor=max(found.position.floor, oldest))
    return found


def _recover_segment(folder: SegmentFolder, found: RecoveredJournal, number: int) -> None:
    path = folder.file_path(number)
    data = read_segment(folder, number)
    header = check_segment_header(data, number, folder.identity, found.position if found.segments else None)
    if isinstance(header, Damage):
        raise corrupt(path, header)
    found.segments.append((number, header.first_seq))
    found.last_frame = None
    reader = SegmentReader(data, beginning(header), folder.identity.seed)
    try:
        for frame in reader:
            found.sizes.extend(sum(map(len, records)) for records in decode_writes(frame))
            found.last_frame = frame.header.offset
            found.marked = not frame.header.count
    except ValueError as error:
        raise corrupt(path, Damage(reader.position.offset, str(error))) from error
    end = reader.end()
    if end.damage is not None:
        raise corrupt(path, end.damage)
    found.position = end.position
    found.torn = end.kind == "torn"


def make_durable(folder: SegmentFolder, found: RecoveredJournal, file: File) -> None:
    """Repair the tail on the disk, and write the last frame again.

    What was read may stand in memory only: the process before this one may have ended between a write and its
    sync, or because the sync failed, after which the kernel counts the lost pages as written. Writing the
    last frame once more, byte for byte, makes it durable; what is before it was when it was written.

    Raises:
        StorageError: the disk did not do it. Nothing that was durable is harmed.
    """
    path = folder.file_path(found.position.segment)
    with explained("repair", path):
        if found.last_frame is not None:
            length = found.position.offset - found.last_frame
            write_all(file, read_all(file, length, found.last_frame), found.last_frame)
        if found.torn:
            _wipe(file, found.position.offset)
        file.fdatasync()
        folder.files.sync_directory(folder.path)
    found.torn = False


def _wipe(file: File, offset: int) -> None:
    tail = read_all(file, file.size() - offset, offset)
    used = len(tail.rstrip(b"\0"))
    write_all(file, bytes(used), offset)
