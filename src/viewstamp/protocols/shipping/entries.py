"""An entry of the log as it stands in the journal and on the wire, and the record of a log that was cut off.

The tags and the order of fields are the format on disk; a protocol's other records have other tags.
"""

from typing import Final

import msgspec

EMPTY: Final = 0
"""Kind of the entry with which a view begins."""
COMMAND: Final = 1
"""Kind of an entry whose data was proposed. A protocol may have kinds of its own above this."""


class EntryRecord(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """One entry of the log: the bytes that a leader writes are those that its followers get and write."""

    view: int
    """In which view (Raft: term; primary-backup: epoch) it was made."""
    seqno: int
    kind: int
    data: bytes


class Truncation(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Entries after this seqno conflicted with the leader's and are gone."""

    after: int


encode_record: Final = msgspec.msgpack.Encoder().encode
decode_entry: Final = msgspec.msgpack.Decoder(EntryRecord).decode
"""Decode an entry of a message; raises `msgspec.MsgspecError` where the bytes are none."""
