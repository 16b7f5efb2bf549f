"""A client without input or output: sessions, retries, redirects and deadlines, behind `step`.

Rules of this file:

- everything called in one turn goes out as one message to each server, when the core is woken;
- a command under a session is sent again, under the same number, until it has a result; without a session it
  is sent again only where the server said that it did not enter the log;
- a call ends once: in its result, in "not executed" where every message with it was refused or never sent,
  and otherwise in "unknown";
- between a client and a server a connection keeps the order and delivers a message at most once, as TCP does.
"""

from collections.abc import Iterable, Iterator
from random import Random
from typing import Literal, assert_never

import msgspec

from viewstamp.core.effects import Send
from viewstamp.core.events import PeerDown, PeerUp, Received, Woke
from viewstamp.core.ids import MICROSECONDS_PER_MS, Instant, NodeId
from viewstamp.core.messages import (
    EXPIRED,
    NO_SESSION,
    REFUSED,
    RESULT,
    AdminReply,
    ClientMessage,
    CloseSession,
    KeepAlive,
    Notified,
    OpenSession,
    QueryRequest,
    Redirect,
    Results,
    ServerMessage,
    SessionOpened,
    StatusReply,
    Submit,
)
from viewstamp.replica.client.admin import AdminCalls
from viewstamp.replica.client.calls import Call, Calls, Flight, Queue
from viewstamp.replica.client.failures import CLOSED, expired, failed, number_of, text_of, without_result
from viewstamp.replica.client.routing import Router
from viewstamp.replica.client.session import ClientSession
from viewstamp.replica.events import (
    Cancelled,
    ClientEffect,
    ClientEvent,
    Closed,
    Complete,
    Deliver,
    Failed,
    Invoked,
    Operated,
    Outcome,
    Returned,
)
from viewstamp.replica.options import ClientOptions


class ClientSetup(msgspec.Struct, frozen=True):
    """Everything that a client is given at birth."""

    servers: tuple[NodeId, ...]
    number: int
    """63 random bits, drawn anew for each client ever made: never reuse one (docs/faults.md#k20)."""
    rng: Random
    now: Instant
    options: ClientOptions = ClientOptions()
    exactly_once: bool = True
    """Whether commands run under a session. Without, a call is sent once and its fate may be unknown."""
    write_routing: Literal["leader", "any"] = "leader"


