"""Snapshots that arrive: in chunks, inside a window, resumed where they stopped. `sender` sends them.

Rules of this file:

- A transfer is known by viewstamp, digest and size, not by its sender: a new leader with the same snapshot
  goes on.
- The follower says which offset it wants; the leader believes that and nothing else about a transfer.
- A snapshot is installed when it is durable here, in one write with what it does to the log, and acknowledged
  when that write is durable. It never takes a node back.
"""

from collections.abc import Callable
from typing import Protocol

from viewstamp.core.effects import Release, Restore, Stage
from viewstamp.core.events import SnapshotToken
from viewstamp.core.ids import NodeId
from viewstamp.core.snapshots import Snapshot, SnapshotMeta
from viewstamp.protocols.replication.messages import BaseSnapshotChunk
from viewstamp.protocols.replication.node_state import POSITION_LEAP_MAX, NodeState, in_range, leaps

_Identity = tuple[int, int, int, int]


def _identity(meta: SnapshotMeta) -> _Identity:
    return meta.viewstamp.view, meta.viewstamp.seqno, meta.digest, meta.size_bytes


class SnapshotTokens:
    """Numbers one node's snapshots, those it makes and those it receives: no two alike in one life."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0

    def new(self) -> SnapshotToken:
        """Return the next one."""
        self._last += 1
        return SnapshotToken(self._last)


class Follower(Protocol):
    """What a node that receives says to its leader."""

    def begin(self) -> None:
        """Another log, installed from a snapshot: no acknowledgement is pending for the old one."""

    def acknowledge(self, leader: NodeId, reached: int) -> None:
        """Say that our logs agree up to `reached`, as soon as that is on disk."""

    def acknowledge_snapshot(self, leader: NodeId, meta: SnapshotMeta, offset: int, *, gap: bool) -> None:
        """Say that of this snapshot everything before `offset` is here, and whether more was skipped."""


class SnapshotReceiver:
    """The follower's side of a transfer (the leader's: `sender.SnapshotSender`)."""

    __slots__ = ("_follower", "_meta", "_new_token", "_offset", "_state", "_token")

    def __init__(self, state: NodeState, follower: Follower, new_token: Callable[[], SnapshotToken]) -> None:
        self._state = state
        self._follower = follower
        self._new_token = new_token
        self._meta: SnapshotMeta | None = None
        """The snapshot being received."""
        self._token = SnapshotToken(0)
        self._offset = 0
        """Everything before this offset is staged; at the size: all, and `Staged` is awaited."""

    def on_chunk(self, source: NodeId, chunk: BaseSnapshotChunk, view: int) -> None:
        """Stage the next piece that the leader of this view sends, or say which piece is ack."""
        state = self._state
        assert state.follows, "a leader or candidate receives no snapshot"
        if not _is_possible(chunk, view, state.log.last_seqno) or not state.is_header(chunk.meta.header):
            state.drop("malformed snapshot")
            return
        if chunk.meta.viewstamp.seqno <= state.committed:
            if chunk.offset:
                return  # the first chunk is answered, and the next heartbeat asks for the same
            self._follower.acknowledge(source, max(chunk.meta.viewstamp.seqno, state.log.base_seqno))
            return
        if self._meta is None or _identity(self._meta) != _identity(chunk.meta):
            self._begin(chunk.meta)
        expected = chunk.offset == self._offset and not self._is_complete(chunk)
        if expected:
            state.outbox.emit(Stage(self._token, chunk.meta, chunk.offset, chunk.data))
            self._offset += len(chunk.data)
        self._follower.acknowledge_snapshot(source, chunk.meta, self._offset, gap=chunk.offset > self._offset)

    def on_staged(self, token: SnapshotToken, snapshot: Snapshot | None) -> None:
        """The last piece is durable, or the whole was not what it should be."""
        state = self._state
        if self._meta is None or token != self._token:
            return
        meta, self._meta = self._meta, None
        if snapshot is None:
            state.drop("snapshot with a wrong digest")
        elif state.follows and meta.viewstamp.seqno > state.committed:
            self._install(snapshot)
        if state.leader is not None and state.follows and snapshot is not None:
            self._follower.acknowledge(state.leader, max(meta.viewstamp.seqno, state.log.base_seqno))

    def _begin(self, meta: SnapshotMeta) -> None:
        self._meta, self._token, self._offset = meta, self._new_token(), 0

    def _is_complete(self, chunk: BaseSnapshotChunk) -> bool:
        return self._offset == chunk.meta.size_bytes and chunk.meta.size_bytes > 0

    def _install(self, snapshot: Snapshot) -> None:
        """Replace the machine's state, and of the log what the snapshot covers or contradicts."""
        state = self._state
        base = snapshot.meta.viewstamp
        log = state.log
        assert base.seqno > state.committed, (base, state.committed)
        # "If existing log entry has same index and term as snapshot's last included entry, retain log entries
        # following it" (figure 13): they may be acknowledged, and a majority may count on them.
        if log.view_at(base.seqno) == base.view:
            write = state.install(snapshot.meta, kept=log.last_seqno)
            log.compact(base)
        else:
            write = state.install(snapshot.meta, kept=base.seqno)
            log.reset(base, write)
            self._follower.begin()
        state.snapshot = snapshot
        state.committed = state.applied = base.seqno
        state.outbox.emit(Restore(snapshot))
        state.outbox.emit_durable(Release(log.first_write(otherwise=write)))


def _is_possible(chunk: BaseSnapshotChunk, view: int, last: int) -> bool:
    meta, length = chunk.meta, len(chunk.data)
    position = meta.viewstamp
    return (
        in_range(chunk.offset, meta.size_bytes, position.view, position.seqno)
        and 1 <= position.view <= view
        and position.seqno >= 1
        and not leaps(position.seqno, last, POSITION_LEAP_MAX)
        and chunk.offset + length <= meta.size_bytes
        and (length > 0 or meta.size_bytes == 0)
    )
