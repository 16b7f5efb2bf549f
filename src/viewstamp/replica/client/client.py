"""A client without input or output: sessions, retries, redirects and deadlines, behind `step`.

Rules of this file:

- everything called in one turn goes out as one message to each server, when the core is woken;
- a command under a session is sent again until it has a result, another only if it did not enter the log;
- a call ends once: in its result, in "not executed" where every message with it was refused or never sent,
  and otherwise in "unknown";
- between a client and a server a connection keeps the order and delivers a message at most once, as TCP does.

The reading order stands in `viewstamp/replica/client/__init__.py`.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, assert_never

import msgspec

from viewstamp.core.effects import Send
from viewstamp.core.events import PeerDown, PeerUp, Received, Woke
from viewstamp.core.ids import MICROSECONDS_PER_MS, Instant, NodeId
from viewstamp.core.messages import (
    DENIED,
    EXPIRED,
    FULL,
    NO_SESSION,
    REFUSED,
    CloseSession,
    Identify,
    KeepAlive,
    Logged,
    MembersChanged,
    Notified,
    OpenSession,
    OperatorReply,
    QueryRequest,
    Redirect,
    Results,
    ServerMessage,
    SessionOpened,
    Submit,
    client_number,
)
from viewstamp.replica.client.admin import AdminCalls
from viewstamp.replica.client.calls import Call, Calls, Flight, Queue, not_taken, too_long
from viewstamp.replica.client.failures import CLOSED, expired, failed, number_of, text_of, without_result
from viewstamp.replica.client.routing import Router
from viewstamp.replica.client.session import ClientSession
from viewstamp.replica.events import (
    CallId,
    Cancelled,
    ClientEffect,
    ClientEvent,
    Closed,
    Complete,
    CompleteAll,
    Deliver,
    Failed,
    Invoked,
    Operated,
    Outcome,
)
from viewstamp.replica.options import ClientSetup


class ClientCore:
    """A client of one cluster. `step` takes an event in and returns what must be done, in order."""

    __slots__ = (
        "_admin",
        "_calls",
        "_closed",
        "_effects",
        "_exactly_once",
        "_identified",
        "_identify",
        "_last_session",
        "_now",
        "_options",
        "_router",
        "_session",
        "_timeout_ms",
        "number",
    )

    def __init__(self, setup: ClientSetup) -> None:
        self.number = client_number(setup.secret)
        self._identify = Identify(self.number, setup.secret)
        self._identified: set[NodeId] = set()
        """Servers that were shown the secret over the present connection."""
        self._options = setup.options
        self._exactly_once = setup.exactly_once
        self._router = Router(setup.servers, setup.rng, setup.options, setup.write_routing, setup.now)
        self._calls = Calls()
        self._admin = AdminCalls()
        self._session = ClientSession(setup.options.session_time_to_live_ms)
        self._last_session = NO_SESSION
        """The session of the last `Submit`: queued calls that may have been executed were sent under it."""
        self._timeout_ms = setup.options.answer_timeout_ms
        """How long to wait for an answer now; doubles with silence."""
        self._effects: list[ClientEffect] = []
        self._now = setup.now
        self._closed = False

    @property
    def session(self) -> int | None:
        """The number of the session; None while there is none."""
        return self._session.number

    @property
    def session_until(self) -> Instant | None:
        """Until when the session, and what depends on it, lives for certain; None: there is none."""
        return self._session.sure_until

    def want_session(self, time_to_live_ms: int) -> None:
        """Ask for another time to live of the session, at the next wake; 0: the cluster's."""
        self._session.want(time_to_live_ms)

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
        queues = self._calls.queues
        return bool(queues["command"] or queues["linearizable"] or queues["stale"])

    def queues(self) -> Iterator[tuple[str, int, int]]:
        """Yield what waits here: (what, how much, how much at most)."""
        options = self._options
        yield "calls open", len(self._calls), options.calls_max
        yield "operations open", len(self._admin), options.calls_max
        yield "calls with a number", len(self._calls.in_flight), options.window

    @property
    def deadline(self) -> Instant | None:
        """The next moment at which it has to be woken; in the past means at once. None: never."""
        earliest = self._send_due()
        if earliest is not None and earliest <= self._now:
            return earliest
        calls = self._calls
        operated = self._admin.deadline if self._admin.open else None
        for moment in (calls.deadline, calls.flight_due, self._session.due, operated):
            if moment is not None and (earliest is None or moment < earliest):
                earliest = moment
        return earliest

    def step(self, event: ClientEvent, now: Instant) -> list[ClientEffect]:
        """Take in one event and return what must be done, in order. `now` never goes back."""
        assert now >= self._now, (now, self._now)
        self._now = now
        match event:
            case Invoked():
                refused = self.invoke(event.call, event.kind, event.payload, event.deadline, now)
                if refused is not None:
                    self._effects.append(Complete(event.call, refused))
            case Received():
                self._received(event.source, event.message)
            case Woke():
                self._woke()
            case PeerUp():
                self._router.connected(event.peer, now)
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

    # What the application asks for

    def invoke(
        self, call: CallId, kind: Queue, payload: bytes, deadline: Instant, now: Instant
    ) -> Failed | None:
        """Take in a call, as `Invoked` does, without an event or an effect; return why it ends at once."""
        assert now >= self._now, (now, self._now)
        self._now = now
        if self._closed or deadline <= now or len(self._calls.by_id) >= self._options.calls_max:
            return not_taken(self._options, len(self._calls), CLOSED if self._closed else "")
        if len(payload) > self._options.call_bytes_max:
            return too_long(self._options, len(payload))
        self._calls.add(Call(call, kind, payload, deadline))
        return None

    def _operated(self, event: Operated) -> None:
        reason = CLOSED if self._closed else ""
        if event.node not in self._router.servers:
            reason = reason or f"node {event.node} is not a server of this cluster"
        if reason or len(self._admin) >= self._options.calls_max:
            reason = reason or "too many operations are open"
            self._effects.append(Complete(event.call, Failed("not_executed", f"not executed: {reason}")))
            return
        self._admin.add(self._calls.draw(), event)

    def _cancelled(self, event: Cancelled) -> None:
        self._calls.give_up(event.call)
        self._admin.cancel(event.call)

    def _close(self) -> None:
        self._closed = True
        self._fail(list(self._calls.by_id.values()), CLOSED)
        self._effects += self._admin.close(CLOSED)
        session = self._session.number
        if session is not None and self._router.target in self._router.up:
            self._send(self._router.target, CloseSession(self.number, session))
        self._session.lost()

    # Time

    def _woke(self) -> None:
        if timed_out := self._calls.expired(self._now):
            self._fail([self._calls.by_id[call] for call in timed_out], "no result in time")
        silent = self._calls.silent_flights(self._now)
        if silent or self._session.due is not None:
            self._give_up(silent)
        if self._admin.open:
            self._effects += self._admin.expired(self._now)
        if not self._closed:
            self._flush()

    def _give_up(self, silent: list[Flight]) -> None:
        """Turn away from servers whose answer is overdue: to these flights, or to the session's question."""
        servers = {flight.server for flight in silent}
        if silent:
            end = "its session is gone" if self._exactly_once else ""
            self._not_answered(self._calls.of_flights(silent), end)
        session = self._session
        if session.due is not None and session.due <= self._now and session.asked is not None:
            servers.add(session.asked)
            session.unanswered()
        for server in sorted(servers):
            self._router.failed(server, self._now)
        if servers:
            self._timeout_ms = min(2 * self._timeout_ms, self._options.answer_timeout_max_ms)

    def _not_answered(self, calls: list[Call], end: str) -> None:
        """These calls were sent and nothing was heard: send them again where that is safe, or `end` them."""
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
        self._fail([call for call in calls if end and not self._may_repeat(call)], end)

    def _may_repeat(self, call: Call) -> bool:
        """Return whether sending a call again cannot execute it twice."""
        if call.kind != "command" or not call.possible_executions:
            return True
        return self._exactly_once and self._session.number in {None, call.session}

    # Connections

    def _peer_down(self, peer: NodeId) -> None:
        self._effects += self._admin.unreachable(peer)
        self._identified.discard(peer)
        if peer not in self._router.up:
            return
        self._router.up.discard(peer)
        self._calls.given_up.pop(peer, None)
        self._not_answered(self._calls.at(peer), "the connection broke before its answer")
        if self._session.asked == peer:
            self._session.unanswered()
        if self._router.target == peer:
            self._session.use_at_once()
            self._router.failed(peer, self._now)

    # Sending

    def _send_due(self) -> Instant | None:
        """Return when something can be sent; None: not before another event."""
        router = self._router
        if self._closed or not router.up:
            return None
        if self._admin.open and self._admin.waits_for(router.up):
            return self._now
        if self.has_queued:
            if self._can_send("stale"):
                return self._now
            if self._commands_can_go() or self._can_send("linearizable"):
                return max(self._now, router.not_before)
        moment = self._session.keep_alive_due
        return None if moment is None else max(moment, router.not_before)

    def _commands_can_go(self) -> bool:
        """Return whether queued commands, or a request for a session, could go to a target that is ready."""
        if not self._calls.queues["command"]:
            return False
        if self._exactly_once and self._session.number is None:
            return self._session.asked is None
        return self._can_send("command")

    def _can_send(self, queue: Queue) -> bool:
        return self._calls.can_send(queue, self._options.window)

    def _flush(self) -> None:
        """Send all that can be sent now."""
        if self._admin.open:
            self._effects += [Send(*sendable) for sendable in self._admin.sendable(self._router.up)]
        queues = self._calls.queues
        if queues["stale"]:
            self._send_reads("stale", self._router.choose_any())
        target = self._router.choose(self._now)
        if target is None:
            return
        if queues["linearizable"]:
            self._send_reads("linearizable", target)
        if queues["command"]:
            self._send_commands(target)
        session = self._session
        due = session.keep_alive_due
        if due is not None and due <= self._now and session.number is not None:
            question = session.ask(target, self._answer_due(), self._now)
            done, wanted_ms = self._calls.acknowledged, session.wanted_ms
            self._send(target, KeepAlive(self.number, session.number, question, done, wanted_ms))

    def _send_commands(self, target: NodeId) -> None:
        session = self._session
        if not self._exactly_once:
            self._submit(target, NO_SESSION)
        elif session.number is not None:
            if self._last_session != session.number:
                self._end_calls_of_lost_session()
                self._last_session = session.number
            self._submit(target, session.number)
        elif session.asked is None:
            question = session.ask(target, self._answer_due(), self._now)
            self._send(target, OpenSession(self.number, question, session.wanted_ms))

    def _end_calls_of_lost_session(self) -> None:
        """End queued calls that may have been executed under a session that is lost."""
        for call in self._calls.peek("command", len(self._calls)):
            if call.possible_executions > 0:
                self._complete(call, expired(call, "the session has expired"))

    def _submit(self, target: NodeId, session: int) -> None:
        assert self._exactly_once == (session != NO_SESSION), session
        calls, due = self._calls, self._answer_due()
        waiting = calls.queues["command"]
        while waiting and (sent := calls.launch("command", target, due, self._options, session)):
            numbered = [(call.sequence, call.payload) for call in sent]
            self._send(target, Submit(self.number, session, calls.acknowledged, numbered))
            self._session.used(self._now)

    def _send_reads(self, reads: Literal["linearizable", "stale"], server: NodeId | None) -> None:
        if server is None:
            return
        due = self._answer_due()
        while sent := self._calls.launch(reads, server, due, self._options):
            numbered = [(call.sequence, call.payload) for call in sent]
            self._send(server, QueryRequest(self.number, reads, numbered))

    def _answer_due(self) -> Instant:
        return Instant(self._now + self._timeout_ms * MICROSECONDS_PER_MS)

    def _send(self, server: NodeId, message: Logged | QueryRequest) -> None:
        if server not in self._identified:
            self._identified.add(server)
            self._effects.append(Send(server, self._identify))
        self._effects.append(Send(server, message))

    # What servers say

    def _received(self, source: NodeId, message: ServerMessage) -> None:  # noqa: C901  one case a kind
        if self._calls.given_up:
            self._calls.heard(source, message)
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
            case OperatorReply():
                self._effects += self._admin.replied(message)
            case MembersChanged():
                self._router.serve(tuple(sorted({NodeId(node) for node, _, _ in message.members})))
            case _:
                assert_never(message)

    def _notified(self, message: Notified) -> None:
        # What comes without a session is for a client that has none: ours may have ended just before it.
        if message.session == (self._session.number or NO_SESSION):
            self._effects.append(Deliver(bytes(message.payload)))

    def _results(self, source: NodeId, message: Results) -> None:
        done, others = self._calls.answered(message.results)
        if done:
            self._effects.append(CompleteAll(done, message.position))
        for sequence, kind, payload in others:
            call = self._calls.in_flight.get(sequence)
            if call is None:
                self._session_line(source, sequence, kind, payload)
            else:
                self._ended_otherwise(call, kind, payload)
        if source == self._router.target:
            self._router.progress()
        self._timeout_ms = self._options.answer_timeout_ms

    def _session_line(self, source: NodeId, sequence: int, kind: int, payload: msgspec.Raw) -> None:
        session = self._session
        # It may be the late answer to a `KeepAlive` under a session before this one.
        if sequence == 0 and kind == EXPIRED and number_of(payload) == session.number:
            session.lost()
        elif sequence == 0 and kind == REFUSED and session.number is None and session.asked == source:
            session.unanswered()
            self._fail(self._calls.peek("command", len(self._calls)), text_of(payload))
        elif sequence == 0 and kind == DENIED and session.asked == source:
            session.lost()
            for call in self._calls.peek("command", len(self._calls)):
                self._complete(call, without_result(call, kind, payload))

    def _ended_otherwise(self, call: Call, kind: int, payload: msgspec.Raw) -> None:
        if kind == REFUSED:
            self._refused(call, payload)
        elif kind == EXPIRED:
            call.possible_executions = max(0, call.possible_executions - 1)
            if call.session == self._session.number:
                self._session.lost()
            self._complete(call, expired(call, text_of(payload)))
        else:
            if kind in {DENIED, FULL}:
                call.possible_executions = max(0, call.possible_executions - 1)
            self._complete(call, without_result(call, kind, payload))

    def _refused(self, call: Call, payload: msgspec.Raw) -> None:
        if call.flight is None:
            return  # an answer to an attempt that was given up
        call.refusal = text_of(payload)
        if call.kind == "command":
            call.possible_executions = max(0, call.possible_executions - 1)
        # Many calls are refused at once where a server is overloaded: that is one failure, not many.
        if call.flight.server == self._router.target and self._router.not_before <= self._now:
            self._router.overloaded(self._now)
        self._calls.requeue([call])

    def _opened(self, source: NodeId, message: SessionOpened) -> None:
        if not self._session.opened(message.session, message.time_to_live_ms, message.question, self._now):
            return
        if source == self._router.target:
            self._router.progress()
        self._timeout_ms = self._options.answer_timeout_ms

    def _redirected(self, source: NodeId, message: Redirect) -> None:
        self._identified.discard(source)  # it may have sent us away because it does not know us
        # A redirect that names no call answers the session's question, or is meant for all in flight there.
        if self._session.asked == source and not message.sequences:
            self._session.unanswered()
        calls = self._calls.named(source, message.sequences)
        again: list[Call] = []
        for call in calls:
            call.refusal = message.reason
            if call.kind == "command" and message.sequences and not message.entered:
                call.possible_executions = max(0, call.possible_executions - 1)
            if self._may_repeat(call):
                again.append(call)
            else:
                self._fail([call], "it may have entered the log before the leader changed")
        self._calls.requeue(again)
        if source == self._router.target:
            # Notifications go to the connections that the new leader knows: say something to it.
            self._session.use_at_once()
        self._router.redirected(source, message.leader, self._now)

    # Ends

    def _complete(self, call: Call, outcome: Outcome) -> None:
        self._calls.over(call)
        self._effects.append(Complete(call.call, outcome))

    def _fail(self, calls: Iterable[Call], why: str) -> None:
        for call in calls:
            self._complete(call, failed(call, why, self._router.servers, self._router.up))
