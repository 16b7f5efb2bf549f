"""A protocol core of one node that obeys, and machines and helpers for the tests of this folder."""

from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from viewstamp.core.effects import Answer, Apply, Capture, Effect, Entry, LeaderChanged, Restore, Settled
from viewstamp.core.events import Directed, Event, Proposed, Queried, SnapshotToken, Woke
from viewstamp.core.ids import (
    ORIGIN,
    ClientAddress,
    Incarnation,
    Instant,
    NodeId,
    Seqno,
    View,
    Viewstamp,
)
from viewstamp.core.judge import Oracle
from viewstamp.core.messages import (
    ClientMessage,
    CloseSession,
    KeepAlive,
    OpenSession,
    QueryRequest,
    Results,
    ServerMessage,
    SessionOpened,
    Submit,
    encode_message,
)
from viewstamp.core.principals import LOCAL_OPERATOR
from viewstamp.core.protocol import Core, CoreSetup, Guarantees, ProtocolDefinition, Recovered, Status
from viewstamp.core.snapshots import BytesSnapshot, Snapshot
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine, command, query
from viewstamp.replica.authorization import Grant
from viewstamp.replica.events import ClientGone, ReplicaEffect, ReplicaEvent, Requested, Respond, Save
from viewstamp.replica.options import ReplicaOptions
from viewstamp.replica.replica import Replica
from viewstamp.replica.setup import ReplicaSetup

NODE = NodeId(1)
OTHER = NodeId(2)
HERE = ClientAddress(7)
CLIENT = 4_242


class Broken(Exception):
    """What the test machine raises."""


class Counter(StateMachine):
    """The machine of most tests of this folder."""

    value: int = 0
    log: list[str] = []  # noqa: RUF012  copied for each instance: that is tested

    @command
    def add(self, amount: int, label: str = "") -> int:
        self.value += amount
        if label:
            self.log.append(label)
        return self.value

    @command
    def fail(self, text: str) -> None:
        self.value += 1
        raise Broken(text)

    @command
    def when(self) -> tuple[int, int, float]:
        return self.context.now, self.context.token, self.context.random.random()

    @command
    def tell(self, client: int, text: str) -> None:
        self.context.notify(client, text)

    @query
    def read(self) -> int:
        return self.value


class FakeCore:
    """Commits what it is given at once, unless told to hold it; answers reads at once, unless told not to."""

    def __init__(self, setup: CoreSetup) -> None:
        self.setup = setup
        self.leader: NodeId | None = setup.node
        self.view = View(1)
        self.accepting = True
        self.deadline: Instant | None = None
        self.events: list[Event] = []
        self.held: list[bytes] = []
        """Proposals that were not committed, where `holding`."""
        self.holding = False
        self.answering = True
        self.refusing: Effect | None = None
        self.script: list[Effect] = []
        """Handed out with the next step, first."""
        snapshot = setup.recovered.snapshot
        self.last = ORIGIN if snapshot is None else snapshot.meta.viewstamp

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        self.events.append(event)
        effects, self.script = self.script, []
        if isinstance(event, Proposed):
            effects += self.order(event.data)
        elif isinstance(event, Queried) and self.answering:
            effects.append(Answer(event.token))
        elif isinstance(event, Directed):
            effects.append(Settled(event.token, None))
        return effects

    def order(self, data: bytes) -> list[Effect]:
        if self.holding:
            self.held.append(data)
            return []
        return [self.entry(data)]

    def entry(self, data: bytes) -> Apply:
        self.last = Viewstamp(self.view, Seqno(self.last.seqno + 1))
        return Apply(Entry(self.last, data))

    def status(self, now: Instant) -> Status:
        return Status(
            node=self.setup.node,
            role="leader",
            view=self.view,
            leader=self.leader,
            last=self.last,
            committed=self.last.seqno,
            applied=self.last.seqno,
            snapshot=0,
            log_bytes=0,
            members=self.setup.members,
        )


def _no_oracle(members: tuple[NodeId, ...]) -> Oracle:
    raise AssertionError("the tests of the replica judge no protocol")


def _make_core(setup: CoreSetup) -> Core:
    return FakeCore(setup)


FAKE = ProtocolDefinition(
    name="fake",
    guarantees=Guarantees(
        commits_when="at once",
        tolerates="minority",
        safe_under_partition=True,
        survives_full_restart=True,
        reads="linearizable",
        dynamic_membership=False,
    ),
    options_type=object,
    message_type=object,
    make_core=_make_core,
    make_oracle=_no_oracle,
)


def _core_at(last: Viewstamp) -> ProtocolDefinition:
    """Return the protocol with cores whose log ended there when they started."""

    def make_core(setup: CoreSetup) -> Core:
        core = FakeCore(setup)
        core.last = max(core.last, last)
        return core

    return msgspec.structs.replace(FAKE, make_core=make_core)


