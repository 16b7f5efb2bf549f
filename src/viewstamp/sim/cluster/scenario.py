"""Scripted runs: a simulated cluster under control of a script, in the words of the 6.5840 test kit.

A scenario is written top down like a test of the course (docs/labs/6.5840.md#kit): disconnect a server,
submit to a certain one, let time pass, count the servers that executed something. It drives the same
`Cluster` as the random runs, so every invariant watches it as well.

Rules of this file: nothing is random but through the seed; time passes only in `run` and in the waiting
helpers; a helper that gives up raises `AssertionError` with what it saw.
"""

from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from random import Random
from typing import Any, Final, Generic, Literal, TypeVar, cast

import msgspec

from viewstamp.core.errors import CommandFailed, NotExecuted, OutcomeUnknown
from viewstamp.core.ids import ClientAddress, NodeId
from viewstamp.core.messages import (
    NO_SESSION,
    SECRET_BYTES,
    Identify,
    Redirect,
    Results,
    ServerMessage,
    Submit,
    client_number,
    decode_server_message,
    encode_message,
)
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine
from viewstamp.protocols.registry import protocol_definition
from viewstamp.replica.authorization import Grant
from viewstamp.replica.events import Failed, Outcome, Raised, Requested, Returned
from viewstamp.sim.cluster.cluster import Cluster
from viewstamp.sim.cluster.operators import make_operator
from viewstamp.sim.workloads.clients import Connection, Plan, SimClient
from viewstamp.sim.world.network import Link
from viewstamp.sim.world.options import NetworkOptions, SwarmOptions, TuningOptions
from viewstamp.sim.world.trace import Trace
from viewstamp.sim.world.tuning import options_with

_SECOND_US: Final = 1_000_000
_POLL_S: Final = 0.02
_AGREEMENT_S: Final = 2.0
_GIVE_UP_S: Final = 10.0
_ADDRESSES_FROM: Final = 1_000_000
"""Scripted connections are numbered from here, out of the way of the simulated clients'."""

RELIABLE: Final = NetworkOptions(delay_min_us=50, delay_mean_us=200, encode=1.0)
"""No loss and next to no delay; every message goes through the encoder, so that bytes are counted."""
UNRELIABLE: Final = NetworkOptions(
    delay_min_us=0, delay_mean_us=13_000, loss=0.1, duplication=0.05, encode=1.0
)
"""The kit's unreliable network (0 to 26 ms, a tenth lost each way); and 5 % duplicated, unlike the kit."""

_T = TypeVar("_T")


class _NoWorkload:
    """A scenario makes its own calls; histories are judged by the scenario."""

    model: Any = None
    needs_sessions = False
    grants: tuple[Grant, ...] = ()
    client_kind: type[SimClient] | None = None

    def __init__(self, machine: type[StateMachine]) -> None:
        self.machine = machine

    def fit(self, options: SwarmOptions) -> SwarmOptions:
        """Leave the options as they are."""
        return options

    def plan(self, rng: Random) -> Plan:
        """Never asked for."""
        del rng
        raise AssertionError("a scenario plans its own calls")

    def note_result(self, plan: Plan, result: object) -> None:
        """Nothing to learn."""

    def note_unknown(self, plan: Plan) -> None:
        """Nothing to be careful about."""

    def final_plans(self) -> list[Plan]:
        """None."""
        return []


class Submission:
    """One command that was given to one certain server, outside all sessions, as `Start` or `Submit` does."""

    def __init__(self, server: NodeId, value: object) -> None:
        self.server = server
        self.value = value
        self.replies: list[ServerMessage] = []

    @property
    def refused(self) -> bool:
        """Whether the server said at once that it does not lead: the command entered no log."""
        return any(isinstance(reply, Redirect) and not reply.entered for reply in self.replies)

    @property
    def returned(self) -> bool:
        """Whether the server has answered in any way."""
        return bool(self.replies)

    @property
    def result(self) -> tuple[int, bytes] | None:
        """How it was executed: (kind, payload) as in `messages.Results`; None: no such answer yet."""
        for reply in self.replies:
            if isinstance(reply, Results):
                _, kind, payload = reply.results[0]
                return kind, bytes(payload)
        return None

    def transmit(self, connection: Connection, *, to_server: bool, encoded: bytes) -> None:
        """Take the server's answer. It arrives at once: what is tested is the server."""
        del connection, to_server
        self.replies.append(decode_server_message(encoded))


