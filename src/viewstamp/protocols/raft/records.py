"""What a Raft node writes to its journal. The tags and the order of fields are the format on disk.

One step's records are one atomic write: a conflict is cut off and replaced in the same write, a snapshot is
installed in the same write that drops what it replaces, term and vote are never apart.
"""

from typing import Final, TypeAlias

import msgspec

from viewstamp.core.errors import JournalCorrupt
from viewstamp.core.ids import NodeId
from viewstamp.protocols.raft.configuration import Configuration
from viewstamp.protocols.shipping.entries import EntryRecord, Truncation

CONFIGURATION: Final = 2
"""Kind of an entry whose data is an encoded `Configuration`, effective from the moment it is in a log."""


class HardState(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The current term and the vote in it."""

    term: int
    vote: NodeId | None


class Marker(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """The log begins after this viewstamp; a snapshot holds what came before. At 0.0: the founding."""

    view: int
    seqno: int
    kept: int
    """The last entry that stays in the log; `seqno` where none does."""
    configuration: Configuration
    """The one in force at this viewstamp."""


Record: TypeAlias = HardState | EntryRecord | Truncation | Marker

_DECODER: Final = msgspec.msgpack.Decoder(Record)


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
