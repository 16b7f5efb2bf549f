"""The log with its positions: what is durable here, what is committed, what was applied.

Applied is executed: the viewstamp of the machine's state is that of the last entry handed to it, never of one
that was merely ordered. `applied <= committed <= last` and `durable <= last`; entries up to `committed`
are never dropped. What a new primary inherits becomes committed with the first entry of its view.

The log, applying, compaction and read rounds are those of `protocols.replication`; here stands what this
protocol writes when the log's base moves.
"""

from viewstamp.core.effects import Restore
from viewstamp.core.ids import ORIGIN, Instant, PersistSeq, View, Viewstamp
from viewstamp.core.snapshots import Snapshot
from viewstamp.protocols.replication.log import EntryRecord, Log
from viewstamp.protocols.viewstamped.journal import (
    ENCODER,
    AcceptedValue,
    History,
    LogReset,
    LogStart,
    Promised,
    SnapshotHeader,
    Synchronised,
)
from viewstamp.protocols.viewstamped.options import ViewstampedOptions
from viewstamp.protocols.viewstamped.state import State
from viewstamp.protocols.viewstamped.views import DecidedViews


class LogPositions:
    """One for each core; both roles work on it. It satisfies `replication.node_state.LogState`."""

    __slots__ = ("_state", "_views", "applied", "committed", "log", "options", "outbox", "snapshot")

    non_entry_bytes = 0
    """The history of views cannot be compacted, so it does not count."""
    bootstrapped = True

    def __init__(self, state: State, views: DecidedViews, log: Log, snapshot: Snapshot | None) -> None:
        self._state = state
        self._views = views
        self.options: ViewstampedOptions = state.options
        """The protocol's options."""
        self.outbox = state.outbox
        self.log = log
        self.snapshot = snapshot
        """The newest snapshot on this node's disk."""
        covered = snapshot.meta.viewstamp if snapshot is not None else ORIGIN
        if not log.holds(covered):
            assert covered.seqno >= log.base_seqno, (covered, log.base)
            # Received whole, and the crash came before the journal heard of it.
            log.reset(covered, state.outbox.persist(ENCODER.encode(LogReset(covered))))
        self.committed: int = covered.seqno
        self.applied: int = covered.seqno

    @property
    def now(self) -> Instant:
        """The moment of the step that runs."""
        return self._state.now

    @property
    def durable(self) -> int:
        """Entries up to here are in this node's journal."""
        return self.log.durable_seqno

    @property
    def snapshot_seqno(self) -> int:
        """Position of the newest durable snapshot, 0 where there is none."""
        return self.snapshot.meta.viewstamp.seqno if self.snapshot is not None else 0

    @property
    def is_behind(self) -> bool:
        """Whether committed entries wait to be applied."""
        return self.applied < self.committed

    def append_own(self, view: View, kind: int, data: bytes) -> None:
        """Order an entry as the primary of this view."""
        entry = EntryRecord(view=view, seqno=self.log.last_seqno + 1, kind=kind, data=data)
        self.append(entry, ENCODER.encode(entry))

    def append(self, entry: EntryRecord, record: bytes) -> None:
        """Add the entry after the last and begin to write it."""
        assert entry.view >= self.log.last_view, (entry.view, self.log.last)
        self.log.append(entry, record, self.outbox.persist(record))

    def cut_after(self, seqno: int) -> None:
        """Drop entries that the primary does not have; in the journal, what follows replaces them."""
        assert seqno >= self.committed, (seqno, self.committed)
        self.log.truncate(seqno)

    def commit(self, seqno: int) -> None:
        """Every member of the view has the entries up to this one."""
        if seqno > self.committed:
            assert seqno <= self.log.last_seqno, (seqno, self.log.last)
            self.committed = seqno

    def install_received(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot that was received and is durable; it is ahead of what was applied."""
        viewstamp = snapshot.meta.viewstamp
        assert viewstamp.seqno > self.applied, (viewstamp, self.applied)
        self.snapshot = snapshot
        if self.log.holds(viewstamp):
            self.log.compact(viewstamp)
            self.outbox.persist(ENCODER.encode(LogStart(viewstamp)))
        else:
            self.log.reset(viewstamp, self.outbox.persist(ENCODER.encode(LogReset(viewstamp))))
        self.committed = max(self.committed, viewstamp.seqno)
        self.applied = viewstamp.seqno
        self.outbox.emit(Restore(snapshot))

    def snapshot_header(self) -> bytes:
        """Return the protocol's part of a snapshot of what is applied now."""
        return ENCODER.encode(SnapshotHeader(self._views.current))

    def move_base(self, base: Viewstamp) -> PersistSeq:
        """Write that the log begins after `base`, and all that must survive the release of older writes.

        The journal forgets a prefix by number, so the whole history of views, the promises and the
        synchronised view are written again.
        """
        views, acceptor = self._views, self._views.acceptor
        records = [
            ENCODER.encode(History(tuple(views.history))),
            ENCODER.encode(Synchronised(views.synchronised_view)),
            ENCODER.encode(Promised(acceptor.instance, acceptor.promised)),
            ENCODER.encode(LogStart(base)),
        ]
        if acceptor.accepted is not None and acceptor.value is not None:
            value = AcceptedValue(acceptor.instance, acceptor.accepted, acceptor.value)
            records.append(ENCODER.encode(value))
        return self.outbox.persist(*records)

    def drop(self, reason: str) -> None:
        """Count what is ignored."""
        self._state.drop(reason)
