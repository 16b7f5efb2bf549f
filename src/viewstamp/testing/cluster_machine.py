"""`ClusterMachine`: a hypothesis state machine over a simulated cluster of your class.

The rules for every command and query are made from the type hints; kill, restart, wipe, pause, partition, bad
network, slow disk, clock and heal are built in. Choices of hypothesis are the seed and the calls, so one
shrinker makes both small. Add rules and invariants of your own as in any `RuleBasedStateMachine`.
"""

from random import Random
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from viewstamp.machine.definition import MachineDefinition, Method
from viewstamp.machine.state_machine import StateMachine
from viewstamp.sim.workloads.own_machine import drawn_arguments
from viewstamp.testing.simulated import SimulatedCluster, quietly

_NODES_MAX = 9
_SEEDS = st.integers(0, 2**16 - 1)
_NODES = st.integers(0, _NODES_MAX - 1)
_CLIENTS = st.integers(0, 2)


class ClusterMachine(RuleBasedStateMachine):
    """Derive from it and set `machine`; `TestShop = ShopUnderFire.TestCase` makes pytest run it."""

    machine: ClassVar[type[StateMachine]]
    """Your class."""
    nodes: ClassVar[int] = 3
    protocol: ClassVar[str] = "raft"
    arguments: ClassVar[dict[str, st.SearchStrategy[tuple[Any, ...]]]] = {}
    """Arguments of methods for which the type hints are not good enough: a strategy of tuples each."""
    cluster: SimulatedCluster[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make a rule for each method of the machine that has none yet."""
        super().__init_subclass__(**kwargs)
        if "machine" not in vars(cls):
            return
        for name, method in MachineDefinition.of(cls.machine).methods.items():
            attribute = f"call_{name.replace('.', '_')}"
            if not hasattr(cls, attribute):
                setattr(cls, attribute, _rule_of(cls, method))

    @initialize(seed=_SEEDS)
    def start(self, seed: int) -> None:
        """Start the cluster."""
        self.cluster = SimulatedCluster(self.machine, nodes=self.nodes, protocol=self.protocol, seed=seed)

    @rule(node=_NODES)
    def kill(self, node: int) -> None:
        """End a server, as long as a majority is up."""
        if 2 * (len(self.cluster.up) - 1) > self.nodes:
            self.cluster.kill(node % self.nodes)

    @rule(node=_NODES)
    def restart(self, node: int) -> None:
        """Start a server that is down."""
        self.cluster.restart(node % self.nodes)

    @rule(node=_NODES)
    def wipe(self, node: int) -> None:
        """Delete a server's disk, where all are up and level with each other."""
        if len(self.cluster.up) == self.nodes:
            self.cluster.heal()
            self.cluster.run(3.0)
            self.cluster.wipe(node % self.nodes)
            self.cluster.run(3.0)

    @rule(node=_NODES, seconds=st.floats(0.1, 3.0))
    def pause(self, node: int, seconds: float) -> None:
        """Stop a server for a while."""
        self.cluster.pause(node % self.nodes, seconds)

    @rule(node=_NODES)
    def partition(self, node: int) -> None:
        """Cut one server off from the others."""
        alone = node % self.nodes
        self.cluster.partition({alone}, {other for other in range(self.nodes) if other != alone})

    @rule()
    def bad_network(self) -> None:
        """Lose, delay and duplicate messages."""
        self.cluster.bad_network()

    @rule(node=_NODES)
    def slow_disk(self, node: int) -> None:
        """Let a disk become slow."""
        self.cluster.slow_disk(node % self.nodes)

    @rule(node=_NODES, seconds=st.integers(1, 60))
    def clock(self, node: int, seconds: int) -> None:
        """Set a clock forward."""
        self.cluster.clock(node % self.nodes, seconds)

    @rule()
    def heal(self) -> None:
        """End all faults."""
        self.cluster.heal()

    @rule(seconds=st.floats(0.05, 5.0))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.cluster.run(seconds)

    def teardown(self) -> None:
        """Judge what all clients were told."""
        if hasattr(self, "cluster"):
            self.cluster.check()


def _rule_of(owner: type[ClusterMachine], method: Method) -> Any:
    strategy = owner.arguments.get(method.name)
    if strategy is None:
        strategy = _SEEDS.map(lambda seed: _drawn(owner, method.name, seed))

    @rule(arguments=strategy, client=_CLIENTS)
    def call(self: ClusterMachine, arguments: tuple[Any, ...], client: int) -> None:
        quietly(self.cluster, method.name, *arguments, client=client)

    return call


def _drawn(owner: type[ClusterMachine], name: str, seed: int) -> tuple[Any, ...]:
    rng = Random(seed)  # noqa: S311  a simulation
    return drawn_arguments(rng, owner.machine, name)
