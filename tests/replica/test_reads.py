"""Queries: rounds, stale reads, refusals."""

import msgspec

from tests.replica.fakes import CLIENT, OTHER, Bench, call, lines, replies, submit
from viewstamp.core.effects import Answer, Refuse
from viewstamp.core.events import Queried, ReadToken
from viewstamp.core.messages import (
    FAILED,
    INVALID,
    NO_SESSION,
    REFUSED,
    RESULT,
    QueryRequest,
    Redirect,
    Results,
)
from viewstamp.machine.state_machine import StateMachine, query
from viewstamp.replica.options import ReplicaOptions


def _ask(*calls: tuple[int, bytes], stale: bool = False) -> QueryRequest:
    encoded = [(number, msgspec.Raw(payload)) for number, payload in calls]
    return QueryRequest(CLIENT, "stale" if stale else "linearizable", encoded)


def test_all_that_was_asked_in_one_turn_is_one_round() -> None:
    bench = Bench()
    bench.core.answering = False
    bench.request(_ask((1, call("read"))))
    bench.request(_ask((2, call("read")), (3, call("read"))))
    bench.wake()
    assert [event for event in bench.core.events if isinstance(event, Queried)] == [Queried(ReadToken(1))]
    answers = replies(bench.feed(Answer(ReadToken(1))))
    assert lines(answers) == [(1, RESULT, 0), (2, RESULT, 0), (3, RESULT, 0)]


def test_a_round_begins_only_with_what_has_arrived_before_it() -> None:
    bench = Bench()
    bench.core.answering = False
    bench.do(_ask((1, call("read"))))
    bench.do(_ask((2, call("read"))))
    assert lines(replies(bench.feed(Answer(ReadToken(2))))) == [(2, RESULT, 0)]
    assert lines(replies(bench.feed(Answer(ReadToken(1))))) == [(1, RESULT, 0)]


def test_a_read_sees_what_was_applied_before_its_answer() -> None:
    bench = Bench()
    bench.core.answering = False
    bench.do(_ask((1, call("read"))))
    bench.do(submit(NO_SESSION, (2, call("add", 5))))
    answers = replies(bench.feed(Answer(ReadToken(1))))
    assert lines(answers) == [(1, RESULT, 5)]
    assert isinstance(answers[0], Results)
    assert answers[0].position == bench.replica.state.position


def test_a_stale_read_is_answered_at_once_when_no_leader_is_known() -> None:
    bench = Bench()
    bench.core.leader, bench.core.accepting = None, False
    assert lines(replies(bench.request(_ask((1, call("read")), stale=True)))) == [(1, RESULT, 0)]


def test_a_client_is_sent_on_when_the_core_refuses_the_round() -> None:
    bench = Bench()
    bench.core.answering = False
    bench.do(_ask((1, call("read")), (2, call("read"))))
    bench.core.leader = OTHER
    (answer,) = replies(bench.feed(Refuse(ReadToken(1))))
    assert isinstance(answer, Redirect)
    assert (answer.leader, answer.entered, answer.sequences) == (OTHER, False, [1, 2])
    assert len(bench.replica._reads) == 0


def test_invalid_queries_are_answered_at_once_and_the_others_wait() -> None:
    bench = Bench()
    bench.core.answering = False
    answers = lines(bench.do(_ask((1, call("add", 1)), (2, call("read")), (3, b"\xc1"))))
    assert [(number, kind) for number, kind, _ in answers] == [(1, INVALID), (3, INVALID)]
    assert lines(replies(bench.feed(Answer(ReadToken(1))))) == [(2, RESULT, 0)]


def test_queries_are_refused_when_too_many_wait_and_taken_again_later() -> None:
    bench = Bench(options=ReplicaOptions(reads_max=2))
    bench.core.answering = False
    bench.do(_ask((1, call("read")), (2, call("read"))))
    assert [kind for _, kind, _ in lines(bench.do(_ask((3, call("read")))))] == [REFUSED]
    bench.feed(Answer(ReadToken(1)))
    assert bench.do(_ask((4, call("read")))) == []
    assert lines(replies(bench.feed(Answer(ReadToken(2))))) == [(4, RESULT, 0)]


class Failing(StateMachine):
    """A machine with a query that raises, and no command at all."""

    @query
    def broken(self) -> int:
        raise KeyError("x")


class Verbose(StateMachine):
    @query
    def say(self, length: int) -> str:
        return "x" * length


def test_answers_are_bounded_when_short_queries_ask_for_much() -> None:
    bench = Bench(Verbose)
    mebibyte = call("say", 1 << 20)
    calls = [(number, mebibyte) for number in range(1, 21)]
    for stale in (False, True):
        answers = lines(bench.do(_ask(*calls, stale=stale)))
        assert [kind for _, kind, _ in answers] == [RESULT] * 8 + [REFUSED] * 12
        assert len(bench.do(_ask((21, mebibyte), stale=stale))) == 1, "the next step has room again"


def test_an_exception_is_the_answer_when_a_query_raises() -> None:
    bench = Bench(Failing)
    assert lines(bench.do(_ask((1, call("broken"))))) == [(1, FAILED, ["KeyError", "'x'"])]


def test_every_command_is_invalid_when_a_machine_has_none() -> None:
    bench = Bench(Failing)
    ((_, kind, explanation),) = lines(bench.do(submit(NO_SESSION, (1, call("anything")))))
    assert kind == INVALID
    assert "no command is called 'anything'" in explanation
