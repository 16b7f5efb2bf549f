"""What a Raft node writes to its journal. The tags and the order of fields are the format on disk.

One step's records are one atomic write: a conflict is cut off and replaced in the same write, a snapshot is
installed in the same write that drops what it replaces, term and vote are never apart.
"""

from typing import Final, TypeAlias

import msgspec

from viewstamp.core.errors import JournalCorrupt
from viewstamp.core.ids import NodeId
from viewstamp.protocols.raft.configuration import Configuration

EMPTY: Final = 0
"""The entry with which a term begins."""
COMMAND: Final = 1
"""The data was proposed."""
CONFIGURATION: Final = 2
"""The data is an encoded `Configuration`, effective from the moment it is in a log."""


class HardState(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The current term and the vote in it."""

    term: int
    vote: NodeId | None


class EntryRecord(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """One entry of the log, in the journal and in `AppendEntries` alike."""

    term: int
    seqno: int
    kind: int
    """`EMPTY`, `COMMAND` or `CONFIGURATION`."""
    data: bytes


class Truncation(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Entries after this seqno conflicted with the leader's and are gone."""

    after: int


class Marker(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """The log begins after this viewstamp; a snapshot holds what came before. At 0.0: the founding."""

    view: int
    seqno: int
    kept: int
    """The last entry that stays in the log; `seqno` where none does."""
    configuration: Configuration
    """The one in force at this viewstamp."""


Record: TypeAlias = HardState | EntryRecord | Truncation | Marker

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Record)
_ENTRY_DECODER: Final = msgspec.msgpack.Decoder(EntryRecord)

encode_record: Final = _ENCODER.encode
decode_entry: Final = _ENTRY_DECODER.decode
"""Decode an entry of a message; raises `msgspec.MsgspecError` where the bytes are none."""


def decode_record(record: bytes) -> Record:
    """Decode a record of the journal.

    Raises:
        JournalCorrupt: the bytes passed the journal's checksum and are still not a record of this protocol.
    """
    try:
        decoded: Record = _DECODER.decode(record)
    except msgspec.MsgspecError as error:
        raise JournalCorrupt(f"a journal record is not one of raft's: {error}") from error
    return decoded
