"""Admin calls: what an operator asks of one certain node, its status or to carry out a directive."""

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


class AdminCalls:
    """The operations of one client that are open."""

    __slots__ = ("_sent", "open")

    def __init__(self) -> None:
        self.open: dict[int, Operated] = {}
        """By request number. Read-only for callers."""
        self._sent: set[int] = set()

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self.open)

    def add(self, request: int, operated: Operated) -> None:
        """Store a new operation."""
        self.open[request] = operated

    @property
    def deadline(self) -> Instant | None:
        """The earliest deadline."""
        if not self.open:
            return None
        return min(operated.deadline for operated in self.open.values())

    def sendable(self, up: set[NodeId]) -> list[tuple[NodeId, NodeMessage]]:
        """Return what can be sent now, each once."""
        messages: list[tuple[NodeId, NodeMessage]] = []
        for request, operated in self.open.items():
            if request not in self._sent and operated.node in up:
                self._sent.add(request)
                messages.append((operated.node, _message(request, operated)))
        return messages

    def waits_for(self, up: set[NodeId]) -> bool:
        """Return whether something can be sent now."""
        if not self.open:
            return False
        return any(request not in self._sent and open_.node in up for request, open_ in self.open.items())

    def replied(self, reply: OperatorReply) -> list[Complete]:
        """Return what the reply ends; nothing where it was not awaited."""
        requests = [reply.request, *reply.others] if isinstance(reply, Waited) else [reply.request]
        ended: list[Complete] = []
        encoded = b""
        for request in requests:
            operated = self.open.pop(request, None)
            if operated is not None:
                self._sent.discard(request)
                encoded = encoded or msgspec.msgpack.encode(reply)
                ended.append(Complete(operated.call, Returned(encoded, 0)))
        return ended

    def unreachable(self, node: NodeId) -> list[Complete]:
        """Return the failures of what was asked of a node whose connection broke."""
        return self._fail([r for r, o in self.open.items() if o.node == node], "it cannot be reached")

    def expired(self, now: Instant) -> list[Complete]:
        """Return the failures of what is not answered by its deadline."""
        if not self.open:
            return []
        return self._fail([r for r, o in self.open.items() if o.deadline <= now], "no answer in time")

    def close(self, why: str) -> list[Complete]:
        """Return the failures of everything."""
        return self._fail(list(self.open), why)

    def cancel(self, call: CallId) -> None:
        """Forget an operation."""
        for request, operated in list(self.open.items()):
            if operated.call == call:
                del self.open[request]
                self._sent.discard(request)

    def _fail(self, requests: list[int], why: str) -> list[Complete]:
        completes: list[Complete] = []
        for request in requests:
            operated = self.open.pop(request)
            perhaps = request in self._sent and isinstance(operated.directive, OperatorRequest)
            self._sent.discard(request)
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
