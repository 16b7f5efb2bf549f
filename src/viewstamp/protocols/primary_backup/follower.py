"""The backup's side of the log: accept, refuse, acknowledge.

Rules of this file:

- A message that is malformed is ignored as a whole: all of it is checked before any of it is used.
- Only what conflicts is cut off, never what is merely absent from the message: it may be old or reordered.
- What is cut off and what replaces it are one write. What is committed is never cut off.
- `AppendResponse` names what is on disk, entries and record. Heartbeats are answered at once, entries when
  they are durable, once for all that became durable together.
"""

from viewstamp.core.ids import NodeId
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.primary_backup.bootstrap import is_sound_record
from viewstamp.protocols.primary_backup.journal import SyncRecord
from viewstamp.protocols.primary_backup.messages import (
    AppendEntries,
    AppendRejected,
    AppendResponse,
    SnapshotAck,
)
from viewstamp.protocols.primary_backup.state import State
from viewstamp.protocols.replication.follower import (
    PendingAck,
    decode_entries,
    is_sound,
    match_on_disk,
    store,
)
from viewstamp.protocols.replication.log import EMPTY, EntryRecord


class Follower:
    """What a node does with the messages of its primary."""

    __slots__ = ("_acknowledged_version", "_pending_ack", "_state")

    def __init__(self, state: State) -> None:
        self._state = state
        self._pending_ack = PendingAck()
        self._acknowledged_version = 0
        """The version of the record last acknowledged."""

    def begin(self) -> None:
        """Follow another primary: no acknowledgement is pending for the last one."""
        self._pending_ack.cancel()
        self._acknowledged_version = 0

    def on_append(self, source: NodeId, message: AppendEntries) -> None:
        """Handle AppendEntries of the current primary: refuse, or store and acknowledge."""
        state = self._state
        log = state.log
        assert state.follows, state.role
        assert state.leader == source, (state.leader, source)
        entries = decode_entries(
            message.entries,
            message.previous_view,
            message.previous_seqno,
            view=message.epoch,
            is_readable=_is_readable,
        )
        if entries is None:
            state.drop("malformed entries")
            return
        if message.record is not None:
            # Even where the entries do not fit: it says which members count, and nothing of the log.
            self._take_record(source, message.record)
        self._pending_ack.round = max(self._pending_ack.round, message.round)
        previous = message.previous_seqno
        if previous >= log.base_seqno and log.view_at(previous) != message.previous_view:
            self._reject(source, message)
            return
        if entries and store(state, entries, message.entries, self._pending_ack.cut_off) is None:
            state.drop("entries that contradict committed ones")
            return
        reached = max(previous + len(entries), log.base_seqno)
        if message.committed > state.committed:
            # Not beyond `reached`: what follows in our log may be the suffix of an older epoch.
            state.committed = max(state.committed, min(message.committed, reached))
        if entries:
            self.acknowledge(source, reached)
        else:
            self._answer(source, reached)

    def acknowledge(self, primary: NodeId, reached: int) -> None:
        """Acknowledge that our logs agree up to `reached`, as soon as that is on disk."""
        if self._pending_ack.is_due(reached, self._state.log.durable_seqno):
            self._answer(primary, reached)

    def acknowledge_snapshot(self, leader: NodeId, meta: SnapshotMeta, offset: int, *, gap: bool) -> None:
        """Tell the primary how much of this snapshot is here."""
        state, position = self._state, meta.viewstamp
        state.reply(
            leader,
            SnapshotAck(
                epoch=state.epoch,
                incarnation=state.incarnation,
                view=position.view,
                seqno=position.seqno,
                digest=meta.digest,
                offset=offset,
                gap=gap,
            ),
        )

    def on_persisted(self, primary: NodeId) -> None:
        """Acknowledge what has become durable, all of it at once, and the record."""
        reached = self._pending_ack.due(self._state.log.durable_seqno)
        if reached:
            self._answer(primary, reached)
        elif self._version() > self._acknowledged_version:
            self._answer(primary, 0)  # nothing new of the log; the record is what the primary waits for

    def _version(self) -> int:
        """Return the version of this epoch's record that is on disk; 0: none is."""
        state = self._state
        record = state.record
        if record is None or record.epoch != state.epoch or state.record_write > state.outbox.durable:
            return 0
        return record.version

    def _take_record(self, source: NodeId, record: SyncRecord) -> None:
        state = self._state
        if (record.epoch, record.primary) != (state.epoch, source) or not is_sound_record(record, state):
            state.drop("malformed synchronous-set record")
        elif state.record is None or record.age > state.record.age:
            state.adopt(record)

    def _answer(self, primary: NodeId, reached: int) -> None:
        """Acknowledge how far our logs agree on disk: not beyond `reached`, whatever else is in our log."""
        state = self._state
        view, matched = match_on_disk(state.log, reached)
        self._acknowledged_version = version = self._version()
        state.reply(
            primary,
            AppendResponse(
                epoch=state.epoch,
                incarnation=state.incarnation,
                matched_view=view,
                matched_seqno=matched,
                round=self._pending_ack.round,
                version=version,
                reached=reached,
            ),
        )

    def _reject(self, primary: NodeId, message: AppendEntries) -> None:
        state = self._state
        refused = message.previous_seqno
        hint = state.log.last_not_after(refused, message.previous_view)
        state.reply(
            primary,
            AppendRejected(
                epoch=state.epoch,
                incarnation=state.incarnation,
                refused_seqno=refused,
                hint_view=hint.view,
                hint_seqno=hint.seqno,
                round=self._pending_ack.round,
                attempt=message.attempt,
            ),
        )


def is_sound_append(message: AppendEntries) -> bool:
    """Return whether a message's numbers could be those of a primary."""
    return message.epoch >= 1 and is_sound(message, message.epoch)


def _is_readable(entry: EntryRecord) -> bool:
    return entry.kind == EMPTY and not entry.data
