"""The log in memory: the entries after `base`, as values and as the bytes that disk and network get.

Rules of this file:

- The entries are contiguous: the one after `base_seqno` is the first, `last_seqno` is the last.
- Each entry knows the journal write that holds it. Along the log these numbers never go down, because
  whatever is rewritten takes everything after it along; so one search finds how far the log is durable.
- Views never go down along the log.
- Nothing here decides anything about views, commitment or peers.

An entry of the log as it stands in the journal and on the wire, and the record of a log that was cut off.

The tags and the order of fields are the format on disk; a protocol's other records have other tags.
"""

from bisect import bisect_left, bisect_right
from operator import attrgetter
from typing import Final

import msgspec

from viewstamp.core.ids import PersistSeq, Seqno, View, Viewstamp

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

_view_of: Final = attrgetter("view")


class Log:
    """One node's log. Positions are seqnos; 0 stands before the first entry."""

    __slots__ = (
        "_base_sum",
        "_base_write",
        "_entries",
        "_records",
        "_sums",
        "_writes",
        "base_seqno",
        "base_view",
        "durable_seqno",
        "last_seqno",
    )

    def __init__(self) -> None:
        self.base_view = 0
        self.base_seqno = 0
        """The last entry that is not here; base_seqno <= last_seqno."""
        self.last_seqno = 0
        self.durable_seqno = 0
        """Everything up to here is on disk; 0 while a replaced base is not; <= last_seqno."""
        self._entries: list[EntryRecord] = []
        self._records: list[bytes] = []
        self._writes: list[int] = []
        self._sums: list[int] = []
        """Bytes of all records up to and including this one, since the log was made."""
        self._base_sum = 0
        self._base_write = 0

    @property
    def base(self) -> Viewstamp:
        """The last entry that is not here."""
        return Viewstamp(View(self.base_view), Seqno(self.base_seqno))

    @property
    def last_view(self) -> int:
        """The view of the last entry, or that of the base."""
        return self._entries[-1].view if self._entries else self.base_view

    @property
    def last(self) -> Viewstamp:
        """The last entry, or the base."""
        return Viewstamp(View(self.last_view), Seqno(self.last_seqno))

    @property
    def size_bytes(self) -> int:
        """Bytes of all records here."""
        return self._sums[-1] - self._base_sum if self._sums else 0

    def view_at(self, seqno: int) -> int | None:
        """Return the view of the entry at `seqno`; None before the base and after the end."""
        offset = seqno - self.base_seqno
        if offset > 0:
            return self._entries[offset - 1].view if seqno <= self.last_seqno else None
        return self.base_view if offset == 0 else None

    def holds(self, viewstamp: Viewstamp) -> bool:
        """Return whether exactly this entry is in the log, or is its base."""
        return self.view_at(viewstamp.seqno) == viewstamp.view

    def viewstamp_at(self, seqno: int) -> Viewstamp:
        """Return the viewstamp of a position that is here, or the base."""
        view = self.view_at(seqno)
        assert view is not None, (seqno, self.base_seqno, self.last_seqno)
        return Viewstamp(View(view), Seqno(seqno))

    def entry(self, seqno: int) -> EntryRecord:
        """Return the entry at `seqno`, which must be here."""
        assert self.base_seqno < seqno <= self.last_seqno, (self.base_seqno, seqno, self.last_seqno)
        return self._entries[seqno - self.base_seqno - 1]

    def entries(self, first: int, last: int) -> list[EntryRecord]:
        """Return the entries from `first` to `last`, all of which must be here."""
        base = self.base_seqno
        assert base < first <= last + 1 <= self.last_seqno + 1, (base, first, last, self.last_seqno)
        return self._entries[first - base - 1 : last - base]

    def records(self, first: int, *, entries_max: int, bytes_max: int) -> list[bytes]:
        """Return the records from `first` on within both limits, at least one."""
        start = first - self.base_seqno - 1
        assert 0 <= start < len(self._entries), (first, self.base_seqno, self.last_seqno)
        end = min(start + entries_max, len(self._entries))
        before = self._sum_before(start)
        if self._sums[end - 1] - before > bytes_max:
            end = max(start + 1, bisect_right(self._sums, before + bytes_max, start, end))
        return self._records[start:end]

    def bytes_after(self, seqno: int) -> int:
        """Return the bytes of all records after `seqno`, which is in the log or its base."""
        if not self._sums:
            return 0
        return self._sums[-1] - self._sum_before(max(0, seqno - self.base_seqno))

    def append(self, entry: EntryRecord, record: bytes, write: int) -> None:
        """Add the next entry, which journal write number `write` holds."""
        self.last_seqno += 1
        assert entry.seqno == self.last_seqno, (entry.seqno, self.last_seqno)
        sums = self._sums
        sums.append((sums[-1] if sums else self._base_sum) + len(record))
        self._entries.append(entry)
        self._records.append(record)
        self._writes.append(write)

    def truncate(self, after: int) -> None:
        """Drop every entry after this seqno."""
        keep = after - self.base_seqno
        assert keep >= 0, (after, self.base_seqno)
        del self._entries[keep:], self._records[keep:], self._writes[keep:], self._sums[keep:]
        self.last_seqno = min(self.last_seqno, after)
        self.durable_seqno = min(self.durable_seqno, after)

    def compact(self, base: Viewstamp) -> None:
        """Drop every entry up to `base`, which is in the log."""
        drop = base.seqno - self.base_seqno
        assert 0 <= drop <= len(self._entries), (base, self.base_seqno, self.last_seqno)
        self._base_sum = self._sum_before(drop)
        del self._entries[:drop], self._records[:drop], self._writes[:drop], self._sums[:drop]
        self.base_view, self.base_seqno = base.view, base.seqno

    def reset(self, base: Viewstamp, write: int) -> None:
        """Drop everything and begin after `base`, which counts as durable once `write` is."""
        del self._entries[:], self._records[:], self._writes[:], self._sums[:]
        self._base_sum, self._base_write = 0, write
        self.base_view, self.base_seqno, self.last_seqno = base.view, base.seqno, base.seqno
        self.durable_seqno = 0

    def persisted(self, seq: int) -> None:
        """All journal writes up to `seq` are durable."""
        if seq >= self._base_write:
            self.durable_seqno = self.base_seqno + bisect_right(self._writes, seq)

    def first_write(self, otherwise: PersistSeq) -> PersistSeq:
        """Return the number of the oldest write that holds an entry of this log."""
        return PersistSeq(min(self._writes[0], otherwise)) if self._writes else otherwise

    def last_not_after(self, seqno: int, view: int) -> Viewstamp:
        """Return the last entry at or before `seqno` whose view is at most `view`, or the base."""
        end = max(0, min(seqno, self.last_seqno) - self.base_seqno)
        count = bisect_right(self._entries, view, 0, end, key=_view_of)
        if count == 0:
            return self.base
        entry = self._entries[count - 1]
        return Viewstamp(View(entry.view), Seqno(entry.seqno))

    def earliest_within(self, seqno: int, bytes_max: int) -> int:
        """Return the lowest base from which the records up to `seqno` take at most `bytes_max`."""
        end = seqno - self.base_seqno
        limit = self._sum_before(end) - bytes_max
        if limit <= self._base_sum:
            return self.base_seqno
        return self.base_seqno + bisect_left(self._sums, limit, 0, end) + 1

    def _sum_before(self, offset: int) -> int:
        return self._sums[offset - 1] if offset else self._base_sum
