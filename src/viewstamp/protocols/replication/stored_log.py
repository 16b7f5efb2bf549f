"""A log as it lies in a journal, for tools that look at an entry or replace it while no node runs.

Replacing an entry writes no new kind of record: what a conflict writes is enough, namely that the log is cut
off before the entry, and that the entry and all that follow it are appended again, in one atomic write.
"""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from viewstamp.core.ids import Seqno, View, Viewstamp
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, Log, Truncation, encode_record

Change: TypeAlias = Callable[[bytes], bytes]


class Seed(msgspec.Struct, frozen=True):
    """What a member's directory begins with, where a cluster goes on from a state of another one."""

    viewstamp: Viewstamp
    """Of the snapshot: that of the state, in a view that the new cluster knows of."""
    header: bytes
    """The protocol's part of the snapshot."""
    records: tuple[bytes, ...]
    """The first write to the journal: the log begins after the snapshot, and these are the members."""


class StoredEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry of a log on a disk."""

    viewstamp: Viewstamp
    data: bytes
    """What was proposed; empty for an entry of the protocol's own."""


class StoredLog(msgspec.Struct, frozen=True):
    """One protocol's view of a log on a disk."""

    base: Viewstamp
    """The last entry that the log does not hold: a snapshot does."""
    last: Viewstamp
    """The last entry; `base` where the log is empty."""
    entry: Callable[[int], StoredEntry]
    """Return the entry at a seqno after `base` and up to `last`."""
    replaced: Callable[[int, bytes, Change], tuple[bytes, ...]]
    """Return the records of one atomic write after which the entry at this seqno has this data, and each
    later one what `Change` makes of its data."""

    def find(self, seqno: int) -> StoredEntry | None:
        """Return the entry at a seqno; None where the log does not hold it."""
        return self.entry(seqno) if self.base.seqno < seqno <= self.last.seqno else None


def stored_log(log: Log, *, cuts: bool = True) -> StoredLog:
    """Return the view of a log that was read back.

    `cuts`: the journal says with a record of its own that a log is cut off; otherwise an entry does, which
    takes the place of the one of its seqno and of all that follow.
    """

    def entry(seqno: int) -> StoredEntry:
        found = log.entry(seqno)
        viewstamp = Viewstamp(View(found.view), Seqno(found.seqno))
        return StoredEntry(viewstamp, found.data if found.kind == COMMAND else b"")

    def replaced(seqno: int, data: bytes, change: Change) -> tuple[bytes, ...]:
        records = [encode_record(Truncation(seqno - 1))] if cuts else []
        for place in range(seqno, log.last_seqno + 1):
            old = log.entry(place)
            new = data if place == seqno else change(old.data) if old.kind == COMMAND else old.data
            records.append(encode_record(EntryRecord(old.view, place, old.kind, new)))
        return tuple(records)

    return StoredLog(log.base, log.last, entry, replaced)
