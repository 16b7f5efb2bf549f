"""Which role this node has in the newest view, and what reaches the role (lab 7, rsm).

A role lives for one view. Whatever a primary or backup remembers of another view is gone with it, so
nothing of an old view can be counted in a new one (docs/faults.md#v34, #v35), and what it said that still
waits for the disk is taken back. What outlives a view is the ledger and a snapshot that is under way.
"""

from typing import Literal, assert_never

from viewstamp.core.effects import Refuse
from viewstamp.core.events import ReadToken, SnapshotToken
from viewstamp.core.ids import NodeId, View
from viewstamp.core.snapshots import Snapshot
from viewstamp.protocols.viewstamped.backup import Follower
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
from viewstamp.protocols.viewstamped.state_transfer import Receiving
from viewstamp.protocols.viewstamped.views import ViewKeeper


class Role:
    """The role of the newest view."""

    __slots__ = ("_entered", "_receiving", "_shared", "_token", "_views", "ledger", "primary", "role")

    def __init__(self, shared: State, views: ViewKeeper, ledger: LogPositions) -> None:
        self._shared = shared
        self._views = views
        self.ledger = ledger
        self._receiving = Receiving(shared)
        self._token = 0
        self._entered = View(0)
        self.role: Primary | Follower | None = None
        """None: outside the view, or a primary that waits for its renewal."""
        self.primary: Primary | None = None
        """The role, if it is the primary's."""

    @property
    def role_name(self) -> Literal["primary", "backup", "joining", "outside"]:
        """A word for operators."""
        current = self._views.current
        if current is None:
            return "outside"
        if not self._views.is_member:
            return "joining"
        return "primary" if current.primary == self._shared.node else "backup"

    @property
    def is_about_to_acknowledge(self) -> bool:
        """Whether a backup's acknowledgement of entries waits for the disk."""
        return isinstance(self.role, Follower) and self.role.holds_unacknowledged

    @property
    def is_at_ease(self) -> bool:
        """Whether this is a backup that its primary keeps up to date: nothing waits for a heartbeat."""
        return isinstance(self.role, Follower) and not self.role.asks

    def next_token(self) -> SnapshotToken:
        """Return a token that was not used in this life."""
        self._token += 1
        return SnapshotToken(self._token)

    def enter_newest_view(self) -> None:
        """Take the role of the newest view, if there is a newer one."""
        views = self._views
        current = views.current
        if current is None or self._entered == current.view:
            return
        self._entered = current.view
        if isinstance(self.role, Primary):
            self.role.reads.refuse_all()
        self.role = None
        self.primary = None
        # The primary of the new view may cut what an acknowledgement that still waits for the disk speaks of.
        self._shared.outbox.withdraw(lambda message: isinstance(message, ReplicationMessage))
        if views.is_member and current.primary != self._shared.node:
            self.role = Follower(self._shared, views, self.ledger, self._receiving, current)
        elif views.is_member and not views.renewal_wanted:
            self.role = self.primary = Primary(self._shared, views, self.ledger, current)

    def query(self, token: ReadToken) -> None:
        """Take in a read."""
        if isinstance(self.role, Primary):
            self.role.query(token)
        else:
            self._shared.outbox.emit(Refuse(token))

    def tick(self) -> None:
        """A heartbeat's time has passed."""
        if self.role is not None:
            self.role.tick()

    def advance(self, *, may_apply: bool) -> None:
        """At the end of each step: commit, apply if this step may, answer."""
        primary = self.primary
        if primary is not None:
            primary.advance()
        if may_apply and self.ledger.is_behind:
            self.ledger.apply_some()
            if primary is not None:
                primary.advance()

    def staged(self, token: SnapshotToken, snapshot: Snapshot | None) -> None:
        """A snapshot that was being received is durable, or was damaged (`None`)."""
        if not self._receiving.finished(token):
            return
        if snapshot is not None and snapshot.meta.viewstamp.seqno > self.ledger.applied:
            self.ledger.install(snapshot)
        if isinstance(self.role, Follower):
            self.role.on_staged()

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
        role, current = self.role, self._views.current
        if not isinstance(role, Follower) or current is None or source != current.primary:
            self._shared.refuse()
            return
        match message:
            case Append():
                role.on_append(message)
            case Chunk():
                role.on_chunk(message, self.next_token())
            case Probe():
                role.on_probe(message)
            case _:
                assert_never(message)

    def _receive_as_primary(
        self, source: NodeId, message: Position | Appended | ChunkReceived | Probed
    ) -> None:
        role = self.role
        if not isinstance(role, Primary):
            # A primary that waits for its renewal, or a node that is not in this view: nothing to do.
            return
        match message:
            case Position():
                role.on_position(source, message)
            case Appended():
                role.on_appended(source, message)
            case ChunkReceived():
                role.on_chunk_received(source, message)
            case Probed():
                role.on_probed(source, message)
            case _:
                assert_never(message)

    def waiting_for(self) -> str:
        """Say in one line why this node does not serve or follow; empty where it does."""
        if self.role is not None:
            return self.role.waiting_for()
        if self._views.renewal_wanted:
            return f"a new view after {self._views.view}: its primary restarted"
        return ""
