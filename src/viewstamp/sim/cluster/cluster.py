"""A whole simulated cluster: world, network, servers, clients, and the judge over all of them.

Runs (`run.py`) and scripted scenarios (`scenario.py`) drive the same object. It does nothing by itself:
faults and calls come from its user.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import msgspec

from viewstamp.checker.history import Recorder
from viewstamp.core.ids import ClientAddress, Instant, NodeId
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.messages import SECRET_BYTES, ServerMessage
from viewstamp.core.protocol import ProtocolDefinition
from viewstamp.machine.definition import MachineDefinition
from viewstamp.replica.divergence import peer_event, peer_message_type
from viewstamp.replica.options import ClientSetup
from viewstamp.sim.cluster.narrator import Narrator, fate
from viewstamp.sim.judge.judge import Judge, watched
from viewstamp.sim.workloads.clients import ClientHost, Connection, NumberedCore, Observer, SimClient, respond
from viewstamp.sim.workloads.workload import Workload
from viewstamp.sim.world.connections import Connections
from viewstamp.sim.world.network import Network
from viewstamp.sim.world.options import SwarmOptions
from viewstamp.sim.world.process import Process
from viewstamp.sim.world.process_environment import ProcessSetup
from viewstamp.sim.world.trace import Trace
from viewstamp.sim.world.tuning import client_options, protocol_options, replica_options
from viewstamp.sim.world.world import RandomTree, World


def _stay_down(node: NodeId) -> None:
    """Leave a process down."""


class Operator:
    """What a cluster tells the people who operate it. This one has nothing to do: the members elect.

    `operators.py` has those of the other protocols.
    """

    bootstraps_alone = True
    """Whether something is committed before any client comes."""

    def joined(self, client: SimClient) -> None:
        """A client was made."""

    def ended(self, node: NodeId) -> None:
        """A server went down."""

    def may_stop(self, node: NodeId) -> bool:  # noqa: ARG002  for those that override it
        """Return whether this server may be stopped now, by what the protocol promises."""
        return True

    def healed(self, chosen: list[NodeId]) -> None:
        """The faults are over; only these servers are left."""


class Cluster:
    """All that exists in one run."""

    def __init__(
        self,
        definition: ProtocolDefinition,
        options: SwarmOptions,
        seed: int,
        workload: Workload,
        trace: Trace,
        *,
        judge: Judge | None = None,
        overrides: Any = None,
        make_operator: "Callable[[Cluster], Operator] | None" = None,
    ) -> None:
        """Make the cluster with all its servers down.

        `overrides` replaces the drawn protocol options. `make_operator` is `operators.make_operator`; it may
        be left out where the members elect.
        """
        assert make_operator is not None or definition.decided_by == "election"
        self.options = options
        self.definition = definition
        self.workload = workload
        self.trace = trace
        self.tree = RandomTree(seed)
        self.world = World()
        self.members = tuple(NodeId(number) for number in range(options.nodes + options.membership.spares))
        """All servers: the first members, and spares that may become some."""
        self.first_members = self.members[: options.nodes]
        oracle = definition.make_oracle(self.first_members)
        self.judge = judge or Judge(self.members, oracle, definition.guarantees)
        if trace.verbose:
            self.judge.listen(Narrator(self.judge.ghosts, trace))
        self.counts: Counter[str] = Counter()
        """Effects of faults other than the network's own."""
        self.on_death: Callable[[NodeId], None] = _stay_down
        """Called when a process ended because of its disk: its operator may start it again."""
        self.network = Network(
            self.world,
            self.tree.stream("network"),
            options.network,
            peer_message_type(definition.message_type),
            self._deliver,
        )
        setup = self._process_setup(overrides)
        self.processes = {node: Process(node, setup, options.disk) for node in self.members}
        rng = self.tree.stream("connections")
        self.links = Connections(self.world, self.network, definition, self.processes, rng, self.counts)
        self.history = Recorder()
        self.clients: dict[int, SimClient] = {}
        self.connections: dict[ClientAddress, Connection] = {}
        self.host = self._client_host()
        self.operator = make_operator(self) if make_operator is not None else Operator()

    def _client_host(self) -> ClientHost:
        return ClientHost(
            self.world,
            self.network,
            self.judge,
            self.trace,
            self.processes,
            self.history,
            MachineDefinition.of(self.workload.machine),
            self.connections,
            count(1),
            self.workload,
        )

    def _process_setup(self, overrides: Any) -> ProcessSetup:
        options, definition = self.options, self.definition
        watching = msgspec.structs.replace(definition, make_core=watched(definition.make_core, self.judge))
        return ProcessSetup(
            world=self.world,
            judge=self.judge,
            trace=self.trace,
            tree=self.tree,
            members=self.first_members,
            definition=watching,
            protocol_options=overrides or protocol_options(definition, options.tuning),
            replica_options=replica_options(options.tuning),
            machine=self.workload.machine,
            grants=self.workload.grants,
            segment_bytes=options.tuning.segment_bytes,
            state_check_every=options.tuning.state_check_every,
            process_options=options.processes,
            environment=self,
        )

    # Servers

    @property
    def running(self) -> list[NodeId]:
        """The servers that are up."""
        return [node for node, process in self.processes.items() if process.running]

    def leaders(self) -> list[NodeId]:
        """The servers that believe that they lead, the highest view first."""
        ghosts = self.judge.ghosts.nodes
        leading = [
            (core.view, node)
            for node in self.running
            if (core := ghosts[node].core) is not None and core.leader == node
        ]
        return [node for _, node in sorted(leading, reverse=True)]

    def owes_progress(self, nodes: Iterable[NodeId]) -> bool:
        """Return whether these servers, all up and well connected, must serve without the others."""
        ghosts = self.judge.ghosts
        alive = {node: self.processes[node].incarnation for node in nodes}
        return ghosts.oracle.owes_progress(alive, ghosts.images)

    def start(self, node: NodeId) -> bool:
        """Start a server that is down; it and the others dial each other. False: its disk refuses."""
        process = self.processes[node]
        if not process.start():
            self.counts["refused to start"] += 1
            return False
        self.links.started(node)
        return True

    def crash(self, node: NodeId, *, power: bool = True) -> None:
        """Crash a server that is up, with its machine or alone."""
        self.processes[node].crash(power=power)
        self.counts["crash"] += 1
        self._after_end(node)

    def reset(self, first: NodeId, second: NodeId) -> None:
        """Break the connections between two servers; they dial again."""
        self.links.reset(first, second)
        self.counts["connection reset"] += 1

    # What processes reach outside themselves

    def send(self, source: NodeId, to: NodeId, message: Any) -> None:
        """Carry a message to another member."""
        if source == to:
            raise InvariantViolated("R69 SelfSend", f"node {source} sends a message to itself")
        before = Counter(self.network.counts) if self.trace.verbose else None
        self.links.send(source, to, message)
        if before is not None:
            text = self.judge.ghosts.oracle.describe(message)
            what = fate(self.network, before)
            self.trace.line(self.world.now_us, "send", source, to=to, message=text, fate=what)

    def respond(self, source: NodeId, to: ClientAddress, message: ServerMessage) -> None:  # noqa: ARG002  a promise of `ProcessEnvironment`
        """Carry a message to a client."""
        respond(self.connections, to, message)

    def died(self, node: NodeId, reason: str) -> None:
        """A process ended because of its disk."""
        self.counts["storage failed"] += 1
        self.trace.note(self.world.now_us, "died", node, reason=reason)
        self._after_end(node)
        self.on_death(node)

    def removed(self, node: NodeId) -> None:
        """A process ended because it was removed from the cluster: nobody starts it again by itself."""
        self.judge.removed(node, self.processes[node].incarnation)
        self.counts["removed"] += 1
        self.trace.note(self.world.now_us, "removed", node)
        self._after_end(node)

    # Clients

    def add_client(self, observer: Observer, *, exactly_once: bool = True) -> SimClient:
        """Make a client; it connects by itself."""
        name = -1 - len(self.clients)
        rng = self.tree.stream("client", -name)
        core = NumberedCore(
            ClientSetup(
                servers=self.members,
                secret=rng.randbytes(SECRET_BYTES),
                rng=self.tree.stream("client", -name, "core"),
                now=Instant(self.world.now_us),
                exactly_once=exactly_once or self.workload.needs_sessions,
                write_routing=self.definition.write_routing,
                options=client_options(self.options.tuning, -name),
            )
        )
        client = (self.workload.client_kind or SimClient)(name, self.host, core, rng, observer)
        self.clients[name] = client
        self.operator.joined(client)
        return client

    def _after_end(self, node: NodeId) -> None:
        self.operator.ended(node)
        for client in self.clients.values():
            client.break_all(node)
        self.links.ended(node)

    def _deliver(self, source: NodeId, to: NodeId, message: Any) -> None:
        process = self.processes[to]
        if process.running:
            process.feed(peer_event(source, message))
        else:
            self.counts["arrived at a stopped server"] += 1
