"""Admin calls: what is asked of one certain node: its status, a directive, or a query that waits."""

from heapq import heapify, heappop, heappush
from typing import Final

import msgspec

from viewstamp.core.events import OperatorRequest
from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.messages import (
    AdminRequest,
    AskStatus,
    NodeMessage,
    OperatorReply,
    ReadLog,
    ReadPosition,
    ReadSnapshot,
    Waited,
    WaitFor,
)
from viewstamp.replica.events import CallId, Complete, Failed, Operated, Returned

_SPARE: Final = 64
"""Deadlines of what is answered; with more than this, and more than of what is open, they are dropped."""


class AdminCalls:
    """The operations of one client that are open."""

    __slots__ = ("_by_call", "_deadlines", "_waiting", "open")

    def __init__(self) -> None:
        self.open: dict[int, Operated] = {}
        """By request number. Read-only for callers."""
        self._waiting: dict[int, None] = {}
        """The numbers of those that were not sent, in order."""
        self._by_call: dict[CallId, int] = {}
        self._deadlines: list[tuple[Instant, int]] = []
        """A heap of (deadline, number) of all, and perhaps of some that are over."""

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self.open)

    def add(self, request: int, operated: Operated) -> None:
        """Store a new operation."""
        self.open[request] = operated
        self._waiting[request] = None
        self._by_call[operated.call] = request
        heappush(self._deadlines, (operated.deadline, request))
        if len(self._deadlines) > 2 * len(self.open) + _SPARE:
            self._deadlines = [(each.deadline, number) for number, each in self.open.items()]
            heapify(self._deadlines)

    @property
    def deadline(self) -> Instant | None:
        """The earliest deadline."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][1] not in self.open:
            heappop(deadlines)
        return deadlines[0][0] if deadlines else None

    def sendable(self, up: set[NodeId]) -> list[tuple[NodeId, NodeMessage]]:
        """Return what can be sent now, each once."""
        messages: list[tuple[NodeId, NodeMessage]] = []
        for request in list(self._waiting):
            operated = self.open[request]
            if operated.node in up:
                del self._waiting[request]
                messages.append((operated.node, _message(request, operated)))
        return messages

    def waits_for(self, up: set[NodeId]) -> bool:
        """Return whether something can be sent now."""
        return any(self.open[request].node in up for request in self._waiting)

    def replied(self, reply: OperatorReply) -> list[Complete]:
        """Return what the reply ends; nothing where it was not awaited."""
        requests = [reply.request, *reply.others] if isinstance(reply, Waited) else [reply.request]
        ended: list[Complete] = []
        encoded = b""
        for request in requests:
            operated = self._end(request)
            if operated is not None:
                encoded = encoded or msgspec.msgpack.encode(reply)
                ended.append(Complete(operated.call, Returned(encoded, 0)))
        return ended

    def unreachable(self, node: NodeId) -> list[Complete]:
        """Return the failures of what was asked of a node whose connection broke."""
        return self._fail([r for r, o in self.open.items() if o.node == node], "it cannot be reached")

    def expired(self, now: Instant) -> list[Complete]:
        """Return the failures of what is not answered by its deadline."""
        late: list[int] = []
        while (deadline := self.deadline) is not None and deadline <= now:
            late.append(heappop(self._deadlines)[1])
        return self._fail(late, "no answer in time")

    def close(self, why: str) -> list[Complete]:
        """Return the failures of everything."""
        return self._fail(list(self.open), why)

    def cancel(self, call: CallId) -> None:
        """Forget an operation."""
        request = self._by_call.get(call)
        if request is not None:
            self._end(request)

    def _end(self, request: int) -> Operated | None:
        operated = self.open.pop(request, None)
        if operated is not None:
            self._waiting.pop(request, None)
            del self._by_call[operated.call]
        return operated

    def _fail(self, requests: list[int], why: str) -> list[Complete]:
        completes: list[Complete] = []
        for request in requests:
            was_sent = request not in self._waiting
            operated = self._end(request)
            if operated is None:
                continue
            perhaps = was_sent and isinstance(operated.directive, OperatorRequest)
            where = f"node {operated.node}: {why}"
            outcome = Failed("unknown" if perhaps else "not_executed", where)
            completes.append(Complete(operated.call, outcome))
        return completes


def _message(request: int, operated: Operated) -> NodeMessage:
    directive = operated.directive
    if directive is None:
        return AskStatus(request)
    if isinstance(directive, ReadPosition | ReadSnapshot | ReadLog | WaitFor):
        return msgspec.structs.replace(directive, request=request)
    return AdminRequest(request, directive)
