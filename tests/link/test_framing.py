from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viewstamp.core.errors import ProtocolViolation
from viewstamp.link.framing import (
    CLIENT,
    FRAME_VERSION,
    HEADER_BYTES,
    PEER,
    SERVER,
    Splitter,
    encode_frame,
    frame_header,
)

CAP = 1000
PAYLOAD = bytes(range(100))
FRAME = encode_frame(PEER, PAYLOAD)


def split_all(pieces: Iterable[bytes], cap: int = CAP) -> list[tuple[int, bytes]]:
    splitter = Splitter(cap)
    return [frame for piece in pieces for frame in splitter.split(piece)]


def refused(data: bytes, cap: int = CAP) -> str:
    with pytest.raises(ProtocolViolation) as caught:
        split_all([data], cap)
    return str(caught.value)


def header_with(*, length: int, version: int = FRAME_VERSION, magic: int = 0x5356) -> bytes:
    return (magic | version << 16 | PEER << 24 | length << 32).to_bytes(8, "little") + bytes(8)


def test_frame_returns_when_it_arrives_whole() -> None:
    assert split_all([FRAME]) == [(PEER, PAYLOAD)]


def test_bytes_of_a_frame_are_those_of_version_one() -> None:
    assert encode_frame(CLIENT, b"hi").hex() == "5653010502000000ebf6207efa3134c26869"


def test_nothing_comes_when_nothing_was_sent() -> None:
    splitter = Splitter(CAP)
    assert list(splitter.split(b"")) == []
    assert not splitter.in_frame


def test_empty_payload_is_a_frame_when_its_checksum_is_right() -> None:
    assert split_all([encode_frame(SERVER, b"")]) == [(SERVER, b"")]


def test_all_frames_come_when_many_share_a_segment() -> None:
    frames = [encode_frame(CLIENT, bytes([n]) * n) for n in range(50)]
    assert split_all([b"".join(frames)]) == [(CLIENT, bytes([n]) * n) for n in range(50)]


@pytest.mark.parametrize("cut", range(1, len(FRAME)))
def test_frame_returns_when_it_is_cut_anywhere(cut: int) -> None:
    assert split_all([FRAME[:cut], FRAME[cut:] + FRAME]) == [(PEER, PAYLOAD)] * 2


def test_stream_stands_in_a_frame_when_it_is_cut() -> None:
    splitter = Splitter(CAP)
    assert list(splitter.split(FRAME + FRAME[:-1])) == [(PEER, PAYLOAD)]
    assert splitter.in_frame
    assert list(splitter.split(FRAME[-1:])) == [(PEER, PAYLOAD)]
    assert not splitter.in_frame


@given(st.lists(st.binary(max_size=80), max_size=8), st.lists(st.integers(0, 900), max_size=12))
def test_frames_are_the_same_when_the_stream_is_cut_elsewhere(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(encode_frame(PEER, payload) for payload in payloads)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    assert split_all(pieces) == [(PEER, payload) for payload in payloads]


@pytest.mark.parametrize("length", [CAP + 1, 2**31 - 1, 2**32 - 1])
def test_length_is_refused_when_it_is_over_the_cap(length: int) -> None:
    assert "over the limit" in refused(header_with(length=length))


def test_length_at_the_cap_is_taken_when_it_is_whole() -> None:
    payload = b"x" * CAP
    assert split_all([encode_frame(PEER, payload)]) == [(PEER, payload)]


def test_nothing_is_kept_when_a_length_is_over_the_cap() -> None:
    splitter = Splitter(CAP)
    with pytest.raises(ProtocolViolation):
        list(splitter.split(header_with(length=CAP + 1) + bytes(5000)))
    assert not splitter.in_frame


@pytest.mark.parametrize("version", [0, FRAME_VERSION - 1, FRAME_VERSION + 1, 255])
def test_version_is_refused_when_it_is_another(version: int) -> None:
    assert f"frames of version {version}" in refused(header_with(length=0, version=version))


@pytest.mark.parametrize(
    "banner",
    [
        b"GET / HTTP/1.1\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0",
    ],
    ids=["http", "ssh", "tls", "zeros"],
)
def test_other_protocols_are_refused_when_their_first_bytes_come(banner: bytes) -> None:
    assert "not of this protocol" in refused(banner)


@pytest.mark.parametrize("bit", range(HEADER_BYTES * 8))
def test_no_frame_comes_when_a_bit_of_the_header_flipped(bit: int) -> None:
    damaged = bytearray(FRAME)
    damaged[bit // 8] ^= 1 << bit % 8
    frames = Splitter(CAP).split(bytes(damaged) + FRAME * 20)
    with pytest.raises(ProtocolViolation):
        next(frames)


@pytest.mark.parametrize("position", [HEADER_BYTES, len(FRAME) // 2, len(FRAME) - 1])
def test_no_frame_comes_when_the_payload_is_damaged(position: int) -> None:
    damaged = bytearray(FRAME)
    damaged[position] ^= 0x10
    assert "checksum" in refused(bytes(damaged))


def test_frame_comes_first_when_garbage_follows_it() -> None:
    frames = Splitter(CAP).split(FRAME + b"garbage!")
    assert next(frames) == (PEER, PAYLOAD)
    with pytest.raises(ProtocolViolation):
        next(frames)


def test_limit_holds_from_the_next_frame_when_it_is_raised_between_two() -> None:
    splitter = Splitter(100)
    frames = splitter.split(FRAME + encode_frame(PEER, b"y" * 500))
    assert next(frames) == (PEER, PAYLOAD)
    splitter.payload_bytes_max = 500
    assert next(frames) == (PEER, b"y" * 500)


def test_long_frame_costs_one_copy_when_it_comes_in_small_pieces() -> None:
    payload = bytes(1 << 20)
    stream = frame_header(PEER, payload) + payload
    pieces = [stream[start : start + 1000] for start in range(0, len(stream), 1000)]
    assert split_all(pieces, cap=1 << 20) == [(PEER, payload)]


@given(st.binary(max_size=200))
def test_splitter_is_total_when_the_bytes_are_arbitrary(data: bytes) -> None:
    with suppress(ProtocolViolation):
        split_all([data])
