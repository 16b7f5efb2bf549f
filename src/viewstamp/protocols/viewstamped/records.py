"""What a member writes to its journal. The tags are an on-disk format: fields may be appended, never moved.

`Promised`, `Accepted` and `Decided` are lab 6's `propseen`, `accepted` and `done`; a driver that keeps
the course's `paxos-<id>.log` decodes them out of each `Persist`.
"""

from typing import Final, TypeAlias

import msgspec

from viewstamp.core.errors import JournalCorrupt
from viewstamp.core.ids import Seqno, View, Viewstamp
from viewstamp.protocols.viewstamped.membership import Membership
from viewstamp.protocols.viewstamped.messages import Ballot


class Promised(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """n_h of the acceptor rose."""

    instance: View
    ballot: Ballot


class AcceptedValue(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """n_a and v_a of the acceptor; n_h is at least n_a."""

    instance: View
    ballot: Ballot
    value: Membership


class Decided(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The next view is known. What was promised for its instance is over."""

    membership: Membership


class EntryRecord(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False, forbid_unknown_fields=True):
    """An entry of the log. One at or below the last seqno replaces that entry and all after it.

    `data` must stay the last field: the log cuts it out of the encoded record.
    """

    view: View
    seqno: Seqno
    data: bytes


class Synchronised(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """Every member of this view held the primary's log: whoever was in it may lead the next one."""

    view: View


class LogStart(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """Entries up to this one are in a durable snapshot; they may be missing from what is replayed."""

    base: Viewstamp


class LogReset(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """The log is empty and begins after this entry: a snapshot was received."""

    base: Viewstamp


class History(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """All decided views from view 1, written again so that the journal may forget what is older."""

    memberships: tuple[Membership, ...]


Record: TypeAlias = (
    Promised | AcceptedValue | Decided | EntryRecord | Synchronised | LogStart | LogReset | History
)


class SnapshotHeader(msgspec.Struct, frozen=True, array_like=True):
    """The protocol's part of a snapshot: the view in which it was taken. The history is in the journal."""

    membership: Membership | None


ENCODER: Final = msgspec.msgpack.Encoder()
RECORDS: Final = msgspec.msgpack.Decoder(Record)
_ENTRIES: Final = msgspec.msgpack.Decoder(EntryRecord)


def decode_record(record: bytes) -> Record:
    """Decode a record of the journal.

    Raises:
        JournalCorrupt: the bytes passed the journal's checksum and are still not a record of this protocol.
    """
    try:
        decoded: Record = RECORDS.decode(record)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise JournalCorrupt(f"a journal record is not one of viewstamped's: {error}") from error
    return decoded


def decode_entry(record: bytes) -> EntryRecord | None:
    """Return the entry that a peer sent, None if that is not what the bytes hold."""
    try:
        return _ENTRIES.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
