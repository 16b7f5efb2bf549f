"""Bytes of a journal segment: its header, its frames, and the escape for long runs of zeros.

docs/reference/disk-format.md explains the layout and what it proves. In short: one frame is one synced group
of atomic writes; a frame's header lies in one sector and says where it belongs; no sector of a frame is all
zero, so that a sector which a crash swallowed (it is still zero) differs from one that was damaged.
"""

import struct
from typing import Final

import msgspec
import xxhash

from viewstamp.core.ids import Incarnation, NodeId, PersistSeq

SECTOR_BYTES: Final = 512
"""What a disk writes as a whole or not at all."""
FORMAT_VERSION: Final = 1

FRAME_ALIGNMENT: Final = 64
FRAME_HEADER_BYTES: Final = 64
FRAME_MAGIC: Final = b"VSf1"
FRAME_PAYLOAD_BYTES_MAX: Final = 1 << 30
SEGMENT_MAGIC: Final = b"VSJOURN\n"
SEGMENT_HEADER_BYTES: Final = SECTOR_BYTES
SEGMENT_BYTES_MAX: Final = 0xFFFF_FFC0

ESCAPED: Final = 1
"""Frame flag: the payload contained a sector's worth of zeros and was stored by `escape`."""

_ZERO_SECTOR: Final = bytes(SECTOR_BYTES)
_ESCAPE_PIECE_BYTES: Final = 255
_ESCAPE_BYTE: Final = b"\x01"
_FILLER: Final = b"\xff" * FRAME_ALIGNMENT

# magic, flags, payload length, number of writes, first seq, floor, segment, offset, previous check, digest
_FRAME: Final = struct.Struct("<4sIIIQQIIQQ")
_CHECK: Final = struct.Struct("<Q")
# magic, version, header length, seed, node, incarnation, segment, first seq, previous check, floor, size,
# cluster id
_SEGMENT: Final = struct.Struct("<8sIIQQQQQQQQ64p")

assert _FRAME.size + _CHECK.size == FRAME_HEADER_BYTES
assert _SEGMENT.size + _CHECK.size <= SEGMENT_HEADER_BYTES

CLUSTER_ID_BYTES_MAX: Final = 63


class Identity(msgspec.Struct, frozen=True):
    """Whose data directory it is. It never changes."""

    cluster_id: str
    """1 to 63 bytes of UTF-8."""
    node: NodeId
    incarnation: Incarnation
    format_version: int = FORMAT_VERSION

    @property
    def seed(self) -> int:
        """What all checksums of this directory start from, so that a stranger's bytes never verify."""
        name = self.cluster_id.encode()
        return xxhash.xxh3_64_intdigest(struct.pack("<QQI", self.node, self.incarnation, len(name)) + name)


class SegmentHeader(msgspec.Struct, frozen=True):
    """The first sector of a segment."""

    segment: int
    """Its number; the next segment's is one more."""
    first_seq: PersistSeq
    """Number of the first write that it holds, or will hold."""
    previous: int
    """Check of the last frame of the segment before; 0: there was none."""
    floor: PersistSeq
    """Writes numbered lower had been released when it was begun."""
    size_bytes: int
    """Length of the file, fixed when it is made."""


class FrameHeader(msgspec.Struct, frozen=True):
    """The first 64 bytes of a frame."""

    flags: int
    length: int
    """Bytes of the payload as stored."""
    count: int
    """Number of atomic writes in it. 0: a mark, which says that everything before it was durable."""
    first_seq: PersistSeq
    """Number of the first; where count is 0, of the next write to come."""
    floor: PersistSeq
    """Writes numbered lower were released when it was written."""
    segment: int
    offset: int
    """Where in the segment it belongs."""
    previous: int
    """Check of the frame before, also over the border of two segments."""
    digest: int
    """xxh3_64 of the payload as stored."""
    check: int
    """xxh3_64 of the 56 bytes before, seeded by the identity. The next frame repeats it as `previous`."""


