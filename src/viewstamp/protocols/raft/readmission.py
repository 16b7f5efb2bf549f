"""Letting a node back in that has forgotten its promises: two single-server changes (thesis 4.1, 4.4).

First a configuration without its earlier incarnation, in which the new one learns; when it has caught up, one
in which the new one votes. The majority of the first has a member in common with every majority that the
forgotten promises were part of, even without the member that forgot; the second is an ordinary addition.
"""

from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.raft.replication import Replication
from viewstamp.protocols.raft.state import Role, State


class Readmission:
    """The leader's list of nodes that want to come back."""

    __slots__ = ("_replication", "_state", "_waiting")

    def __init__(self, state: State, replication: Replication) -> None:
        self._state = state
        self._replication = replication
        self._waiting: dict[NodeId, Incarnation] = {}
        """Incarnations that introduced themselves and are not listed."""

    def on_introduce(self, source: NodeId, incarnation: Incarnation) -> None:
        """A configured member introduced itself in an incarnation that may be unknown."""
        state = self._state
        if state.role is not Role.LEADER or state.membership.incarnations.get(source) == incarnation:
            return
        if self._is_heard(source):
            state.drop("introduction of a life that is over")
            return
        self._waiting[source] = incarnation
        self.proceed()

    def forget(self) -> None:
        """We do not lead any more: whoever waits will introduce itself again."""
        self._waiting.clear()

    def proceed(self) -> None:
        """Make the next change, if one is wanted and may be begun (thesis 4.1 and its erratum of 2015)."""
        state = self._state
        if state.role is not Role.LEADER or not (self._waiting or state.membership.current.returning):
            return
        if not self._replication.has_committed or state.membership.changed_at > state.committed:
            return
        if not self._begin_learning():
            self._promote()

    def _begin_learning(self) -> bool:
        state = self._state
        for node, incarnation in sorted(self._waiting.items()):
            del self._waiting[node]
            if state.membership.incarnations.get(node) != incarnation:
                current = state.membership.current
                self._replication.configure(current.without_promises(node, incarnation))
                return True
        return False

    def _is_heard(self, node: NodeId) -> bool:
        """Tell whether the listed incarnation is alive: then the introduction is an old one."""
        progress = self._replication.progress.get(node)
        heard_at = progress.heard_at if progress is not None else None
        horizon = self._state.now - self._state.options.election_timeout_us
        return heard_at is not None and heard_at > horizon

    def _promote(self) -> None:
        state = self._state
        for node in state.membership.current.returning:
            progress = self._replication.progress.get(node)
            if progress is not None and progress.matched >= state.committed and self._is_heard(node):
                self._replication.configure(state.membership.current.promoting(node))
                return
