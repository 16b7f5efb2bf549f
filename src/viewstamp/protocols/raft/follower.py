"""The follower's side of the log: accept, refuse, acknowledge (Raft 5.3).

Rules of this file:

- A message is taken as a whole or not at all; nothing in it is believed before all of it was checked.
- Only what conflicts is cut off, never what merely is not in the message: messages may be old or reordered.
- What is cut off and what replaces it are one write.
- `AppendResponse` names what is on disk. Heartbeats are answered at once, entries when they are durable, once
  for all that became durable together.
"""

from collections.abc import Sequence

from viewstamp.core.ids import NodeId
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.raft.journal import CONFIGURATION
from viewstamp.protocols.raft.membership import decode_configuration
from viewstamp.protocols.raft.messages import AppendEntries, AppendRejected, AppendResponse, SnapshotAck
from viewstamp.protocols.raft.state import State
from viewstamp.protocols.replication.follower import PendingAck, decode_entries, match_on_disk, store
from viewstamp.protocols.replication.log import EMPTY, EntryRecord


class Follower:
    """What a node does with what its leader sends."""

    __slots__ = ("_debt", "_round", "_state")

    def __init__(self, state: State) -> None:
        self._state = state
        self._debt = PendingAck()
        self._round = 0
        """The latest round of confirmation that this leader sent."""

    def begin(self) -> None:
        """A new leader or a new term: nothing is owed to the last one."""
        self._debt.cancel()
        self._round = 0

    def on_append(self, source: NodeId, message: AppendEntries) -> None:
        """Take in a message of the current leader, and answer it."""
        state = self._state
        log = state.log
        entries = decode_entries(
            message.entries,
            message.prev_log_term,
            message.prev_log_index,
            view=message.term,
            is_readable=_is_readable,
        )
        if entries is None:
            state.drop("entries that cannot be")
            return
        self._round = max(self._round, message.round)
        prev_log_index = message.prev_log_index
        if prev_log_index >= log.base_seqno and log.view_at(prev_log_index) != message.prev_log_term:
            self._refuse(source, message)
            return
        if entries and not self._store(entries, message.entries):
            state.drop("entries against what is committed")
            return
        reached = max(prev_log_index + len(entries), log.base_seqno)
        if message.committed > state.committed:
            state.committed = max(state.committed, min(message.committed, reached))
        if entries:
            self.acknowledge(source, reached)
        else:
            self._answer(source, reached)

    def acknowledge(self, leader: NodeId, reached: int) -> None:
        """Tell the leader that our logs agree up to `reached`, as soon as that is on disk."""
        if self._debt.is_due(reached, self._state.log.durable_seqno):
            self._answer(leader, reached)

    def acknowledge_snapshot(self, leader: NodeId, meta: SnapshotMeta, offset: int, *, gap: bool) -> None:
        """Say how much of this snapshot is here."""
        state, position = self._state, meta.viewstamp
        state.reply(
            leader,
            SnapshotAck(
                term=state.term,
                incarnation=state.incarnation,
                view=position.view,
                seqno=position.seqno,
                digest=meta.digest,
                offset=offset,
                gap=gap,
            ),
        )

    def on_persisted(self, leader: NodeId) -> None:
        """More is durable: acknowledge what is owed of it, all at once."""
        owed = self._debt.due(self._state.log.durable_seqno)
        if owed:
            self._answer(leader, owed)

    def _answer(self, leader: NodeId, reached: int) -> None:
        """Say how far our logs agree on disk: not beyond `reached`, whatever else is in our log."""
        state = self._state
        view, matched = match_on_disk(state.log, reached)
        state.reply(
            leader,
            AppendResponse(
                term=state.term,
                incarnation=state.incarnation,
                matched_view=view,
                matched_seqno=matched,
                round=self._round,
                reached=reached,
            ),
        )

    def _refuse(self, leader: NodeId, message: AppendEntries) -> None:
        state = self._state
        refused = message.prev_log_index
        hint = state.log.last_not_after(refused, message.prev_log_term)
        state.reply(
            leader,
            AppendRejected(
                term=state.term,
                incarnation=state.incarnation,
                refused_seqno=refused,
                hint_view=hint.view,
                hint_seqno=hint.seqno,
                round=self._round,
                attempt=message.attempt,
            ),
        )

    def _store(self, entries: Sequence[EntryRecord], records: Sequence[bytes]) -> bool:
        """Append what is new. Return False, and change nothing, where that contradicts what is committed."""
        new = store(self._state, entries, records, self._cut_off)
        if new is None:
            return False
        for entry in new:
            if entry.kind == CONFIGURATION:
                self._configure(entry)
        return True

    def _cut_off(self, after: int) -> None:
        """A conflicting suffix is gone, and with it the configurations in it and what is owed for it."""
        self._state.membership.truncate(after)
        self._debt.cut_off(after)

    def _configure(self, entry: EntryRecord) -> None:
        configuration = decode_configuration(entry.data)
        assert configuration is not None, entry
        self._state.membership.append(entry.seqno, configuration)


def _is_readable(entry: EntryRecord) -> bool:
    if entry.kind == CONFIGURATION:
        return decode_configuration(entry.data) is not None
    return entry.kind == EMPTY and not entry.data
