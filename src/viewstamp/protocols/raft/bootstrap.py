"""How a node that has no log becomes a member: it bootstraps the cluster with the others, or is admitted.

A node whose disk is empty may be new, or it may have forgotten what it promised. It cannot tell, so until it
is *bootstrapped* it neither votes nor campaigns nor acknowledges. It introduces itself, and is bootstrapped
when

1. every other configured member has introduced itself too, has no log either, and *has heard the same
   incarnations*; then those are the first configuration. Each of them then spoke after all of these
   incarnations had begun, so nothing that earlier ones promised was used; or
2. an established member's configuration lists exactly this incarnation.

Established members answer introductions with their configuration. One that lists another incarnation means:
this node has forgotten, and the leader re-admits it (`changes.py`). One that does not list it means that an
operator must add it first. A node that was removed is told so (`Dismissed`).
"""

from viewstamp.core.effects import Removed
from viewstamp.core.ids import ORIGIN, Instant, NodeId, Seqno, View, Viewstamp
from viewstamp.protocols.raft.messages import Dismissed, Introduce, Recognize
from viewstamp.protocols.raft.state import State
from viewstamp.protocols.replication.configuration import Configuration, first_configuration, is_canonical
from viewstamp.protocols.replication.introductions import Introductions
from viewstamp.protocols.replication.messages import BaseIntroduce, Member
from viewstamp.protocols.replication.node_state import NEVER


class Bootstrap(Introductions):
    """The beginning of this node's log, or its way back into the cluster."""

    __slots__ = ("_joining", "removed", "unknown")
    _state: State

    def __init__(self, state: State, *, joining: bool) -> None:
        super().__init__(state, state.options.introduce_us)
        self._joining = joining
        """Whether this node is to be added to a cluster that exists: it never bootstraps one."""
        self.unknown = joining
        """No configuration that was heard of lists this node in any incarnation."""
        self.removed = False
        """Whether this incarnation is known to have been removed."""

    def begin(self) -> None:
        """Begin to introduce this node, unless the configuration lists it. A cluster of one bootstraps."""
        state = self._state
        if state.bootstrapped and state.is_listed:
            return
        if not state.bootstrapped and not state.peers and not self._joining:
            self._bootstrap(self.known)
            return
        self.introduce()

    def on_introduce(self, source: NodeId, message: BaseIntroduce) -> None:
        """Hear of a member while this node has no log. Strangers and joining nodes bootstrap nothing."""
        if source in self._state.peers and not self._joining:
            super().on_introduce(source, message)

    def on_silence(self) -> None:
        """No leader was heard for an election timeout by a node that may not campaign: ask who is there.

        It may have been removed, by an entry that it never received.
        """
        self._introduce_to_all()

    def on_dismissed(self, message: Dismissed) -> None:
        """A member says that this incarnation was removed, by an entry that is committed."""
        state = self._state
        if message.incarnation == state.incarnation and not self.removed:
            self.end(Viewstamp(View(message.view), Seqno(message.seqno)))

    def end(self, at: Viewstamp) -> None:
        """This incarnation was removed: say so, once, and let the others alone."""
        self.removed = True
        self.introduce_at = NEVER
        self._state.outbox.emit(Removed(at))

    def introduce(self) -> None:
        """Introduce this node to every member, and again after `introduce_ms`."""
        state = self._state
        if self.removed or (state.bootstrapped and state.is_listed and not self.passed_over):
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
        listed = message.configuration.incarnation_of(state.node)
        self.unknown = listed is None
        self.forgot = listed is not None and listed != state.incarnation
        if self.forgot or self.unknown:
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
        self.forgot = self.unknown = False
        self.introduce_at = NEVER if configuration.voters else Instant(state.now + state.options.introduce_us)
        state.write_base(ORIGIN, configuration, kept=0)
        state.membership.reset(configuration, 0)
        timeout = state.options.election_timeout_us if state.peers else 1
        state.election_at = Instant(state.now + state.rng.randrange(timeout))

    def _bootstrap(self, known: tuple[Member, ...]) -> None:
        self._begin_log(first_configuration(dict(known)))

    def _addressees(self) -> frozenset[NodeId]:
        state = self._state
        return (super()._addressees() | state.membership.incarnations.keys()) - {state.node}

    def _introduction(self, known: tuple[Member, ...], agreed: tuple[NodeId, ...]) -> Introduce:
        state = self._state
        return Introduce(
            incarnation=state.incarnation, bootstrapped=state.bootstrapped, known=known, agreed=agreed
        )
