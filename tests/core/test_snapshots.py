"""Snapshots as values."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viewstamp.core.ids import ORIGIN, Seqno, View, Viewstamp
from viewstamp.core.snapshots import BytesSnapshot, SnapshotMeta, Versions, read_whole


def test_meta_describes_the_body_when_made() -> None:
    snapshot = BytesSnapshot(Viewstamp(View(1), Seqno(7)), b"header", b"body")
    assert snapshot.meta.viewstamp == Viewstamp(View(1), Seqno(7))
    assert (snapshot.meta.header, snapshot.meta.size_bytes) == (b"header", 4)


def test_the_bytes_of_a_meta_are_pinned() -> None:
    meta = SnapshotMeta(Viewstamp(View(2), Seqno(3)), b"h", 9, 5)
    encoded = msgspec.msgpack.encode(meta)
    assert encoded.hex(" ") == "97 92 02 03 c4 01 68 09 05 01 01 01"
    assert msgspec.msgpack.decode(encoded, type=SnapshotMeta) == meta


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ((2, 0, 0), "it has format 2; this version reads 1"),
        ((1, 2, 0), "it has level 2; this version knows 0 to 1"),
        ((1, -1, 0), "it has level -1; this version knows 0 to 1"),
    ],
)
def test_a_meta_of_another_version_is_refused_by_name(version: tuple[int, int, int], why: str) -> None:
    encoded = msgspec.msgpack.encode(((2, 3), b"h", 9, 5, *version))
    with pytest.raises(msgspec.ValidationError, match=f"a snapshot at 2.3 cannot be used: {why}"):
        msgspec.msgpack.decode(encoded, type=SnapshotMeta)


def test_a_meta_of_any_version_of_the_class_is_stored_when_this_code_is_older() -> None:
    meta = SnapshotMeta(ORIGIN, b"", 0, 0, machine_version=9)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(meta), type=SnapshotMeta).versions == Versions(1, 9)


def test_digest_differs_when_one_bit_of_the_body_does() -> None:
    digests = {BytesSnapshot(ORIGIN, b"", body).meta.digest for body in (b"\x00", b"\x01", b"", b"\x00\x00")}
    assert len(digests) == 4


@given(st.binary(max_size=50), st.integers(min_value=1, max_value=60))
def test_pieces_make_the_whole_when_read_until_empty(body: bytes, length: int) -> None:
    snapshot = BytesSnapshot(ORIGIN, b"", body)
    pieces = b""
    while piece := snapshot.read(len(pieces), length):
        pieces += piece
    assert pieces == read_whole(snapshot) == body