class Scenario:
    """A cluster of servers under scripted control, all of them up."""

    def __init__(
        self,
        machine: type[StateMachine],
        servers: int,
        *,
        seed: int = 1,
        network: NetworkOptions = RELIABLE,
        log_bytes_max: int | None = None,
        protocol: str = "raft",
        **tuning: Any,
    ) -> None:
        """Start the servers. `log_bytes_max` is the kit's maxraftstate; None: nothing is compacted."""
        definition = protocol_definition(protocol)
        options = SwarmOptions(
            protocol=protocol, nodes=servers, network=network, tuning=TuningOptions(state_check_every=1)
        )
        sizes = options_with(definition, {"log_bytes_max": log_bytes_max, **tuning})
        self.cluster = Cluster(
            definition,
            options,
            seed,
            _NoWorkload(machine),
            Trace(),
            overrides=sizes,
            make_operator=make_operator,
        )
        self.rng = self.cluster.tree.stream("scenario")
        self.world = self.cluster.world
        self.connected: set[NodeId] = set(self.cluster.members)
        self._machine = MachineDefinition.of(machine)
        self._partition: list[set[NodeId]] = []
        self._is_one_way = False
        """Whether what the first group of the partition sends still arrives."""
        self._deaf: set[NodeId] = set()
        self._mute: set[NodeId] = set()
        self._submissions = 0
        for node in self.members:
            self.cluster.start(node)

    # Time

    @property
    def members(self) -> tuple[NodeId, ...]:
        """All servers."""
        return self.cluster.members

    @property
    def now_s(self) -> float:
        """Seconds since the scenario began."""
        return self.world.now_us / _SECOND_US

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.world.run_until(self.world.now_us + int(seconds * _SECOND_US))

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until the condition holds, at most `seconds`; return whether it does."""
        limit = self.world.now_us + int(seconds * _SECOND_US)
        while not condition():
            if self.world.now_us >= limit:
                return False
            self.run(_POLL_S)
        return True

    # Network and processes

    def disconnect(self, *servers: NodeId) -> None:
        """Cut these servers off from all others. Clients still reach them."""
        self.connected -= set(servers)
        self._cut()

    def connect(self, *servers: NodeId) -> None:
        """Connect these servers to all others that are connected."""
        self.connected |= set(servers)
        self._cut()

    def deafen(self, *servers: NodeId) -> None:
        """Let nothing reach these servers from others, which still hear them: a cut that the kit lacks."""
        self._deaf = set(servers)
        self._cut()

    def mute(self, *servers: NodeId) -> None:
        """Let nothing that these servers send arrive, while they hear the others."""
        self._mute = set(servers)
        self._cut()

    def partition(self, *groups: Iterable[NodeId], one_way: bool = False) -> None:
        """Let servers reach only those of their own group; `one_way`: what the first group sends arrives."""
        self._partition = [set(group) for group in groups]
        self._is_one_way = one_way
        self._cut()

    def heal(self) -> None:
        """Connect all servers to each other."""
        self._partition = []
        self._deaf, self._mute = set(), set()
        self.connect(*self.members)

    def configure(self, network: NetworkOptions) -> None:
        """Make the network better or worse from now on."""
        self.cluster.network.configure(network)

    def crash(self, *servers: NodeId) -> None:
        """Crash those of these servers that are up."""
        for server in servers:
            if self.cluster.processes[server].running:
                self.cluster.crash(server)

    def restart(self, *servers: NodeId) -> None:
        """Start those of these servers that are down."""
        for server in servers:
            if not self.cluster.processes[server].running:
                assert self.cluster.start(server), f"server {server} does not start again"

    def _cut(self) -> None:
        links: set[Link] = {
            (source, to)
            for source in self.members
            for to in self.members
            if source != to and not self._carries(source, to)
        }
        self.cluster.network.cut(links)

    def _carries(self, source: NodeId, to: NodeId) -> bool:
        if not {source, to} <= self.connected or source in self._mute or to in self._deaf:
            return False
        if not self._partition or (self._is_one_way and source in self._partition[0]):
            return True
        return any({source, to} <= group for group in self._partition)

    # Leaders

    def leader(self) -> NodeId:
        """Return the leader among the connected servers (`checkOneLeader`), within ten rounds of 0.5 s."""
        for _ in range(10):
            self.run(0.45 + self.rng.random() / 10)
            leading = [node for node in self.cluster.leaders() if node in self.connected]
            if leading:
                return leading[0]
        raise AssertionError(f"no leader after {self.now_s:.1f} s")

    def same_view(self) -> int:
        """Return the view of the connected servers, which must be one (`checkTerms`)."""
        views = {self._view(node) for node in self.connected if self.cluster.processes[node].running}
        assert len(views) == 1, f"the servers are in views {sorted(views)}"
        return views.pop()

    def assert_no_leader(self) -> None:
        """Assert that no connected server believes that it leads (`checkNoLeader`)."""
        leading = [node for node in self.cluster.leaders() if node in self.connected]
        assert not leading, f"servers {leading} believe that they lead"

    def _view(self, node: NodeId) -> int:
        core = self.cluster.judge.ghosts.nodes[node].core
        assert core is not None
        return core.view

    # Commands given to one certain server

    def submit(self, server: NodeId, method: str, *arguments: object) -> Submission:
        """Give a command to this server, outside all sessions."""
        self._submissions += 1
        submission = Submission(server, arguments[0] if arguments else None)
        process = self.cluster.processes[server]
        address = ClientAddress(_ADDRESSES_FROM + self._submissions)
        connection = Connection(submission, server, address, process.life)  # type: ignore[arg-type]
        self.cluster.connections[address] = connection
        payload = self._machine.methods[method].encode_call(arguments, {})
        secret = self.rng.randbytes(SECRET_BYTES)
        identify = Identify(client_number(secret), secret)
        process.feed(Requested(address, identify, encode_message(identify)))
        message = Submit(identify.client, NO_SESSION, 0, [(1, msgspec.Raw(payload))])
        encoded = encode_message(message)
        self.cluster.judge.requested(server, message)
        process.feed(Requested(address, message, encoded))
        return submission

    def record(self, server: NodeId, value: str) -> Submission:
        """Give the `Recorder` at this server a value, as `Start` does."""
        return self.submit(server, "record", value)

    def recorded(self, value: str) -> set[NodeId]:
        """Return the servers that have executed this value (`nCommitted`)."""
        return {node for node in self.cluster.running if value in self.values(node)}

    def values(self, server: NodeId) -> list[str]:
        """Return what the `Recorder` of this server has executed, in order."""
        machine = self.machine(server)
        return machine.values  # type: ignore[attr-defined, no-any-return]

    def machine(self, server: NodeId) -> StateMachine:
        """Return the machine of a server that is up."""
        replica = self.cluster.processes[server].replica
        assert replica is not None
        return replica.machine

    def one(self, value: str, servers: int, *, retry: bool = True) -> None:
        """Reach agreement on a value: at least `servers` of them execute it (`one`), within ten seconds.

        Without `retry` the first server that takes it must bring it about within two seconds.
        """
        limit = self.now_s + _GIVE_UP_S
        while self.now_s < limit:
            if not self._offer(value):
                self.run(0.05)
                continue
            if self.wait(lambda: len(self.recorded(value)) >= servers, _AGREEMENT_S):
                return
            assert retry, f"{value!r} was executed by {sorted(self.recorded(value))} only, not by {servers}"
        raise AssertionError(f"no agreement on {value!r} within {_GIVE_UP_S:g} s")

    def _offer(self, value: str) -> bool:
        """Give a value to a connected server that believes that it leads; `Start` is refused elsewhere."""
        leading = set(self.cluster.leaders()) & self.connected
        return any(not self.record(server, value).refused for server in sorted(leading))

    # Sizes and counts

    def log_bytes(self, server: NodeId) -> int:
        """Return the bytes of the journal that a restart would still need (`RaftStateSize`)."""
        directory = self.cluster.processes[server].directory
        assert directory is not None
        return directory.journal.live_bytes

    def snapshot_bytes(self, server: NodeId) -> int:
        """Return the size of the newest snapshot, 0 where there is none."""
        directory = self.cluster.processes[server].directory
        assert directory is not None
        snapshot = directory.snapshots.newest
        return snapshot.meta.size_bytes if snapshot else 0

    @property
    def messages(self) -> int:
        """How many messages servers have sent to each other. One of the kit's RPCs is two of them."""
        return self.cluster.network.counts["messages"]

    @property
    def operations(self) -> int:
        """How many calls clients have made, and commands were given to a certain server."""
        return self._submissions + len(self.cluster.history.operations())

    @property
    def sent_bytes(self) -> int:
        """How many bytes those had."""
        return self.cluster.network.sent_bytes

    # Clients

    def client(self, servers: Iterable[NodeId] | None = None, *, exactly_once: bool = False) -> SimClient:
        """Make a client that reaches all servers, or these only (`MakeClerkTo`)."""
        client = self.cluster.add_client(_Unobserved(), exactly_once=exactly_once)
        if servers is not None:
            client.reachable = frozenset(servers)
            for other in set(self.members) - client.reachable:
                client.break_all(other)
        return client


