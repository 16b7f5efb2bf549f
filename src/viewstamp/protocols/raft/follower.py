"""The follower's side of the log: accept, refuse, acknowledge (Raft 5.3).

Rules of this file:

- A message is taken as a whole or not at all; nothing in it is believed before all of it was checked.
- Only what conflicts is cut off, never what merely is not in the message: messages may be old or reordered.
- What is cut off and what replaces it are one write.
- `AppendResponse` names what is on disk. Heartbeats are answered at once, entries when they are durable, once
  for all that became durable together.
"""

from collections.abc import Sequence

from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.raft.bootstrap import Bootstrap
from viewstamp.protocols.raft.journal import CONFIGURATION
from viewstamp.protocols.raft.messages import (
    AppendEntries,
    AppendRejected,
    AppendResponse,
    SnapshotAck,
    SnapshotChunk,
    StaleTerm,
)
from viewstamp.protocols.raft.roles import Roles
from viewstamp.protocols.raft.state import Role, State
from viewstamp.protocols.replication.configuration import decode_configuration
from viewstamp.protocols.replication.follower import (
    PendingAck,
    decode_entries,
    is_sound,
    match_on_disk,
    store,
)
from viewstamp.protocols.replication.log import EMPTY, EntryRecord


class Follower:
    """What a node does with what its leader sends."""

    __slots__ = ("_bootstrap", "_pending_ack", "_roles", "_state")

    def __init__(self, state: State, roles: Roles, bootstrap: Bootstrap, pending_ack: PendingAck) -> None:
        self._state = state
        self._roles = roles
        self._bootstrap = bootstrap
        self._pending_ack = pending_ack

    def on_append_entries(self, source: NodeId, message: AppendEntries) -> None:
        """AppendEntries (figure 2, and figure 3.1 of the thesis); a heartbeat is one without entries."""
        state = self._state
        log = state.log
        prev_log_index, prev_log_term = message.previous_seqno, message.previous_view
        if not is_sound(message, message.term):
            state.drop("numbers out of range")
            return
        # Figure 2, step 1: "Reply false if term < currentTerm (5.1)."
        if not self.accepts_leader(source, message):
            return
        assert state.term == message.term, (state.term, message.term)
        assert state.role is Role.FOLLOWER, state.role
        entries = decode_entries(
            message.entries, prev_log_term, prev_log_index, view=message.term, is_readable=_is_readable
        )
        if entries is None:
            state.drop("malformed entries")
            return
        self._pending_ack.round = max(self._pending_ack.round, message.round)
        # Step 2: "Reply false if log doesn't contain an entry at prevLogIndex whose term matches prevLogTerm
        # (5.3)." What lies before the base is committed: it matches, though its term is gone.
        if prev_log_index >= log.base_seqno and log.view_at(prev_log_index) != prev_log_term:
            self._reject(source, message)
            return
        # Steps 3 and 4: "If an existing entry conflicts with a new one (same index but different terms),
        # delete the existing entry and all that follow it (5.3). Append any new entries not already in the
        # log." What only is not in the message stays: the message may be older than what is here.
        if entries and not self._store(entries, message.entries):
            state.drop("entries against what is committed")
            return
        # Step 5: "If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new
        # entry)." Not of the last entry here: what follows may be of an earlier leader, and not committed.
        reached = max(prev_log_index + len(entries), log.base_seqno)
        if message.committed > state.committed:
            state.committed = max(state.committed, min(message.committed, reached))
        if entries:
            self.acknowledge(source, reached)
        else:
            self._answer(source, reached)

    def accepts_leader(self, source: NodeId, message: AppendEntries | SnapshotChunk) -> bool:
        """Follow the leader of this term or a later one (5.2). Return whether its message counts.

        Figure 2: "Reply false if term < currentTerm"; 5.2: "If the leader's term (included in its RPC) is at
        least as large as the candidate's current term, then the candidate recognizes the leader as
        legitimate and returns to follower state."
        """
        state, term = self._state, message.term
        if message.to != state.incarnation:
            # Meant for an earlier incarnation: this one does not know what that one promised.
            state.drop("message for another incarnation")
            self._bootstrap.on_passed_over(source)
            return False
        if not state.bootstrapped:
            self._bootstrap.adopt()
        self._bootstrap.passed_over = False  # the leader addressed this incarnation: the cluster knows it
        if term < state.term:
            state.reply(source, StaleTerm(state.term))
            return False
        if term > state.term or source != state.leader:
            if term == state.term and state.leader is not None:
                # Election safety (5.2) excludes it, unless a disk lied: rather follow the first than both.
                state.drop("second leader in one term")
                return False
            self._roles.become_follower(term, source)
        # Heard (5.2): no election before the drawn timeout has passed again.
        state.heard_leader_at, state.suspected = state.now, False
        state.election_at = Instant(state.now + state.election_timeout_drawn_us)
        return True

    def acknowledge(self, leader: NodeId, reached: int) -> None:
        """Tell the leader that our logs agree up to `reached`, as soon as that is on disk."""
        if self._pending_ack.is_due(reached, self._state.log.durable_seqno):
            self._answer(leader, reached)

    def acknowledge_snapshot(self, leader: NodeId, meta: SnapshotMeta, offset: int, *, gap: bool) -> None:
        """Say how much of this snapshot is here."""
        state, position = self._state, meta.viewstamp
        ack = SnapshotAck(
            term=state.term,
            incarnation=state.incarnation,
            view=position.view,
            seqno=position.seqno,
            digest=meta.digest,
            offset=offset,
            gap=gap,
        )
        state.reply(leader, ack)

    def begin(self) -> None:
        """Another log, installed from a snapshot: no acknowledgement is pending for the old one."""
        self._pending_ack.cancel()

    def on_persisted(self, leader: NodeId) -> None:
        """More is durable: acknowledge what is pending of it, all at once."""
        pending = self._pending_ack.due(self._state.log.durable_seqno)
        if pending:
            self._answer(leader, pending)

    def _answer(self, leader: NodeId, reached: int) -> None:
        """Say how far our logs agree on disk: not beyond `reached`, whatever else is in our log."""
        state = self._state
        view, matched = match_on_disk(state.log, reached)
        response = AppendResponse(
            term=state.term,
            incarnation=state.incarnation,
            matched_view=view,
            matched_seqno=matched,
            round=self._pending_ack.round,
            reached=reached,
        )
        state.reply(leader, response)

    def _reject(self, leader: NodeId, message: AppendEntries) -> None:
        """Refuse, with a hint where the logs may part: the accelerated backing up at the end of 5.3."""
        state = self._state
        prev_log_index, prev_log_term = message.previous_seqno, message.previous_view
        hint = state.log.last_not_after(prev_log_index, prev_log_term)
        rejection = AppendRejected(
            term=state.term,
            incarnation=state.incarnation,
            refused_seqno=prev_log_index,
            hint_view=hint.view,
            hint_seqno=hint.seqno,
            round=self._pending_ack.round,
            attempt=message.attempt,
        )
        state.reply(leader, rejection)

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
        """A conflicting suffix is gone, with the configurations in it and the acknowledgement for it."""
        self._state.membership.truncate(after)
        self._pending_ack.cut_off(after)

    def _configure(self, entry: EntryRecord) -> None:
        configuration = decode_configuration(entry.data)
        assert configuration is not None, entry
        self._state.membership.append(entry.seqno, configuration)


def _is_readable(entry: EntryRecord) -> bool:
    if entry.kind == CONFIGURATION:
        return decode_configuration(entry.data) is not None
    return entry.kind == EMPTY and not entry.data
