"""Queries: gathered into rounds, each answered when the core says that it is safe.

A round is begun only after its queries have arrived, which is what makes its answer linearizable. A round
that takes long is evaluated in slices, one for each wake, and the clients take turns in it. That keeps it
linearizable: a query may see a later state than the one that the core allowed, never an earlier one, because
the state only moves forward, and it is not answered before it is evaluated.
"""

from collections import deque
from typing import Final

import msgspec

from viewstamp.core.errors import InvalidCall
from viewstamp.core.events import ReadToken
from viewstamp.core.ids import ClientAddress, NodeId
from viewstamp.core.messages import REFUSED, UNREADABLE, QueryRequest, Redirect
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.runner import MachineRunner
from viewstamp.replica.answers import ResultLine
from viewstamp.replica.authorization import Authorizer
from viewstamp.replica.batches import Decoders
from viewstamp.replica.events import Requested
from viewstamp.replica.options import ReplicaOptions
from viewstamp.replica.refusals import RefusalLine, Sieve, encoded_text, refuse_all
from viewstamp.replica.replicated_state import ReplicatedState
from viewstamp.replica.responses import Responses

ANSWERS_BYTES_MAX: Final = 8 << 20
"""Of the answers to the queries of one message, and one more: a short query may ask for a long answer."""
SLICE_CALLS: Final = 64
"""Queries evaluated in one step, until the driver finds that they take longer or shorter than usual."""
SLICE_BYTES: Final = 256 << 10
"""A slice ends with the answer that passes this."""
_TOO_MUCH: Final = encoded_text("not executed: the answers before it are too long")


class PendingQuery(msgspec.Struct, gc=False):
    """The valid queries of one message."""

    source: ClientAddress
    client: int
    principal: str
    calls: list[tuple[int, object]]
    """(request number, decoded arguments)."""
    done: int = 0
    """How many of `calls` are answered."""
    room_bytes: int = ANSWERS_BYTES_MAX
    """Left for the answers to the others."""


