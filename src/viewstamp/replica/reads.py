"""Queries: gathered into rounds, each answered when the core says that it is safe.

A round is begun only after its queries have arrived, which is what makes its answer linearizable.
"""

from typing import Final

import msgspec

from viewstamp.core.errors import InvalidCall
from viewstamp.core.events import ReadToken
from viewstamp.core.ids import ClientAddress, NodeId
from viewstamp.core.messages import INVALID, REFUSED, QueryRequest, Redirect
from viewstamp.machine.definition import MachineDefinition
from viewstamp.replica.replicated_state import ReplicatedState, ResultLine
from viewstamp.replica.responses import Responses, encoded_text

ANSWERS_BYTES_MAX: Final = 8 << 20
"""Of the answers to queries made in one step, and one more: a short query may ask for a long answer."""
_TOO_MUCH: Final = encoded_text("not executed: the answers before it are too long")


class PendingQuery(msgspec.Struct, frozen=True, gc=False):
    """The valid queries of one message."""

    source: ClientAddress
    client: int
    calls: list[tuple[int, object]]
    """(request number, decoded arguments)."""


class Reads:
    """The queries that wait for a round, and the rounds in flight."""

    __slots__ = ("_definition", "_max", "_next", "_responses", "_rounds", "_waiting", "gathered")

    def __init__(self, definition: MachineDefinition, responses: Responses, reads_max: int) -> None:
        self._definition = definition
        self._responses = responses
        self._max = reads_max
        self.gathered: list[PendingQuery] = []
        """What waits for a round. Read-only for callers."""
        self._rounds: dict[ReadToken, list[PendingQuery]] = {}
        self._waiting = 0
        """Number of queries in `gathered` and `_rounds`; at most `_max`."""
        self._next = 0

    def __len__(self) -> int:
        """Return how many queries wait."""
        return self._waiting

    def on_request(self, source: ClientAddress, message: QueryRequest, state: ReplicatedState) -> None:
        """Answer what is stale or invalid now; store the rest for the next round."""
        query, lines = _decode(self._definition, source, message)
        if message.reads == "stale":
            lines += _evaluate(state, [query])[0]
        elif query.calls and not self._add(query):
            refusal = encoded_text("not executed: too many queries wait")
            lines += [(number, REFUSED, refusal) for number, _ in query.calls]
        if lines:
            self._responses.lines(source, message.client, state.position, lines)

    def _add(self, query: PendingQuery) -> bool:
        if self._waiting + len(query.calls) > self._max:
            return False
        self.gathered.append(query)
        self._waiting += len(query.calls)
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
        """Answer the queries of a round from the state as it is now."""
        queries = self._end_round(token)
        for query, lines in zip(queries, _evaluate(state, queries), strict=True):
            self._responses.lines(query.source, query.client, state.position, lines)

    def refuse(self, token: ReadToken, leader: NodeId | None) -> None:
        """Send the clients of a round elsewhere: to the leader, or to any member where it is None."""
        for query in self._end_round(token):
            numbers = [number for number, _ in query.calls]
            redirect = Redirect(query.client, leader, False, numbers, "no reads here now")
            self._responses.say(query.source, redirect)

    def _end_round(self, token: ReadToken) -> list[PendingQuery]:
        assert token in self._rounds, "the core answers or refuses each round once"
        queries = self._rounds.pop(token)
        self._waiting -= sum(len(query.calls) for query in queries)
        return queries


def _decode(
    definition: MachineDefinition, source: ClientAddress, message: QueryRequest
) -> tuple[PendingQuery, list[ResultLine]]:
    """Return the valid queries of a message, and the answers to the others."""
    calls: list[tuple[int, object]] = []
    invalid: list[ResultLine] = []
    for number, raw in message.calls:
        try:
            calls.append((number, definition.decode("query", raw)))
        except InvalidCall as error:
            invalid.append((number, INVALID, encoded_text(str(error))))
    return PendingQuery(source, message.client, calls), invalid


def _evaluate(state: ReplicatedState, queries: list[PendingQuery]) -> list[list[ResultLine]]:
    """Run queries on the machine as it is; return the lines for each message.

    Together they take at most `ANSWERS_BYTES_MAX` and one answer more: clients must ask again for the rest.
    """
    runner = state.runner
    runner.begin_queries(state.applied, state.log_time)
    room_bytes = ANSWERS_BYTES_MAX
    lines: list[list[ResultLine]] = []
    for each in queries:
        part: list[ResultLine] = []
        for number, arguments in each.calls:
            if room_bytes <= 0:
                part.append((number, REFUSED, _TOO_MUCH))
                continue
            kind, payload = runner.run(arguments)
            room_bytes -= len(payload)
            part.append((number, kind, msgspec.Raw(payload)))
        lines.append(part)
    runner.end_queries()
    return lines
