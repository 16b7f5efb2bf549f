"""New members, before there is a log: they introduce themselves until all have heard the same incarnations.

Each of them then spoke after all of these incarnations had begun. So none has used what earlier incarnations
promised, and they may bootstrap the cluster.

What one of them said stays true when another tells it. So each passes on what it has heard, and members whose
connection is cut hear of each other by a third one: a new cluster need not wait until each pair has met.
What is passed on may be old, so it never replaces what a member said itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from viewstamp.core.ids import Incarnation, Instant, NodeId
from viewstamp.protocols.replication.messages import BaseIntroduce, Member
from viewstamp.protocols.replication.node_state import NEVER, NodeState


class Introductions(ABC):
    """Introductions, sent and received by one node. A protocol's `Bootstrap` adds what follows from them."""

    __slots__ = (
        "_caller",
        "_heard",
        "_introduce_us",
        "_known",
        "_sent",
        "_state",
        "_with_log",
        "forgot",
        "introduce_at",
        "passed_over",
    )

    def __init__(self, state: NodeState, introduce_us: int) -> None:
        self._state = state
        self._introduce_us = introduce_us
        self._known: dict[NodeId, Incarnation] = {state.node: state.incarnation}
        """The latest incarnation in which each member introduced itself."""
        self._heard: dict[NodeId, tuple[Member, ...]] = {}
        """The members that each member without a log had heard when it last introduced itself."""
        self._with_log: set[NodeId] = set()
        """Members that said that they have a log: what they are told to have said before no longer counts."""
        self._sent: dict[NodeId, tuple[Member, ...]] = {}
        """What each member was last sent."""
        self.passed_over = False
        """The last leader heard addressed another incarnation of this node, whatever this node knows itself:
        that may never have been committed, or the leader knows it by a late introduction."""
        self._caller: NodeId | None = None
        """The leader that addressed another incarnation."""
        self.forgot = False
        """A member with a log knows another incarnation of this node: its disk was wiped."""
        self.introduce_at = NEVER

    @property
    def known(self) -> tuple[Member, ...]:
        """The members that have introduced themselves, this node among them, in ascending order."""
        return tuple(sorted(self._known.items()))

    def missing(self) -> list[NodeId]:
        """Return the members that have not introduced themselves, in ascending order."""
        return sorted(self._state.peers - self._known.keys())

    def on_passed_over(self, leader: NodeId) -> None:
        """Introduce this node again soon: a leader addressed another incarnation of it.

        To that leader as well: where members were changed, this node may know none of those that are left.
        """
        self.passed_over = True
        self._caller = leader
        soon = self._state.now + self._introduce_us
        self.introduce_at = Instant(min(self.introduce_at, soon))

    def on_peer_up(self, peer: NodeId) -> None:
        """Introduce this node to a peer again: what it was sent before may be lost."""
        if not self._state.bootstrapped and peer in self._state.peers:
            self._send_introduction(peer)

    def on_introduce(self, source: NodeId, message: BaseIntroduce) -> None:
        """Hear of a member, while this node has no log; bootstrap where all have heard the same."""
        assert not self._state.bootstrapped
        before = self.known
        self._known[source] = message.incarnation
        if message.bootstrapped:
            self._heard.pop(source, None)
            self._with_log.add(source)
            return
        self._with_log.discard(source)
        self._heard[source] = message.known
        self._learn(message)
        known = self.known
        if len(known) <= len(self._state.peers):
            return
        if before != known or message.known != known:
            self._tell_all(known)
        if all(self._heard.get(peer) == known for peer in self._state.peers):
            self._bootstrap(known)

    def _learn(self, message: BaseIntroduce) -> None:
        """Take in what the sender has heard of others, where they have not said something else themselves."""
        for member, incarnation in message.known:
            if member in self._state.peers:
                self._known.setdefault(member, incarnation)
        if message.known != self.known:
            return
        for member in self._state.peers.intersection(message.agreed) - self._with_log:
            if set(self._heard.get(member, ())) <= set(message.known):
                self._heard[member] = message.known

    def _agreed(self, known: tuple[Member, ...]) -> tuple[NodeId, ...]:
        """Return the members that said that they had heard of just these."""
        return tuple(sorted(member for member, heard in self._heard.items() if heard == known))

    def _introduce_to_all(self) -> None:
        """Introduce this node to every other member, and set the time to do it again."""
        self.introduce_at = Instant(self._state.now + self._introduce_us)
        for peer in sorted(self._addressees()):
            self._send_introduction(peer)

    def _addressees(self) -> frozenset[NodeId]:
        """Return whom this node introduces itself to."""
        return self._state.peers if self._caller is None else self._state.peers | {self._caller}

    def _tell_all(self, known: tuple[Member, ...]) -> None:
        for peer in sorted(self._state.peers):
            if self._sent.get(peer) != known:
                self._send_introduction(peer)

    def _send_introduction(self, peer: NodeId) -> None:
        state = self._state
        self._sent[peer] = known = self.known
        message = self._introduction(known, self._agreed(known))
        # Early: it says which members were heard, which is true whatever the disk holds.
        state.outbox.send_early(peer, message)

    @abstractmethod
    def _introduction(self, known: tuple[Member, ...], agreed: tuple[NodeId, ...]) -> BaseIntroduce:
        """Return the protocol's own message that says so."""

    @abstractmethod
    def _bootstrap(self, known: tuple[Member, ...]) -> None:
        """Write the beginning of a log: all members are new, and all have heard the same incarnations."""


def name_nodes(nodes: Sequence[NodeId]) -> str:
    """Return "node 1", or "nodes 1, 2"."""
    names = ", ".join(map(str, nodes))
    return f"node {names}" if len(nodes) == 1 else f"nodes {names}"
