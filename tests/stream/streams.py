"""A small stream with one of everything."""

import xxhash

from viewstamp.core.ids import NodeId, Seqno, View, Viewstamp
from viewstamp.stream.encoder import StreamEncoder
from viewstamp.stream.records import FORMAT, Chunk, Header, LogEntry, Mark, Record, SnapshotHead

BODY = b"the state of a machine"
START = Viewstamp(View(2), Seqno(7))


def header(body: bytes | None = BODY) -> Header:
    head = None if body is None else SnapshotHead(len(body), xxhash.xxh3_64_intdigest(body), 1, b"members")
    return Header(
        format=FORMAT,
        cluster_id="old",
        protocol="raft",
        machine="Shop",
        machine_version=0,
        level=0,
        viewstamp=START,
        log_time=5_000,
        wall_time_ms=1_700_000_000_000,
        digest=11,
        members=(NodeId(1), NodeId(2), NodeId(3)),
        limits={"sessions_max": 10},
        snapshot=head,
    )


def records() -> list[Record]:
    return [
        header(),
        Chunk(0, BODY[:10]),
        Chunk(10, BODY[10:]),
        LogEntry(View(2), Seqno(8), 12, b"first"),
        LogEntry(View(3), Seqno(9), 12, b""),
        Mark(1_700_000_001_000, View(3), Seqno(9)),
        LogEntry(View(3), Seqno(10), 14, b"second"),
    ]


def written(*, end: bool = True) -> list[bytes]:
    """Return the stream record by record."""
    encoder = StreamEncoder()
    first, *others = records()
    assert isinstance(first, Header)
    parts = [encoder.begin(first)]
    for record in others:
        assert isinstance(record, Chunk | LogEntry | Mark)
        parts.append(encoder.record(record))
    return [*parts, encoder.end()] if end else parts
