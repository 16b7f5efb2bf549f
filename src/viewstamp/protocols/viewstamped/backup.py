"""A backup in one view: hold what the primary sends, say so when it is durable, apply what is committed.

Rules of this file:

- Entries are taken from the primary of exactly this view, each after the one before.
- Entries are dropped only in favour of others of the primary's log, never an applied one and never one of
  this view. So an acknowledgement stays true, and late or duplicated messages do no harm.
"""

from viewstamp.core.events import SnapshotToken
from viewstamp.core.ids import Instant
from viewstamp.core.messages import UNREADABLE
from viewstamp.protocols.replication.log import COMMAND, EMPTY, EntryRecord, decode_entry
from viewstamp.protocols.replication.node_state import POSITION_LEAP_MAX, leaps
from viewstamp.protocols.viewstamped.log_positions import LogPositions
from viewstamp.protocols.viewstamped.membership import Membership
from viewstamp.protocols.viewstamped.messages import (
    Append,
    Appended,
    Chunk,
    ChunkReceived,
    Pong,
    Position,
    Probe,
    Probed,
)
from viewstamp.protocols.viewstamped.state import State
from viewstamp.protocols.viewstamped.state_transfer import SnapshotReceiver, marks_of
from viewstamp.protocols.viewstamped.views import DecidedViews

RESTORED_BYTES_PER_MS: int = 50_000
"""Bytes of a state restored per millisecond, guessed low."""
_POSITIONS_PER_HEARTBEAT: int = 8
"""Report a gap at most N times per heartbeat: messages that overtake one another must not multiply."""


