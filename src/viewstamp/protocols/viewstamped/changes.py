"""Changes of the configured members: a view says who they are (`replication.changes` says what comes next).

The primary proposes a view with the same members and other configured ones. What follows is what views do in
any case: the primary admits, one a view, configured nodes that are up to date, and leaves out members that
are no longer configured. A change is done when no such member is left and most of the new ones are in.
"""

from viewstamp.core.ids import ORIGIN, Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.protocols.replication.changes import MemberChanges
from viewstamp.protocols.replication.configuration import Changed, Configuration
from viewstamp.protocols.replication.quorums import Half
from viewstamp.protocols.viewstamped.leadership_transfer import LeadershipTransfer
from viewstamp.protocols.viewstamped.log_positions import LogPositions
from viewstamp.protocols.viewstamped.proposer import Proposer
from viewstamp.protocols.viewstamped.role import Role
from viewstamp.protocols.viewstamped.state import State
from viewstamp.protocols.viewstamped.views import DecidedViews

_UNKNOWN = Incarnation(0)
"""Of a configured node that was never in a view."""
_PATIENCE_HEARTBEATS = 6
"""A member that has everything is asked in one of four heartbeats."""


def configured_members(state: State, views: DecidedViews) -> Configuration:
    """Return the configured members, those of the cluster file as long as no operator has changed them."""
    current = views.current
    if current is None:
        return Configuration()
    if current.configuration is not None:
        return current.configuration
    known = dict.fromkeys(state.others, _UNKNOWN) if state.options.bootstrap == "together" else {}
    if not state.joining:
        known[state.node] = state.me.incarnation
    for membership in views.history[-len(known) - 8 :]:
        known |= {member.node: member.incarnation for member in membership.members}
    return Configuration(voters=tuple(sorted(known.items())))


def is_settled(views: DecidedViews) -> bool:
    """Return whether the last change is done, as far as views show it."""
    current = views.current
    if current is None or not views.is_synchronised or current.leaving:
        return False
    configuration = current.configuration
    if configuration is None or not configuration.is_joint:
        return True
    return Half(configuration.voters).agrees(frozenset(current.nodes))


class ViewChanges(MemberChanges):
    """What the primary changes: for operators, and for learners that have caught up."""

    __slots__ = ("_place", "_positions", "_proposer", "_role", "_state", "_transfer", "_views")

    def __init__(
        self,
        state: State,
        views: DecidedViews,
        positions: LogPositions,
        proposer: Proposer,
        role: Role,
        transfer: LeadershipTransfer,
    ) -> None:
        options = state.options
        beats = max(_PATIENCE_HEARTBEATS, options.heartbeat_misses_max)
        super().__init__(state, beats * options.heartbeat_us)
        self._state = state
        self._views = views
        self._positions = positions
        self._proposer = proposer
        self._role = role
        self._transfer = transfer
        self._place: Viewstamp | None = None
        """Of the change that an operator waits for."""

    @property
    def current(self) -> Configuration:
        """That of the newest view."""
        return configured_members(self._state, self._views)

    @property
    def is_due(self) -> bool:
        """Whether there is anything to do that a heartbeat or a view may bring about."""
        configuration = self._views.configuration
        return self._pending is not None or (configuration is not None and configuration.is_unfinished)

    def proceed(self) -> None:
        """Make the next change, if one is wanted and may be begun."""
        if self._pending is not None and self._is_overtaken():
            self._settle("another view came before it: try again")
        super().proceed()

    def _is_overtaken(self) -> bool:
        changed = None if self._views.current is None else self._views.current.changed
        is_decided = changed is not None and changed.at == self._place
        return self._views.wanted_change is None and not is_decided

    @property
    def _leads(self) -> bool:
        return self._role.primary is not None

    @property
    def _leader(self) -> NodeId | None:
        current = self._views.current
        return None if current is None else current.primary

    @property
    def _has_committed(self) -> bool:
        return self._role.primary is not None and self._role.primary.serves

    @property
    def _is_committed(self) -> bool:
        return self._views.wanted_change is None and is_settled(self._views)

    @property
    def _successor(self) -> NodeId | None:
        return self._transfer.target

    @property
    def _last(self) -> int:
        return self._positions.log.last_seqno

    @property
    def _committed(self) -> int:
        return max(0, self._positions.committed - self._state.options.uncommitted_entries_max)

    def _next(self) -> Viewstamp:
        return Viewstamp(View(self._views.view + 1), Seqno(self._positions.log.last_seqno + 1))

    def _matched(self, node: NodeId) -> int | None:
        progress = self._views.followers.get(node)
        return None if progress is None else progress.matched

    def _is_heard(self, node: NodeId, within_us: int) -> bool:
        primary = self._role.primary
        if node == self._state.node or primary is None:
            return node == self._state.node
        progress = primary.backups.get(node) or primary.followers.get(node)
        heard_at = None if progress is None else progress.heard_at
        return heard_at is not None and heard_at > self._state.now - within_us

    def _configure(self, configuration: Configuration) -> None:
        at = self._next()
        self._place = at if self._pending is not None else None
        self._views.wanted_change = Changed(configuration, at)
        self._proposer.pursue()

    def _hand_over(self) -> None:
        self._transfer.hand_over({node for node, _ in self.current.voters})


def changed_at(views: DecidedViews) -> Viewstamp:
    """Return the viewstamp of the last change, 0.0 where there was none."""
    current = views.current
    return ORIGIN if current is None or current.changed is None else current.changed.at
