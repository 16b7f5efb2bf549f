"""How a node that has no log becomes a member: it bootstraps the cluster with the others, or is admitted.

A node whose disk is empty may be new, or it may have forgotten what it promised. It cannot tell, so until it
is *bootstrapped* it neither votes nor campaigns nor acknowledges. It introduces itself, and is bootstrapped
when

1. every other configured member has introduced itself too, has no log either, and *has heard the same
   incarnations*; then those are the first configuration. Each of them then spoke after all of these
   incarnations had begun, so nothing that earlier ones promised was used; or
2. an established member's configuration lists exactly this incarnation.

Established members answer introductions with their configuration. One that lists another incarnation means:
this node has forgotten. The leader then re-admits it (`Readmission`), by two single-server changes (thesis
4.1, 4.4).

First a configuration without its earlier incarnation, in which the new one learns; when it has caught up, one
in which the new one votes. The majority of the first has a member in common with every majority that the
forgotten promises were part of, even without the member that forgot; the second is an ordinary addition.
"""

from viewstamp.core.ids import ORIGIN, Incarnation, Instant, NodeId
from viewstamp.protocols.raft.leader import Leader
from viewstamp.protocols.raft.membership import (
    Configuration,
    first_configuration,
    is_canonical,
)
from viewstamp.protocols.raft.messages import Introduce, Recognize
from viewstamp.protocols.raft.state import Role, State
from viewstamp.protocols.replication.introductions import Introductions
from viewstamp.protocols.replication.messages import Member
from viewstamp.protocols.replication.node_state import NEVER


class Bootstrap(Introductions):
    """The beginning of this node's log, or its way back into the cluster."""

    __slots__ = ()
    _state: State

    def __init__(self, state: State) -> None:
        super().__init__(state, state.options.introduce_us)

    def begin(self) -> None:
        """Begin to introduce this node, unless the configuration lists it. A cluster of one bootstraps."""
        state = self._state
        if state.bootstrapped and state.is_listed:
            return
        if not state.bootstrapped and not state.peers:
            self._bootstrap(self.known)
            return
        self.introduce()

    def introduce(self) -> None:
        """Introduce this node to every member, and again after `introduce_ms`."""
        state = self._state
        if state.bootstrapped and state.is_listed and not self.passed_over:
            self.introduce_at = NEVER  # the log has told meanwhile
        elif state.bootstrapped and state.has_live_leader:
            self.introduce_at = Instant(state.now + state.options.introduce_us)  # it re-admits this node
        else:
            self._introduce_to_all()

    def on_recognize(self, message: Recognize) -> bool:
        """An established member answers. Return whether this node gets a log by it."""
        state = self._state
        if state.bootstrapped or not is_canonical(message.configuration):
            return False
        self.forgot = not message.configuration.lists(state.node, state.incarnation)
        if self.forgot:
            return False
        self._begin_log(message.configuration)
        return True

    def adopt(self) -> None:
        """A leader addressed this incarnation: its configuration lists it, and the log will tell the rest."""
        self._begin_log(Configuration())

    def _begin_log(self, configuration: Configuration) -> None:
        """Write the beginning of a log. From here on this node may vote and acknowledge."""
        state = self._state
        assert not state.bootstrapped
        state.bootstrapped = True
        self.forgot = False
        self.introduce_at = NEVER if configuration.voters else Instant(state.now + state.options.introduce_us)
        state.write_base(ORIGIN, configuration, kept=0)
        state.membership.reset(configuration, 0)
        timeout = state.options.election_timeout_us if state.peers else 1
        state.election_at = Instant(state.now + state.rng.randrange(timeout))

    def _bootstrap(self, known: tuple[Member, ...]) -> None:
        self._begin_log(first_configuration(dict(known)))

    def _introduction(self, known: tuple[Member, ...]) -> Introduce:
        state = self._state
        return Introduce(incarnation=state.incarnation, bootstrapped=state.bootstrapped, known=known)


class Readmission:
    """The leader's list of nodes to re-admit."""

    __slots__ = ("_replication", "_state", "waiting")

    def __init__(self, state: State, replication: Leader) -> None:
        self._state = state
        self._replication = replication
        self.waiting: dict[NodeId, Incarnation] = {}
        """Incarnations that introduced themselves and are not listed."""

    def on_introduce(self, source: NodeId, incarnation: Incarnation) -> None:
        """A configured member introduced itself in an incarnation that may be unknown."""
        state = self._state
        if state.role is not Role.LEADER or state.membership.incarnations.get(source) == incarnation:
            return
        if self._is_heard(source):
            state.drop("introduction from an old incarnation")
            return
        self.waiting[source] = incarnation
        self.proceed()

    def forget(self) -> None:
        """This node no longer leads: the nodes that wait will introduce themselves again."""
        self.waiting.clear()

    def proceed(self) -> None:
        """Make the next change, if one is wanted and may be begun (thesis 4.1 and its erratum of 2015)."""
        state = self._state
        if state.role is not Role.LEADER or not (self.waiting or state.membership.current.returning):
            return
        if not self._replication.has_committed or state.membership.changed_at > state.committed:
            return
        if not self._begin_learning():
            self._promote()

    def _begin_learning(self) -> bool:
        state = self._state
        for node, incarnation in sorted(self.waiting.items()):
            del self.waiting[node]
            if state.membership.incarnations.get(node) != incarnation:
                current = state.membership.current
                self._replication.configure(current.without_promises(node, incarnation))
                return True
        return False

    def _is_heard(self, node: NodeId) -> bool:
        """Return whether the listed incarnation is alive: then the introduction is an old one."""
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
