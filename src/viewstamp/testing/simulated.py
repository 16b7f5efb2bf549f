"""A simulated cluster of your class under the control of a test, in virtual time: an hour costs seconds."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from viewstamp.checker.history import Operation
from viewstamp.checker.linearizable import check
from viewstamp.checker.machine_model import MachineModel
from viewstamp.core.errors import CommandFailed, NotExecuted, OutcomeUnknown
from viewstamp.core.ids import NodeId
from viewstamp.core.judge import InvariantViolated
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.events import Failed, Outcome, Raised, Returned
from viewstamp.sim.cluster.scenario import RELIABLE, Scenario
from viewstamp.sim.run.contexts import with_contexts
from viewstamp.sim.workloads.clients import Plan, SimClient
from viewstamp.sim.world.options import DiskOptions, NetworkOptions

M = TypeVar("M", bound=StateMachine)
_CALL_S: Final = 10.0
_SLOW: Final = DiskOptions(sync_min_us=20_000, sync_mean_us=100_000, stall_rate=0.2, stall_max_us=2_000_000)
_BAD: Final = NetworkOptions(delay_min_us=500, delay_mean_us=5_000, loss=0.1, duplication=0.05)


class SimulatedCluster(Generic[M]):
    """Servers, clients and faults, all in one process and one thread; nothing happens but in its methods.

    Every invariant of the library watches, and each class of a user runs under the guard: a method raises
    `InvariantViolated` where one is broken.
    """

    def __init__(self, machine: type[M], *, nodes: int = 3, protocol: str = "raft", seed: int = 1) -> None:
        """Start all servers and wait until one leads."""
        self.machine = machine
        self._scenario = Scenario(machine, nodes, seed=seed, protocol=protocol)
        self._clients: dict[int, SimClient] = {}
        self._cluster = self._scenario.cluster
        self.run(1.0)

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """All servers, up or down."""
        return self._scenario.members

    @property
    def up(self) -> list[NodeId]:
        """The servers that run."""
        return self._cluster.running

    @property
    def now_s(self) -> float:
        """Virtual seconds since the beginning."""
        return self._scenario.now_s

    @property
    def history(self) -> list[Operation]:
        """What clients called and were told."""
        return self._cluster.history.operations()

    # Calls

    def call(self, method: str, *arguments: Any, client: int = 0, timeout_s: float = _CALL_S) -> Any:
        """Make one call by one of the clients, and let time pass until it ends.

        Raises:
            CommandFailed: the method raised.
            NotExecuted: it certainly has no effect.
            OutcomeUnknown: it may have one.
        """
        ended: list[Outcome] = []
        definition = self._cluster.host.machine.methods[method]
        kind: Any = "command" if definition.kind == "command" else "linearizable"
        timeout_us = int(timeout_s * 1_000_000)
        self._client(client).invoke(Plan(kind, method, None, arguments), timeout_us, ended.append)
        self._cluster.world.run_while(lambda: not ended, self._cluster.world.now_us + 2 * timeout_us)
        match ended[0]:
            case Returned(payload=payload):
                return definition.decode_result(payload)
            case Raised(kind=name, explanation=explanation):
                raise CommandFailed(name, explanation)
            case Failed(outcome="unknown", reason=reason):
                raise OutcomeUnknown(reason)
            case Failed(reason=reason):
                raise NotExecuted(reason)

    def begin(self, method: str, *arguments: Any, client: int = 0, timeout_s: float = _CALL_S) -> None:
        """Make a call and do not wait: it ends while time passes, and stands in the history."""
        kind: Any = (
            "command" if self._cluster.host.machine.methods[method].kind == "command" else "linearizable"
        )
        self._client(client).invoke(Plan(kind, method, None, arguments), int(timeout_s * 1_000_000))

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        self._scenario.run(seconds)

    def leader(self) -> NodeId | None:
        """Return the server that leads, by its own account; None: none does."""
        leading = self._cluster.leaders()
        return leading[0] if leading else None

    def state(self, node: int) -> M:
        """Return the machine of a server that is up. Read it only."""
        machine: Any = self._scenario.machine(NodeId(node))
        return machine  # type: ignore[no-any-return]

    # Faults

    def kill(self, node: int) -> None:
        """End a server as by SIGKILL, unless it is down."""
        self._scenario.crash(NodeId(node))

    def restart(self, node: int) -> None:
        """Start a server that is down, on what it left on its disk."""
        self._scenario.restart(NodeId(node))

    def wipe(self, node: int) -> None:
        """End a server, delete its data directory, and start it again: it comes back as a new incarnation."""
        self.kill(node)
        self._cluster.processes[NodeId(node)].wipe()
        self.restart(node)

    def pause(self, node: int, seconds: float = 1.0) -> None:
        """Stop a server as by SIGSTOP for this long."""
        process = self._cluster.processes[NodeId(node)]
        if process.running:
            process.pause(int(seconds * 1_000_000))

    def partition(self, *groups: Iterable[int]) -> None:
        """Let servers reach only those of their own group. Clients still reach all."""
        self._scenario.partition(*({NodeId(node) for node in group} for group in groups))

    def bad_network(self) -> None:
        """Lose a tenth of the messages, and delay and duplicate others, from now on."""
        self._scenario.configure(_BAD)

    def slow_disk(self, node: int) -> None:
        """Let each sync of a server take up to two seconds from now on."""
        self._cluster.processes[NodeId(node)].disk_options = _SLOW

    def clock(self, node: int, seconds: float) -> None:
        """Set a server's clock forward."""
        process = self._cluster.processes[NodeId(node)]
        process.clock.jump(self._cluster.world.now_us, int(seconds * 1_000_000))

    def heal(self) -> None:
        """End all faults: the network, the disks, and servers that are down start again."""
        self._scenario.heal()
        self._scenario.configure(RELIABLE)
        for node, process in self._cluster.processes.items():
            process.disk_options = DiskOptions()
            if not process.running:
                self.restart(node)

    # Verdict

    def check(self) -> None:
        """Judge what all clients were told: the class alone, in the order of the log, must explain it.

        Raises:
            InvariantViolated: it does not, or replicas differ.
        """
        self.heal()
        self.run(5.0)
        history = self.history
        if not any(operation.answered for operation in history):
            return
        verdict = check(with_contexts(self._cluster, history), MachineModel(self.machine))
        if verdict.outcome == "violation":
            raise InvariantViolated("I17 Linearizable", str(verdict))

    def _client(self, number: int) -> SimClient:
        if number not in self._clients:
            self._clients[number] = self._scenario.client(exactly_once=True)
        return self._clients[number]


def quietly(cluster: SimulatedCluster[Any], method: str, *arguments: Any, client: int = 0) -> Any:
    """Make a call whose end may be any of the four; return its result, None where it has none."""
    with suppress(CommandFailed, NotExecuted, OutcomeUnknown):
        return cluster.call(method, *arguments, client=client, timeout_s=3.0)
    return None
