"""Other versions of the user's class, deployed on single nodes in any order while the cluster runs.

A workload that names `later` classes has nodes restarted with an older or newer one, at random and under all
other disasters, and operators that finalize too early, too late, twice, and at nodes that do not lead. A node
whose class is too old for what was raised waits; before the faults end each node gets the newest class.
"""

from collections.abc import Sequence
from random import Random
from typing import Final

import msgspec

from viewstamp.core.events import Finalize
from viewstamp.core.ids import ClientAddress, NodeId
from viewstamp.core.messages import AdminRequest, encode_message
from viewstamp.core.principals import LOCAL_OPERATOR
from viewstamp.core.snapshots import UNVERSIONED
from viewstamp.link.handshake import Range
from viewstamp.machine.evolution import version_of
from viewstamp.machine.interface import interface_digest, own_interface
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.events import Requested
from viewstamp.sim.cluster.cluster import Cluster

_PERIOD_US: Final = 150_000
_CARELESS: Final = 0.1


class Deploys:
    """Restarts nodes with one of several versions of a class, and raises what is in force."""

    def __init__(self, cluster: Cluster, classes: Sequence[type[StateMachine]], rng: Random) -> None:
        """`classes` in the order of their versions; every node begins with the first."""
        self._cluster = cluster
        self._classes = classes
        self._rng = rng
        self._requests = 0
        self._stopped = False
        self._target = classes[-1]
        self._left = list(cluster.members)
        """Nodes that do not have the target yet, in this deploy."""
        self._finalizes = 2
        """How often an operator will ask to finalize after it."""
        for node in cluster.members:
            self._install(node, classes[0])

    def begin(self) -> None:
        """Schedule the first deployment."""
        self._cluster.world.after(self._rng.randrange(_PERIOD_US), self._act)

    def finish(self) -> None:
        """Deploy the newest class everywhere: a node that waits goes on."""
        self._stopped = True
        newest = self._classes[-1]
        for node, process in self._cluster.processes.items():
            if process.setup.machine is not newest:
                self._install(node, newest)
                if process.running:
                    self._cluster.crash(node, power=False)
                    self._cluster.start(node)

    def _act(self) -> None:
        """Do the next step of a rolling deploy, or something that no careful operator would do."""
        if self._stopped:
            return
        rng, members = self._rng, self._cluster.members
        if rng.random() < _CARELESS:
            self._finalize() if rng.random() < 0.5 else self._deploy(
                rng.choice(members), rng.choice(self._classes)
            )
        elif self._left:
            self._deploy(self._left.pop(), self._target)
        elif self._finalizes:
            self._finalizes -= 1
            self._finalize()
        else:
            self._target = rng.choice(self._classes)
            self._left = rng.sample(members, len(members))
            self._finalizes = rng.randrange(4)
        self._cluster.world.after(int(rng.expovariate(1 / _PERIOD_US)) + 1, self._act)

    def _deploy(self, node: NodeId, cls: type[StateMachine]) -> None:
        cluster = self._cluster
        if cluster.processes[node].running and not cluster.operator.may_stop(node):
            return
        self._install(node, cls)
        if cluster.processes[node].running:
            cluster.counts[f"deployed version {version_of(cls)}"] += 1
            cluster.crash(node, power=False)
            cluster.start(node)

    def _install(self, node: NodeId, cls: type[StateMachine]) -> None:
        """Put a class on a node: it runs from the node's next start on."""
        cluster = self._cluster
        process = cluster.processes[node]
        process.setup = msgspec.structs.replace(process.setup, machine=cls)
        cluster.links.identities[node] = msgspec.structs.replace(
            cluster.links.identities[node],
            machine=Range(UNVERSIONED, version_of(cls)),
            interface=interface_digest(own_interface(cls)),
        )

    def _finalize(self) -> None:
        cluster = self._cluster
        leaders = cluster.leaders()
        nodes = leaders if leaders and self._rng.random() < 0.8 else cluster.running
        if not nodes:
            return
        self._requests += 1
        address = ClientAddress(next(cluster.host.addresses))
        message = AdminRequest(self._requests, Finalize())
        event = Requested(address, message, encode_message(message), LOCAL_OPERATOR)
        cluster.counts["finalize asked"] += 1
        cluster.processes[self._rng.choice(nodes)].feed(event)
