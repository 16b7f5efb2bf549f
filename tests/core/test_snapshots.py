"""Snapshots as values."""

from hypothesis import given
from hypothesis import strategies as st

from viewstamp.core.ids import ORIGIN, Seqno, View, Viewstamp
from viewstamp.core.snapshots import BytesSnapshot, read_whole


def test_meta_describes_the_body_when_made() -> None:
    snapshot = BytesSnapshot(Viewstamp(View(1), Seqno(7)), b"header", b"body")
    assert snapshot.meta.viewstamp == Viewstamp(View(1), Seqno(7))
    assert (snapshot.meta.header, snapshot.meta.size_bytes) == (b"header", 4)


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