class ClientCore:
    """A client of one cluster. `step` takes an event in and returns what must be done, in order."""

    __slots__ = (
        "_calls",
        "_closed",
        "_effects",
        "_errands",
        "_exactly_once",
        "_now",
        "_options",
        "_router",
        "_signed",
        "_timeout_ms",
        "_upkeep",
        "number",
    )

    def __init__(self, setup: ClientSetup) -> None:
        self.number = setup.number
        self._options = setup.options
        self._exactly_once = setup.exactly_once
        self._router = Router(setup.servers, setup.rng, setup.options, setup.write_routing, setup.now)
        self._calls = Calls()
        self._errands = AdminCalls()
        self._upkeep = ClientSession()
        self._signed = NO_SESSION
        """The session of the last `Submit`: queued calls with doubts were all sent under it."""
        self._timeout_ms = setup.options.answer_timeout_ms
        """How long to wait for an answer now; doubles with silence."""
        self._effects: list[ClientEffect] = []
        self._now = setup.now
        self._closed = False

    @property
    def session(self) -> int | None:
        """The number of the session; None while there is none."""
        return self._upkeep.number

    @property
    def session_until(self) -> Instant | None:
        """Until when the session lives for certain, as far as this client has heard; None: there is none.

        What hangs on the session, such as a lock, may belong to another from then on.
        """
        return self._upkeep.sure_until

    @property
    def leader(self) -> NodeId:
        """The server that commands are sent to."""
        return self._router.target

    @property
    def open_calls(self) -> int:
        """How many calls are open."""
        return len(self._calls)

    @property
    def has_queued(self) -> bool:
        """Whether calls wait to be sent."""
        return self._calls.any_queued

    def queues(self) -> Iterator[tuple[str, int, int]]:
        """Yield what waits here: (what, how much, how much at most)."""
        options = self._options
        yield "calls open", len(self._calls), options.calls_max
        yield "operations open", len(self._errands), options.calls_max
        yield "calls with a number", len(self._calls.flying), options.window

    @property
    def deadline(self) -> Instant | None:
        """The next moment at which it wants to be woken; in the past means at once. None: never."""
        earliest = self._send_due()
        if earliest is not None and earliest <= self._now:
            return earliest
        calls = self._calls
        for moment in (calls.deadline, calls.flight_due, self._upkeep.due, self._errands.deadline):
            if moment is not None and (earliest is None or moment < earliest):
                earliest = moment
        return earliest

    def step(self, event: ClientEvent, now: Instant) -> list[ClientEffect]:
        """Take in one event and return what must be done, in order. `now` never goes back."""
        self._now = now
        match event:
            case Invoked():
                self._invoked(event)
            case Received():
                self._received(event.source, event.message)
            case Woke():
                self._woke()
            case PeerUp():
                self._peer_up(event.peer)
            case PeerDown():
                self._peer_down(event.peer)
            case Operated():
                self._operated(event)
            case Cancelled():
                self._cancelled(event)
            case Closed():
                self._close()
            case _:
                assert_never(event)
        effects = self._effects
        self._effects = []
        return effects

    # What the application wants

    def _invoked(self, event: Invoked) -> None:
        if self._closed or event.deadline <= self._now or len(self._calls.by_id) >= self._options.calls_max:
            reason = CLOSED if self._closed else "its deadline has passed"
            if len(self._calls) >= self._options.calls_max:
                reason = f"{self._options.calls_max} calls are open already"
            self._effects.append(Complete(event.call, Failed("not_executed", f"not executed: {reason}")))
            return
        self._calls.add(Call(event.call, event.kind, event.payload, event.deadline))

    def _operated(self, event: Operated) -> None:
        if self._closed or event.node not in self._router.servers:
            reason = CLOSED if self._closed else f"node {event.node} is not a server of this cluster"
            self._effects.append(Complete(event.call, Failed("not_executed", f"not executed: {reason}")))
            return
        if len(self._errands) >= self._options.calls_max:
            reason = "not executed: too many operations are open"
            self._effects.append(Complete(event.call, Failed("not_executed", reason)))
            return
        self._errands.add(self._calls.draw(), event)

    def _cancelled(self, event: Cancelled) -> None:
        call = self._calls.by_id.get(event.call)
        if call is not None:
            self._calls.over(call)
        self._errands.cancel(event.call)

    def _close(self) -> None:
        self._closed = True
        self._fail(list(self._calls.by_id.values()), CLOSED)
        self._effects += self._errands.close(CLOSED)
        session = self._upkeep.number
        if session is not None and self._router.target in self._router.up:
            self._send(self._router.target, CloseSession(self.number, session))
        self._upkeep.lost()

    # Time

    def _woke(self) -> None:
        now = self._now
        if expired := self._calls.expired(now):
            self._fail([self._calls.by_id[call] for call in expired], "no result in time")
        self._effects += self._errands.expired(now)
        self._give_up_silent()
        if not self._closed:
            self._flush()

    def _give_up_silent(self) -> None:
        """Turn away from servers that owe an answer for too long."""
        silent = self._calls.silent_flights(self._now)
        if not silent and self._upkeep.due is None:
            return
        servers = {flight.server for flight in silent}
        if silent:
            self._not_answered(self._calls.of_flights(silent))
        upkeep = self._upkeep
        if upkeep.due is not None and upkeep.due <= self._now and upkeep.asked is not None:
            servers.add(upkeep.asked)
            upkeep.unanswered()
        for server in sorted(servers):
            self._router.failed(server, self._now)
        if servers:
            self._timeout_ms = min(2 * self._timeout_ms, self._options.answer_timeout_max_ms)

    def _not_answered(self, calls: list[Call]) -> None:
        """These calls were sent and nothing was heard: send them again, as far as that is safe."""
        again: list[Call] = []
        for call in calls:
            assert call.flight is not None
            server = call.flight.server
            if server not in call.silent:
                call.silent = (*call.silent, server)
            if self._may_repeat(call):
                again.append(call)
            else:
                self._calls.land(call)  # its answer may still come, until its deadline
        self._calls.requeue(again)

    def _may_repeat(self, call: Call) -> bool:
        """Tell whether sending a call again cannot execute it twice."""
        if call.kind != "command" or not call.doubts:
            return True
        return self._exactly_once and self._upkeep.number in {None, call.session}

    # Connections

    def _peer_up(self, peer: NodeId) -> None:
        self._router.came(peer, self._now)

    def _peer_down(self, peer: NodeId) -> None:
        self._effects += self._errands.unreachable(peer)
        if peer not in self._router.up:
            return
        self._router.up.discard(peer)
        calls = self._calls.at(peer)
        self._not_answered(calls)
        self._fail([c for c in calls if not self._may_repeat(c)], "the connection broke before its answer")
        if self._upkeep.asked == peer:
            self._upkeep.unanswered()
        if self._router.target == peer:
            self._upkeep.show_at_once()
            self._router.failed(peer, self._now)

    # Sending

    def _send_due(self) -> Instant | None:
        """Return when something can be sent; None: not before another event."""
        router = self._router
        if self._closed or not router.up:
            return None
        if self._errands.waits_for(router.up):
            return self._now
        if self._calls.any_queued:
            if self._can_send("stale"):
                return self._now
            if self._commands_can_go() or self._can_send("linearizable"):
                return max(self._now, router.not_before)
        moment = self._upkeep.keep_alive_due
        return None if moment is None else max(moment, router.not_before)

    def _commands_can_go(self) -> bool:
        """Tell whether queued commands could be sent, or a session be asked for, if the target is ready."""
        if not self._calls.queued("command"):
            return False
        if self._exactly_once and self._upkeep.number is None:
            return self._upkeep.asked is None
        return self._can_send("command")

    def _can_send(self, queue: Queue) -> bool:
        calls = self._calls
        return calls.queued(queue) and calls.can_send(queue, self._options.window)

    def _flush(self) -> None:
        """Send all that can be sent now."""
        for node, message in self._errands.sendable(self._router.up):
            self._send(node, message)
        if self._calls.queued("stale"):
            self._send_reads("stale", self._router.choose_any())
        target = self._router.choose(self._now)
        if target is None:
            return
        if self._calls.queued("linearizable"):
            self._send_reads("linearizable", target)
        self._send_commands(target)
        due = self._upkeep.keep_alive_due
        if due is not None and due <= self._now and self._upkeep.number is not None:
            question = self._upkeep.ask(target, self._answer_due(), self._now)
            self._send(target, KeepAlive(self.number, self._upkeep.number, question))

    def _send_commands(self, target: NodeId) -> None:
        if not self._calls.queued("command"):
            return
        if not self._exactly_once:
            self._submit(target, NO_SESSION)
        elif self._upkeep.number is not None:
            if self._signed != self._upkeep.number:
                self._drop_orphans()
                self._signed = self._upkeep.number
            self._submit(target, self._upkeep.number)
        elif self._upkeep.asked is None:
            question = self._upkeep.ask(target, self._answer_due(), self._now)
            self._send(target, OpenSession(self.number, question))

    def _drop_orphans(self) -> None:
        """End queued calls that may have been executed under a session that is gone."""
        for call in self._calls.peek("command", len(self._calls)):
            if call.doubts > 0:
                self._complete(call, expired(call, "the session is not known any more"))

    def _submit(self, target: NodeId, session: int) -> None:
        while self._calls.queued("command") and (taken := self._calls.take("command", self._options)):
            flight = self._launch(target, taken)
            acknowledged = self._calls.acknowledged
            for call in taken:
                self._calls.send(call, flight)
                call.session = session
                call.doubts += 1
            numbered = [(call.sequence, call.payload) for call in taken]
            self._send(target, Submit(self.number, session, acknowledged, numbered))
            self._upkeep.used(self._now)

    def _send_reads(self, reads: Literal["linearizable", "stale"], server: NodeId | None) -> None:
        if server is None:
            return
        while taken := self._calls.take(reads, self._options):
            flight = self._launch(server, taken)
            for call in taken:
                self._calls.send(call, flight)
            self._send(
                server, QueryRequest(self.number, reads, [(call.sequence, call.payload) for call in taken])
            )

    def _launch(self, server: NodeId, calls: list[Call]) -> Flight:
        flight = Flight(server, self._answer_due(), len(calls))
        self._calls.launch(flight)
        return flight

    def _answer_due(self) -> Instant:
        return Instant(self._now + self._timeout_ms * MICROSECONDS_PER_MS)

    def _send(self, server: NodeId, message: ClientMessage) -> None:
        self._effects.append(Send(server, message))

    # What servers say

    def _received(self, source: NodeId, message: ServerMessage) -> None:
        match message:
            case Results():
                if message.client == self.number:
                    self._results(source, message)
            case SessionOpened():
                if message.client == self.number and not self._closed:
                    self._opened(source, message)
            case Redirect():
                if message.client == self.number:
                    self._redirected(source, message)
            case Notified():
                if message.client == self.number:
                    self._notified(message)
            case StatusReply() | AdminReply():
                self._effects += self._errands.replied(message)
            case _:
                assert_never(message)

    def _notified(self, message: Notified) -> None:
        # What comes without a session is for a client that has none: ours may have ended just before it.
        if message.session == (self._upkeep.number or NO_SESSION):
            self._effects.append(Deliver(bytes(message.payload)))

    def _results(self, source: NodeId, message: Results) -> None:
        flying = self._calls.flying
        position = message.position
        for sequence, kind, payload in message.results:
            call = flying.get(sequence)
            if call is None:
                self._session_line(sequence, kind, payload)
            elif kind == RESULT:
                self._complete(call, Returned(bytes(payload), position))
            else:
                self._ended_otherwise(call, kind, payload)
        if source == self._router.target:
            self._router.progress()
        self._timeout_ms = self._options.answer_timeout_ms

    def _session_line(self, sequence: int, kind: int, payload: msgspec.Raw) -> None:
        # It may be the late answer to a sign of life under a session before this one.
        if sequence == 0 and kind == EXPIRED and number_of(payload) == self._upkeep.number:
            self._upkeep.lost()

    def _ended_otherwise(self, call: Call, kind: int, payload: msgspec.Raw) -> None:
        if kind == REFUSED:
            self._refused(call, payload)
        elif kind == EXPIRED:
            call.doubts = max(0, call.doubts - 1)
            if call.session == self._upkeep.number:
                self._upkeep.lost()
            self._complete(call, expired(call, text_of(payload)))
        else:
            self._complete(call, without_result(kind, payload))

    def _refused(self, call: Call, payload: msgspec.Raw) -> None:
        if call.flight is None:
            return  # an answer to an attempt that was given up
        call.refusal = text_of(payload)
        if call.kind == "command":
            call.doubts = max(0, call.doubts - 1)
        if call.flight.server == self._router.target and self._router.not_before <= self._now:
            self._router.overloaded(self._now)
        self._calls.requeue([call])

    def _opened(self, source: NodeId, message: SessionOpened) -> None:
        if not self._upkeep.opened(message.session, message.time_to_live_ms, message.question, self._now):
            return
        if source == self._router.target:
            self._router.progress()
        self._timeout_ms = self._options.answer_timeout_ms

    def _redirected(self, source: NodeId, message: Redirect) -> None:
        if self._upkeep.asked == source and not message.sequences:
            self._upkeep.unanswered()
        calls = self._named(source, message.sequences)
        again: list[Call] = []
        for call in calls:
            call.refusal = message.reason
            if call.kind == "command" and message.sequences and not message.entered:
                call.doubts = max(0, call.doubts - 1)
            if self._may_repeat(call):
                again.append(call)
            else:
                self._fail([call], "it may have entered the log before the leader changed")
        self._calls.requeue(again)
        if source == self._router.target:
            self._upkeep.show_at_once()
        self._router.redirected(source, message.leader, self._now)

    def _named(self, source: NodeId, sequences: list[int]) -> list[Call]:
        """Return the calls that a redirect is about, as far as they are under way at its source."""
        if not sequences:
            return self._calls.at(source)
        found = (self._calls.flying.get(sequence) for sequence in sequences)
        return [call for call in found if call is not None and self._is_at(call, source)]

    def _is_at(self, call: Call, server: NodeId) -> bool:
        if call.flight is not None:
            return call.flight.server == server
        return self._calls.only_waits(call) and server in call.silent

    # Ends

    def _complete(self, call: Call, outcome: Outcome) -> None:
        self._calls.over(call)
        self._effects.append(Complete(call.call, outcome))

    def _fail(self, calls: Iterable[Call], why: str) -> None:
        for call in calls:
            self._complete(call, failed(call, why, self._router.servers, self._router.up))
