"""A replica: one protocol core, exactly-once sessions and the user's machine, behind `step`.

Rules of this file, whose reading order stands in `viewstamp/replica/__init__.py`:

- clients' messages gather until the core accepts entries and the replica is woken; then they become batches;
- nothing is refused after it was proposed: a client that waits is answered when the entry is applied, or
  redirected when another leader is known. While no leader is known, it waits (docs/requirements.md#k1);
- only `ReplicatedState.apply` and a restored snapshot change replicated state;
- a replica that differs from a majority halts, and does nothing from then on (`divergence`).
"""

from typing import Final, assert_never

from viewstamp.core.effects import (
    Answer,
    Apply,
    Capture,
    LeaderChanged,
    Persist,
    RareEffect,
    Refuse,
    Release,
    Removed,
    Restore,
    Send,
    Settled,
    Stage,
)
from viewstamp.core.errors import EntryNotExecutable
from viewstamp.core.events import (
    Captured,
    Directed,
    Event,
    PeerDown,
    PeerUp,
    Persisted,
    Proposed,
    Queried,
    Received,
    Staged,
    TransferLeadership,
    Woke,
)
from viewstamp.core.ids import ClientAddress, Instant, NodeId, Viewstamp
from viewstamp.core.messages import (
    AdminReply,
    AdminRequest,
    AskStatus,
    CloseSession,
    Identify,
    KeepAlive,
    OpenSession,
    QueryRequest,
    ReadLog,
    ReadPosition,
    ReadSnapshot,
    Submit,
    WaitFor,
)
from viewstamp.core.protocol import Core
from viewstamp.core.snapshots import Snapshot
from viewstamp.machine.definition import MachineDefinition
from viewstamp.replica import snapshot_body
from viewstamp.replica.alarms import Alarms
from viewstamp.replica.authorization import Authorizer
from viewstamp.replica.batches import (
    BatchBuffer,
    BatchUnreadable,
    DecodedBatch,
    DecodedMessage,
    InFlightBatches,
    encode_logged,
)
from viewstamp.replica.directives import OWN_ADDRESS, Directives
from viewstamp.replica.disk_watch import OWN_TOKEN, DiskWatch
from viewstamp.replica.divergence import Divergence
from viewstamp.replica.events import (
    Announced,
    ClientGone,
    DiskReported,
    Halt,
    OwnEvent,
    ReplicaEffect,
    ReplicaEvent,
    Requested,
    SpaceChanged,
    StateHashed,
    Voted,
)
from viewstamp.replica.exports import Exports, turned_away
from viewstamp.replica.log_clock import LogClock
from viewstamp.replica.operated import Operated
from viewstamp.replica.reads import Reads
from viewstamp.replica.replicated_state import ReplicatedState
from viewstamp.replica.responses import OVERLOADED, UNIDENTIFIED, ClientAddresses, Responses
from viewstamp.replica.setup import ReplicaSetup
from viewstamp.replica.skip_mark import read_skip_mark
from viewstamp.replica.upgrades import OTHER_LEADER, Upgrades
from viewstamp.replica.validation import SubmitValidator
from viewstamp.replica.versions import NewerCodeNeeded
from viewstamp.replica.waits import Waits

_WOKE: Final = Woke()


