"""Snapshots of this node's own, and forgetting the log before them.

The journal forgets a prefix by number (`Release`), so what must survive is written again first: the whole
history of views, the promises, the synchronised view, the start of the log.
"""

from viewstamp.core.effects import Capture, Release, Settled
from viewstamp.core.events import DirectiveToken, SnapshotToken
from viewstamp.core.ids import PersistSeq
from viewstamp.core.snapshots import Snapshot
from viewstamp.protocols.viewstamped.journal import (
    ENCODER,
    AcceptedValue,
    History,
    LogStart,
    Promised,
    SnapshotHeader,
    Synchronised,
)
from viewstamp.protocols.viewstamped.log_positions import LogPositions
from viewstamp.protocols.viewstamped.state import State
from viewstamp.protocols.viewstamped.views import DecidedViews


class Compaction:
    """At most one capture is under way."""

    __slots__ = ("_asked_by", "_capturing", "_positions", "_retry_above_bytes", "_state", "_views")

    def __init__(self, state: State, views: DecidedViews, positions: LogPositions) -> None:
        self._state = state
        self._views = views
        self._positions = positions
        self._capturing: SnapshotToken | None = None
        self._asked_by: list[DirectiveToken] = []
        self._retry_above_bytes = 0
        """After a capture that failed (a full disk), the next waits until the log has grown this far."""

    def is_due(self) -> bool:
        """Return whether the log has grown so far that a snapshot should be taken."""
        log_bytes_max = self._state.options.log_bytes_max
        if self._capturing is not None or log_bytes_max is None:
            return False
        # At half of the limit: what arrives until the snapshot is durable fits into the other half.
        size = self._positions.log.size_bytes
        return 2 * size > log_bytes_max and size > self._retry_above_bytes and self._has_news

    @property
    def _has_news(self) -> bool:
        snapshot = self._positions.snapshot
        covered = snapshot.meta.viewstamp.seqno if snapshot is not None else 0
        return self._positions.applied > covered

    def capture(self, token: SnapshotToken) -> None:
        """Ask for a snapshot of the machine as it is now."""
        self._capturing = token
        header = ENCODER.encode(SnapshotHeader(self._views.current))
        self._state.outbox.emit(Capture(token, self._positions.applied_viewstamp, header))

    def directed(self, directive: DirectiveToken, token: SnapshotToken) -> None:
        """An operator wants a snapshot."""
        if not self._has_news:
            self._state.outbox.emit(Settled(directive, None))
            return
        self._asked_by.append(directive)
        if self._capturing is None:
            self.capture(token)

    def captured(self, token: SnapshotToken, snapshot: Snapshot | None) -> None:
        """A snapshot is durable, or could not be made."""
        if token != self._capturing:
            return
        self._capturing = None
        refusal = None if snapshot is not None else "the snapshot could not be written: look at the disk"
        for directive in self._asked_by:
            self._state.outbox.emit(Settled(directive, refusal))
        self._asked_by = []
        if snapshot is None:
            size = self._positions.log.size_bytes
            self._retry_above_bytes = size + size // 4
        elif snapshot.meta.viewstamp.seqno > self._positions.log.base.seqno:
            self._retry_above_bytes = 0
            self._forget_before(snapshot)

    def _forget_before(self, snapshot: Snapshot) -> None:
        positions, options = self._positions, self._state.options
        previous = positions.snapshot
        if previous is not None and previous.meta.viewstamp >= snapshot.meta.viewstamp:
            return
        positions.snapshot = snapshot
        limit = options.log_bytes_max
        kept_bytes = limit // 4 if limit is not None else options.inflight_bytes_max
        start = min(snapshot.meta.viewstamp.seqno, positions.log.suffix_of(kept_bytes))
        base = positions.log.at(max(start, positions.log.base.seqno))
        assert base is not None
        positions.log.start_at(base)
        rewritten = self._write_again()
        first = positions.log.first_write()
        before = rewritten if first is None else min(first, rewritten)
        self._state.outbox.emit_durable(Release(before))

    def _write_again(self) -> PersistSeq:
        views, acceptor = self._views, self._views.acceptor
        records = [
            ENCODER.encode(History(tuple(views.history))),
            ENCODER.encode(Synchronised(views.synchronised_view)),
            ENCODER.encode(Promised(acceptor.instance, acceptor.promised)),
            ENCODER.encode(LogStart(self._positions.log.base)),
        ]
        if acceptor.accepted is not None and acceptor.value is not None:
            value = AcceptedValue(acceptor.instance, acceptor.accepted, acceptor.value)
            records.append(ENCODER.encode(value))
        return self._state.outbox.persist(*records)
