"""The calls that a client has open: their sequence numbers, their deadlines, and the messages they travel in.

A *flight* is one message with calls that was sent to a server and may still be answered.

Rules of this file:

- a call is queued, or in a flight, or only waits for its deadline (sent, not to be sent again), or is over;
- a sequence number is drawn when a call is first sent: what was never sent leaves no gap;
- everything up to `acknowledged` is over; the newest number is at most one window beyond it.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from itertools import islice, takewhile
from typing import Literal, TypeAlias

import msgspec

from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.messages import RESULT, Redirect, Results, ServerMessage, SessionOpened
from viewstamp.replica.events import CallId, Failed
from viewstamp.replica.options import ClientOptions

Queue = Literal["command", "linearizable", "stale"]

ResultLine: TypeAlias = tuple[int, int, msgspec.Raw]
"""As in `messages.Results`."""

_SLACK = 1_024


class Flight:
    """One message with calls, under way to a server."""

    __slots__ = ("due", "remaining", "server")

    def __init__(self, server: NodeId, due: Instant, remaining: int) -> None:
        self.server = server
        self.due = due
        """When the client stops waiting for its answer."""
        self.remaining = remaining
        """Calls of this flight that are neither over nor sent again; at 0 the flight is over."""


class Call:
    """One call by the application."""

    __slots__ = (
        "call",
        "deadline",
        "flight",
        "kind",
        "payload",
        "possible_executions",
        "refusal",
        "sequence",
        "session",
        "silent",
        "size",
    )

    def __init__(self, call: CallId, kind: Queue, payload: bytes, deadline: Instant) -> None:
        self.call = call
        self.kind = kind
        self.payload = msgspec.Raw(payload)
        self.size = len(payload)
        self.deadline = deadline
        self.sequence = 0
        """0 until it is first sent."""
        self.session = 0
        """The session under which it was first sent."""
        self.possible_executions = 0
        """Messages with this call that may have entered the log: no server said that they did not."""
        self.flight: Flight | None = None
        """The message in which it is under way; None: queued, or only its deadline is left."""
        self.silent: tuple[NodeId, ...] = ()
        """Servers that it was sent to and that did not answer."""
        self.refusal = ""
        """Why it was last refused."""


class Calls:
    """All open calls of one client."""

    __slots__ = ("_deadlines", "_flights", "_in_order", "_next", "by_id", "given_up", "in_flight", "queues")

    def __init__(self) -> None:
        self.by_id: dict[CallId, Call] = {}
        self.in_flight: dict[int, Call] = {}
        """By sequence number, in ascending order: sent at least once and not over."""
        self.queues: dict[Queue, dict[CallId, Call]] = {"command": {}, "linearizable": {}, "stale": {}}
        """The calls that wait to be sent, by kind, in the order they go out. Read-only for callers."""
        self._in_order: deque[tuple[Instant, CallId]] = deque()
        """Deadlines that only grow, as where all calls have the same time; calls in it may be over."""
        self._deadlines: list[tuple[Instant, CallId]] = []
        """The others: a heap, in which calls may be over as well."""
        self._flights: deque[Flight] = deque()
        """In the order sent; the first one is not over."""
        self.given_up: dict[NodeId, Flight] = {}
        """By server, the first flight of which a call was given up before its answer, if none came since."""
        self._next = 1

    def __len__(self) -> int:
        return len(self.by_id)

    def add(self, call: Call) -> None:
        """Store a new call and queue it."""
        number, deadline, by_id = call.call, call.deadline, self.by_id
        assert number not in by_id, number
        by_id[number] = self.queues[call.kind][number] = call
        in_order = self._in_order
        if len(in_order) + len(self._deadlines) > 2 * len(by_id) + _SLACK:
            self._forget_deadlines()
            in_order = self._in_order
        if not in_order or deadline >= in_order[-1][0]:
            in_order.append((deadline, number))
        else:
            heapq.heappush(self._deadlines, (deadline, number))

    def _forget_deadlines(self) -> None:
        """Forget the deadlines of calls that are over: they have become the most."""
        by_id = self.by_id
        self._in_order = deque(item for item in self._in_order if item[1] in by_id)
        self._deadlines[:] = [item for item in self._deadlines if item[1] in by_id]
        heapq.heapify(self._deadlines)

    def only_waits(self, call: Call) -> bool:
        """Return whether nothing is left to do for this call but to wait for its answer or its deadline."""
        return call.flight is None and call.call not in self.queues[call.kind]

    def can_send(self, queue: Queue, window: int) -> bool:
        """Return whether a queued call of this kind has its number already, or may have one."""
        first = next(iter(self.queues[queue].values()), None)
        return first is not None and (first.sequence > 0 or self.room(window) > 0)

    def peek(self, queue: Queue, count: int) -> list[Call]:
        """Return up to `count` queued calls, the oldest first."""
        return list(islice(self.queues[queue].values(), count))

    def launch(
        self, queue: Queue, server: NodeId, due: Instant, options: ClientOptions, session: int = 0
    ) -> list[Call]:
        """Put the next queued calls that fit into one message and the window into a flight; return them.

        With `session` they are commands, which the message may execute under it.
        """
        waiting = self.queues[queue]
        taken = list(waiting.values())
        if not self._fits_whole(taken, options):
            taken = self._next_fitting(queue, options)
        if not taken:
            return taken
        flight = Flight(server, due, len(taken))
        self._flights.append(flight)
        in_flight, number = self.in_flight, self._next
        is_command = queue == "command"
        for call in taken:
            assert call.flight is None, "a queued call is not in flight"
            if not call.sequence:
                call.sequence = number
                in_flight[number] = call
                number += 1
            call.flight = flight
            if is_command:
                call.session = session
                call.possible_executions += 1
        self._next = number
        if len(taken) == len(waiting):
            waiting.clear()
        else:
            for call in taken:
                del waiting[call.call]
        return taken

    def _fits_whole(self, queued: list[Call], options: ClientOptions) -> bool:
        """Return whether all queued calls leave in one message, as they nearly always do."""
        if len(queued) > min(options.message_calls_max, self.room(options.window)):
            return False
        size = 0
        for call in queued:
            size += call.size
        return size <= options.message_bytes_max

    def _next_fitting(self, queue: Queue, options: ClientOptions) -> list[Call]:
        room = self.room(options.window)
        size = 0
        fitting: list[Call] = []
        for call in islice(self.queues[queue].values(), options.message_calls_max):
            if not call.sequence:
                if room <= 0:
                    break
                room -= 1
            size += call.size
            if fitting and size > options.message_bytes_max:
                break
            fitting.append(call)
        return fitting

    def draw(self) -> int:
        """Return a new sequence number."""
        sequence = self._next
        self._next += 1
        return sequence

    def requeue(self, calls: Iterable[Call]) -> None:
        """Queue calls again that were under way, before those never sent, in the order of their numbers."""
        again: dict[Queue, list[Call]] = {}
        for call in calls:
            assert call.call in self.by_id, "a call that is over is not sent again"
            self.land(call)
            again.setdefault(call.kind, []).append(call)
        for queue, landed in again.items():
            waiting = self.queues[queue]
            numbered = sorted([*landed, *takewhile(_sequence_of, waiting.values())], key=_sequence_of)
            self.queues[queue] = {call.call: call for call in numbered} | waiting

    def land(self, call: Call) -> None:
        """Take a call out of its flight."""
        if call.flight is not None:
            assert call.flight.remaining > 0, "more calls left a flight than were put into it"
            call.flight.remaining -= 1
            call.flight = None

    def answered(
        self, results: Iterable[ResultLine]
    ) -> tuple[list[tuple[CallId, msgspec.Raw]], list[ResultLine]]:
        """Forget the calls that these results end. Return their results, and the lines that say otherwise."""
        in_flight, by_id = self.in_flight, self.by_id
        done: list[tuple[CallId, msgspec.Raw]] = []
        others: list[ResultLine] = []
        for line in results:
            sequence, kind, payload = line
            if kind != RESULT or (call := in_flight.pop(sequence, None)) is None:
                others.append(line)
                continue
            number, flight = call.call, call.flight
            del by_id[number]
            if flight is None:
                self.queues[call.kind].pop(number, None)
            else:
                flight.remaining -= 1
                call.flight = None
            done.append((number, payload))
        return done, others

    def over(self, call: Call) -> None:
        """Forget a call."""
        del self.by_id[call.call]
        self.queues[call.kind].pop(call.call, None)
        self.in_flight.pop(call.sequence, None)
        self.land(call)

    def give_up(self, number: CallId) -> None:
        """Forget a call that its caller gave up; its server still owes an answer."""
        if (call := self.by_id.get(number)) is not None:
            self._owe(call)
            self.over(call)

    def _owe(self, call: Call) -> None:
        # Only who leads answers commands and linearizable reads; a stale read is answered by anybody.
        if call.flight is not None and call.kind != "stale":
            self.given_up.setdefault(call.flight.server, call.flight)

    def heard(self, source: NodeId, message: ServerMessage) -> None:
        """A server that owes an answer sent something: is it a sign that it does what a leader does?"""
        if isinstance(message, Results):
            known = (self.in_flight.get(sequence) for sequence, _, _ in message.results)
            answers = any(call is None or call.kind != "stale" for call in known)
        else:
            answers = isinstance(message, Redirect | SessionOpened)
        if answers:
            self.given_up.pop(source, None)

    def of_flights(self, flights: Iterable[Flight]) -> list[Call]:
        """Return the calls that are under way in these flights."""
        wanted = set(flights)
        return [call for call in self.in_flight.values() if call.flight in wanted]

    def at(self, server: NodeId) -> list[Call]:
        """Return the calls that are under way at a server."""
        calls = self.in_flight.values()
        return [call for call in calls if call.flight is not None and call.flight.server == server]

    def named(self, server: NodeId, sequences: list[int]) -> list[Call]:
        """Return the calls that a redirect by `server` is about, as far as they are under way there."""
        if not sequences:
            return self.at(server)
        found = (self.in_flight.get(sequence) for sequence in sequences)
        return [call for call in found if call is not None and self._is_at(call, server)]

    def _is_at(self, call: Call, server: NodeId) -> bool:
        if call.flight is not None:
            return call.flight.server == server
        return self.only_waits(call) and server in call.silent

    def silent_flights(self, now: Instant) -> list[Flight]:
        """Return, and forget, the flights whose answer is overdue; of some all calls may be over."""
        silent: list[Flight] = []
        while (first := self._first_flight()) is not None and first.due <= now:
            silent.append(self._flights.popleft())
        overdue = [server for server, flight in self.given_up.items() if flight.due <= now]
        return silent + [self.given_up.pop(server) for server in overdue]

    @property
    def flight_due(self) -> Instant | None:
        """When an answer is next overdue; None: no server owes one."""
        first = self._first_flight()
        due = None if first is None else first.due
        if self.given_up:
            owed = min(flight.due for flight in self.given_up.values())
            return owed if due is None or owed < due else due
        return due

    def _first_flight(self) -> Flight | None:
        """Return the oldest flight with calls that wait for their answer."""
        flights = self._flights
        while flights:
            if flights[0].remaining > 0:
                return flights[0]
            flights.popleft()
        return None

    def expired(self, now: Instant) -> list[CallId]:
        """Return the open calls whose deadline has come: their servers still owe an answer."""
        expired: list[CallId] = []
        while (deadline := self.deadline) is not None and deadline <= now:
            if self._in_order and self._in_order[0][0] == deadline:
                expired.append(self._in_order.popleft()[1])
            else:
                expired.append(heapq.heappop(self._deadlines)[1])
        for number in expired:
            self._owe(self.by_id[number])
        return expired

    @property
    def deadline(self) -> Instant | None:
        """The earliest deadline of an open call."""
        in_order, deadlines, by_id = self._in_order, self._deadlines, self.by_id
        while in_order and in_order[0][1] not in by_id:
            in_order.popleft()
        while deadlines and deadlines[0][1] not in by_id:
            heapq.heappop(deadlines)
        if in_order and deadlines:
            return min(in_order[0][0], deadlines[0][0])
        first = in_order or deadlines
        return first[0][0] if first else None

    @property
    def acknowledged(self) -> int:
        """Every call with a sequence number up to this one is over."""
        return next(iter(self.in_flight), self._next) - 1

    def room(self, window: int) -> int:
        """Return how many new sequence numbers fit into the window."""
        return self.acknowledged + window - (self._next - 1)


def _sequence_of(call: Call) -> int:
    return call.sequence


def not_taken(options: ClientOptions, calls: int, closed: str) -> Failed:
    """Return how a call ends that comes too late, or where as many are open as may be."""
    reason = closed or "its deadline has passed"
    if calls >= options.calls_max:
        reason = f"{options.calls_max} calls are open already"
    return Failed("not_executed", f"not executed: {reason}")


def too_long(options: ClientOptions, size: int) -> Failed:
    """Return how a call ends that fits into no frame of a server."""
    told = f"the call has {size} bytes, and this client sends up to {options.call_bytes_max}"
    return Failed("invalid", f"not executed: {told}")