class Replica(Operated):
    """One member of a replicated machine. `step` takes an event and returns what must be done, in order."""

    __slots__ = (
        "_validator",
        "authorizer",
        "leader_news",
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
        self._state = ReplicatedState(
            self.definition, setup.options.sessions, strict=setup.strict, guard=setup.guard
        )
        self.leader_news: LeaderChanged | None = None
        """What the core last said of who leads: another object for each change."""
        self._snapshots = snapshot_body.Snapshots()
        self._state = self._snapshots.recover(setup.recovered.snapshot, self._state)
        self._responses = Responses(ClientAddresses(setup.options))
        self._exports = Exports(self._responses, setup.options.log_tail_bytes_max)
        self._exports.begin(self._state)
        self._clock = LogClock()
        self._alarms = Alarms(self._clock)
        self.authorizer = authorizer = Authorizer(self.definition, setup.grants)
        self._validator = SubmitValidator(
            self.definition, setup.options, authorizer, lambda: self._state.runner.in_force.allows
        )
        self._buffer = BatchBuffer(setup.options)
        self._in_flight = InFlightBatches(self.definition, strict=setup.strict)
        self.reads = Reads(self.definition, self._responses, setup.options, authorizer)
        self.waits = Waits(self.definition, self._responses, setup.options, authorizer)
        self.warnings = ()
        self._directives = Directives(setup.options.directives_max)
        self._halt, self.fingerprint = None, 0
        self.core: Core = setup.make_core()
        self._disk = DiskWatch(self.core, setup.node, stall_ms=setup.options.disk_stall_ms)
        self._divergence = Divergence(
            setup.node,
            definition=self.definition,
            replayed=self.core.status(setup.now).last.seqno,
            state=lambda: self._state,
            members=lambda: self.core.status(self._now).members,
            hasher=setup.hasher,
            every=setup.options.check_interval,
        )
        self._upgrades = Upgrades(setup.node, setup.members, self.definition)
        if self._snapshots.too_new is not None:
            self._wait(*self._snapshots.too_new)

    def hear(self, said: Announced) -> None:
        """Record what another member's code can do; it said so when it opened a connection."""
        self._upgrades.announced[said.peer] = said

    def step(self, event: ReplicaEvent, now: Instant) -> list[ReplicaEffect]:  # noqa: C901  one case a kind
        """Take in one event and return what must be done, in order. `now` never goes back."""
        stopped = self._halt is not None
        if stopped:
            return []
        assert now >= self._now, (now, self._now)
        assert not self._responses.effects, "a step within a step"
        self._now = now
        match event:  # the frequent ones first
            case Received():
                self._drive(event)
            case Persisted():
                self._disk.durable(event.seq, now)
                self._drive(event)
            case Requested():
                self._requested(event)
            case Woke():
                self._woke()
            case Captured() | Staged() | PeerUp() | PeerDown():
                self._note(event)
                self._drive(event)
            case ClientGone() | StateHashed() | Voted() | DiskReported() | SpaceChanged():
                self._told(event)
            case _:
                assert_never(event)
        if self._snapshots.is_open:
            self._end_snapshots()
        responses = self._responses
        if self._halt is not None:
            # Its state differs from the leader's: what it found earlier in this step may be wrong as well.
            responses.effects = []
            return [self._halt]
        if responses.answers.lines or responses.answers.opened:
            responses.say_answers()
        effects, responses.effects = responses.effects, []
        return self._judged(effects) if self._divergence.busy else effects

    def _note(self, event: Captured | Staged | PeerUp | PeerDown) -> None:
        self._snapshots.on_event(event)
        if isinstance(event, PeerUp | PeerDown):
            self._divergence.on_link(event)
            self._disk.linked(event)

    def _told(self, event: ClientGone | OwnEvent) -> None:
        if isinstance(event, ClientGone):
            self._responses.addresses.gone(event.source)
            self.reads.forget(event.source)
            self.waits.forget(event.source)
            self._exports.gone(event.source)
        elif isinstance(event, SpaceChanged):
            self._validator.is_full = event.is_low
        elif isinstance(event, DiskReported):
            self._responses.effects += self._disk.on_report(event.source, event.report, self._now)
        else:
            self._divergence.on_event(event, self._now)

    def _judged(self, effects: list[ReplicaEffect]) -> list[ReplicaEffect]:
        """Return the effects that may happen while replicas differ; halt where this one is odd."""
        divergence = self._divergence
        if divergence.must_hand_over(self.core.leader, self._now):
            self._directed(OWN_ADDRESS, AdminRequest(0, TransferLeadership()))
            effects += self._responses.effects
            self._responses.effects = []
        effects = divergence.filtered(effects)
        if (reason := divergence.ended(self.core.leader, self._now)) is not None:
            self._halt = Halt.diverged(self.node, reason)
            effects.append(self._halt)
        return effects

    def _woke(self) -> None:
        core = self.core
        if self.reads.ready and not self._divergence.withholds:
            self.reads.evaluate(self._state)
        if (deadline := core.deadline) is not None and deadline <= self._now:
            self._drive(_WOKE)
        if self._divergence.busy and self._divergence.withholds:
            self._clock.stop()  # no session expires while its client is not served
            self._divergence.woke(self._now)
            return
        while self._buffer.messages and core.accepting and self._halt is None:
            self._propose(self._buffer.take_batch())
        if self.reads.gathered:
            self._drive(Queried(self.reads.begin_round()))
        if self._state.runner.has_alarms and self._may_ring():
            self._propose([])
        if self.waits.held and self.waits.is_due(self._now):
            self.waits.evaluate(self._state, self._now, knows_leader=core.leader is not None)
        if self._responses.addresses.arrived and core.leader == self.node:
            self._responses.repeat_notifications(self._state)

    def _may_ring(self) -> bool:
        core = self.core
        return core.accepting and core.leader == self.node and self._alarms.is_due(self._state, self._now)

    def _drive(self, event: Event) -> None:
        """Feed the core and carry out what it asks for."""
        now, responses, disk = self._now, self._responses, self._disk
        for effect in self.core.step(event, now):
            if isinstance(effect, Send):
                responses.effects.append(effect)
            elif isinstance(effect, Persist):
                responses.effects.append(effect)
                disk.wrote(effect.seq, now)
            elif isinstance(effect, Apply):
                self._apply(effect)
                state = self._state
                if state.applied is effect.entry.viewstamp:  # code that is too old for an entry applies none
                    self._exports.tail.add(effect.entry, state.chain.digest)
            else:
                self._carry_out(effect)
            if self._halt is not None:
                return
        if now >= disk.overdue_at:
            self._wait_for_disk()

    def _wait_for_disk(self) -> None:
        """The disk does not answer: let another member lead, and say nothing while the others can go on."""
        successor = self._disk.successor(self._now)
        if successor is None:
            responses = self._responses
            responses.effects = self._disk.while_overdue(responses.effects, self._now)
        else:
            self._drive(Directed(OWN_TOKEN, TransferLeadership(successor)))  # and looks at the disk again

    def _carry_out(self, effect: RareEffect) -> None:
        match effect:
            case Release() | Stage():
                self._responses.effects.append(effect)
            case Answer() | Refuse() if effect.token < 0:
                self._exports.on_round(effect, self._state)
            case Answer():
                self.reads.answer(effect.token, self._state)
            case Refuse():
                self.reads.refuse(effect.token, self._other_leader())
            case LeaderChanged():
                self._on_leader_changed(effect)
            case Capture():
                self._capture(effect)
            case Restore():
                self._install(effect.snapshot)
            case Settled():
                self._settled(effect)
            case Removed():
                self._halt = Halt.removed(self.node, effect.at)
            case _:
                assert_never(effect)

    def _settled(self, effect: Settled) -> None:
        if effect.token == OWN_TOKEN:
            self._disk.handed_over(self._now)
        else:
            source, request = self._directives.end(effect.token)
            self._responses.say(source, AdminReply(request, effect.refusal))

    # Requests

    def _requested(self, event: Requested) -> None:
        message, source, judge = event.message, event.source, self._divergence
        if judge.busy and judge.withholds and not isinstance(message, AskStatus | AdminRequest | Identify):
            self._responses.say(source, turned_away(message, judge.reason))
            return
        match message:
            case Submit() | OpenSession() | KeepAlive() | CloseSession() | QueryRequest() if (
                self._responses.addresses.address_of(message.client) != source
            ):
                self._responses.turn_away(source, message, UNIDENTIFIED)
            case Submit():
                self._submitted(source, message, event)
            case OpenSession() | KeepAlive() | CloseSession():
                self._session_asked(event, message)
            case QueryRequest():
                self.reads.on_request(event, message, self._state)
            case Identify():
                self._responses.identify(source, message, self._state.sessions, event.principal)
            case WaitFor():
                self.waits.on_request(event, message, self._now)
            case AskStatus() | AdminRequest() | ReadPosition() | ReadSnapshot() | ReadLog():
                self._operated(source, message, event.principal)
            case _:
                assert_never(message)
        self.authorizer.report(self._responses.effects)

    def _session_asked(self, event: Requested, message: OpenSession | KeepAlive | CloseSession) -> None:
        denial = self.authorizer.session_denial(event.principal)
        if denial is None:
            self._gather(DecodedMessage(message, (), event.principal, event.source, encode_logged(message)))
        else:
            self._responses.deny(event.source, message, self._state.position, denial)

    def _submitted(self, source: ClientAddress, message: Submit, event: Requested) -> None:
        valid, refused = self._validator.validate(source, message, event.encoded, event.principal)
        if refused:
            self._responses.lines(source, message.client, self._state.position, refused)
        if valid is not None:
            self._gather(valid)

    def _gather(self, decoded: DecodedMessage) -> None:
        assert decoded.encoded, "an entry is made of messages as they came"
        message = decoded.message
        leader = self.core.leader
        # A protocol without elections may accept entries at a node that names another leader.
        if leader is not None and leader != self.node and not self.core.accepting:
            self._responses.redirect(decoded, self._other_leader(), "another node leads")
        elif self._buffer.add(decoded):
            self._responses.addresses.waiting.add(message.client)
        else:
            self._responses.turn_back(decoded, self._other_leader(), self._state.position, OVERLOADED)

    # Proposing and redirecting

    def _propose(self, messages: list[DecodedMessage]) -> None:
        """Propose an entry; without messages it tells the time, for an alarm."""
        state = self._state
        log_time = self._clock.read(self._now, state.log_time)
        level, declares = self._upgrades.stamp(state)
        check = state.chain.position
        entries, unreadable = self._in_flight.propose(log_time, check, messages, level, declares)
        for data in entries:
            self._drive(Proposed(data))
        for message in unreadable:
            self._responses.redirect(message, None, "no replica could read it: refused")

    def _on_leader_changed(self, news: LeaderChanged) -> None:
        before = self.leader_news
        assert before is None or before.view <= news.view, (before, news)
        self.leader_news = news
        self._alarms.reset()
        if news.leader == self.node:
            self._clock.start(self._now, self._state.log_time)
            self._responses.addresses.all_arrive()
            return
        self._clock.stop()
        if news.leader is not None:
            self._upgrades.settle(self._responses, OTHER_LEADER)
            self._redirect_all()

    def _redirect_all(self) -> None:
        """Another node leads: send all there; say for each call whether it may have entered the log."""
        responses = self._responses
        leader = self._other_leader()
        for batch in self._in_flight.take_all():
            responses.redirect_entered(batch.messages, leader)
        if self.core.accepting:  # a protocol without elections, in which the clients choose the server
            return
        for waiting in self._buffer.take_all():
            responses.redirect(waiting, leader, "another node leads")
        responses.send_away(leader, self._state)
        responses.addresses.waiting.clear()

    def _other_leader(self) -> NodeId | None:
        leader = self.core.leader
        return None if leader == self.node else leader

    # Applying

    def _apply(self, effect: Apply) -> None:
        entry = effect.entry
        state = self._state
        if self._divergence.waiting is not None:
            return
        assert entry.viewstamp.seqno == state.applied.seqno + 1, (entry.viewstamp, state.applied)
        self._snapshots.state_changes()
        if not entry.data:
            state.skip(entry.viewstamp)
            return
        responses = self._responses
        try:
            batch = self._in_flight.read(entry.data)
            if batch.declares is not None or state.versions is None:
                state.require_code_for(batch)
        except NewerCodeNeeded as error:
            self._wait(entry.viewstamp, str(error))
            return
        except BatchUnreadable as error:
            if (mark := read_skip_mark(entry.data)) is None:
                self._halt = Halt.not_executable(self.node, entry.viewstamp, str(error))
            else:
                state.apply_mark(entry.viewstamp, mark, responses.addresses.waiting, responses.answers)
            return
        if state.chain.contradicts(batch.check):
            self._divergence.contradicted(batch.check[0], entry.viewstamp.seqno, self._now)
        elif self._divergence.busy:
            self._divergence.agreed(batch.check[0])
        self._execute(entry.viewstamp, batch)

    def _execute(self, viewstamp: Viewstamp, batch: DecodedBatch) -> None:
        state, responses = self._state, self._responses
        try:
            state.runner.context.listens = bool(self.waits.held)
            state.apply(viewstamp, batch, responses.addresses.waiting, responses.answers)
        except AssertionError as error:  # an invariant of our own: its traceback says at which entry
            error.add_note(Halt.not_executable(self.node, viewstamp, "a broken invariant").reason)
            raise
        except Exception as error:
            raise EntryNotExecutable(Halt.not_executable(self.node, viewstamp, error).reason) from error
        if self._upgrades.waiting or responses.answers.raised is not None:
            self._upgrades.settle(responses)
        if state.runner.context.touched:
            self.waits.changed(state)
        if responses.answers.notifications:
            responses.deliver_notifications(state, leads=self.core.leader == self.node)
        self._divergence.executed(viewstamp.seqno, batch, self._now)

    # Snapshots

    def _capture(self, effect: Capture) -> None:
        if self._divergence.withholds:  # the log is kept: the next start executes and compares it again
            self._snapshots.refuse(effect.token)
            return
        assert effect.viewstamp.seqno == self._state.applied.seqno, (effect.viewstamp, self._state.applied)
        self._responses.effects.append(self._snapshots.capture(effect, self._state))

    def _end_snapshots(self) -> None:
        self._snapshots.end_step()
        while self._snapshots.refused:
            self._drive(Captured(self._snapshots.refused.pop(), None, self._divergence.reason))

    def _install(self, snapshot: Snapshot) -> None:
        try:
            self._state = self._snapshots.install(snapshot, self._state)
            self._exports.begin(self._state)
            self.waits.wake_all()
        except snapshot_body.SnapshotUnreadable as error:
            self._halt = Halt.diverged(self.node, str(error))
        except NewerCodeNeeded as error:
            self._wait(snapshot.meta.viewstamp, str(error))

    def _wait(self, at: Viewstamp, reason: str) -> None:
        """Apply nothing from here on: the log goes on, and newer code will go on from it."""
        if self._divergence.waiting is None:
            self._divergence.wait(f"waiting for newer code at {at}: {reason}", self._now)
