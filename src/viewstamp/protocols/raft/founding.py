"""How a node that has no log becomes a member: by founding the cluster, or by being let in.

A node whose disk is empty may be new, or it may have forgotten what it promised. It cannot tell, so until it
is *founded* it neither votes nor campaigns nor acknowledges. It introduces itself, and is founded when

1. every other configured member has introduced itself too, has no log either, and *has heard the same
   incarnations* (so each spoke after all of these lives had begun, and what earlier lives promised nobody
   used); then those are the founding configuration; or
2. an established member's configuration lists exactly this incarnation.

Established members answer introductions with their configuration. One that lists another incarnation means:
this node has forgotten. The leader then lets it back in (`readmission.py`).
"""

from viewstamp.core.ids import ORIGIN, Incarnation, Instant, NodeId
from viewstamp.protocols.raft.configuration import (
    Configuration,
    Member,
    founding_configuration,
    is_canonical,
)
from viewstamp.protocols.raft.messages import Introduce, Recognize
from viewstamp.protocols.raft.state import NEVER, State


class Founding:
    """Introductions, sent and received."""

    __slots__ = ("_heard", "_known", "_passed_over", "_sent", "_state", "forgot", "introduce_at")

    def __init__(self, state: State) -> None:
        self._state = state
        self._known: dict[NodeId, Incarnation] = {state.node: state.incarnation}
        """The latest incarnation in which each member introduced itself."""
        self._heard: dict[NodeId, tuple[Member, ...]] = {}
        """Whom each member without a log had heard when it last introduced itself."""
        self._sent: dict[NodeId, tuple[Member, ...]] = {}
        """What each member was last told."""
        self.forgot = False
        """An established member knows another incarnation of this node."""
        self._passed_over = False
        """The last leader heard knows another incarnation, whatever our own configuration says: that may be
        one that was never committed."""
        self.introduce_at = NEVER

    def begin(self) -> None:
        """The node starts: introduce it where nobody knows it. A cluster of one is founded at once."""
        state = self._state
        if state.founded and state.is_listed:
            return
        if not state.founded and not state.peers:
            self._found(founding_configuration(self._known))
            return
        self.introduce()

    def introduce(self) -> None:
        """Introduce this node to everybody, and again in a while."""
        state = self._state
        self.introduce_at = Instant(state.now + state.options.introduce_us)
        if state.founded and state.is_listed and not self._passed_over:
            self.introduce_at = NEVER  # the log has told meanwhile
            return
        if state.founded and state.hears_leader:
            return
        for peer in sorted(state.peers):
            self._introduce_to(peer)

    def missing(self) -> list[NodeId]:
        """Return the members that have not introduced themselves, in ascending order."""
        return sorted(self._state.peers - self._known.keys())

    def on_passed_over(self) -> None:
        """A leader addressed another incarnation of this node: it does not know this one."""
        self._passed_over = True
        self.introduce_at = Instant(
            min(self.introduce_at, self._state.now + self._state.options.introduce_us)
        )

    def on_addressed(self) -> None:
        """A leader addressed this incarnation: the cluster knows it."""
        self._passed_over = False

    def on_peer_up(self, peer: NodeId) -> None:
        """What this member was told before may not have arrived."""
        if not self._state.founded and peer in self._state.peers:
            self._introduce_to(peer)

    def on_introduce(self, source: NodeId, message: Introduce) -> None:
        """A member introduces itself to this node, which has no log either."""
        before = self._known.get(source)
        self._known[source] = message.incarnation
        if message.founded:
            self._heard.pop(source, None)
            return
        self._heard[source] = message.known
        known = self._vector()
        if len(known) <= len(self._state.peers):
            return
        if before != message.incarnation or message.known != known:
            self._tell_everybody(known)
        if all(self._heard.get(peer) == known for peer in self._state.peers):
            self._found(founding_configuration(self._known))

    def on_recognize(self, message: Recognize) -> bool:
        """An established member answers. Return whether this node is founded by it."""
        state = self._state
        if state.founded or not is_canonical(message.configuration):
            return False
        self.forgot = not message.configuration.lists(state.node, state.incarnation)
        if self.forgot:
            return False
        self._found(message.configuration)
        return True

    def adopt(self) -> None:
        """A leader addressed this incarnation: its configuration lists it, and the log will tell the rest."""
        self._found(Configuration())

    def _found(self, configuration: Configuration) -> None:
        """Write the beginning of a log. From here on this node may promise."""
        state = self._state
        assert not state.founded
        state.founded = True
        self.forgot = False
        self.introduce_at = NEVER if configuration.voters else Instant(state.now + state.options.introduce_us)
        state.write_base(ORIGIN, configuration, kept=0)
        state.membership.reset(configuration, 0)
        patience = state.options.election_timeout_us if state.peers else 1
        state.election_at = Instant(state.now + state.rng.randrange(patience))

    def _vector(self) -> tuple[Member, ...]:
        return tuple(sorted(self._known.items()))

    def _tell_everybody(self, known: tuple[Member, ...]) -> None:
        for peer in sorted(self._state.peers):
            if self._sent.get(peer) != known:
                self._introduce_to(peer)

    def _introduce_to(self, peer: NodeId) -> None:
        state = self._state
        known = self._vector()
        self._sent[peer] = known
        # Early: who one is and whom one has heard is true whatever the disk holds.
        state.outbox.send_early(peer, Introduce(state.incarnation, state.founded, known))
