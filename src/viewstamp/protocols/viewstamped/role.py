"""Which role this node has in the newest view, and what reaches the role (lab 7, rsm).

A role lives for one view. Whatever a primary or backup remembers of another view is gone with it, so
nothing of an old view can be counted in a new one (docs/faults.md#v34, #v35), and what it said that still
waits for the disk is taken back. What outlives a view is the log and a snapshot in flight.
"""

from typing import assert_never

from viewstamp.core.effects import Refuse
from viewstamp.core.events import ReadToken, SnapshotToken
from viewstamp.core.ids import NodeId, View
from viewstamp.core.snapshots import Snapshot
from viewstamp.protocols.replication.compaction import apply_committed
from viewstamp.protocols.viewstamped.backup import Backup
from viewstamp.protocols.viewstamped.log_positions import LogPositions
from viewstamp.protocols.viewstamped.messages import (
    Append,
    Appended,
    Chunk,
    ChunkReceived,
    Position,
    Probe,
    Probed,
    ReplicationMessage,
)
from viewstamp.protocols.viewstamped.primary import Primary
from viewstamp.protocols.viewstamped.state import State
from viewstamp.protocols.viewstamped.state_transfer import SnapshotReceiver
from viewstamp.protocols.viewstamped.views import DecidedViews


class Role:
    """The role of the newest view; neither `primary` nor `backup`: outside it, or waiting for a renewal."""

    __slots__ = ("_entered", "_positions", "_receiver", "_state", "_token", "backup", "primary", "views")

    def __init__(self, state: State, views: DecidedViews, positions: LogPositions) -> None:
        self._state = state
        self.views = views
        self._positions = positions
        self._receiver = SnapshotReceiver(state)
        self._token = 0
        self._entered = View(0)
        self.primary: Primary | None = None
        """The primary's part, where this node is the primary and needs no renewal."""
        self.backup: Backup | None = None
        """The backup's part, where this node is a backup."""

    @property
    def is_about_to_acknowledge(self) -> bool:
        """Whether a backup's acknowledgement of entries waits for the disk."""
        return self.backup is not None and self.backup.holds_unacknowledged

    @property
    def is_up_to_date_backup(self) -> bool:
        """Whether this is a backup that its primary keeps up to date: nothing waits for a heartbeat."""
        return self.backup is not None and not self.backup.asks

    def next_token(self) -> SnapshotToken:
        """Return a token that this process has not used yet."""
        self._token += 1
        return SnapshotToken(self._token)

    def needed_after(self) -> int | None:
        """Return after which entry others need the log of this node; None where none does."""
        return None if self.primary is None else self.primary.needed_after()

    def enter_newest_view(self) -> None:
        """Take the role of the newest view, if there is a newer one."""
        views = self.views
        current = views.current
        if current is None or self._entered == current.view:
            return
        self._entered = current.view
        if self.primary is not None:
            self.primary.reads.refuse_all()
        self.primary = self.backup = None
        # The primary of the new view may cut what an acknowledgement that still waits for the disk speaks of.
        self._state.outbox.withdraw(lambda message: isinstance(message, ReplicationMessage))
        if current.primary != self._state.node:
            if views.is_member or views.is_follower:
                self.backup = Backup(self._state, views, self._positions, self._receiver, current)
        elif views.is_member and not views.renewal_wanted:
            self.primary = Primary(self._state, views, self._positions, current)

    def query(self, token: ReadToken) -> None:
        """Take in a read."""
        if self.primary is not None:
            self.primary.query(token)
        else:
            self._state.outbox.emit(Refuse(token))

    def tick(self) -> None:
        """A heartbeat's time has passed."""
        if self.primary is not None:
            self.primary.tick()
        elif self.backup is not None:
            self.backup.tick()

    def advance(self, *, may_apply: bool) -> None:
        """At the end of each step: commit, apply if this step may, answer."""
        primary, positions = self.primary, self._positions
        if primary is not None:
            primary.advance()
        if may_apply and positions.applied < positions.committed:
            apply_committed(positions)
            if primary is not None:
                primary.advance()

    def staged(self, token: SnapshotToken, snapshot: Snapshot | None) -> None:
        """A snapshot that was being received is durable, or was damaged (`None`)."""
        if not self._receiver.finished(token):
            return
        if snapshot is not None and snapshot.meta.viewstamp.seqno > self._positions.applied:
            self._positions.install_received(snapshot)
        if self.backup is not None:
            self.backup.on_staged()

    def receive(self, source: NodeId, message: ReplicationMessage) -> None:
        """Take a message of the newest view; the caller has compared the views."""
        match message:
            case Append() | Chunk() | Probe():
                self._receive_as_backup(source, message)
            case Position() | Appended() | ChunkReceived() | Probed():
                self._receive_as_primary(source, message)
            case _:
                assert_never(message)

    def _receive_as_backup(self, source: NodeId, message: Append | Chunk | Probe) -> None:
        backup, current = self.backup, self.views.current
        if backup is None or current is None or source != current.primary:
            self._state.drop("entries or snapshot from a node that is not the primary")
            return
        match message:
            case Append():
                backup.on_append(message)
            case Chunk():
                backup.on_chunk(message, self.next_token())
            case Probe():
                backup.on_probe(message)
            case _:
                assert_never(message)

    def _receive_as_primary(
        self, source: NodeId, message: Position | Appended | ChunkReceived | Probed
    ) -> None:
        primary = self.primary
        if primary is None:
            # A primary that waits for its renewal, or a node that is not in this view: nothing to do.
            return
        match message:
            case Position():
                primary.on_position(source, message)
            case Appended():
                primary.on_appended(source, message)
            case ChunkReceived():
                primary.on_chunk_received(source, message)
            case Probed():
                primary.on_probed(source, message)
            case _:
                assert_never(message)
