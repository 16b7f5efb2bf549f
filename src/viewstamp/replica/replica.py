"""A replica: one protocol core, exactly-once sessions and the user's machine, behind `step`.

Rules of this file:

- clients' messages gather until the core accepts entries and the replica is woken; then they become batches;
- nothing is refused after it was proposed: who waits is answered when the entry is applied, or redirected
  when another leader is known. While no leader is known, everybody waits (docs/requirements.md#k1);
- only the ledger's `apply` and a restored snapshot change replicated state;
- a replica that finds that it differs from the leader halts, and does nothing from then on.
"""

from collections.abc import Iterator
from random import Random
from typing import Any, Final, assert_never

import msgspec

from viewstamp.core.effects import (
    Answer,
    Apply,
    Capture,
    Effect,
    LeaderChanged,
    Persist,
    Refuse,
    Release,
    Restore,
    Send,
    Settled,
    Stage,
)
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.events import (
    Captured,
    Directed,
    DirectiveToken,
    Event,
    PeerDown,
    PeerUp,
    Persisted,
    Proposed,
    Queried,
    Received,
    Staged,
    Woke,
)
from viewstamp.core.ids import ClientAddress, Incarnation, Instant, NodeId, View, Viewstamp
from viewstamp.core.messages import (
    INVALID,
    REFUSED,
    AdminReply,
    AdminRequest,
    AskStatus,
    CloseSession,
    KeepAlive,
    OpenSession,
    QueryRequest,
    Redirect,
    StatusReply,
    Submit,
)
from viewstamp.core.protocol import Core, CoreSetup, ProtocolDefinition, Recovered, Status
from viewstamp.core.snapshots import Snapshot, SnapshotMeta
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica import snapshot_body as images
from viewstamp.replica.batches import (
    IN_FLIGHT_MAX,
    Batch,
    BatchBuffer,
    BatchUnreadable,
    Gathered,
    InFlightBatch,
    InFlightBatches,
    Prepared,
    SubmitValidator,
    decode_batch,
    encode_batch,
)
from viewstamp.replica.events import ClientGone, Halt, ReplicaEffect, ReplicaEvent, Requested, Save
from viewstamp.replica.options import ReplicaOptions
from viewstamp.replica.reads import Reads, decode_ask, evaluate
from viewstamp.replica.replicated_state import ADVICE, LogClock, ReplicatedState
from viewstamp.replica.responses import ClientAddresses, Responses, encoded_text

OVERLOADED: Final = "the server has too much to do"


class ReplicaSetup(msgspec.Struct, frozen=True):
    """Everything that a replica is given at birth."""

    node: NodeId
    members: tuple[NodeId, ...]
    incarnation: Incarnation
    definition: ProtocolDefinition
    protocol_options: Any
    """Of the type that the protocol's definition names."""
    options: ReplicaOptions
    machine: type[StateMachine]
    rng: Random
    recovered: Recovered
    now: Instant


