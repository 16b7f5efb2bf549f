"""The backup's side of the log: accept, refuse, acknowledge.

Rules of this file:

- A message is taken as a whole or not at all; nothing in it is believed before all of it was checked.
- Only what conflicts is cut off, never what merely is not in the message: messages may be old or reordered.
- What is cut off and what replaces it are one write. What is committed is never cut off.
- `AppendResponse` names what is on disk, entries and record. Heartbeats are answered at once, entries when
  they are durable, once for all that became durable together.
"""

from viewstamp.core.ids import NodeId
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.primary_backup.bootstrap import is_sound_record
from viewstamp.protocols.primary_backup.journal import SyncRecord
from viewstamp.protocols.primary_backup.messages import Append, AppendRejected, AppendResponse, SnapshotAck
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
    """What a node does with what its primary sends."""

    __slots__ = ("_debt", "_round", "_state", "_told_version")

    def __init__(self, state: State) -> None:
        self._state = state
        self._debt = PendingAck()
        self._told_version = 0
        """The version of the record that was last acknowledged."""
        self._round = 0
        """The latest round of confirmation that this primary sent."""

    def begin(self) -> None:
        """A new primary: nothing is owed to the last one."""
        self._debt.cancel()
        self._told_version = self._round = 0

    def on_append(self, source: NodeId, message: Append) -> None:
        """Take in a message of the current primary, and answer it."""
        state = self._state
        log = state.log
        entries = decode_entries(
            message.entries,
            message.previous_view,
            message.previous_seqno,
            view=message.epoch,
            is_readable=_is_readable,
        )
        if entries is None:
            state.drop("entries that cannot be")
            return
        if message.record is not None:
            self._take_record(source, message.record)
        self._round = max(self._round, message.round)
        previous = message.previous_seqno
        if previous >= log.base_seqno and log.view_at(previous) != message.previous_view:
            self._refuse(source, message)
            return
        if entries and store(state, entries, message.entries, self._debt.cut_off) is None:
            state.drop("entries against what is committed")
            return
        reached = max(previous + len(entries), log.base_seqno)
        if message.committed > state.committed:
            state.committed = max(state.committed, min(message.committed, reached))
        if entries:
            self.acknowledge(source, reached)
        else:
            self._answer(source, reached)

    def acknowledge(self, primary: NodeId, reached: int) -> None:
        """Tell the primary that our logs agree up to `reached`, as soon as that is on disk."""
        if self._debt.is_due(reached, self._state.log.durable_seqno):
            self._answer(primary, reached)

    def acknowledge_snapshot(self, leader: NodeId, meta: SnapshotMeta, offset: int, *, gap: bool) -> None:
        """Say how much of this snapshot is here."""
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
        """More is durable: acknowledge what is owed of it, all at once, and the record."""
        owed = self._debt.due(self._state.log.durable_seqno)
        if owed:
            self._answer(primary, owed)
        elif self._version() > self._told_version:
            self._answer(primary, 0)

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
            state.drop("record that cannot be")
        elif state.record is None or record.age > state.record.age:
            state.adopt(record)

    def _answer(self, primary: NodeId, reached: int) -> None:
        """Say how far our logs agree on disk: not beyond `reached`, whatever else is in our log."""
        state = self._state
        view, matched = match_on_disk(state.log, reached)
        self._told_version = version = self._version()
        state.reply(
            primary,
            AppendResponse(
                epoch=state.epoch,
                incarnation=state.incarnation,
                matched_view=view,
                matched_seqno=matched,
                round=self._round,
                version=version,
                reached=reached,
            ),
        )

    def _refuse(self, primary: NodeId, message: Append) -> None:
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
                round=self._round,
                attempt=message.attempt,
            ),
        )


def is_sound_append(message: Append) -> bool:
    """Tell whether a message's numbers could be those of a primary."""
    return message.epoch >= 1 and is_sound(message, message.epoch)


def _is_readable(entry: EntryRecord) -> bool:
    return entry.kind == EMPTY and not entry.data