def frame_bytes(length: int) -> int:
    """Return the space that a frame with this payload takes: at least one filler byte, then aligned."""
    return (FRAME_HEADER_BYTES + length + FRAME_ALIGNMENT) & -FRAME_ALIGNMENT


def encode_frame(header: FrameHeader, payload: bytes, seed: int) -> tuple[bytes, int]:
    """Return the frame and its check. `digest` and `check` of the header given are ignored."""
    head = _FRAME.pack(
        FRAME_MAGIC,
        header.flags,
        len(payload),
        header.count,
        header.first_seq,
        header.floor,
        header.segment,
        header.offset,
        header.previous,
        xxhash.xxh3_64_intdigest(payload),
    )
    check = xxhash.xxh3_64_intdigest(head, seed)
    filler = _FILLER[: FRAME_ALIGNMENT - (FRAME_HEADER_BYTES + len(payload)) % FRAME_ALIGNMENT]
    return b"".join((head, _CHECK.pack(check), payload, filler)), check


def decode_frame_header(data: bytes, offset: int, seed: int) -> FrameHeader | None:
    """Return the header that stands at `offset`; None: these 64 bytes are not a header of this directory."""
    if len(data) - offset < FRAME_HEADER_BYTES or data[offset : offset + 4] != FRAME_MAGIC:
        return None
    head = data[offset : offset + _FRAME.size]
    (check,) = _CHECK.unpack_from(data, offset + _FRAME.size)
    if xxhash.xxh3_64_intdigest(head, seed) != check:
        return None
    _, flags, length, count, first_seq, floor, segment, place, previous, digest = _FRAME.unpack(head)
    return FrameHeader(
        flags,
        length,
        count,
        PersistSeq(first_seq),
        PersistSeq(floor),
        segment,
        place,
        previous,
        digest,
        check,
    )


def has_zero_sector(payload: bytes) -> bool:
    """Return whether a run of zeros is long enough for a whole sector of it to be zero."""
    return len(payload) >= SECTOR_BYTES and _ZERO_SECTOR in payload


def escape(payload: bytes) -> bytes:
    """Put a byte that is not zero after every 255, so that no sector of it is zero."""
    step = _ESCAPE_PIECE_BYTES
    return _ESCAPE_BYTE.join(payload[start : start + step] for start in range(0, len(payload), step))


def unescape(stored: bytes) -> bytes:
    """Undo `escape`."""
    step = _ESCAPE_PIECE_BYTES
    return b"".join(stored[start : start + step] for start in range(0, len(stored), step + 1))


def encode_segment_header(header: SegmentHeader, identity: Identity) -> bytes:
    """Return the first sector of a segment."""
    head = _SEGMENT.pack(
        SEGMENT_MAGIC,
        identity.format_version,
        SEGMENT_HEADER_BYTES,
        identity.seed,
        identity.node,
        identity.incarnation,
        header.segment,
        header.first_seq,
        header.previous,
        header.floor,
        header.size_bytes,
        identity.cluster_id.encode(),
    )
    check = _CHECK.pack(xxhash.xxh3_64_intdigest(head, identity.seed))
    return (head + check).ljust(SEGMENT_HEADER_BYTES, b"\0")


def decode_segment_header(data: bytes) -> tuple[SegmentHeader, Identity] | str:
    """Return the header in the first sector and whose it is, or in a few words why it is none."""
    if len(data) < SEGMENT_HEADER_BYTES or not data.startswith(SEGMENT_MAGIC):
        return "it does not begin like a journal segment"
    fields = _SEGMENT.unpack_from(data)
    version, _, seed, node, incarnation, segment, first_seq, previous, floor, size_bytes, cluster = fields[1:]
    (check,) = _CHECK.unpack_from(data, _SEGMENT.size)
    if xxhash.xxh3_64_intdigest(data[: _SEGMENT.size], seed) != check:
        return "its header is damaged"
    try:
        identity = Identity(cluster.decode(), NodeId(node), Incarnation(incarnation), version)
    except UnicodeDecodeError:
        return "its header is damaged"
    header = SegmentHeader(segment, PersistSeq(first_seq), previous, PersistSeq(floor), size_bytes)
    return header, identity