class Replica:
    """One member of a replicated machine. `step` takes an event and returns what must be done, in order."""

    __slots__ = (
        "_clock",
        "_directives",
        "_examiner",
        "_gatherer",
        "_halt",
        "_ledger",
        "_next_directive",
        "_now",
        "_offers",
        "_reads",
        "_responses",
        "_restored",
        "_saving",
        "core",
        "definition",
        "led",
        "node",
        "options",
    )

    def __init__(self, setup: ReplicaSetup) -> None:
        """Start from what the disk holds; a snapshot found there is restored at once.

        Raises:
            ConfigurationError: the class cannot be replicated, or the snapshot on disk is not one of it.
        """
        self.node = setup.node
        self.options = setup.options
        self.definition = MachineDefinition.of(setup.machine)
        self._now = setup.now
        self._ledger = ReplicatedState(self.definition, setup.options.sessions)
        self.led: LeaderChanged | None = None
        """What the core last said of who leads: another object for each change."""
        self._restored: SnapshotMeta | None = None
        """The snapshot whose state the ledger has exactly, if it has applied nothing since."""
        if setup.recovered.snapshot is not None:
            self._recover(setup.recovered.snapshot)
        self._clock = LogClock()
        self._examiner = SubmitValidator(self.definition, setup.options)
        self._gatherer = BatchBuffer(setup.options)
        self._responses = Responses(ClientAddresses(setup.options.clients_max))
        self._reads = Reads(setup.options.reads_max)
        self._directives: dict[DirectiveToken, tuple[ClientAddress, int]] = {}
        self._next_directive = 0
        self._offers = InFlightBatches()
        self._saving: images.Parts | None = None
        """The parts of a `Save` of the current step."""
        self._halt: Halt | None = None
        self.core: Core = setup.definition.make_core(
            CoreSetup(
                node=setup.node,
                members=setup.members,
                incarnation=setup.incarnation,
                rng=setup.rng,
                options=setup.protocol_options,
                recovered=setup.recovered,
                now=setup.now,
            )
        )

    @property
    def deadline(self) -> Instant | None:
        """The next moment at which it wants to be woken; in the past means at once. None: never."""
        if self._halt is not None:
            return None
        core = self.core
        if (
            (self._gatherer.messages and core.accepting)
            or self._reads.gathered
            or (self._responses.audience.arrived and core.leader == self.node)
        ):
            return self._now
        return core.deadline

    @property
    def leader(self) -> NodeId | None:
        """The member that clients should talk to, as far as this node knows."""
        return self.core.leader

    @property
    def view(self) -> View:
        """The current view of the protocol."""
        return self.core.view

    @property
    def machine(self) -> StateMachine:
        """The user's machine as of the last applied entry. Look, do not touch."""
        return self._ledger.host.machine

    @property
    def ledger(self) -> ReplicatedState:
        """The replicated state, for invariants and tests."""
        return self._ledger

    @property
    def applied(self) -> Viewstamp:
        """The last entry that was applied."""
        return self._ledger.applied

    @property
    def digest(self) -> int:
        """Digest of all results so far: equal at equal `applied` on all replicas."""
        return self._ledger.chain.digest

    @property
    def halted(self) -> str | None:
        """Why this replica has stopped for good; None while it works."""
        return None if self._halt is None else self._halt.reason

    def status(self, now: Instant) -> Status:
        """Return this node's own account of itself."""
        status = self.core.status(now)
        if self._halt is not None:
            return msgspec.structs.replace(status, waiting_for=self._halt.reason)
        return status

    def queues(self) -> Iterator[tuple[str, int, int]]:
        """Yield what waits or is remembered here: (what, how much, how much at most)."""
        options, sessions = self.options, self._ledger.sessions
        yield "commands gathered", self._gatherer.commands, options.gathered_commands_max
        yield "bytes gathered", self._gatherer.size_bytes, options.gathered_bytes_max
        yield "queries waiting", len(self._reads), options.reads_max
        yield "directives under way", len(self._directives), options.directives_max
        yield "clients known", len(self._responses.audience), options.clients_max
        yield "own batches under way", len(self._offers), IN_FLIGHT_MAX
        yield "sessions", len(sessions), sessions.limits.sessions_max
        yield "bytes of results", sessions.result_bytes, sessions.limits.result_bytes_max

    def step(self, event: ReplicaEvent, now: Instant) -> list[ReplicaEffect]:
        """Take in one event and return what must be done, in order. `now` never goes back."""
        if self._halt is not None:
            return []
        self._now = now
        match event:  # the frequent ones first
            case Received() | Persisted():
                self._drive(event)
            case Requested():
                self._requested(event)
            case Woke():
                self._woke()
            case ClientGone():
                self._responses.audience.gone(event.source)
            case Captured() | Staged() | PeerUp() | PeerDown():
                self._drive(event)
            case _:
                assert_never(event)
        return self._finish()

    def _finish(self) -> list[ReplicaEffect]:
        self._saving = None
        return [self._halt] if self._halt is not None else self._responses.take()

    def _woke(self) -> None:
        deadline = self.core.deadline
        if deadline is not None and deadline <= self._now:
            self._drive(Woke())
        while self._gatherer.messages and self.core.accepting and self._halt is None:
            self._propose(self._gatherer.take_batch())
        if self._reads.gathered:
            self._drive(Queried(self._reads.begin_round()))
        if self._responses.audience.arrived and self.core.leader == self.node:
            self._repeat_notifications()

    def _drive(self, event: Event) -> None:
        """Feed the core and carry out what it asks for."""
        for effect in self.core.step(event, self._now):
            if isinstance(effect, (Send, Persist)):  # most are; a union would cost four times as much
                self._responses.effects.append(effect)
            elif isinstance(effect, Apply):
                self._apply(effect)
            else:
                self._carry_out(effect)
            if self._halt is not None:
                return

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Apply():
                self._apply(effect)
            case Send() | Persist() | Release() | Stage():
                self._responses.effects.append(effect)
            case Answer():
                self._answer_round(effect)
            case Refuse():
                self._refuse_round(effect)
            case LeaderChanged():
                self._led(effect)
            case Capture():
                self._saving = images.capture(self._ledger)
                save = Save(effect.token, effect.viewstamp, effect.header, self._saving)
                self._responses.effects.append(save)
            case Restore():
                self._install(effect.snapshot)
            case Settled():
                source, request = self._directives.pop(effect.token)
                self._responses.say(source, AdminReply(request, effect.refusal))
            case _:
                assert_never(effect)

    # Requests

    def _requested(self, event: Requested) -> None:
        message, source = event.message, event.source
        match message:
            case Submit():
                self._responses.audience.note(message.client, source)
                self._submitted(source, message, event.encoded)
            case OpenSession() | KeepAlive() | CloseSession():
                self._responses.audience.note(message.client, source)
                self._gather(Gathered(source, Prepared(message, []), event.encoded))
            case QueryRequest():
                self._responses.audience.note(message.client, source)
                self._asked(source, message)
            case AskStatus():
                self._responses.say(source, StatusReply(message.request, self.status(self._now)))
            case AdminRequest():
                self._directed(source, message)
            case _:
                assert_never(message)

    def _submitted(self, source: ClientAddress, message: Submit, encoded: bytes) -> None:
        if len(message.calls) > self.options.batch_commands_max:
            reason = f"more than {self.options.batch_commands_max} calls in one message"
            self._responses.refuse(source, message, self._ledger.position, reason)
            return
        examined = self._examiner.examine(source, message, encoded)
        if examined.invalid:
            lines = [(sequence, INVALID, encoded_text(why)) for sequence, why in examined.invalid]
            self._responses.lines(source, message.client, self._ledger.position, lines)
        if examined.gathered is not None:
            self._gather(examined.gathered)

    def _gather(self, gathered: Gathered) -> None:
        message = gathered.prepared.message
        leader = self.core.leader
        if leader is not None and leader != self.node and not self.core.accepting:
            self._responses.redirect(gathered, self._other_leader(), "another node leads")
        elif self._gatherer.add(gathered):
            self._responses.audience.waiting.add(message.client)
        elif isinstance(message, Submit):
            self._responses.refuse(gathered.source, message, self._ledger.position, OVERLOADED)
        else:
            self._responses.redirect(gathered, self._other_leader(), OVERLOADED)

    def _directed(self, source: ClientAddress, message: AdminRequest) -> None:
        if len(self._directives) >= self.options.directives_max:
            refusal = "too many directives are under way: try again later"
            self._responses.say(source, AdminReply(message.request, refusal))
            return
        self._next_directive += 1
        token = DirectiveToken(self._next_directive)
        self._directives[token] = source, message.request
        self._drive(Directed(token, message.directive))

    # Proposing and redirecting

    def _propose(self, taken: list[Gathered]) -> None:
        log_time = self._clock.read(self._now, self._ledger.log_time)
        check = self._ledger.chain.position
        data = encode_batch(log_time, check, [gathered.encoded for gathered in taken])
        messages = [gathered.prepared for gathered in taken]
        self._offers.add(InFlightBatch(data, Batch(log_time, check, []), messages))
        self._drive(Proposed(data))

    def _led(self, led: LeaderChanged) -> None:
        self.led = led
        if led.leader == self.node:
            self._clock.start(self._now, self._ledger.log_time)
            self._responses.audience.all_arrive()
            return
        self._clock.stop()
        if led.leader is not None:
            self._redirect_all()

    def _redirect_all(self) -> None:
        """Another node leads: send all there; say for each call whether it may have entered the log."""
        responses = self._responses
        leader = self._other_leader()
        for offered in self._offers.take_all():
            responses.redirect_entered(offered.messages, leader)
        if self.core.accepting:  # a protocol without elections, in which the clients choose whom to talk to
            return
        for gathered in self._gatherer.take_all():
            responses.redirect(gathered, leader, "another node leads")
        responses.send_away(leader, self._ledger)
        responses.audience.waiting.clear()

    def _other_leader(self) -> NodeId | None:
        leader = self.core.leader
        return None if leader == self.node else leader

    # Applying

    def _apply(self, effect: Apply) -> None:
        entry = effect.entry
        ledger = self._ledger
        assert entry.viewstamp.seqno == ledger.applied.seqno + 1, (entry.viewstamp, ledger.applied)
        if self._saving is not None:
            self._freeze_save()
        self._restored = None
        if not entry.data:
            ledger.skip(entry.viewstamp)
            return
        try:
            batch, messages = self._read_entry(entry.data)
        except BatchUnreadable as error:
            self._stop(str(error))
            return
        if ledger.chain.contradicts(batch.check):
            where = f"up to entry {batch.check[0]}"
            self._stop(f"its results {where} differ from the leader's: is the class the same? deterministic?")
            return
        responses = self._responses
        ledger.apply(entry.viewstamp, batch, messages, responses.audience.waiting, responses.answers)
        if responses.answers.notifications:
            self._deliver_news()

    def _read_entry(self, data: bytes) -> tuple[Batch, list[Prepared]]:
        """Return an entry decoded; one of our own is decoded already."""
        own = self._offers.find(data) if self._offers else None
        return decode_batch(data, self.definition) if own is None else (own.batch, own.messages)

    def _stop(self, reason: str) -> None:
        self._halt = Halt(f"node {self.node} has stopped: {reason}; {ADVICE}")

    def _freeze_save(self) -> None:
        if self._saving is not None:
            self._saving.freeze()
            self._saving = None

    def _recover(self, snapshot: Snapshot) -> None:
        try:
            self._restore(snapshot)
        except images.ImageUnreadable as error:
            raise ConfigurationError(f"{error}: start this node with the class that wrote it") from None

    def _install(self, snapshot: Snapshot) -> None:
        if self._restored == snapshot.meta:
            return
        self._freeze_save()
        try:
            self._restore(snapshot)
        except images.ImageUnreadable as error:
            self._stop(str(error))

    def _restore(self, snapshot: Snapshot) -> None:
        self._ledger = images.restore(snapshot, self._ledger)
        self._restored = snapshot.meta

    # Reads

    def _asked(self, source: ClientAddress, message: QueryRequest) -> None:
        asked, lines = decode_ask(self.definition, source, message)
        if message.reads == "stale":
            lines += evaluate(self._ledger, [asked])[0]
        elif asked.calls and not self._reads.add(asked):
            refusal = encoded_text("not executed: too many queries wait")
            lines += [(number, REFUSED, refusal) for number, _ in asked.calls]
        if lines:
            self._responses.lines(source, message.client, self._ledger.position, lines)

    def _answer_round(self, effect: Answer) -> None:
        asked = self._reads.end_round(effect.token)
        for each, lines in zip(asked, evaluate(self._ledger, asked), strict=True):
            self._responses.lines(each.source, each.client, self._ledger.position, lines)

    def _refuse_round(self, effect: Refuse) -> None:
        for asked in self._reads.end_round(effect.token):
            numbers = [number for number, _ in asked.calls]
            redirect = Redirect(asked.client, self._other_leader(), False, numbers, "no reads here now")
            self._responses.say(asked.source, redirect)

    # Notifications

    def _deliver_news(self) -> None:
        answers = self._responses.answers
        notifications, answers.notifications = answers.notifications, []
        if self.core.leader == self.node:
            for notification in notifications:
                self._responses.notify(notification, self._ledger)

    def _repeat_notifications(self) -> None:
        """Send again to clients that just came what the machine says they may have missed."""
        arrived = self._responses.audience.arrived
        for notification in self._ledger.host.pending_notifications(arrived):
            self._responses.notify(notification, self._ledger)
        arrived.clear()
