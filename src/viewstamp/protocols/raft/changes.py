"""Changes of the members in raft: a configuration is an entry (`replication.changes` says which comes next).

A node that forgot (thesis 4.4): first a configuration without its earlier incarnation, in which the new one
learns; then one in which the new one votes. The majority of the first has a member in common with every
majority that the forgotten promises were part of, even without the member that forgot.
"""

from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.protocols.raft.leader import Leader
from viewstamp.protocols.raft.leadership_transfer import LeadershipTransfer
from viewstamp.protocols.raft.state import Role, State
from viewstamp.protocols.replication.changes import MemberChanges
from viewstamp.protocols.replication.configuration import Configuration


class RaftChanges(MemberChanges):
    """What the leader changes: for operators, for nodes that forgot, for learners that have caught up."""

    __slots__ = ("_replication", "_state", "_transfer", "waiting")

    def __init__(self, state: State, replication: Leader, transfer: LeadershipTransfer) -> None:
        super().__init__(state, state.options.election_timeout_us)
        self._state = state
        self._replication = replication
        self._transfer = transfer
        self.waiting: dict[NodeId, Incarnation] = {}
        """Incarnations that introduced themselves in the place of a listed one."""

    @property
    def is_due(self) -> bool:
        """Whether there is anything to do that an acknowledgement or a heartbeat may bring about."""
        return self._state.membership.unfinished or bool(self.waiting) or self._pending is not None

    @property
    def current(self) -> Configuration:
        """The last one in the log."""
        return self._state.membership.current

    def on_introduce(self, source: NodeId, incarnation: Incarnation) -> None:
        """A listed member introduced itself in an incarnation that may be unknown."""
        state = self._state
        listed = state.membership.incarnations.get(source)
        if state.role is not Role.LEADER or listed is None or listed == incarnation:
            return
        if state.membership.current.removed_at(source, incarnation) is not None:
            state.drop("introduction from a removed incarnation")
            return
        # The listed incarnation is alive: an introduction of another is an old one.
        if self._is_heard(source, state.options.election_timeout_us):
            state.drop("introduction from an old incarnation")
            return
        self.waiting[source] = incarnation
        self.proceed()

    def forget(self) -> None:
        """This node no longer leads: nodes that wait introduce themselves again."""
        self.waiting.clear()
        super().forget()

    @property
    def _leads(self) -> bool:
        return self._state.role is Role.LEADER

    @property
    def _leader(self) -> NodeId | None:
        return self._state.leader

    @property
    def _has_committed(self) -> bool:
        return self._replication.has_committed

    @property
    def _is_committed(self) -> bool:
        return self._state.membership.changed_at <= self._state.committed

    @property
    def _successor(self) -> NodeId | None:
        return self._transfer.target

    @property
    def _last(self) -> int:
        return self._state.log.last_seqno

    @property
    def _committed(self) -> int:
        return self._state.committed

    def _next(self) -> Viewstamp:
        state = self._state
        return Viewstamp(View(state.term), Seqno(state.log.last_seqno + 1))

    def _matched(self, node: NodeId) -> int | None:
        progress = self._replication.progress.get(node)
        return None if progress is None else progress.matched

    def _is_heard(self, node: NodeId, within_us: int) -> bool:
        return self._replication.is_heard(node, within_us)

    def _configure(self, configuration: Configuration) -> None:
        self._replication.configure(configuration)

    def _hand_over(self) -> None:
        self._transfer.hand_over()

    def _readmit(self) -> bool:
        """Let the new incarnation of a node that forgot learn, instead of the listed one."""
        state = self._state
        for node, incarnation in sorted(self.waiting.items()):
            del self.waiting[node]
            if state.membership.incarnations.get(node) not in {None, incarnation}:
                current = state.membership.current
                self._replication.configure(current.without_promises(node, incarnation))
                return True
        return False
