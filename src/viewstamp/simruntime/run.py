"""One run of the runtime under simulation: faults, then calm, then the verdict.

A run is a pure function of its plan and of the version of Python. What is judged: every invariant of the
simulator over the cores and replicas inside the servers, the durability of what they acknowledge as the disks
show it, exceptions that nothing caught, and the history of all calls.
"""

import asyncio
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, Final, TextIO

import msgspec

from viewstamp.checker.history import Operation, Recorder
from viewstamp.checker.linearizable import check
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.protocol import ProtocolDefinition
from viewstamp.link.proof import KEY_BYTES, Secret
from viewstamp.machine.definition import MachineDefinition
from viewstamp.protocols.registry import protocol_definition
from viewstamp.runtime.config import ClusterConfig, Member, NodeConfig
from viewstamp.runtime.system import simulated
from viewstamp.sim.judge.judge import Judge
from viewstamp.sim.run.plan import RunPlan, RunReport, Violation
from viewstamp.sim.workloads.catalogue import WORKLOADS
from viewstamp.sim.world.content import DiskFaults
from viewstamp.sim.world.disk import SimFileSystem
from viewstamp.sim.world.options import (
    DiskOptions,
    MembershipOptions,
    StoryOptions,
    SwarmOptions,
    draw_options,
    override,
)
from viewstamp.sim.world.trace import Trace
from viewstamp.sim.world.tuning import client_options, protocol_options, replica_options
from viewstamp.sim.world.world import RandomTree, World
from viewstamp.simruntime.calls import Disk
from viewstamp.simruntime.faults import Injector
from viewstamp.simruntime.log import listened_to
from viewstamp.simruntime.machine import DATA_PATH, Machine, Setup, address_of
from viewstamp.simruntime.options import (
    GROUPS,
    CallOptions,
    LoopOptions,
    RuntimeOptions,
    SocketOptions,
    draw_runtime_options,
    without,
)
from viewstamp.simruntime.sockets import End, Network
from viewstamp.simruntime.tokens import GRANTS, Tokens
from viewstamp.simruntime.users import Load, Overseer, User

_CLUSTER_ID: Final = "simulated"
_PORT: Final = 7000
_BOOTSTRAP_US: Final = 60_000_000
_SERVE_US: Final = 60_000_000
_CONVERGE_US: Final = 60_000_000
_WALL_S: Final = 1_700_000_000.0
_KNOWN: Final = {
    "network": ("delay_min_us", "delay_mean_us"),
    "partitions": ("mode", "one_way", "period_us", "length_us"),
    "processes": (
        *("crash_rate", "crash_all_rate", "restart_min_us", "restart_max_us", "pause_rate", "pause_max_us"),
        *("drift_max_ppm", "jump_rate", "jump_max_us"),
    ),
    "disk": (
        *("sync_min_us", "sync_mean_us", "stall_rate", "stall_max_us", "torn", "error_rate", "full_rate"),
        "short_writes",
    ),
    "load": (
        *("clients", "sessionless", "keys", "think_mean_us", "spread", "reads", "stale_reads"),
        *("call_timeout_us", "pipeline"),
    ),
}
"""The options that this world shares with that of the cores; the others stay at their defaults."""
_WORKLOADS: Final = ("kv", "registers", "tally")
_DURATION_MAX_US: Final = 10_000_000
OPERATIONS_MAX: Final = 300
PROTOCOLS: Final = ("raft", "viewstamped", "primary_backup")
NAME: Final = "I19 Liveness"


def swarm_options_of(plan: RunPlan, definition: ProtocolDefinition) -> SwarmOptions:
    """Return the drawn options of a plan that this world shares with that of the cores."""
    drawn = draw_options(
        plan.protocol, definition.guarantees, plan.seed, nodes=plan.nodes, duration_us=plan.duration_us
    )
    length = plan.duration_us or min(drawn.duration_us, _DURATION_MAX_US)
    shared = tuple(name for name in plan.without if name.partition(".")[0] not in GROUPS)
    return msgspec.structs.replace(override(only_known(drawn), shared), duration_us=length)


def only_known(options: SwarmOptions) -> SwarmOptions:
    """Return the options without what only the world of the cores knows."""
    known: dict[str, msgspec.Struct] = {}
    for group, fields in _KNOWN.items():
        drawn: msgspec.Struct = getattr(options, group)
        known[group] = type(drawn)(**{field: getattr(drawn, field) for field in fields})
    stories, membership = StoryOptions(), MembershipOptions()
    return msgspec.structs.replace(options, **known, stories=stories, membership=membership)


def runtime_options_of(plan: RunPlan, swarm: SwarmOptions) -> RuntimeOptions:
    """Return the drawn options of a plan that only the runtime has."""
    drawn = draw_runtime_options(RandomTree(plan.seed).stream("runtime"), fault_free=swarm.fault_free)
    return without(drawn, tuple(name for name in plan.without if name.partition(".")[0] in GROUPS))


