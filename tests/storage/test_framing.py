"""The bytes of frames and headers, the escape for zeros, and decoders that never raise."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viewstamp.core.ids import Incarnation, NodeId, PersistSeq
from viewstamp.storage.framing import (
    FRAME_ALIGNMENT,
    FRAME_HEADER_BYTES,
    SECTOR_BYTES,
    FrameHeader,
    Identity,
    SegmentHeader,
    decode_frame_header,
    decode_segment_header,
    encode_frame,
    encode_segment_header,
    escape,
    frame_bytes,
    has_zero_sector,
    unescape,
)
from viewstamp.storage.recovery import has_missing_sector

IDENTITY = Identity("cluster", NodeId(2), Incarnation(5))
HEADER = FrameHeader(
    flags=0,
    length=0,
    count=1,
    first_seq=PersistSeq(4),
    floor=PersistSeq(2),
    segment=7,
    offset=1024,
    previous=99,
    digest=0,
    check=0,
)


@pytest.mark.parametrize("length", [0, 1, 62, 63, 64, 65, 127, 128, 5000])
def test_frame_is_aligned_and_ends_in_filler_whatever_its_length(length: int) -> None:
    frame, _ = encode_frame(HEADER, b"p" * length, IDENTITY.seed)
    assert len(frame) == frame_bytes(length)
    assert len(frame) % FRAME_ALIGNMENT == 0
    assert frame[-1] == 0xFF
    assert frame[FRAME_HEADER_BYTES : FRAME_HEADER_BYTES + length] == b"p" * length


def test_header_reads_back_when_it_was_written() -> None:
    frame, check = encode_frame(HEADER, b"payload", IDENTITY.seed)
    found = decode_frame_header(b"\0" * 64 + frame, 64, IDENTITY.seed)
    assert found is not None
    assert (found.length, found.count, found.first_seq, found.floor) == (7, 1, 4, 2)
    assert (found.segment, found.offset, found.previous, found.check) == (7, 1024, 99, check)
    assert decode_frame_header(frame, 0, IDENTITY.seed + 1) is None, "another directory's"
    assert decode_frame_header(frame[:63], 0, IDENTITY.seed) is None


def test_no_zero_is_taken_for_a_header() -> None:
    """The checksum of nothing must not be nothing (docs/faults.md#w07)."""
    assert decode_frame_header(bytes(512), 0, 0) is None
    assert decode_frame_header(bytes(512), 0, IDENTITY.seed) is None


def test_segment_header_reads_back_when_it_was_written() -> None:
    header = SegmentHeader(3, PersistSeq(8), 77, PersistSeq(5), 4096)
    content = encode_segment_header(header, IDENTITY)
    assert len(content) == SECTOR_BYTES
    assert decode_segment_header(content) == (header, IDENTITY)


@given(st.binary(max_size=4000).map(lambda data: data + bytes(600) + data))
@settings(max_examples=60)
def test_escape_is_undone_and_leaves_no_zero_sector(payload: bytes) -> None:
    assert has_zero_sector(payload)
    stored = escape(payload)
    assert unescape(stored) == payload
    assert not has_zero_sector(stored)


@given(st.integers(0, 1500), st.integers(0, 1500), st.integers(0, 1500), st.integers(0, 63))
@settings(max_examples=150)
def test_every_sector_of_a_frame_has_something_when_it_was_written(
    a: int, b: int, c: int, place: int
) -> None:
    payload = b"a" * a + bytes(b) + b"c" * (c % 3)
    stored = escape(payload) if has_zero_sector(payload) else payload
    begin = place * FRAME_ALIGNMENT
    frame, _ = encode_frame(HEADER, stored, IDENTITY.seed)
    data = bytes(begin) + frame + bytes(600)
    assert not has_missing_sector(data, begin, begin + len(frame))
    first = begin - begin % SECTOR_BYTES
    for sector in range(first, begin + len(frame), SECTOR_BYTES):
        torn = data[:sector] + bytes(SECTOR_BYTES) + data[sector + SECTOR_BYTES :]
        assert has_missing_sector(torn, begin, begin + len(frame))


@given(st.binary(max_size=700))
@settings(max_examples=200)
def test_decoders_answer_whatever_they_are_given(data: bytes) -> None:
    assert decode_frame_header(data, 0, IDENTITY.seed) is None
    assert isinstance(decode_segment_header(data), str)


def test_segment_header_is_refused_when_any_byte_differs() -> None:
    rng = Random(1)
    header = SegmentHeader(3, PersistSeq(8), 77, PersistSeq(5), 4096)
    content = bytearray(encode_segment_header(header, IDENTITY))
    used = len(bytes(content).rstrip(b"\0"))
    for offset in range(used):
        damaged = bytearray(content)
        damaged[offset] ^= 1 << rng.randrange(8)
        found = decode_segment_header(bytes(damaged))
        assert isinstance(found, str) or found[1] != IDENTITY, offset