class Backup:
    """Holds, acknowledges, applies."""

    __slots__ = (
        "_early",
        "_matched",
        "_membership",
        "_position_at",
        "_positions",
        "_receiver",
        "_state",
        "_views",
    )

    def __init__(
        self,
        state: State,
        views: DecidedViews,
        positions: LogPositions,
        receiver: SnapshotReceiver,
        membership: Membership,
    ) -> None:
        self._state = state
        self._views = views
        self._positions = positions
        self._receiver = receiver
        self._membership = membership
        self._matched: int | None = None
        """This log is equal to the primary's up to here; None: not known yet in this view."""
        self._early: dict[int, Append] = {}
        """Entries that overtook others, by the seqno that they follow; bounded, and only a help."""
        self._position_at = state.now
        self._send_position()

    @property
    def holds_unacknowledged(self) -> bool:
        """Whether entries of this served view wait for the disk before they are acknowledged."""
        log = self._positions.log
        mine = log.last_view == self._membership.view and log.durable_seqno < log.last_seqno
        return mine and self._views.is_synchronised

    @property
    def asks(self) -> bool:
        """Whether the primary has not shown yet that it knows this log."""
        return self._matched is None

    def tick(self) -> None:
        """Ask again for what is missing."""
        if self.asks:
            self._send_position()

    def _send_position(self) -> None:
        """Tell the primary how this log looks."""
        if self._state.now < self._position_at:
            return
        pause_us = self._state.options.heartbeat_us // _POSITIONS_PER_HEARTBEAT
        self._position_at = Instant(self._state.now + pause_us)
        marks = marks_of(self._positions.log)
        message = Position(
            group=self._state.group, view=self._membership.view, marks=marks, staged=self._receiver.part
        )
        # Early: it asks for entries; what is held durably is said by `Appended` alone.
        self._state.outbox.send_early(self._membership.primary, message)

    def on_append(self, message: Append) -> None:
        """Take entries of the primary, and those that had overtaken them."""
        assert message.view == self._membership.view == self._views.view, (message.view, self._views.view)
        next_one: Append | None = message
        while next_one is not None and self._take_in(next_one):
            next_one = self._early.pop(self._positions.log.last_seqno, None) if self._early else None

    def _take_in(self, message: Append) -> bool:
        log = self._positions.log
        previous = message.previous
        # What the base covers was committed, and so is equal to the primary's log.
        covered = 0 <= previous.seqno < log.base_seqno
        if not covered and not log.holds(previous):
            self._keep_early(message)
            self._send_position()
            return False
        entries = self._read(message)
        if entries is None:
            self._state.drop("malformed entries")
            return False
        if self._contradicts(entries):
            self._state.drop("entries that contradict committed ones")
            return False
        self._take(message, entries)
        matched = max(previous.seqno + len(entries), log.base_seqno)
        self._matched = max(matched, self._matched or matched)
        # Held back until the entries are durable: this is the promise that a commit is made of.
        answer = Appended(group=self._state.group, view=message.view, matched=log.viewstamp_at(matched))
        self._state.outbox.send(self._membership.primary, answer)
        # No further than the message shows: what follows here may differ from the primary's log.
        self._commit(min(max(message.committed, 0), matched))
        return True

    def _keep_early(self, message: Append) -> None:
        last = self._positions.log.last_seqno
        if not message.records or message.previous.seqno <= last:
            return
        if len(self._early) >= self._state.options.inflight_messages_max:
            self._early = {seqno: each for seqno, each in self._early.items() if seqno > last}
        if len(self._early) < self._state.options.inflight_messages_max:
            self._early[message.previous.seqno] = message

    def _read(self, message: Append) -> list[EntryRecord] | None:
        entries: list[EntryRecord] = []
        view, seqno = int(message.previous.view), int(message.previous.seqno)
        for record in message.records:
            try:
                entry = decode_entry(record)
            except UNREADABLE:
                return None
            if entry.seqno != seqno + 1 or not view <= entry.view <= message.view:
                return None
            if entry.kind not in {EMPTY, COMMAND}:
                return None
            view, seqno = entry.view, entry.seqno
            entries.append(entry)
        return entries

    def _contradicts(self, entries: list[EntryRecord]) -> bool:
        """Return whether an entry stands where another one is final here: no correct primary sends that."""
        log = self._positions.log
        for entry in entries:
            if entry.seqno <= log.base_seqno:
                continue
            if entry.view < log.base_view:
                return True
            mine = log.view_at(entry.seqno)
            if mine is None or mine == entry.view:
                continue
            return entry.seqno <= self._positions.committed or mine >= self._membership.view
        return False

    def _take(self, message: Append, entries: list[EntryRecord]) -> None:
        positions = self._positions
        for entry, record in zip(entries, message.records, strict=True):
            mine = positions.log.view_at(entry.seqno)
            if entry.seqno <= positions.log.base_seqno or mine == entry.view:
                continue
            if mine is not None:
                positions.cut_after(entry.seqno - 1)
            positions.append(entry, bytes(record))

    def _commit(self, seqno: int) -> None:
        positions = self._positions
        positions.commit(seqno)
        if self._views.is_synchronised:
            return
        if positions.log.view_at(positions.committed) == self._membership.view:
            self._views.mark_synchronised()

    def on_chunk(self, message: Chunk, token: SnapshotToken) -> None:
        """Take a piece of a snapshot, unless what it covers was applied meanwhile."""
        assert message.view == self._membership.view, (message.view, self._membership.view)
        seqno = message.meta.viewstamp.seqno
        if seqno <= self._positions.applied:
            self._send_position()
            return
        if leaps(seqno, self._positions.log.last_seqno, POSITION_LEAP_MAX):
            self._state.drop("snapshot far beyond this log")
            return
        if not self._receiver.take(message, token):
            self._state.drop("malformed snapshot chunk")
            return
        part = self._receiver.part
        assert part is not None
        # Early: a snapshot counts when it is staged as a whole; until then nothing depends on it.
        answer = ChunkReceived(group=self._state.group, view=message.view, staged=part)
        self._state.outbox.send_early(self._membership.primary, answer)
        if part.offset == message.meta.size_bytes:
            self._excuse_silence(message.meta.size_bytes)

    def _excuse_silence(self, size_bytes: int) -> None:
        """Announce the silence before a large state is restored, which takes one long step."""
        busy_ms = size_bytes // RESTORED_BYTES_PER_MS
        if busy_ms:
            state = self._state
            pong = Pong(
                group=state.group,
                view=self._membership.view,
                incarnation=state.me.incarnation,
                busy_ms=busy_ms,
            )
            for node in sorted({self._membership.primary, self._membership.lowest} - {state.node}):
                state.outbox.send_early(node, pong)

    def on_staged(self) -> None:
        """A snapshot was installed, or was damaged in flight: tell the primary what is missing now."""
        self._position_at = self._state.now
        self._send_position()

    def on_probe(self, message: Probe) -> None:
        """Say that this node is still in the view; durably so, or a restart could make it false."""
        answer = Probed(group=self._state.group, view=message.view, round=message.round)
        self._state.outbox.send(self._membership.primary, answer)

    def waiting_for(self) -> str:
        """Say in one line what keeps this node from following; empty where it does."""
        if self._matched is not None:
            return ""
        primary, view = self._membership.primary, self._membership.view
        return f"node {primary}, the primary of view {view}, to synchronise this one"