class _Unobserved:
    """Calls of scripted clients report to no observer."""

    def completed(self, client: SimClient, plan: Plan | None, outcome: Outcome) -> None:
        """Nothing more."""


class Later(Generic[_T]):
    """A value that a simulated event will bring. Coroutines await it."""

    def __init__(self) -> None:
        self.done = False
        self._value: _T | None = None
        self._waiting: list[Callable[[], None]] = []

    def set(self, value: _T) -> None:
        """Bring the value; only the first counts."""
        if self.done:
            return
        self.done = True
        self._value = value
        for resume in self._waiting:
            resume()

    def when_done(self, resume: Callable[[], None]) -> None:
        """Call `resume` when the value is there."""
        self._waiting.append(resume)

    def __await__(self) -> Generator["Later[Any]", None, _T]:
        if not self.done:
            yield self
        return cast("_T", self._value)


class Task(Generic[_T]):
    """A coroutine that runs within a scenario: whenever what it awaits has come, in virtual time."""

    def __init__(self, coroutine: Coroutine[Later[Any], None, _T]) -> None:
        self._coroutine = coroutine
        self.done = False
        self.result: _T | None = None
        self.ended_us: int | None = None
        self._resume()

    def _resume(self) -> None:
        try:
            awaited = self._coroutine.send(None)
        except StopIteration as stop:
            self.done = True
            self.result = stop.value
        else:
            awaited.when_done(self._resume)


