"""The stream of the committed log: what is whole is read, and nothing else is."""

from hashlib import sha256

import msgspec
import pytest

from tests.stream.streams import BODY, START, header, records, written
from viewstamp.core.ids import Seqno, View
from viewstamp.stream.decoder import StreamDecoder, read_records
from viewstamp.stream.encoder import StreamEncoder
from viewstamp.stream.records import (
    Chunk,
    End,
    Header,
    LogEntry,
    Mark,
    Record,
    StreamDamaged,
    encode_record,
    split_record,
)

GOLDEN = "924e14fa41bd5feaf1dd00ddd04a8cd3834d64bd9d0e14a9d3c8d661b8744c49"


def read(data: bytes, *, growing: bool = False) -> list[Record]:
    return list(read_records([data], growing=growing))


def test_what_was_written_is_read_in_pieces_of_any_size() -> None:
    whole = b"".join(written())
    for size in (1, 2, 3, 7, 64, len(whole)):
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert list(read_records(pieces))[:-1] == records()


def test_bytes_are_those_of_the_first_version() -> None:
    assert sha256(b"".join(written())).hexdigest() == GOLDEN


def test_header_holds_the_code_of_the_class_where_it_is_known() -> None:
    coded = msgspec.structs.replace(header(), code={"*buy()": "1f"})
    whole = StreamEncoder().begin(coded)
    assert read(whole + b"".join(written()[1:-1]), growing=True)[0] == coded
    assert len(whole) > len(StreamEncoder().begin(header()))


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_each_flipped_byte_is_refused(flip: int) -> None:
    whole = b"".join(written())
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= flip
        with pytest.raises(StreamDamaged):
            read(bytes(damaged))


def test_each_truncation_is_refused_and_readable_as_one_that_grows_behind_the_snapshot() -> None:
    parts = written()
    whole = b"".join(parts)
    ends = [sum(map(len, parts[: count + 1])) for count in range(len(parts))]
    header_ends, snapshot_ends = ends[0], ends[2]
    for size in range(len(whole)):
        with pytest.raises(StreamDamaged, match="without its end record"):
            read(whole[:size])
        complete = sum(end <= size for end in ends)
        if header_ends <= size < snapshot_ends:
            with pytest.raises(StreamDamaged, match=f"ends at byte {size} inside its snapshot"):
                read(whole[:size], growing=True)
            continue
        assert read(whole[:size], growing=True) == records()[:complete]


def test_flipped_byte_is_refused_also_in_a_stream_that_grows() -> None:
    grown = b"".join(written(end=False))
    header_bytes = len(written()[0])
    for place in range(header_bytes, len(grown)):
        damaged = bytearray(grown)
        damaged[place] ^= 0x10
        try:
            found = read(bytes(damaged), growing=True)
        except StreamDamaged:
            continue
        # A length that became larger looks like a record that is still being written.
        assert len(found) < len(records())
        assert found == records()[: len(found)]


def test_bytes_behind_the_end_are_refused() -> None:
    with pytest.raises(StreamDamaged):
        read(b"".join(written()) + b"\0")
    with pytest.raises(StreamDamaged, match="follows the end"):
        read(b"".join(written()) + encode_record(Mark(0, View(3), Seqno(10))))


def test_dropped_moved_and_repeated_records_are_refused() -> None:
    parts = written()
    for place in range(1, len(parts) - 1):
        without = parts[:place] + parts[place + 1 :]
        twice = parts[: place + 1] + parts[place:]
        for wrong in (without, twice):
            with pytest.raises(StreamDamaged):
                read(b"".join(wrong))
        if place < len(parts) - 2:
            moved = [*parts[:place], parts[place + 1], parts[place], *parts[place + 2 :]]
            with pytest.raises(StreamDamaged):
                read(b"".join(moved))


def test_end_record_with_another_hash_is_refused() -> None:
    *parts, end = written()
    found = split_record(memoryview(end))
    assert found is not None
    assert isinstance(found[0], End)
    forged = msgspec.structs.replace(found[0], sha256=bytes(32))
    with pytest.raises(StreamDamaged, match="other content"):
        read(b"".join([*parts, encode_record(forged)]))


def test_snapshot_of_another_digest_is_refused() -> None:
    first = header()
    encoder = StreamEncoder()
    encoder.begin(first)
    with pytest.raises(StreamDamaged, match="digest"):
        encoder.record(Chunk(0, BODY[::-1]))


def test_entry_before_the_snapshot_is_whole_is_refused() -> None:
    encoder = StreamEncoder()
    encoder.begin(header())
    encoder.record(Chunk(0, BODY[:4]))
    with pytest.raises(StreamDamaged, match="not complete"):
        encoder.record(LogEntry(View(2), Seqno(8), 0, b""))
    with pytest.raises(StreamDamaged, match="not complete"):
        encoder.end()


@pytest.mark.parametrize(("view", "seqno"), [(2, 7), (2, 9), (1, 8)])
def test_entry_that_does_not_follow_is_refused(view: int, seqno: int) -> None:
    encoder = StreamEncoder()
    encoder.begin(header(None))
    with pytest.raises(StreamDamaged, match="does not follow"):
        encoder.record(LogEntry(View(view), Seqno(seqno), 0, b""))


def test_stream_without_a_snapshot_holds_entries_only() -> None:
    encoder = StreamEncoder()
    data = encoder.begin(header(None)) + encoder.record(LogEntry(View(2), Seqno(8), 1, b"x")) + encoder.end()
    first, entry, _ = read(data)
    assert isinstance(first, Header)
    assert first.viewstamp == START
    assert isinstance(entry, LogEntry)
    with pytest.raises(StreamDamaged, match="out of place"):
        begun(None).record(Chunk(0, b"x"))


def begun(body: bytes | None) -> StreamEncoder:
    encoder = StreamEncoder()
    encoder.begin(header(body))
    return encoder


def test_other_format_is_refused_by_name() -> None:
    data = b"VSSTREAM" + encode_record(msgspec.structs.replace(header(), format=2))
    with pytest.raises(StreamDamaged, match="format 2, this program reads 1"):
        read(data)


def test_other_files_are_refused() -> None:
    for data in (b"PK\x03\x04", b"{}", b"\0" * 100, b"VSSTREAM" + b"\xff" * 40):
        with pytest.raises(StreamDamaged):
            read(data)
    with pytest.raises(StreamDamaged, match="without its end record"):
        read(b"")


def test_server_bytes_are_taken_as_they_are_and_looked_at() -> None:
    encoder = begun(None)
    pieces = encode_record(LogEntry(View(2), Seqno(8), 1, b"x")) + encode_record(
        LogEntry(View(2), Seqno(9), 2, b"y")
    )
    assert encoder.encoded(pieces) == pieces
    for wrong in (pieces, pieces[:-1], encode_record(Mark(0, View(2), Seqno(9)))):
        with pytest.raises(StreamDamaged):
            encoder.encoded(wrong)


def test_writer_goes_on_where_the_reader_of_an_unfinished_stream_stands() -> None:
    parts = written(end=False)
    decoder = StreamDecoder()
    torn = b"".join(parts) + parts[-1][:5]
    assert list(decoder.feed(torn)) == records()
    assert decoder.progress.size_bytes == len(torn) - 5
    encoder = StreamEncoder(decoder.progress)
    more = encoder.record(LogEntry(View(3), Seqno(11), 15, b"third")) + encoder.end()
    assert len(read(torn[:-5] + more)) == len(records()) + 2
