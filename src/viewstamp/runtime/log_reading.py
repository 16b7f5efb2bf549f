"""Reading the committed log of one node of a running cluster, over the ordinary port. Blocking."""

import time
from collections.abc import Sequence
from functools import partial
from threading import Event
from types import TracebackType
from typing import Final, Self

import msgspec

from viewstamp.backup.collecting import Collector, Origin, Question, confirmed_position
from viewstamp.core.errors import NotExecuted
from viewstamp.core.ids import NodeId, Viewstamp
from viewstamp.core.messages import OperatorReply, decode_server_message
from viewstamp.replica.events import Returned
from viewstamp.runtime.blocking import BlockingClient
from viewstamp.runtime.client_base import NO_ERRORS, failure_of
from viewstamp.runtime.config import ClusterConfig
from viewstamp.stream.encoder import StreamEncoder

FOLLOW_PAUSE_S: Final = 0.1
"""Between two questions of a reader that has all there is."""
CONFIRMED_WITHIN_S: Final = 2.0
"""How long one member may take to confirm a position before the next one is asked."""


class LogReader:
    """A connection to one member of a cluster, for as long as its log is read."""

    def __init__(self, cluster: ClusterConfig, node: NodeId, *, timeout_s: float = 60.0) -> None:
        """Nothing is connected before the first question. Each ends within `timeout_s`."""
        self._client = BlockingClient(cluster, timeout_s=timeout_s, operator=True)
        self._timeout_s = timeout_s
        self.cluster = cluster
        self.node = node

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def ask(self, questions: Sequence[Question]) -> list[OperatorReply]:
        """Ask the node (`collecting.Ask`)."""
        return self._ask_one(self.node, questions)

    def position(self) -> Viewstamp:
        """Return a position that everything acknowledged before this call is part of.

        Any member that can tell will do. While none can, as when the leader has just ended and the next one
        is not elected yet, all are asked again until `timeout_s` is over.

        Raises:
            NotExecuted: none could tell in time. Nothing was read.
        """
        until = time.monotonic() + self._timeout_s
        while True:
            reasons: list[str] = []
            for node in (self.node, *(each for each in self.cluster.node_ids if each != self.node)):
                try:
                    return confirmed_position(partial(self._ask_one, node, timeout_s=CONFIRMED_WITHIN_S))
                except NotExecuted as error:
                    reasons.append(f"node {node}: {error}")
            if time.monotonic() >= until:
                raise NotExecuted("no member could tell up to where to read: " + "; ".join(reasons))
            wait_for_more()

    def collector(self, encoder: StreamEncoder | None = None) -> Collector:
        """Return what makes a stream of this node's log."""
        limits = msgspec.structs.asdict(self.cluster.replica_options.sessions)
        origin = Origin(self.cluster.cluster_id, self.cluster.protocol, self.cluster.node_ids, limits)
        return Collector(self.ask, origin, pause=wait_for_more, encoder=encoder)

    def _ask_one(
        self, node: NodeId, questions: Sequence[Question], *, timeout_s: float | None = None
    ) -> list[OperatorReply]:
        outcomes = self._client.operate([(node, each) for each in questions], timeout_s=timeout_s)
        return [self._reply(outcome) for outcome in outcomes]

    @staticmethod
    def _reply(outcome: object) -> OperatorReply:
        if not isinstance(outcome, Returned):
            raise failure_of(outcome, NO_ERRORS)  # type: ignore[arg-type]
        reply = decode_server_message(outcome.payload)
        assert isinstance(reply, OperatorReply)
        return reply


def wall_time_ms() -> int:
    """Return the date, in ms since 1970 (UTC): for people, and to find a moment again."""
    return time.time_ns() // 1_000_000  # noqa: TID251  a date for people


def wait_for_more() -> None:
    """Wait before the node is asked again."""
    Event().wait(FOLLOW_PAUSE_S)
