"""The log with its three positions: what is durable here, what is committed, what was applied.

Applied is executed: the viewstamp of the machine's state is that of the last entry handed to it, never of one
that was merely ordered. `applied <= committed <= last` and `durable <= last`; entries up to `committed`
are never dropped. What a new primary inherits becomes committed with the first entry of its view.
"""

from collections import deque

from viewstamp.core.effects import Apply, Entry, Restore
from viewstamp.core.ids import ORIGIN, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.snapshots import Snapshot
from viewstamp.protocols.viewstamped.journal import ENCODER, EntryRecord, LogReset, LogStart
from viewstamp.protocols.viewstamped.log import Log, Slot
from viewstamp.protocols.viewstamped.state import State


class LogPositions:
    """One for each core; both roles work on it."""

    __slots__ = ("_state", "_writes", "applied", "committed", "durable", "log", "snapshot")

    def __init__(self, state: State, log: Log, snapshot: Snapshot | None) -> None:
        self._state = state
        self.log = log
        self.snapshot = snapshot
        """The newest snapshot on this node's disk."""
        covered = snapshot.meta.viewstamp if snapshot is not None else ORIGIN
        if not log.holds(covered):
            assert covered.seqno >= log.base.seqno, (covered, log.base)
            # Received whole, and the crash came before the journal heard of it.
            log.reset(covered)
            state.outbox.persist(ENCODER.encode(LogReset(covered)))
        self.committed = covered.seqno
        self.applied = covered.seqno
        self.durable = log.last.seqno
        """Entries up to here are in this node's journal."""
        self._writes: deque[tuple[Seqno, PersistSeq]] = deque()
        """Entries that are being written, with the number of the write."""

    @property
    def applied_viewstamp(self) -> Viewstamp:
        """What the machine's state is the result of."""
        viewstamp = self.log.at(self.applied)
        assert viewstamp is not None
        return viewstamp

    @property
    def is_behind(self) -> bool:
        """Whether committed entries wait to be applied."""
        return self.applied < self.committed

    def append_own(self, view: View, data: bytes) -> int:
        """Order an entry as the primary of this view, and return the size of its record."""
        seqno = Seqno(self.log.last.seqno + 1)
        record = ENCODER.encode(EntryRecord(view, seqno, data))
        self.append(view, seqno, record, len(data))
        return len(record)

    def append(self, view: View, seqno: Seqno, record: bytes, data_length: int) -> None:
        """Add the entry after the last and begin to write it."""
        assert seqno == self.log.last.seqno + 1, (seqno, self.log.last)
        write = self._state.outbox.persist(record)
        self.log.append(Slot(view, record, data_length, write))
        self._writes.append((seqno, write))

    def cut_after(self, seqno: int) -> None:
        """Drop entries that the primary does not have; in the journal, what follows replaces them."""
        assert seqno >= self.committed, (seqno, self.committed)
        self.log.cut_after(seqno)
        while self._writes and self._writes[-1][0] > seqno:
            self._writes.pop()
        self.durable = min(self.durable, Seqno(seqno))

    def persisted(self) -> None:
        """Writes became durable."""
        durable = self._state.outbox.durable
        while self._writes and self._writes[0][1] <= durable:
            self.durable = self._writes.popleft()[0]

    def commit(self, seqno: Seqno) -> None:
        """Every member of the view has the entries up to this one."""
        if seqno > self.committed:
            assert seqno <= self.log.last.seqno, (seqno, self.log.last)
            self.committed = seqno

    def apply_some(self) -> None:
        """Hand out committed entries, in order, each once: at least one, a bounded number and size."""
        options = self._state.options
        until = min(self.committed, self.applied + options.applies_per_step_max)
        room_bytes = options.apply_bytes_per_step_max
        for seqno in range(self.applied + 1, until + 1):
            slot = self.log.slot(seqno)
            self._state.outbox.emit(Apply(Entry(Viewstamp(slot.view, Seqno(seqno)), slot.data)))
            self.applied = Seqno(seqno)
            room_bytes -= slot.data_length
            if room_bytes <= 0:
                break

    def install(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot that was received and is durable; it is ahead of what was applied."""
        viewstamp = snapshot.meta.viewstamp
        assert viewstamp.seqno > self.applied, (viewstamp, self.applied)
        self.snapshot = snapshot
        if self.log.holds(viewstamp):
            self.log.start_at(viewstamp)
            self._state.outbox.persist(ENCODER.encode(LogStart(viewstamp)))
        else:
            self.log.reset(viewstamp)
            self._writes.clear()
            self.durable = viewstamp.seqno
            self._state.outbox.persist(ENCODER.encode(LogReset(viewstamp)))
        self.committed = max(self.committed, viewstamp.seqno)
        self.applied = viewstamp.seqno
        self._state.outbox.emit(Restore(snapshot))
