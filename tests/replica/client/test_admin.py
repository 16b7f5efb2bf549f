"""What an operator asks of one certain node."""

import msgspec
import pytest

from tests.replica.client.clients import S1, S2, SECOND, ClientBench
from viewstamp.core.events import TakeSnapshot
from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.messages import (
    AdminReply,
    AdminRequest,
    AskStatus,
)
from viewstamp.replica.events import CallId, Cancelled, Operated, Returned
from viewstamp.replica.options import ClientOptions

ENCODED_OK = msgspec.msgpack.encode("ok")


def test_status_is_asked_of_one_node_only_and_answered_with_its_reply() -> None:
    bench = ClientBench()
    bench.step(Operated(CallId(50), S2, None, Instant(SECOND)))
    assert bench.take(AskStatus) == [(S2, AskStatus(1))]
    reply = AdminReply(1, None)
    bench.receive(S2, reply)
    assert bench.outcomes[50] == Returned(msgspec.msgpack.encode(reply), 0)


@pytest.mark.parametrize(("directive", "outcome"), [(None, "not_executed"), (TakeSnapshot(), "unknown")])
def test_an_operation_ends_at_once_when_its_node_goes_away(directive: object, outcome: str) -> None:
    bench = ClientBench()
    bench.step(Operated(CallId(50), S2, directive, Instant(SECOND)))
    bench.wake()
    assert isinstance(bench.sent[0][1], AskStatus | AdminRequest)
    bench.down(S2)
    assert bench.failed(50) == (outcome, "node 2: it cannot be reached")


def test_an_operation_was_not_executed_when_its_node_was_never_reached() -> None:
    bench = ClientBench(up=(S1,))
    bench.step(Operated(CallId(50), S2, TakeSnapshot(), Instant(SECOND)))
    bench.run_until(SECOND)
    bench.wake()
    assert bench.failed(50)[0] == "not_executed"
    assert bench.sent == []
    bench.step(Operated(CallId(51), NodeId(9), None, Instant(2 * SECOND)))
    assert "node 9 is not a server" in bench.failed(51)[1]


def test_an_operation_is_forgotten_when_it_is_cancelled() -> None:
    bench = ClientBench()
    bench.step(Operated(CallId(50), S2, None, Instant(SECOND)))
    bench.step(Cancelled(CallId(50)))
    bench.run_until(2 * SECOND)
    assert bench.outcomes == {}
    assert bench.sent == []


def test_an_operation_is_refused_when_too_many_are_open() -> None:
    bench = ClientBench(options=ClientOptions(calls_max=2))
    for number in (50, 51, 52):
        bench.step(Operated(CallId(number), S2, None, Instant(SECOND)))
    assert bench.failed(52) == ("not_executed", "not executed: too many operations are open")
    assert {50, 51}.isdisjoint(bench.outcomes)
