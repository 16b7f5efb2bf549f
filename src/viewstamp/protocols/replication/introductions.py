"""Who is who before there is a log: members without one introduce themselves until all have heard the same.

Each of them then spoke after all of these lives had begun, and nobody used what earlier lives promised.
"""

from collections.abc import Callable, Sequence

from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.replication.messages import BaseIntroduce, Member
from viewstamp.protocols.replication.node_state import NodeState


class Introductions:
    """Introductions, sent and received by one node."""

    __slots__ = ("_heard", "_known", "_send", "_sent", "_state")

    def __init__(self, state: NodeState, send: Callable[[NodeId, tuple[Member, ...]], None]) -> None:
        self._state = state
        self._send = send
        """Tells this member who this node is and whom it has heard, in the protocol's own message."""
        self._known: dict[NodeId, Incarnation] = {state.node: state.incarnation}
        """The latest incarnation in which each member introduced itself."""
        self._heard: dict[NodeId, tuple[Member, ...]] = {}
        """Whom each member without a log had heard when it last introduced itself."""
        self._sent: dict[NodeId, tuple[Member, ...]] = {}
        """What each member was last told."""

    @property
    def known(self) -> tuple[Member, ...]:
        """Who has introduced itself, this node among them, in ascending order."""
        return tuple(sorted(self._known.items()))

    def missing(self) -> list[NodeId]:
        """Return the members that have not introduced themselves, in ascending order."""
        return sorted(self._state.peers - self._known.keys())

    def introduce(self) -> None:
        """Introduce this node to everybody."""
        for peer in sorted(self._state.peers):
            self._introduce_to(peer)

    def on_peer_up(self, peer: NodeId) -> None:
        """What this member was told before may not have arrived."""
        if not self._state.bootstrapped and peer in self._state.peers:
            self._introduce_to(peer)

    def on_introduce(self, source: NodeId, message: BaseIntroduce) -> bool:
        """Hear of a member. Tell whether now all are without a log and have heard the same."""
        before = self._known.get(source)
        self._known[source] = message.incarnation
        if message.bootstrapped:
            self._heard.pop(source, None)
            return False
        self._heard[source] = message.known
        known = self.known
        if len(known) <= len(self._state.peers):
            return False
        if before != message.incarnation or message.known != known:
            self._tell_everybody(known)
        return all(self._heard.get(peer) == known for peer in self._state.peers)

    def _tell_everybody(self, known: tuple[Member, ...]) -> None:
        for peer in sorted(self._state.peers):
            if self._sent.get(peer) != known:
                self._introduce_to(peer)

    def _introduce_to(self, peer: NodeId) -> None:
        self._sent[peer] = known = self.known
        self._send(peer, known)


def name_nodes(nodes: Sequence[NodeId]) -> str:
    """Return "node 1", or "nodes 1, 2"."""
    names = ", ".join(map(str, nodes))
    return f"node {names}" if len(nodes) == 1 else f"nodes {names}"
