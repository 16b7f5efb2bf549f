"""Simulated clients: the production client core over connections that behave like TCP.

Rules of this file: a connection keeps order and delivers each message at most once until it breaks; after
that nothing arrives, and both ends learn of it sooner or later. Connecting again makes a new address.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final, Literal, Protocol

import msgspec

from viewstamp.checker.history import OutcomeKind, Recorder
from viewstamp.core.effects import Send
from viewstamp.core.events import Directive, PeerDown, PeerUp, Received, Woke
from viewstamp.core.ids import ClientAddress, Instant, NodeId
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.messages import (
    REFUSED,
    AdminRequest,
    ClientMessage,
    Results,
    ServerMessage,
    Submit,
    decode_client_message,
    decode_server_message,
    encode_message,
)
from viewstamp.core.principals import ANONYMOUS, LOCAL_OPERATOR
from viewstamp.machine.definition import MachineDefinition
from viewstamp.replica.client.client import ClientCore
from viewstamp.replica.events import (
    CallId,
    Cancelled,
    ClientEvent,
    ClientGone,
    Closed,
    Complete,
    CompleteAll,
    Failed,
    Invoked,
    Operated,
    Outcome,
    Raised,
    Requested,
    Returned,
)
from viewstamp.sim.judge.judge import Judge
from viewstamp.sim.world.network import Network
from viewstamp.sim.world.process import Process
from viewstamp.sim.world.trace import Trace, describe_client_message
from viewstamp.sim.world.world import World

_RECONNECT_US: Final = (5_000, 150_000)
_DETECT_US: Final = (50_000, 2_000_000)
_RESEND_MAX_US: Final = 4_000_000
_WOKE: Final = Woke()


CallKind = Literal["command", "linearizable", "stale"]


class Plan(msgspec.Struct, frozen=True):
    """A call that a client is about to make."""

    kind: CallKind
    method: str
    key: Any
    """The first argument, by which the history is divided; None: it is not divided."""
    arguments: tuple[object, ...] = ()
    """After the key."""


class ResultLog(Protocol):
    """The part of a workload that hears how its calls ended."""

    def note_result(self, plan: Plan, result: object) -> None:
        """Record that this call returned this."""
        ...

    def note_unknown(self, plan: Plan) -> None:
        """Record that it is unknown whether this call was executed."""
        ...


class ClientHost(msgspec.Struct, frozen=True):
    """What all clients of a run share."""

    world: World
    network: Network
    judge: Judge
    trace: Trace
    processes: dict[NodeId, Process]
    history: Recorder
    machine: MachineDefinition
    connections: dict[ClientAddress, "Connection"]
    addresses: Iterator[int]
    """Numbers for new connections, each once."""
    workload: ResultLog
    numbers: dict[int, tuple[int, int]] = {}
    """For calls of the history that were sent, by handle: the client's number and the call's own."""
    positions: dict[int, int] = {}
    """For calls of the history that have a result, by handle: up to where the server had applied the log."""


class Connection:
    """A stream between one client and one life of one server."""

    __slots__ = ("address", "arrives_us", "client", "life", "open", "server")

    def __init__(self, client: "SimClient", server: NodeId, address: ClientAddress, life: int) -> None:
        self.client = client
        self.server = server
        self.address = address
        self.life = life
        self.open = True
        """False: broken; nothing more arrives at either end."""
        self.arrives_us = [0, 0]
        """When the last message arrives at the server and at the client; the next one not before."""


class Call(msgspec.Struct):
    """An open call."""

    plan: Plan | None
    handle: int | None
    """Of the history; None: not part of it."""
    deadline_us: int
    done: Callable[[Outcome], None] | None = None


class NumberedCore(ClientCore):
    """A client core that says which call has which number."""

    __slots__ = ()

    def call_numbered(self, sequence: int) -> CallId | None:
        """Return the open call that was sent under this number."""
        call = self._calls.in_flight.get(sequence)
        return None if call is None else call.call


class Observer(Protocol):
    """What makes the calls of a client."""

    def completed(self, client: "SimClient", plan: Plan | None, outcome: Outcome) -> None:
        """A call ended."""
        ...


class SimClient:
    """One client: a core, its connections, and the calls it has open."""

    def __init__(
        self, name: int, host: ClientHost, core: NumberedCore, rng: Random, observer: Observer
    ) -> None:
        """`name` is below zero: it is the client's endpoint in the network."""
        assert name < 0
        self.name = name
        self.host = host
        self.core = core
        self.observer = observer
        self.reachable: frozenset[NodeId] = frozenset(host.processes)
        """The servers that it may connect to at all."""
        self.healed_us: int | None = None
        """When the faults ended; None: they have not."""
        self.closed = False
        self.resend = 0.0
        """How many commands are sent once more, long after they were answered."""
        self.calls: dict[CallId, Call] = {}
        self._rng = rng
        self._armed_at_us: int | None = None
        self._position = 0
        """Of the results that arrived last."""
        self._answered: set[int] = set()
        """Sequence numbers of which a result has arrived; a refusal is none."""
        self._connections: dict[NodeId, Connection] = {}
        for server in host.processes:
            self._connect(server)

    def healed(self, reachable: frozenset[NodeId]) -> None:
        """From now on these servers are up, well connected, and must serve; the others are gone."""
        self.reachable = reachable
        self.healed_us = self.host.world.now_us

    @property
    def principal(self) -> str:
        """On whose behalf the servers take its messages."""
        return ANONYMOUS

    # Calls

    def invoke(self, plan: Plan, timeout_us: int, done: Callable[[Outcome], None] | None = None) -> CallId:
        """Make this call; the observer and `done` hear of its end."""
        host = self.host
        method = host.machine.methods[plan.method]
        key = () if plan.key is None else (plan.key,)
        payload = method.encode_call((*key, *plan.arguments), {})
        handle = None
        if plan.kind != "stale":
            handle = host.history.begin(
                self.name, plan.method, plan.key, plan.arguments, now=host.world.now_us
            )
        call = self._new_call(Call(plan, handle, host.world.now_us + timeout_us, done))
        self._step(Invoked(call, plan.kind, payload, Instant(host.world.now_us + timeout_us)))
        return call

    def operate(self, node: NodeId, directive: Directive | None, timeout_us: int) -> CallId:
        """Ask one node for its status, or to follow a directive."""
        deadline_us = self.host.world.now_us + timeout_us
        call = self._new_call(Call(None, None, deadline_us))
        self._step(Operated(call, node, directive, Instant(deadline_us)))
        return call

    def cancel(self, call: CallId) -> None:
        """Stop waiting for a call; its outcome stays unknown."""
        found = self.calls.pop(call, None)
        if found is not None:
            if found.plan is not None:
                self.host.workload.note_unknown(found.plan)
            self._step(Cancelled(call))

    def close(self) -> None:
        """End all calls and give the session back."""
        self._step(Closed())
        self.closed = True
        for connection in list(self._connections.values()):
            self.break_connection(connection)

    # Connections

    def deliver(self, connection: Connection, encoded: bytes) -> None:
        """A server's message arrives."""
        if connection.open and not self.closed:
            message = decode_server_message(encoded)
            trace, now = self.host.trace, self.host.world.now_us
            trace.feed(now, b"response", self.name, encoded)
            if trace.verbose:
                prose = describe_client_message(message, encoded)
                trace.line(now, "response", self.name, source=connection.server, message=prose)
            if type(message) is Results:
                self._position = message.position
                if self.resend:
                    lines = message.results
                    self._answered.update(sequence for sequence, kind, _ in lines if kind != REFUSED)
            self._step(Received(connection.server, message))

    def transmit(self, connection: Connection, *, to_server: bool, encoded: bytes) -> None:
        """Put a message on a connection, in order."""
        if not connection.open:
            return
        host = self.host
        ends = (self.name, connection.server)
        source, to = ends if to_server else ends[::-1]
        if host.network.is_cut(source, to):
            # A stream over a cut link stalls until an end gives it up.
            host.network.counts["client cut off"] += 1
            self._lose(connection)
            return
        index = 0 if to_server else 1
        arrives = max(connection.arrives_us[index], host.world.now_us + host.network.delay(source, to))
        connection.arrives_us[index] = arrives
        action = self._arrive_at_server if to_server else self.deliver
        host.world.at(arrives, action, connection, encoded)

    def break_connection(self, connection: Connection) -> None:
        """Break it now; the two ends notice after a while."""
        if not connection.open:
            return
        connection.open = False
        host = self.host
        host.connections.pop(connection.address, None)
        host.world.after(self._rng.randrange(20_000), self._server_notices, connection)
        host.world.after(self._rng.randrange(20_000), self._client_notices, connection)

    def break_all(self, server: NodeId) -> None:
        """Break the connection to this server, if there is one."""
        connection = self._connections.get(server)
        if connection is not None:
            self.break_connection(connection)

    def _lose(self, connection: Connection) -> None:
        connection.open = False
        self.host.connections.pop(connection.address, None)
        self.host.world.after(self._rng.randint(*_DETECT_US), self._server_notices, connection)
        self.host.world.after(self._rng.randint(*_DETECT_US), self._client_notices, connection)

    def _connect(self, server: NodeId) -> None:
        """Try to connect; try again after a while where that fails."""
        if self.closed:
            return
        network, process = self.host.network, self.host.processes[server]
        cut = network.is_cut(self.name, server) or network.is_cut(server, self.name)
        if process.running and not cut and server in self.reachable:
            delay = network.delay(self.name, server) + network.delay(server, self.name)
            self.host.world.after(delay, self._connected, server, process.life)
        else:
            self._connect_later(server)

    def _connect_later(self, server: NodeId) -> None:
        self.host.world.after(self._rng.randint(*_RECONNECT_US), self._connect, server)

    def _connected(self, server: NodeId, life: int) -> None:
        gone = self.host.processes[server].life != life or server not in self.reachable
        if self.closed or gone:
            self._connect_later(server)
            return
        address = ClientAddress(next(self.host.addresses))
        connection = Connection(self, server, address, life)
        self._connections[server] = connection
        self.host.connections[address] = connection
        self._step(PeerUp(server))

    def _server_notices(self, connection: Connection) -> None:
        process = self.host.processes[connection.server]
        if process.life == connection.life:
            process.feed(ClientGone(connection.address))

    def _client_notices(self, connection: Connection) -> None:
        if self._connections.get(connection.server) is connection:
            del self._connections[connection.server]
            if not self.closed:
                self._step(PeerDown(connection.server))
            self._connect_later(connection.server)

    def _arrive_at_server(self, connection: Connection, encoded: bytes) -> None:
        process = self.host.processes[connection.server]
        if connection.open and process.running and process.life == connection.life:
            message = decode_client_message(encoded)
            self.host.judge.requested(connection.server, message)
            # What it asks as an operator comes over a connection that proved it.
            principal = LOCAL_OPERATOR if isinstance(message, AdminRequest) else self.principal
            process.feed(Requested(connection.address, message, encoded, principal))

    # The core

    def _new_call(self, call: Call) -> CallId:
        number = CallId(self._rng.getrandbits(62))
        self.calls[number] = call
        return number

    def _step(self, event: ClientEvent) -> None:
        now = self.host.world.now_us
        for effect in self.core.step(event, Instant(now)):
            if type(effect) is Send:
                self._send(effect.to, effect.message)
            elif isinstance(effect, Complete | CompleteAll):
                for ended in effect.each():
                    self._complete(ended)
        for what, size, limit in self.core.queues():
            if size > limit:
                raise InvariantViolated(
                    "I20 Bounded", f"client {self.name}: {size} {what}, but the limit is {limit}"
                )
        self._arm()

    def _send(self, to: NodeId, message: ClientMessage) -> None:
        if type(message) is Submit:
            self._note_numbers(message)
        connection = self._connections.get(to)
        if connection is not None:
            encoded = encode_message(message)
            self.transmit(connection, to_server=True, encoded=encoded)
            if self.resend and type(message) is Submit and self._rng.random() < self.resend:
                self.host.world.after(self._rng.randrange(_RESEND_MAX_US), self._send_again, message, encoded)

    def _note_numbers(self, message: Submit) -> None:
        """Record under which numbers calls go out: those are what the log knows them by."""
        for sequence, _ in message.calls:
            number = self.core.call_numbered(sequence)
            call = None if number is None else self.calls.get(number)
            if call is not None and call.handle is not None:
                self.host.numbers[call.handle] = (message.client, sequence)

    def _send_again(self, message: Submit, encoded: bytes) -> None:
        """Let a copy of commands arrive that have their results: a proxy's, or a retry's that got lost.

        Only of those: the core may take a command for not executed of which it knows no copy.
        """
        servers = sorted(self._connections)
        if servers and not self.closed and self._answered.issuperset(number for number, _ in message.calls):
            self.host.network.counts["command sent again"] += 1
            self.transmit(self._connections[self._rng.choice(servers)], to_server=True, encoded=encoded)

    def _complete(self, effect: Complete) -> None:
        call = self.calls.pop(effect.call)
        outcome = effect.outcome
        if call.plan is not None:
            self._record(call, call.plan, outcome)
        self.observer.completed(self, call.plan, outcome)
        if call.done is not None:
            call.done(outcome)

    def _record(self, call: Call, plan: Plan, outcome: Outcome) -> None:
        host = self.host
        kind, result = self._judged(plan, outcome)
        if kind == "ok":
            host.workload.note_result(plan, result)
        elif kind == "unknown":
            host.workload.note_unknown(plan)
        if call.handle is not None:
            if kind in {"ok", "raised"}:
                host.positions[call.handle] = self._position
            host.history.end(call.handle, kind, result, now=host.world.now_us)

    def _judged(self, plan: Plan, outcome: Outcome) -> tuple[OutcomeKind, Any]:
        match outcome:
            case Returned():
                return "ok", self.host.machine.methods[plan.method].decode_result(outcome.payload)
            case Raised():
                return "raised", outcome.kind
            case Failed():
                assert outcome.outcome != "invalid", f"the workload makes invalid calls: {outcome.reason}"
                return ("unknown" if outcome.outcome == "unknown" else "failed"), None

    def _arm(self) -> None:
        deadline = self.core.deadline
        if deadline is None:
            return
        at = max(int(deadline), self.host.world.now_us)
        if self._armed_at_us is None or at < self._armed_at_us:
            self._armed_at_us = at
            self.host.world.at(at, self._wake, at)

    def _wake(self, armed_at_us: int) -> None:
        if armed_at_us != self._armed_at_us:
            return
        self._armed_at_us = None
        deadline = self.core.deadline
        if deadline is not None and deadline <= self.host.world.now_us:
            self._step(_WOKE)
        else:
            self._arm()


def respond(connections: dict[ClientAddress, Connection], to: ClientAddress, message: ServerMessage) -> None:
    """Carry a server's message to whichever client has this connection, if it is still open."""
    connection = connections.get(to)
    if connection is not None:
        connection.client.transmit(connection, to_server=False, encoded=encode_message(message))
