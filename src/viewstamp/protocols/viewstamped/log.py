"""The log in memory: viewstamped entries without a gap after a base that a snapshot covers.

Two logs that hold an entry of one viewstamp are equal up to it: a view's entries are made by one life of one
primary, and a backup takes an entry only after the one before. So logs are compared by viewstamps.
"""

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter
from typing import Final

import msgspec

from viewstamp.core.ids import ORIGIN, PersistSeq, Seqno, View, Viewstamp

_VIEW: Final = attrgetter("view")
_MARKS_MAX: Final = 512


class Slot(msgspec.Struct, frozen=True, gc=False):
    """One entry as the log keeps it."""

    view: View
    record: bytes
    """The encoded `EntryRecord`, whose last bytes are the data."""
    data_length: int
    write: PersistSeq
    """The write to the journal that holds it."""

    @property
    def data(self) -> bytes:
        """What was proposed."""
        return self.record[len(self.record) - self.data_length :]


class Log:
    """Entries `base.seqno + 1 .. last.seqno`, their views never descending."""

    __slots__ = ("_slots", "base", "last", "size_bytes")

    def __init__(self, base: Viewstamp = ORIGIN) -> None:
        self.base = base
        """The last entry before the log; a durable snapshot covers it unless it is `ORIGIN`."""
        self._slots: list[Slot] = []
        self.last = base
        """The newest entry, `base` where there is none."""
        self.size_bytes = 0
        """Sum of the records' lengths."""

    def slot(self, seqno: int) -> Slot:
        """Return an entry that the log holds."""
        assert self.base.seqno < seqno <= self.base.seqno + len(self._slots), (seqno, self.base, self.last)
        return self._slots[seqno - self.base.seqno - 1]

    def at(self, seqno: int) -> Viewstamp | None:
        """Return the viewstamp of this seqno, None outside `base .. last`."""
        place = seqno - self.base.seqno
        if place == 0:
            return self.base
        if not 0 < place <= len(self._slots):
            return None
        return Viewstamp(self._slots[place - 1].view, Seqno(seqno))

    def holds(self, viewstamp: Viewstamp) -> bool:
        """Tell whether exactly this entry is in the log, or is its base."""
        return viewstamp == self.last or self.at(viewstamp.seqno) == viewstamp

    def append(self, slot: Slot) -> None:
        """Add the entry after `last`."""
        last = self.last
        assert slot.view >= last.view, (slot.view, last)
        self._slots.append(slot)
        self.last = Viewstamp(slot.view, Seqno(last.seqno + 1))
        self.size_bytes += len(slot.record)

    def cut_after(self, seqno: int) -> None:
        """Forget the entries after this one."""
        place = seqno - self.base.seqno
        assert place >= 0, (seqno, self.base)
        self.size_bytes -= sum(len(slot.record) for slot in self._slots[place:])
        del self._slots[place:]
        last = self.at(self.base.seqno + len(self._slots))
        assert last is not None
        self.last = last

    def start_at(self, base: Viewstamp) -> None:
        """Forget the entries up to this one, which the log holds."""
        place = base.seqno - self.base.seqno
        assert 0 <= place <= len(self._slots), (base, self.base, self.last)
        self.size_bytes -= sum(len(slot.record) for slot in self._slots[:place])
        del self._slots[:place]
        self.base = base

    def reset(self, base: Viewstamp) -> None:
        """Become empty, to go on after this entry."""
        self.base = self.last = base
        self._slots = []
        self.size_bytes = 0

    def records(self, after: int, *, entries_max: int, bytes_max: int) -> tuple[bytes, ...]:
        """Return the records that follow this seqno within both limits, at least one."""
        taken: list[bytes] = []
        size = 0
        start = after - self.base.seqno
        for place in range(start, min(start + entries_max, len(self._slots))):
            record = self._slots[place].record
            size += len(record)
            if taken and size > bytes_max:
                break
            taken.append(record)
        return tuple(taken)

    def suffix_of(self, bytes_max: int) -> Seqno:
        """Return the seqno after which at most so many bytes of records follow."""
        size = 0
        for place in range(len(self._slots), 0, -1):
            size += len(self._slots[place - 1].record)
            if size > bytes_max:
                return Seqno(self.base.seqno + place)
        return self.base.seqno

    def first_write(self) -> PersistSeq | None:
        """Return the write that holds the first entry, None where the log is empty."""
        return self._slots[0].write if self._slots else None

    def marks(self) -> tuple[Viewstamp, ...]:
        """Return the base and the last entry of each view, ascending; of very many, the newest."""
        marks: list[Viewstamp] = []
        mark = self.last
        while mark.seqno > self.base.seqno and len(marks) < _MARKS_MAX:
            marks.append(mark)
            before = self.at(self._first_of(mark.view) - 1)
            assert before is not None
            mark = before
        marks.append(self.base)
        return tuple(reversed(marks))

    def agreement(self, marks: Sequence[Viewstamp]) -> Viewstamp | None:
        """Return the last entry shared with the log of these marks; None if none is known here.

        The result may lie before the base: then the entries after it are not all here.
        """
        for mark in reversed(marks):
            mine = self._last_of(mark.view)
            if mine is not None:
                return Viewstamp(mark.view, min(mine, mark.seqno))
        return None

    def _first_of(self, view: View) -> int:
        place = bisect_right(self._slots, view - 1, key=_VIEW)
        return self.base.seqno + place + 1

    def _last_of(self, view: View) -> Seqno | None:
        place = bisect_right(self._slots, view, key=_VIEW)
        if place > 0 and self._slots[place - 1].view == view:
            return Seqno(self.base.seqno + place)
        return self.base.seqno if self.base.view == view else None