def check_plan(plan: RunPlan, definition: ProtocolDefinition) -> None:
    """Raise `ConfigurationError` where a plan names what this world does not have."""
    if plan.workload is not None and plan.workload not in _WORKLOADS:
        names = ", ".join(_WORKLOADS)
        raise ConfigurationError(f"the runtime is simulated with {names}, not with {plan.workload!r}")
    if definition.name not in PROTOCOLS:
        names = ", ".join(PROTOCOLS)
        raise ConfigurationError(f"the runtime is simulated with {names}, not with {definition.name!r}")
    runtime_options_of(plan, swarm_options_of(plan, definition))


def execute(
    plan: RunPlan, *, sink: TextIO | None = None, definition: ProtocolDefinition | None = None
) -> RunReport:
    """Run a plan and report. Never raises for what the cluster did.

    Raises:
        ConfigurationError: the plan names a protocol, a workload or an option that does not exist.
    """
    definition = definition or protocol_definition(plan.protocol)
    check_plan(plan, definition)
    return RuntimeRun(plan, definition, Trace(sink)).execute()


def run_with_history(plan: RunPlan) -> tuple[RunReport, list[Operation]]:
    """Run a plan; return the report, and what clients called and were told."""
    run = RuntimeRun(plan, protocol_definition(plan.protocol), Trace())
    return run.execute(), run.history.operations()


def run_chunk(plans: bytes) -> bytes:
    """Run encoded plans one after the other, up to the first violation; return the encoded reports."""
    reports = []
    for plan in msgspec.json.decode(plans, type=list[RunPlan]):
        reports.append(execute(plan))
        if not reports[-1].ok:
            break
    return msgspec.json.encode(reports)


