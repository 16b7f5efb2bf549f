"""Queries: rounds, stale reads, refusals."""

import msgspec

from tests.replica.fakes import CLIENT, HERE, OTHER, Bench, call, lines, replies, submit
from viewstamp.core.effects import Answer, Refuse
from viewstamp.core.events import Queried, ReadToken, Woke
from viewstamp.core.ids import ClientAddress
from viewstamp.core.messages import (
    FAILED,
    INVALID,
    NO_SESSION,
    REFUSED,
    RESULT,
    QueryRequest,
    Redirect,
    Results,
    encode_message,
)
from viewstamp.machine.state_machine import StateMachine, query
from viewstamp.replica.batches import encode_batch
from viewstamp.replica.events import ClientGone
from viewstamp.replica.options import ReplicaOptions
from viewstamp.replica.refusals import EXPLAINED_MAX


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
    assert len(bench.replica.reads) == 0


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


def test_a_long_round_is_evaluated_in_slices_in_which_the_clients_take_turns() -> None:
    bench = Bench()
    bench.core.answering = False
    bench.replica.reads.slice_calls = 4
    bench.request(_ask(*((number, call("read")) for number in range(1, 11))))
    bench.request(_ask((11, call("read"))), source=ClientAddress(8))
    bench.wake()
    assert [number for number, _, _ in lines(replies(bench.feed(Answer(ReadToken(1)))))] == [1, 2, 3, 4]
    second = lines(replies(bench.step(Woke())))
    assert [number for number, _, _ in second] == [11, 5, 6, 7], "the other connection comes first"
    assert [number for number, _, _ in lines(replies(bench.wake()))] == [8, 9, 10]
    assert len(bench.replica.reads) == 0


def test_a_slice_sees_what_was_applied_since_the_round_was_allowed() -> None:
    bench = Bench()
    bench.replica.reads.slice_calls = 1
    bench.request(_ask((1, call("read")), (2, call("read")), (3, call("read"))))
    assert lines(replies(bench.step(Woke()))) == [(1, RESULT, 0)]
    bench.feed(bench.core.entry(encode_batch(1, (0, 0), [encode_message(submit(0, (9, call("add", 5))))])))
    assert lines(replies(bench.wake())) == [(3, RESULT, 5)]


def test_what_is_ready_for_a_connection_is_dropped_when_it_closes() -> None:
    bench = Bench()
    bench.replica.reads.slice_calls = 1
    bench.request(_ask((1, call("read")), (2, call("read")), stale=True))
    bench.step(ClientGone(HERE))
    assert replies(bench.wake()) == []
    assert len(bench.replica.reads) == 0


def test_a_message_with_too_many_calls_is_refused_with_one_sentence() -> None:
    bench = Bench(options=ReplicaOptions(batch_commands_max=3))
    many = [(number, b"\xc1") for number in range(1, 5)]
    for stale in (False, True):
        answers = lines(bench.do(_ask(*many, stale=stale)))
        assert [kind for _, kind, _ in answers] == [REFUSED] * 4
        assert "more than 3 calls" in answers[0][2]
        assert len({text for _, _, text in answers[1:]}) == 1


def test_the_calls_behind_many_invalid_ones_are_refused_unread() -> None:
    bench = Bench()
    many = [(number, b"\xc1") for number in range(1, EXPLAINED_MAX + 3)]
    for message in (_ask(*many), submit(NO_SESSION, *many)):
        answers = lines(bench.do(message))
        assert [kind for _, kind, _ in answers] == [INVALID] * EXPLAINED_MAX + [REFUSED] * 2


def test_stale_queries_that_wait_are_counted_like_the_others() -> None:
    bench = Bench(options=ReplicaOptions(reads_max=3))
    bench.replica.reads.slice_calls = 1
    bench.request(_ask((1, call("read")), (2, call("read")), (3, call("read")), stale=True))
    late = _ask((4, call("read")), (5, call("read")), stale=True)
    assert [kind for _, kind, _ in lines(replies(bench.request(late)))][:2] == [REFUSED] * 2
