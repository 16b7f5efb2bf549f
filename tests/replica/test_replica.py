"""The replica as a whole, over a core that obeys: gathering, answering, redirecting, reading."""

from tests.replica.fakes import Bench, call, lines, submit
from viewstamp.core.messages import RESULT


def test_a_command_is_executed_once_and_answered_when_it_is_submitted_twice() -> None:
    bench = Bench()
    session = bench.open()
    first = bench.do(submit(session, (1, call("add", 5))))
    again = bench.do(submit(session, (1, call("add", 5))))
    assert lines(first) == lines(again) == [(1, RESULT, 5)]