class RuntimeRun:
    """One run, from its first event to its verdict."""

    def __init__(self, plan: RunPlan, definition: ProtocolDefinition, trace: Trace) -> None:
        self.plan = plan
        self.definition = definition
        self.trace = trace
        self.swarm = swarm_options_of(plan, definition)
        self.options = runtime_options_of(plan, self.swarm)
        self.tree = RandomTree(plan.seed)
        self.world = World()
        self.workload = WORKLOADS[plan.workload or _WORKLOADS[plan.seed % len(_WORKLOADS)]](self.swarm.load)
        self.nodes = tuple(NodeId(number) for number in range(self.swarm.nodes))
        oracle = definition.make_oracle(self.nodes)
        self.judge = Judge(self.nodes, oracle, definition.guarantees)
        self.network = Network(self.world, self.tree.stream("network"), self.options.sockets)
        self._tune_network()
        self.history = Recorder()
        self.tokens = Tokens(self.tree.stream("tokens"), _CLUSTER_ID) if plan.tokens else None
        self.cluster = self._make_cluster()
        self.machines = [self._make_machine(node) for node in self.nodes]
        self.injector = Injector(
            self.machines, self.network, self.swarm, self.options, self.tree.stream("faults")
        )
        self.load = self._make_load()
        self.users: list[User] = []
        self._failures: list[BaseException] = []
        self._healing = False

    def _tune_network(self) -> None:
        network, options = self.network, self.swarm.network
        network.delay_min_us, network.delay_mean_us = options.delay_min_us, options.delay_mean_us
        network.trace_bytes = self._trace_bytes

    def _trace_bytes(self, end: End, data: bytes) -> None:
        self.trace.feed(self.world.now_us, b"bytes", end.name[1], data)

    def _make_cluster(self) -> ClusterConfig:
        tuning = self.swarm.tuning
        cluster = ClusterConfig(
            cluster_id=_CLUSTER_ID,
            members=tuple(Member(node, address_of(node), _PORT + node) for node in self.nodes),
            protocol=self.plan.protocol,
            options=msgspec.to_builtins(protocol_options(self.definition, tuning)),
            replica=msgspec.to_builtins(replica_options(tuning)),
        )
        if self.tokens is not None:
            cluster = msgspec.structs.replace(cluster, tokens=self.tokens.config, grants=GRANTS)
        return cluster.holding(Secret(self.tree.stream("secret").randbytes(KEY_BYTES)))

    def _make_machine(self, node: NodeId) -> Machine:
        setup = Setup(
            cluster=self.cluster,
            definition=self.definition,
            machine=self.workload.machine,
            config=self._node_config(),
            judge=self.judge,
            trace=self.trace,
            network=self.network,
            loop=self.options.loop,
            state_check_every=self.swarm.tuning.state_check_every,
            ended=self._ended,
            failed=self._failed,
        )
        rng, drawn = self.tree.stream("machine", node), self.swarm.disk
        faults = DiskFaults(
            torn=drawn.torn,
            sync_error=drawn.error_rate,
            disk_full=drawn.full_rate,
            short_write=drawn.short_writes,
        )
        files = SimFileSystem(self.tree.stream("disk", node), faults=faults)
        disk = Disk(files, self.tree.stream("calls", node), drawn, self.options.calls)
        disk.called = self._trace_call(node)
        drift = self.swarm.processes.drift_max_ppm
        return Machine(node, setup, disk, rng, drift_ppm=rng.randint(-drift, drift))

    def _trace_call(self, node: NodeId) -> Callable[[str, str], None]:
        trace, world = self.trace, self.world

        def called(kind: str, path: str) -> None:
            trace.feed(world.now_us, kind.encode(), node, path.encode())

        return called

    def _node_config(self) -> NodeConfig:
        return NodeConfig(
            data=DATA_PATH,
            loop="asyncio",
            sync_placement=self.options.sync_placement,
            snapshot_placement=self.options.snapshot_placement,
            segment_bytes=self.swarm.tuning.segment_bytes,
            snapshot_inline_bytes_max=1_000,
            sync_hang_ms=2_000,
            space_low_bytes=0,
        )

    def _make_load(self) -> Load:
        return Load(
            cluster=self.cluster,
            workload=self.workload,
            network=self.network,
            loop=LoopOptions(),
            history=self.history,
            definition=MachineDefinition.of(self.workload.machine),
            failed=self._failed,
            outcomes=Counter(),
            left=min(self.plan.operations_max, OPERATIONS_MAX),
        )

    # What goes wrong

    def _ended(self, machine: Machine, reason: str) -> None:
        if self._healing:
            self._failed(InvariantViolated(NAME, f"node {machine.node} ended in the calm: {reason}"))
        else:
            self.injector.ended(machine, reason)

    def _failed(self, error: BaseException) -> None:
        self._failures.append(error)

    def _run_while(self, condition: Callable[[], bool], limit_us: int) -> bool:
        """Run the world while the condition holds; True: it ended before the limit. Raises what failed."""
        failures = self._failures
        done = self.world.run_while(lambda: not failures and condition(), limit_us)
        if failures:
            raise failures[0]
        return done

    # The phases

    def execute(self) -> RunReport:
        """Run all of it, and report what goes wrong."""
        violation = None
        try:
            with simulated(self.tree.stream("fresh"), self._wall_s), listened_to(self._failed):
                self._run()
        except InvariantViolated as error:
            violation = self._violation(error.name, error.explanation)
        except AssertionError as error:
            violation = self._violation("Assertion", str(error), _details(error))
        except Exception as error:  # noqa: BLE001  what broke is the finding, and the seed repeats it
            violation = self._violation("Crash", f"{type(error).__name__}: {error}", _details(error))
        finally:
            for host in self.network.hosts.values():
                host.end()
        return self._report(violation)

    def _wall_s(self) -> float:
        """Return the date, which goes on where something ends by it."""
        return _WALL_S if self.tokens is None else _WALL_S + self.world.now_us / 1e6

    def _run(self) -> None:
        for machine in self.machines:
            machine.start()
        if self.definition.decided_by == "operator":
            Overseer(self._make_user(), self._is_led, self._running)
        self._bootstrap()
        self._begin_load()
        self.injector.begin()
        limit = self.world.events + self.plan.events_max
        self._run_while(lambda: self.world.events < limit, self.world.now_us + self.swarm.duration_us)
        self._heal()
        self._let_calls_end()
        self._serve()
        self._converge()
        self._judge_history()

    def _make_user(self, options: Any = None) -> User:
        number = len(self.users) + 1
        token = None if self.tokens is None else self.tokens.of(number)
        user = User(number, self.load, self.tree.stream("user", number), options=options, token=token)
        self.users.append(user)
        return user

    def _is_led(self) -> bool:
        nodes = self.judge.ghosts.nodes
        return any(
            machine.alive and (core := nodes[machine.node].core) is not None and core.leader == machine.node
            for machine in self.machines
        )

    def _running(self) -> list[NodeId]:
        return [machine.node for machine in self.machines if machine.alive]

    def _bootstrap(self) -> None:
        committed = self.judge.ghosts.committed
        if not self._run_while(lambda: committed.length == 0, self.world.now_us + _BOOTSTRAP_US):
            raise InvariantViolated(NAME, "the cluster did not bootstrap")

    def _begin_load(self) -> None:
        load, plan_rng = self.swarm.load, self.tree.stream("load", "plan")
        share = load.sessionless
        mean_us = load.think_mean_us
        if load.spread:
            calls = max(1, self.load.left)
            mean_us = max(mean_us, self.swarm.duration_us * load.clients * load.pipeline // calls)
        for _ in range(load.clients):
            user = self._make_user(client_options(self.swarm.tuning, len(self.users)))
            user.start(
                _caller(load.pipeline, plan_rng, mean_us, load.call_timeout_us),
                exactly_once=user.rng.random() >= share,
            )

    def _heal(self) -> None:
        """From now on nothing goes wrong, and all nodes run."""
        self.load.loading = False
        self.injector.stop()
        self.network.options = SocketOptions(deferred_writes=self.options.sockets.deferred_writes)
        self.network.delay_min_us, self.network.delay_mean_us = 500, 1_000
        for machine in self.machines:
            machine.paused_until_us = 0
            disk = machine.disk
            disk.options, disk.calls, disk.files.faults = DiskOptions(), CallOptions(), DiskFaults()
            disk.crash_at = None
        for machine in self.machines:
            if not machine.alive:
                machine.start()
        self._run_while(lambda: True, self.world.now_us + 100_000)
        self.trace.note(self.world.now_us, "heal", -1)

    def _let_calls_end(self) -> None:
        limit = self.world.now_us + self.swarm.load.call_timeout_us + _SERVE_US
        if not self._run_while(lambda: any(user.open_calls for user in self.users), limit):
            raise InvariantViolated(NAME, "calls are still open long after their deadlines")

    def _serve(self) -> None:
        """A new client writes and reads every key."""
        user, done = self._make_user(), list[str]()
        plans = self.workload.final_plans()

        async def work(user: User) -> None:
            for plan in plans:
                kind, _ = await user.call(plan, _SERVE_US)
                while kind == "failed" and self.world.now_us < limit:
                    await asyncio.sleep(0.1)
                    kind, _ = await user.call(plan, _SERVE_US)
                done.append(kind)
                if kind in {"failed", "unknown"}:
                    raise InvariantViolated(NAME, f"{plan.method}({plan.key}) in the calm ended as {kind}")

        limit = self.world.now_us + _SERVE_US
        user.start(work)
        if not self._run_while(lambda: len(done) < len(plans), limit + _SERVE_US):
            raise InvariantViolated(NAME, f"only {len(done)} of {len(plans)} calls were answered in the calm")

    def _converge(self) -> None:
        """All nodes reach the end of the history, in one state."""
        committed = self.judge.ghosts.committed
        slack = 1 if self.definition.guarantees.reads == "one_behind" else 0

        def behind() -> bool:
            places = [machine.replica for machine in self.machines]
            return any(each is None or committed.length - each.applied.seqno > slack for each in places)

        if not self._run_while(behind, self.world.now_us + _CONVERGE_US):
            places = {each.node: each.replica and each.replica.applied.seqno for each in self.machines}
            raise InvariantViolated(NAME, f"{committed.length} entries are committed, applied are {places}")
        for machine in self.machines:
            replica = machine.replica
            assert replica is not None
            self.judge.state(machine.node, replica.applied, Machine.state_digest(replica))

    def _judge_history(self) -> None:
        operations = self.history.operations()
        if not any(operation.answered for operation in operations):
            raise InvariantViolated("Vacuous", "no call was ever answered")
        verdict = check(operations, self.workload.model)
        if verdict.outcome != "ok":
            raise InvariantViolated("I17 Linearizable", str(verdict))

    # Report

    def _violation(self, name: str, explanation: str, details: str = "") -> Violation:
        return Violation(name, explanation, self.world.now_us, details)

    def _report(self, violation: Violation | None) -> RunReport:
        faults = Counter(self.injector.counts) + self.network.counts
        faults += Counter() if self.tokens is None else self.tokens.counts
        for machine in self.machines:
            faults.update(machine.disk.counts)
            effects = machine.disk.files.effects.items()
            faults.update({f"disk {name}": count for name, count in effects if "untouched" not in name})
        outcomes: Counter[str] = Counter(operation.outcome for operation in self.history.operations())
        return RunReport(
            plan=self.plan,
            options=f"{self.swarm.describe()} {self.options.describe()}",
            violation=violation,
            trace_hash=self.trace.digest,
            events=self.world.events,
            virtual_us=self.world.now_us,
            operations={**outcomes, **self.load.outcomes},
            faults=dict(sorted(faults.items())),
            rare=dict(sorted(self.judge.rare.items())),
            committed=self.judge.ghosts.committed.length,
        )


def _caller(
    pipeline: int, plan_rng: Random, mean_us: int, timeout_us: int
) -> Callable[[User], Coroutine[Any, Any, None]]:
    """Return the work of a client that has `pipeline` calls open at once."""

    async def work(user: User) -> None:
        calls = (user.think_and_call(plan_rng, mean_us, timeout_us) for _ in range(pipeline))
        await asyncio.gather(*calls)

    return work


def _details(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
