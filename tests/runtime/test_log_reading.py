"""A reader of the log asks whichever member can tell how far everything acknowledged reaches."""

from collections.abc import Iterable
from itertools import count

import msgspec
import pytest

from viewstamp.core.errors import NotExecuted
from viewstamp.core.ids import NodeId, Seqno, View, Viewstamp
from viewstamp.core.messages import PositionReply
from viewstamp.replica.events import Failed, Outcome, Returned
from viewstamp.runtime import log_reading
from viewstamp.runtime.config import ClusterConfig, Member
from viewstamp.runtime.log_reading import LogReader

MEMBERS = tuple(Member(id=NodeId(node), host="127.0.0.1", port=7100 + node) for node in (1, 2, 3))
CLUSTER = ClusterConfig(cluster_id="reading", members=MEMBERS)
DEAD = Failed("not_executed", "it cannot be reached")
HERE = Viewstamp(View(3), Seqno(41))


def told(refusal: str | None = None) -> Returned:
    return Returned(msgspec.msgpack.encode(PositionReply(0, HERE, 0, refusal)), 0)


LEADS, FOLLOWS = told(), told("this node cannot confirm a position now: ask the leader")


class Members:
    """Answers of nodes 1, 2 and 3 in each round of questions; the last round goes on."""

    def __init__(self, *rounds: tuple[Outcome, Outcome, Outcome]) -> None:
        self._rounds = list(rounds)
        self._asked: set[NodeId] = set()

    def operate(
        self, requests: Iterable[tuple[NodeId, object]], *, timeout_s: float | None = None
    ) -> list[Outcome]:
        ((node, _),) = requests
        if node in self._asked:
            self._rounds, self._asked = self._rounds[1:] or self._rounds, set()
        self._asked.add(node)
        return [self._rounds[0][node - 1]]


def reader(monkeypatch: pytest.MonkeyPatch, *rounds: tuple[Outcome, Outcome, Outcome]) -> LogReader:
    """Return a reader of node 2 that waits for nothing: five rounds and the time is over."""
    monkeypatch.setattr(log_reading, "BlockingClient", lambda *_, **__: Members(*rounds))
    monkeypatch.setattr(log_reading, "wait_for_more", lambda: None)
    seconds = count()
    monkeypatch.setattr("viewstamp.runtime.log_reading.time.monotonic", lambda: next(seconds))
    return LogReader(CLUSTER, NodeId(2), timeout_s=5)


def test_next_leader_tells_the_position_when_the_one_that_was_known_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended, elected = (DEAD, FOLLOWS, FOLLOWS), (DEAD, FOLLOWS, LEADS)
    assert reader(monkeypatch, ended, ended, elected).position() == HERE


def test_position_is_refused_in_one_line_when_no_member_leads_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(NotExecuted, match=r"node 2: .*ask the leader; node 1: .*reached; node 3") as ended:
        reader(monkeypatch, (DEAD, FOLLOWS, FOLLOWS)).position()
    assert "\n" not in str(ended.value)