def make_replica(
    machine: type[StateMachine] = Counter,
    options: ReplicaOptions | None = None,
    snapshot: Snapshot | None = None,
    *,
    node: NodeId = NODE,
    members: tuple[NodeId, ...] = (NODE, OTHER),
    last: Viewstamp = ORIGIN,
    grants: tuple[Grant, ...] = (),
) -> Replica:
    return Replica(
        ReplicaSetup(
            node=node,
            members=members,
            incarnation=Incarnation(1),
            definition=_core_at(last),
            protocol_options=None,
            options=options or ReplicaOptions(),
            machine=machine,
            rng=Random(1),
            recovered=Recovered(snapshot=snapshot),
            now=Instant(0),
            strict=True,
            grants=grants,
        )
    )


def call(method: str, *args: Any) -> bytes:
    return msgspec.msgpack.encode([method, *args])


def submit(session: int, *calls: tuple[int, bytes], client: int = CLIENT, acknowledged: int = 0) -> Submit:
    return Submit(client, session, acknowledged, [(seq, msgspec.Raw(payload)) for seq, payload in calls])


class Bench:
    """A replica with a fake core on a bench: feed it, look at what comes out."""

    def __init__(
        self,
        machine: type[StateMachine] = Counter,
        options: ReplicaOptions | None = None,
        snapshot: Snapshot | None = None,
        *,
        node: NodeId = NODE,
        members: tuple[NodeId, ...] = (NODE, OTHER),
        last: Viewstamp = ORIGIN,
        grants: tuple[Grant, ...] = (),
    ) -> None:
        self.replica = make_replica(
            machine, options, snapshot, node=node, members=members, last=last, grants=grants
        )
        core = self.replica.core
        assert isinstance(core, FakeCore)
        self.core = core
        self.now = 0
        self.definition = MachineDefinition.of(machine)
        self.seen: list[ReplicaEffect] = []
        self.entries: list[Apply] = []

    def step(self, event: ReplicaEvent) -> list[ReplicaEffect]:
        effects = self.replica.step(event, Instant(self.now))
        self.seen += effects
        return effects

    def request(self, message: ClientMessage, source: ClientAddress = HERE) -> list[ReplicaEffect]:
        """Send a message over a connection that speaks for its client: these have no secrets."""
        if isinstance(message, Submit | OpenSession | KeepAlive | CloseSession | QueryRequest):
            self.replica._responses.addresses.bind(message.client, source)
        return self.step(Requested(source, message, encode_message(message), LOCAL_OPERATOR))

    def wake(self) -> list[ReplicaEffect]:
        """Do what a driver does until nothing is due."""
        effects: list[ReplicaEffect] = []
        while (deadline := self.replica.deadline) is not None and deadline <= self.now:
            effects += self.step(Woke())
        return effects

    def do(self, message: ClientMessage, source: ClientAddress = HERE) -> list[ServerMessage]:
        return replies([*self.request(message, source), *self.wake()])

    def feed(self, *effects: Effect) -> list[ReplicaEffect]:
        """Let the core hand out these effects."""
        self.core.script += effects
        self.core.deadline = Instant(self.now)
        out = self.step(Woke())
        self.core.deadline = None
        return out

    def commit_held(self) -> list[ReplicaEffect]:
        held, self.core.held = self.core.held, []
        return self.feed(*(self.core.entry(data) for data in held))

    def open(self, client: int = CLIENT, source: ClientAddress = HERE) -> int:
        opened = [m for m in self.do(OpenSession(client), source) if isinstance(m, SessionOpened)]
        assert len(opened) == 1
        return opened[0].session

    def gone(self, source: ClientAddress = HERE) -> list[ReplicaEffect]:
        return self.step(ClientGone(source))

    def lead(self, leader: NodeId | None) -> list[ReplicaEffect]:
        self.core.leader = leader
        self.core.accepting = leader == NODE
        return self.feed(LeaderChanged(self.core.view, leader))

    def save(self) -> BytesSnapshot:
        """Take a snapshot, in the way of a driver."""
        viewstamp = self.replica.applied
        effects = self.feed(Capture(SnapshotToken(1), viewstamp, b"header"))
        (saving,) = [effect for effect in effects if isinstance(effect, Save)]
        return BytesSnapshot(saving.viewstamp, saving.header, b"".join(saving.parts))

    def install(self, snapshot: Snapshot) -> list[ReplicaEffect]:
        self.core.last = snapshot.meta.viewstamp
        return self.feed(Restore(snapshot))


def replies(effects: Sequence[ReplicaEffect]) -> list[ServerMessage]:
    return [effect.message for effect in effects if isinstance(effect, Respond)]


def lines(messages: Sequence[ServerMessage]) -> list[tuple[int, int, Any]]:
    """All result lines with decoded payloads, in order."""
    return [
        (sequence, kind, msgspec.msgpack.decode(payload))
        for message in messages
        if isinstance(message, Results)
        for sequence, kind, payload in message.results
    ]