class Reads:
    """The queries that wait for a round, the rounds in flight, and what remains of those allowed."""

    __slots__ = (
        "_calls_max",
        "_decode_all",
        "_definition",
        "_max",
        "_next",
        "_responses",
        "_rounds",
        "_waiting",
        "authorizer",
        "gathered",
        "ready",
        "slice_calls",
    )

    def __init__(
        self,
        definition: MachineDefinition,
        responses: Responses,
        options: ReplicaOptions,
        authorizer: Authorizer | None = None,
    ) -> None:
        """`authorizer` None: every principal may ask everything."""
        self._definition = definition
        quick = definition.encodes_alike("query") and not definition.finds_unknown("query")
        self._decode_all = Decoders.of(definition).queries if quick else None
        """None: each query has to be looked at, for its depth or for fields that are not known."""
        self.authorizer = authorizer
        self._responses = responses
        self._max = options.reads_max
        self._calls_max = options.message_calls_max
        self.gathered: list[PendingQuery] = []
        """What waits for a round. Read-only for callers."""
        self._rounds: dict[ReadToken, list[PendingQuery]] = {}
        self.ready: dict[ClientAddress, deque[PendingQuery]] = {}
        """What may be evaluated now, by connection; the first has its turn next. Read-only for callers."""
        self.slice_calls = SLICE_CALLS
        """How many queries a step evaluates; 1 or more. The driver, which has a clock, adapts it."""
        self._waiting = 0
        """Number of queries in `gathered`, `_rounds` and `ready`; at most `_max`."""
        self._next = 0

    def __len__(self) -> int:
        """Return how many queries wait."""
        return self._waiting

    def on_request(
        self,
        event: Requested,
        message: QueryRequest,
        state: ReplicatedState,
    ) -> None:
        """Refuse what is invalid or denied now; evaluate what is stale; store the rest for the next round."""
        if len(message.calls) > self._calls_max:
            lines = refuse_all(message.calls, f"more than {self._calls_max} calls in one message")
        else:
            query, lines = self._decode(event, message)
            if query.calls and not self._add(query, is_stale=message.reads == "stale"):
                lines += refuse_all(query.calls, "too many queries wait")
        if lines:
            self._responses.lines(event.source, message.client, state.position, lines)
        if message.reads == "stale" and len(self.ready) == 1:
            self.evaluate(state)

    def _add(self, query: PendingQuery, *, is_stale: bool) -> bool:
        if self._waiting + len(query.calls) > self._max:
            return False
        self._waiting += len(query.calls)
        if is_stale:
            self._queue(query)
        else:
            self.gathered.append(query)
        return True

    def begin_round(self) -> ReadToken:
        """Return the token of a new round with everything gathered."""
        assert self.gathered
        self._next += 1
        token = ReadToken(self._next)
        self._rounds[token] = self.gathered
        self.gathered = []
        return token

    def answer(self, token: ReadToken, state: ReplicatedState) -> None:
        """Answer the queries of a round, or as many as fit into a slice; the others with the next wakes."""
        for query in self._end_round(token):
            self._queue(query)
        self.evaluate(state)

    def refuse(self, token: ReadToken, leader: NodeId | None) -> None:
        """Send the clients of a round elsewhere: to the leader, or to any member where it is None."""
        for query in self._end_round(token):
            self._waiting -= len(query.calls)
            numbers = [number for number, _ in query.calls]
            redirect = Redirect(query.client, leader, False, numbers, "no reads here now")
            self._responses.say(query.source, redirect)

    def forget(self, source: ClientAddress) -> None:
        """Drop what is ready for a connection that was closed."""
        for query in self.ready.pop(source, ()):
            self._waiting -= len(query.calls) - query.done

    def evaluate(self, state: ReplicatedState) -> None:
        """Run one slice of what is ready on the machine as it is, and answer it."""
        runner, ready = state.runner, self.ready
        runner.begin_queries(state.applied, state.log_time)
        calls, size = self.slice_calls, SLICE_BYTES
        while ready and calls > 0 and size > 0:
            source = next(iter(ready))
            queue = ready.pop(source)
            query = queue[0]
            before = query.done
            lines, length = _run(runner, query, calls, size)
            calls, size = calls - (query.done - before), size - length
            self._waiting -= query.done - before
            self._responses.lines(source, query.client, state.position, lines)
            if query.done == len(query.calls):
                queue.popleft()
            if queue:
                ready[source] = queue  # behind the others, whose turn comes first
        runner.end_queries()

    def _queue(self, query: PendingQuery) -> None:
        queue = self.ready.get(query.source)
        if queue is None:
            queue = self.ready[query.source] = deque()
        queue.append(query)

    def _decode(self, event: Requested, message: QueryRequest) -> tuple[PendingQuery, list[RefusalLine]]:
        """Return the valid queries of a message, and the answers to the others."""
        source, principal, authorizer = event.source, event.principal, self.authorizer
        if self._decode_all is not None:
            try:
                calls = self._decode_all(event.encoded).calls
                if authorizer is None or authorizer.permits_all(principal, calls):
                    return PendingQuery(source, message.client, principal, calls), []
            except UNREADABLE:
                pass  # at least one is invalid: look at each
        return self._sift(source, principal, message)

    def _sift(
        self, source: ClientAddress, principal: str, message: QueryRequest
    ) -> tuple[PendingQuery, list[RefusalLine]]:
        definition, authorizer = self._definition, self.authorizer
        calls: list[tuple[int, object]] = []
        refused = Sieve()
        for number, raw in message.calls:
            if refused.is_full:
                refused.refuse(number)
                continue
            try:
                arguments = definition.decode("query", raw)
            except InvalidCall as error:
                refused.explain(number, str(error))
                continue
            denial = None if authorizer is None else authorizer.denial(principal, arguments)
            if denial is None:
                calls.append((number, arguments))
            else:
                refused.deny(number, denial)
        return PendingQuery(source, message.client, principal, calls), refused.lines

    def _end_round(self, token: ReadToken) -> list[PendingQuery]:
        assert token in self._rounds, "the core answers or refuses each round once"
        return self._rounds.pop(token)


def _run(runner: MachineRunner, query: PendingQuery, calls: int, size: int) -> tuple[list[ResultLine], int]:
    """Run up to `calls` queries of a message, and stop when the answers pass `size` bytes.

    A message takes at most `ANSWERS_BYTES_MAX` and one answer more: its client must ask again for the rest.
    Returns the lines and the bytes of the answers.
    """
    ran: list[tuple[int, bytes]] = []
    length, limit = 0, min(size, query.room_bytes)
    queries = runner.queries
    runner.context.principal = query.principal
    numbers, arguments = zip(*query.calls[query.done : query.done + calls], strict=True)
    for each in arguments:
        outcome = queries[type(each)](each)
        ran.append(outcome)
        length += len(outcome[1])
        if length >= limit:
            break
    kinds, payloads = zip(*ran, strict=True)
    lines: list[ResultLine] = list(zip(numbers, kinds, map(msgspec.Raw, payloads)))  # noqa: B905  stopped early
    query.done += len(ran)
    query.room_bytes -= length
    if query.room_bytes <= 0:
        lines += [(number, REFUSED, _TOO_MUCH) for number, _ in query.calls[query.done :]]
        query.done = len(query.calls)
    return lines, length
