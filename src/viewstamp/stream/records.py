"""What a stream of the committed log consists of (docs/reference/stream-format.md).

A stream is the word `MAGIC`, then records: one `Header`, the pieces of the snapshot (`Chunk`) where the
header announces one, entries of the log (`LogEntry`) without a gap, among them `Mark`s, and one `End`. A
record is

    kind (1 byte), length of the payload (4), checksum (8: xxh3_64, seeded with that of the first 5), payload

in which numbers are little-endian and the payload is a msgpack array. Fields may be appended to a record with
a default, never moved or removed.
"""

import struct
from typing import Any, Final, TypeAlias

import msgspec
import xxhash

from viewstamp.core.errors import ViewstampError
from viewstamp.core.ids import LEVEL, NodeId, Seqno, View, Viewstamp
from viewstamp.core.messages import UNREADABLE

FORMAT: Final = 1
"""Of streams. A stream of another format is refused by name."""
MAGIC: Final = b"VSSTREAM"
RECORD_BYTES_MAX: Final = 64 << 20
"""Of one payload: more than any entry may have."""
CHUNK_BYTES: Final = 256 << 10
"""Of a piece of a snapshot."""
_HEAD: Final = struct.Struct("<BI")
_CHECK: Final = struct.Struct("<Q")
HEAD_BYTES: Final = _HEAD.size + _CHECK.size
"""Of a record before its payload."""


class StreamDamaged(ViewstampError):
    """These bytes are not a whole stream as it was written. Nothing was changed by reading them."""


class SnapshotHead(msgspec.Struct, frozen=True, array_like=True):
    """What is known of the snapshot in a stream before its first piece."""

    size_bytes: int
    digest: int
    """`xxh3_64` of the body."""
    format: int
    header: bytes
    """The protocol's own part, such as the membership."""


class Header(msgspec.Struct, frozen=True, array_like=True):
    """Whose log it is, and where the stream begins."""

    format: int
    cluster_id: str
    protocol: str
    machine: str
    """Name of the machine's class; empty where the stream has no snapshot and nobody said."""
    machine_version: int
    level: int
    """The level of features in force at `viewstamp`."""
    viewstamp: Viewstamp
    """The snapshot contains everything up to here; the first entry is the one after it."""
    log_time: int
    """Of the state at `viewstamp`, in microseconds; 0 without a snapshot."""
    wall_time_ms: int
    """When the stream was begun, by the clock of the machine that wrote it, in ms since 1970 (UTC)."""
    digest: int
    """The digest chain of results up to `viewstamp` (`replica.digest_chain.DigestChain`)."""
    members: tuple[NodeId, ...]
    limits: dict[str, int]
    """The cluster's limits of sessions: they decide what a replica does, so a replay needs them."""
    snapshot: SnapshotHead | None
    """None: only entries follow."""
    code: dict[str, str] = {}
    """Of the class on the node that was read (`machine.interface.code_of`); empty: it did not say."""


class Chunk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A piece of the snapshot's body; the offsets are contiguous from 0."""

    offset: int
    data: bytes


class LogEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A committed entry. Empty data is an entry of the protocol's own."""

    view: View
    seqno: Seqno
    digest: int
    """The digest chain of results up to and including this entry."""
    data: bytes

    @property
    def viewstamp(self) -> Viewstamp:
        """Where it stands in the log."""
        return Viewstamp(self.view, self.seqno)


class Mark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """At this time everything up to this entry was committed, and nothing after it was known here."""

    wall_time_ms: int
    view: View
    seqno: Seqno


class End(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last record: what the stream consists of, so that nothing can be missing."""

    chunks: int
    entries: int
    marks: int
    size_bytes: int
    """Of everything before this record."""
    sha256: bytes
    """Of everything before this record."""


Record: TypeAlias = Header | Chunk | LogEntry | Mark | End

KINDS: Final[dict[type[Record], int]] = {Header: 1, Chunk: 2, LogEntry: 3, Mark: 4, End: 5}
"""The byte that a record begins with. It is the format: never reuse one."""

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODERS: Final[dict[int, msgspec.msgpack.Decoder[Record]]] = {
    kind: msgspec.msgpack.Decoder(record) for record, kind in KINDS.items()
}


class _Format(msgspec.Struct, frozen=True, array_like=True):
    """What the header of every format begins with."""

    format: int


_FORMAT: Final = msgspec.msgpack.Decoder(_Format)


def encode_record(record: Record) -> bytes:
    """Return a record as it stands in a stream."""
    payload = _ENCODE(_as_it_was(record) if isinstance(record, Header) and not record.code else record)
    assert len(payload) <= RECORD_BYTES_MAX, len(payload)
    head = _HEAD.pack(KINDS[type(record)], len(payload))
    return b"".join((head, _CHECK.pack(_check(head, payload)), payload))


def _as_it_was(header: Header) -> tuple[Any, ...]:
    """Return a header without code: streams without it have the bytes that they always had."""
    return msgspec.structs.astuple(header)[:-1]


def _check(head: bytes, payload: bytes | memoryview) -> int:
    return xxhash.xxh3_64_intdigest(payload, xxhash.xxh3_64_intdigest(head))


def split_record(data: memoryview) -> tuple[Record, int] | None:
    """Return the first record in these bytes and how many of them it takes; None: it is not complete.

    Raises:
        StreamDamaged: it is not what was written.
    """
    if len(data) < HEAD_BYTES:
        return None
    head = bytes(data[: _HEAD.size])
    kind, length = _HEAD.unpack(head)
    if kind not in _DECODERS or length > RECORD_BYTES_MAX:
        raise StreamDamaged("no record begins here")
    if len(data) < HEAD_BYTES + length:
        return None
    payload = data[HEAD_BYTES : HEAD_BYTES + length]
    if _CHECK.unpack_from(data, _HEAD.size)[0] != _check(head, payload):
        raise StreamDamaged("a checksum is wrong")
    return _decode(kind, payload), HEAD_BYTES + length


def _decode(kind: int, payload: memoryview) -> Record:
    try:
        if kind == KINDS[Header] and (found := _FORMAT.decode(payload).format) != FORMAT:
            raise StreamDamaged(
                f"it has format {found}, this program reads {FORMAT}: use the one that wrote it"
            )
        return _DECODERS[kind].decode(payload)
    except UNREADABLE as error:
        raise StreamDamaged(f"a record cannot be read: {error}") from None


def log_header(
    cluster_id: str,
    protocol: str,
    viewstamp: Viewstamp,
    *,
    digest: int,
    wall_time_ms: int,
    members: tuple[NodeId, ...],
    limits: dict[str, int],
    machine: str = "",
) -> Header:
    """Return the header of a stream without a snapshot: entries after this viewstamp."""
    return Header(
        format=FORMAT,
        cluster_id=cluster_id,
        protocol=protocol,
        machine=machine,
        machine_version=0,
        level=LEVEL,
        viewstamp=viewstamp,
        log_time=0,
        wall_time_ms=wall_time_ms,
        digest=digest,
        members=members,
        limits=limits,
        snapshot=None,
    )
