"""Changes of the members: the primary proposes them with a record of the synchronous set.

`replication.changes` says which configuration comes next. A record that changes the members is in force as
any other is, when majorities and each synchronous member have it (`synchronous_set`). Learners are brought up
like backups, and never are in the set. A node that lost its disk needs no change: the roster follows it.
"""

from typing import ClassVar

from viewstamp.core.ids import NodeId, Seqno, View, Viewstamp
from viewstamp.protocols.primary_backup.admin import AdminRequests
from viewstamp.protocols.primary_backup.leader import Leader
from viewstamp.protocols.primary_backup.state import Role, State
from viewstamp.protocols.replication.changes import MemberChanges
from viewstamp.protocols.replication.configuration import Configuration


class SetChanges(MemberChanges):
    """What the primary changes: for operators, and for learners that have caught up."""

    __slots__ = ("_admin", "_replication", "_state")
    _UNFIT: ClassVar = "did not answer lately or lacks entries"

    def __init__(self, state: State, replication: Leader, admin: AdminRequests) -> None:
        super().__init__(state, state.options.silence_us)
        self._state = state
        self._replication = replication
        self._admin = admin

    @property
    def current(self) -> Configuration:
        """That of the newest record of the primary; at a backup, of the newest that it knows."""
        if self._leads:
            return self._replication.synchronous_set.configuration
        record = self._state.record
        return Configuration() if record is None else record.configuration

    @property
    def is_due(self) -> bool:
        """Whether there is anything to do that an acknowledgement or a heartbeat may bring about."""
        return self._leads and super().is_due

    @property
    def _leads(self) -> bool:
        return self._state.role is Role.PRIMARY

    @property
    def _leader(self) -> NodeId | None:
        return self._state.leader

    @property
    def _has_committed(self) -> bool:
        return self._replication.has_committed

    @property
    def _is_committed(self) -> bool:
        synchronous_set = self._replication.synchronous_set
        return (
            synchronous_set.is_configured and synchronous_set.newest.changed_at.seqno <= self._state.committed
        )

    @property
    def _successor(self) -> NodeId | None:
        return self._admin.target

    @property
    def _last(self) -> int:
        return self._state.log.last_seqno

    @property
    def _committed(self) -> int:
        return self._state.committed

    def _next(self) -> Viewstamp:
        state = self._state
        return Viewstamp(View(state.epoch), Seqno(state.log.last_seqno + 1))

    def _matched(self, node: NodeId) -> int | None:
        progress = self._replication.progress.get(node)
        if progress is None or progress.incarnation != self.current.incarnation_of(node):
            return None
        return progress.matched

    def _is_heard(self, node: NodeId, within_us: int) -> bool:
        if node == self._state.node:
            return True
        progress = self._replication.progress.get(node)
        heard_at = None if progress is None else progress.heard_at
        return heard_at is not None and heard_at > self._state.now - within_us

    def _is_fit(self, node: NodeId) -> bool:
        """Only a node that has everything can be in the synchronous set."""
        return self._replication.is_fit(node)

    def _configure(self, configuration: Configuration) -> None:
        self._replication.configure(configuration)

    def _hand_over(self) -> None:
        self._admin.hand_over()
