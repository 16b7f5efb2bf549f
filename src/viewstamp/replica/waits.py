"""Queries that wait: asked by `WaitFor`, answered when there is something to tell, or when their time is up.

Rules of this file:

- a query is evaluated on the state as this replica has it; it waits only if it says so itself
  (`Context.wait_for`), and is evaluated again when a key of its range has changed;
- every question is answered once: with what the query returned, with why it cannot be, or, when the time is
  up, with what it returned although it would rather have waited;
- a replica that knows no leader keeps nobody waiting: what it has may be old, and another may know more;
- what waits is a question and not a list of answers, and there is a bounded number of them;
- equal questions that are woken together are evaluated once.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Any, Final, TypeAlias

import msgspec

from viewstamp.core.errors import InvalidCall
from viewstamp.core.ids import MICROSECONDS_PER_MS, ClientAddress, Instant
from viewstamp.core.messages import DENIED, INVALID, REFUSED, RESULT, Waited, WaitFor
from viewstamp.machine.definition import MachineDefinition
from viewstamp.replica.authorization import Authorizer
from viewstamp.replica.events import Requested
from viewstamp.replica.key_spans import KeySpans, Range
from viewstamp.replica.options import ReplicaOptions
from viewstamp.replica.refusals import denial_payload, encoded_text
from viewstamp.replica.replicated_state import ReplicatedState
from viewstamp.replica.responses import Responses

HOLD_MAX_MS: Final = 60_000
"""Longer than this no question waits, whatever its sender says."""
SLICE_QUESTIONS: Final = 64
"""Different questions that one step evaluates."""
SLICE_BYTES: Final = 256 << 10
"""A slice ends with the answer that passes this."""
SLICE_ANSWERS: Final = 4_096
"""Questions that one step answers, equal ones included."""
TOUCHED_MAX: Final = 4_096
"""More keys than this that change at once wake every question."""
_SPARE: Final = 64
"""Moments of questions that are answered; with more than this, and more than of others, they are dropped."""
NO_LEADER: Final = "this node knows no leader now, so its state may be old: ask another"
TOO_MANY: Final = "too many queries wait at this node: ask another, or try again later"

Outcome: TypeAlias = tuple[int, bytes, Range | None]
"""Kind and payload of an answer, and the range whose next change the query would rather wait for."""


class Held(msgspec.Struct, gc=False, eq=False):
    """One question that is not answered."""

    number: int
    source: ClientAddress
    request: int
    principal: str
    call: bytes
    arguments: Any
    due: Instant
    span: Range | None = None
    """The range for which it waits; None: it is to be evaluated."""


class Waits:
    """The questions that wait at one replica."""

    __slots__ = (
        "_by_source",
        "_definition",
        "_dues",
        "_last",
        "_max",
        "_max_per_source",
        "_responses",
        "_spans",
        "authorizer",
        "held",
        "ready",
    )

    def __init__(
        self,
        definition: MachineDefinition,
        responses: Responses,
        options: ReplicaOptions,
        authorizer: Authorizer | None,
    ) -> None:
        self._definition = definition
        self._responses = responses
        self.authorizer = authorizer
        self._max, self._max_per_source = options.waits_max, options.waits_per_connection_max
        self.held: dict[int, Held] = {}
        """The questions, by number. Read-only for callers."""
        self._by_source: dict[ClientAddress, set[int]] = {}
        """The numbers of the questions of each connection: no set is empty."""
        self._spans = KeySpans()
        """Those with a `span`."""
        self.ready: deque[int] = deque()
        """Those without one, and perhaps some that are gone. Read-only for callers."""
        self._dues: list[tuple[Instant, int]] = []
        """A heap of (moment, number) of every question, and perhaps of some that are answered."""
        self._last = 0

    def __len__(self) -> int:
        """Return how many questions wait."""
        return len(self.held)

    @property
    def due(self) -> Instant | None:
        """When the next question's time is up; None: none waits."""
        dues = self._dues
        while dues and dues[0][1] not in self.held:
            heappop(dues)  # else an answered one would wake the replica when nothing is to be done
        return dues[0][0] if dues else None

    def is_due(self, now: Instant) -> bool:
        """Return whether a question is to be evaluated, or its time is up."""
        return bool(self.ready) or (bool(self._dues) and self._dues[0][0] <= now)

    def on_request(self, event: Requested, message: WaitFor, now: Instant) -> None:
        """Take a question in, or say why not."""
        source, held = event.source, self._by_source.get(event.source, ())
        if len(self.held) >= self._max or len(held) >= self._max_per_source:
            self._say(source, [message.request], REFUSED, encoded_text(f"not executed: {TOO_MANY}"))
            return
        try:
            arguments = self._definition.decode("query", message.call)
        except InvalidCall as error:
            self._say(source, [message.request], INVALID, encoded_text(str(error)))
            return
        denial = None if self.authorizer is None else self.authorizer.denial(event.principal, arguments)
        if denial is not None:
            self._say(source, [message.request], DENIED, denial_payload(denial))
            return
        hold_us = min(message.hold_ms, HOLD_MAX_MS) * MICROSECONDS_PER_MS
        self._add(event, message, arguments, Instant(now + hold_us))

    def _add(self, event: Requested, message: WaitFor, arguments: Any, due: Instant) -> None:
        self._last += 1
        number, source = self._last, event.source
        call = bytes(message.call)
        self.held[number] = Held(number, source, message.request, event.principal, call, arguments, due)
        self._by_source.setdefault(source, set()).add(number)
        self.ready.append(number)
        heappush(self._dues, (due, number))
        if len(self._dues) > 2 * len(self.held) + _SPARE:
            self._dues = [(held.due, held.number) for held in self.held.values()]
            heapify(self._dues)

    def forget(self, source: ClientAddress) -> None:
        """Drop the questions of a connection that was closed."""
        for number in tuple(self._by_source.get(source, ())):
            self._drop(self.held[number])

    def changed(self, state: ReplicatedState) -> None:
        """Wake the questions that wait for keys which the last entries have changed."""
        context = state.runner.context
        touched, context.touched = context.touched, []
        if len(touched) > TOUCHED_MAX:
            self.wake_all()
        else:
            self._wake(self._spans.covering(touched))

    def wake_all(self) -> None:
        """Ask every question again: the state is another one."""
        self._wake(list(self._spans))

    def evaluate(self, state: ReplicatedState, now: Instant, *, knows_leader: bool) -> None:
        """Answer one slice of what is to be answered now; what waits on is put away."""
        while self._dues and self._dues[0][0] <= now:
            self._wake([heappop(self._dues)[1]])
        runner, known = state.runner, _Known(state)
        runner.begin_queries(state.applied, state.log_time)
        answers: dict[tuple[ClientAddress, int, bytes], list[int]] = {}
        for held in self._slice(known):
            kind, payload, span = known.ask(held)
            if span is not None and now < held.due and knows_leader:
                held.span = span
                self._spans.add(span, held.number)
                continue
            if span is not None and not knows_leader:
                kind, payload = REFUSED, bytes(encoded_text(f"not executed: {NO_LEADER}"))
            self._drop(held)
            answers.setdefault((held.source, kind, payload), []).append(held.request)
        runner.end_queries()
        for (source, kind, payload), requests in answers.items():
            self._say(source, requests, kind, msgspec.Raw(payload))

    def _slice(self, known: "_Known") -> Iterator[Held]:
        ready, left = self.ready, SLICE_ANSWERS
        while ready and left > 0 and not known.is_full:
            held = self.held.get(ready.popleft())
            if held is not None:
                left -= 1
                yield held

    def _wake(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            held = self.held.get(number)
            if held is not None and held.span is not None:
                self._spans.remove(held.span, number)
                held.span = None
                self.ready.append(number)

    def _drop(self, held: Held) -> None:
        del self.held[held.number]
        numbers = self._by_source[held.source]
        numbers.remove(held.number)
        if not numbers:
            del self._by_source[held.source]
        if held.span is not None:
            self._spans.remove(held.span, held.number)
        if not self.held:  # nothing is left to wake the replica for
            self.ready.clear()
            self._dues.clear()

    def _say(self, source: ClientAddress, requests: list[int], kind: int, payload: msgspec.Raw) -> None:
        self._responses.say(source, Waited(requests[0], kind, payload, requests[1:]))


class _Known:
    """The questions that one slice has evaluated, each once."""

    __slots__ = ("_answers", "_context", "_queries", "_room")

    def __init__(self, state: ReplicatedState) -> None:
        self._queries: dict[type[Any], Callable[[Any], tuple[int, bytes]]] = state.runner.queries
        self._context = state.runner.context
        self._answers: dict[tuple[str, bytes], Outcome] = {}
        self._room = SLICE_BYTES

    @property
    def is_full(self) -> bool:
        """Whether no other question should be evaluated in this step."""
        return len(self._answers) >= SLICE_QUESTIONS or self._room <= 0

    def ask(self, held: Held) -> Outcome:
        """Return the answer to a question on the state as it is."""
        key = held.principal, held.call
        outcome = self._answers.get(key)
        if outcome is None:
            context = self._context
            context.principal, context.awaited = held.principal, None
            kind, payload = self._queries[type(held.arguments)](held.arguments)
            outcome = kind, payload, context.awaited if kind == RESULT else None
            self._answers[key] = outcome
        self._room -= len(outcome[1])
        return outcome
