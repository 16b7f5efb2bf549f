"""The people who decide which member leads, where the protocol leaves that to people.

Most protocols elect. With `decided_by="operator"` an operator promotes a server when none leads. With
`decided_by="clients"` an operator tells the clients which server to write to, and keeps to what the protocol
asks: one server at a time, and one that has everything. A simulation without operators would report
violations of what no protocol promised, and miss violations of what it did promise.
"""

from typing import Final

from viewstamp.core.events import TransferLeadership
from viewstamp.core.ids import ClientAddress, NodeId
from viewstamp.core.messages import AdminRequest, encode_message
from viewstamp.core.principals import LOCAL_OPERATOR
from viewstamp.replica.events import Requested
from viewstamp.sim.cluster.cluster import Cluster, Operator
from viewstamp.sim.workloads.clients import SimClient

_LOOK_US: Final = 250_000
_SWITCH: Final = 0.02
"""How likely the clients are sent elsewhere at a look, where nothing is under way."""


class PromotingOperator(Operator):
    """Promotes a server when none has led for a while: any one, not knowing which have all entries."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._rng = cluster.tree.stream("operator")
        self._without_leader = 0
        """Checks in a row at which no server led."""
        self._checks_before_promotion = 2
        self._requests = 0
        cluster.world.after(_LOOK_US, self._look)

    def _look(self) -> None:
        cluster = self.cluster
        self._without_leader = 0 if cluster.leaders() else self._without_leader + 1
        if self._without_leader > self._checks_before_promotion and cluster.running:
            self._without_leader = 0
            self._checks_before_promotion = self._rng.randrange(1, 6)
            self._promote(self._rng.choice(cluster.running))
        cluster.world.after(_LOOK_US, self._look)

    def _promote(self, node: NodeId) -> None:
        cluster = self.cluster
        cluster.counts["promotion"] += 1
        self._requests += 1
        address = ClientAddress(next(cluster.host.addresses))
        message = AdminRequest(self._requests, TransferLeadership(node))
        cluster.processes[node].feed(Requested(address, message, encode_message(message), LOCAL_OPERATOR))


class RoutingOperator(Operator):
    """Tells the clients which server to write to: one at a time, and one that has everything."""

    bootstraps_alone = False

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._rng = cluster.tree.stream("foreman")
        self.chosen: NodeId | None = cluster.members[0]
        """The server that clients write to; None: it is down, and no other was chosen yet."""
        cluster.world.after(_LOOK_US, self._look)

    def joined(self, client: SimClient) -> None:
        """Tell it which server to write to."""
        self._direct(client)

    def ended(self, node: NodeId) -> None:
        """No client writes to it from now on, even if it comes back at once."""
        if node == self.chosen:
            self._choose(None)

    def may_stop(self, node: NodeId) -> bool:
        """One server that has everything must go on running: the protocol promises no more."""
        return any(other != node and self._has_everything(other) for other in self.cluster.running)

    def healed(self, chosen: list[NodeId]) -> None:
        """The servers that are left must serve: tell the clients at once."""
        fit = [node for node in chosen if self._has_everything(node)]
        if self.chosen not in fit:
            self._choose(fit[0] if fit else None)
        for client in self.cluster.clients.values():
            self._direct(client)

    def _look(self) -> None:
        fit = [node for node in self.cluster.running if self._has_everything(node)]
        if fit and (self.chosen is None or (self._rng.random() < _SWITCH and self._is_quiet())):
            self._choose(self._rng.choice(fit))
        self.cluster.world.after(_LOOK_US, self._look)

    def _has_everything(self, node: NodeId) -> bool:
        ghosts = self.cluster.judge.ghosts
        return self.cluster.processes[node].running and ghosts.nodes[node].image.holds(ghosts.committed.last)

    def _is_quiet(self) -> bool:
        """Return whether nothing is in flight, so that the clients may be sent elsewhere (2.2.1)."""
        if self.chosen is None or any(client.calls for client in self.cluster.clients.values()):
            return False
        replica = self.cluster.processes[self.chosen].replica
        return replica is not None and replica.core.accepting

    def _choose(self, node: NodeId | None) -> None:
        before, self.chosen = self.chosen, node
        for client in self.cluster.clients.values():
            if before is not None and before != node:
                client.break_all(before)
            self._direct(client)

    def _direct(self, client: SimClient) -> None:
        client.reachable = frozenset(() if self.chosen is None else (self.chosen,))


def make_operator(cluster: Cluster) -> Operator:
    """Return the operator that this cluster's protocol needs."""
    match cluster.definition.decided_by:
        case "election":
            return Operator()
        case "operator":
            return PromotingOperator(cluster)
        case "clients":
            return RoutingOperator(cluster)