class Attempts:
    """Single attempts by one simulated client, in the form in which the clerk of 6.5840 makes them."""

    def __init__(self, client: SimClient, timeout_s: float) -> None:
        self._client = client
        self._timeout_us = int(timeout_s * _SECOND_US)

    async def attempt(self, kind: Literal["command", "linearizable"], payload: bytes) -> bytes:
        """Make one call and return its encoded result.

        Raises:
            CommandFailed: the machine raised.
            NotExecuted: the attempt certainly has no effect.
            OutcomeUnknown: it may have one.
        """
        method, key, *rest = msgspec.msgpack.decode(payload)
        later: Later[Outcome] = Later()
        self._client.invoke(Plan(kind, method, key, tuple(rest)), self._timeout_us, later.set)
        match await later:
            case Returned(payload=result):
                return result
            case Raised(kind=name, explanation=explanation):
                raise CommandFailed(name, explanation)
            case Failed(outcome="unknown", reason=reason):
                raise OutcomeUnknown(reason)
            case Failed(reason=reason):
                raise NotExecuted(reason)


def pauses(scenario: Scenario) -> Callable[[float], Awaitable[None]]:
    """Return what coroutines of this scenario await to let seconds pass."""

    def pause(seconds: float) -> Awaitable[None]:
        later: Later[None] = Later()
        scenario.world.after(int(seconds * _SECOND_US), later.set, None)
        return later

    return pause
