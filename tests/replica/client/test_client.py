"""The client core: how every call ends, at every branch."""

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.replica.client.clients import (
    NUMBER,
    S1,
    S2,
    S3,
    SECOND,
    SESSION,
    ClientBench,
    ScriptedServers,
    opened_bench,
    sequences,
)
from viewstamp.core.messages import (
    EXPIRED,
    FAILED,
    INVALID,
    NO_SESSION,
    REFUSED,
    CloseSession,
    KeepAlive,
    Notified,
    OpenSession,
    Submit,
)
from viewstamp.replica.events import CallId, Cancelled, Closed, Failed, Outcome, Raised, Returned
from viewstamp.replica.options import ClientOptions

ENCODED_OK = msgspec.msgpack.encode("ok")


def test_a_session_is_opened_first_and_all_calls_of_a_turn_are_one_message() -> None:
    bench = ClientBench()
    for _ in range(3):
        bench.invoke()
    bench.open_session()
    to, message = bench.submitted()
    assert (to, message.session, sequences(message), message.acknowledged) == (S1, SESSION, [1, 2, 3], 0)
    bench.answer(S1, 1, 2, 3)
    assert bench.outcomes == dict.fromkeys((1, 2, 3), Returned(ENCODED_OK, 99))


def test_a_call_that_fits_into_no_frame_is_refused_and_not_sent() -> None:
    bench = opened_bench(call_bytes_max=len(msgspec.msgpack.encode(("add", 1))))
    longer = bench.invoke("add", 1_000)
    told = "not executed: the call has 8 bytes, and this client sends up to 6"
    assert bench.outcomes[longer] == Failed("invalid", told)
    bench.invoke("add", 2)
    assert sequences(bench.submitted()[1]) == [2]


def test_results_are_acknowledged_up_to_the_first_that_is_missing() -> None:
    bench = opened_bench()
    for _ in range(3):
        bench.invoke()
    bench.submitted()
    bench.answer(S1, 2, 4)
    bench.invoke()
    assert bench.submitted()[1].acknowledged == 2
    bench.answer(S1, 3)
    bench.invoke()
    assert bench.submitted()[1].acknowledged == 4


def test_an_exception_of_the_machine_is_the_outcome() -> None:
    bench = opened_bench()
    number = bench.invoke()
    bench.submitted()
    bench.answer(S1, 2, kind=FAILED, payload=["NoKey", "x"])
    assert bench.outcomes[number] == Raised("NoKey", "x")


@pytest.mark.parametrize(
    ("kind", "payload", "outcome", "word"),
    [
        (FAILED, 5, None, "cannot be read"),
        (INVALID, "no such method", "invalid", "no such method"),
        (INVALID, 5, "invalid", "cannot be read"),
        (EXPIRED, "gone", "session_expired", "gone"),
        (77, "?", "unknown", "this version does not know"),
    ],
)
def test_a_call_ends_by_what_the_server_says(
    kind: int, payload: object, outcome: str | None, word: str
) -> None:
    bench = opened_bench()
    number = bench.invoke()
    bench.submitted()
    bench.answer(S1, 2, kind=kind, payload=payload)
    if outcome is None:
        found = bench.outcomes[number]
        assert isinstance(found, Raised)
        assert word in found.explanation
    else:
        assert bench.failed(number)[0] == outcome
        assert word in bench.failed(number)[1]


def test_a_command_is_sent_again_under_its_number_when_the_connection_breaks() -> None:
    bench = opened_bench()
    number = bench.invoke()
    _, first = bench.submitted()
    bench.down(S1)
    to, again = bench.submitted()
    assert to == S2
    assert (again.session, sequences(again)) == (SESSION, sequences(first))
    bench.answer(S2, 2)
    assert bench.outcomes[number] == Returned(ENCODED_OK, 99)


def test_a_command_is_sent_to_the_next_server_when_no_answer_comes() -> None:
    bench = opened_bench()
    bench.invoke()
    assert bench.submitted()[0] == S1
    bench.run_until(SECOND)
    assert bench.submitted()[0] == S2
    bench.run_until(2 * SECOND)
    assert bench.take(Submit) == [], "the second wait is twice as long"
    bench.run_until(3 * SECOND)
    assert bench.submitted()[0] == S3


def test_calls_sent_again_go_before_new_ones_and_in_order() -> None:
    bench = opened_bench()
    for _ in range(3):
        bench.invoke()
    bench.submitted()
    bench.invoke()
    bench.down(S1)
    assert sequences(bench.submitted()[1]) == [2, 3, 4, 5]


def test_a_late_answer_counts_though_the_call_was_sent_elsewhere_already() -> None:
    bench = opened_bench()
    number = bench.invoke()
    bench.submitted()
    bench.run_until(SECOND)
    bench.submitted()
    bench.answer(S1, 2)
    assert bench.outcomes[number] == Returned(ENCODED_OK, 99)
    bench.answer(S2, 2)
    assert bench.take(Submit) == []


def test_the_client_goes_where_it_is_sent_and_remembers_it() -> None:
    bench = opened_bench()
    bench.invoke()
    bench.submitted()
    bench.redirect(S1, S3, 2)
    assert bench.submitted()[0] == S3
    bench.answer(S3, 2)
    bench.invoke()
    assert bench.submitted()[0] == S3
    assert bench.core.leader == S3


def test_several_redirects_of_one_server_are_followed_once() -> None:
    bench = opened_bench()
    bench.invoke()
    bench.submitted()
    bench.redirect(S1, S3, 2)
    bench.redirect(S1, S3)
    assert bench.submitted()[0] == S3


def test_servers_that_name_each_other_are_asked_ever_more_slowly() -> None:
    bench = opened_bench()
    bench.invoke()
    asked = 0
    while bench.now < 5 * SECOND:
        bench.wake()
        for to, message in bench.sent:
            asked += 1
            assert isinstance(message, Submit | KeepAlive)
            named = list(sequences(message)) if isinstance(message, Submit) else []
            bench.redirect(to, S2 if to == S1 else S1, *named)
        bench.sent.clear()
        deadline = bench.core.deadline
        assert deadline is not None
        bench.now = max(bench.now, deadline)
    assert 5 < asked < 40


def test_a_refused_call_is_sent_again_after_a_pause() -> None:
    bench = opened_bench()
    number = bench.invoke()
    bench.submitted()
    bench.answer(S1, 2, kind=REFUSED, payload="too much to do")
    assert bench.take(Submit) == []
    bench.run_until(bench.now + SECOND)
    assert sequences(bench.submitted()[1]) == [2]
    bench.answer(S1, 2)
    assert bench.outcomes[number] == Returned(ENCODED_OK, 99)


def test_a_call_is_not_executed_when_no_server_was_ever_reached() -> None:
    bench = ClientBench(up=())
    number = bench.invoke(timeout_us=SECOND)
    bench.run_until(SECOND)
    bench.wake()
    outcome, reason = bench.failed(number)
    assert outcome == "not_executed"
    assert reason == "not executed: no result in time; nodes 1, 2, 3 cannot be reached"
    assert bench.sent == []


def test_a_call_is_not_executed_when_the_session_neveropened_bench() -> None:
    bench = ClientBench()
    number = bench.invoke(timeout_us=SECOND // 2)
    bench.take(OpenSession)
    bench.run_until(SECOND // 2)
    bench.wake()
    assert bench.failed(number)[0] == "not_executed"


def test_a_call_is_unknown_when_it_was_sent_and_nothing_was_heard() -> None:
    bench = opened_bench()
    number = bench.invoke(timeout_us=SECOND // 2)
    bench.submitted()
    bench.run_until(SECOND // 2)
    bench.wake()
    outcome, reason = bench.failed(number)
    assert outcome == "unknown"
    assert "node 1 did not answer" in reason


def test_the_reason_names_both_the_silent_and_the_unreachable() -> None:
    bench = opened_bench()
    number = bench.invoke(timeout_us=SECOND + SECOND // 2)
    bench.submitted()
    bench.down(S3)
    bench.run_until(SECOND + SECOND // 2)
    bench.wake()
    assert "nodes 1, 2 did not answer, node 3 cannot be reached" in bench.failed(number)[1]


def test_a_call_is_not_executed_when_every_attempt_was_turned_away() -> None:
    bench = opened_bench()
    number = bench.invoke(timeout_us=SECOND)
    bench.submitted()
    bench.redirect(S1, S2, 2)
    bench.submitted()
    bench.answer(S2, 2, kind=REFUSED, payload="too much to do")
    bench.down(S1, S2, S3)
    bench.run_until(SECOND)
    bench.wake()
    outcome, reason = bench.failed(number)
    assert outcome == "not_executed"
    assert "too much to do" in reason


def test_a_call_is_unknown_when_one_of_two_attempts_may_have_entered() -> None:
    bench = opened_bench()
    number = bench.invoke(timeout_us=SECOND // 2)
    bench.submitted()
    bench.redirect(S1, S2, 2, entered=True)
    bench.submitted()
    bench.redirect(S2, S3, 2)
    bench.submitted()
    bench.redirect(S3, None, 2)
    bench.run_until(SECOND // 2)
    bench.wake()
    assert bench.failed(number)[0] == "unknown"


def test_a_call_is_over_at_once_when_its_deadline_has_passed_already() -> None:
    bench = opened_bench()
    number = bench.invoke(timeout_us=0)
    assert bench.failed(number)[0] == "not_executed"


def test_calls_beyond_the_limit_fail_at_once() -> None:
    bench = ClientBench(options=ClientOptions(calls_max=2))
    numbers = [bench.invoke() for _ in range(3)]
    assert list(bench.outcomes) == numbers[2:]
    assert "2 calls are open already" in bench.failed(numbers[2])[1]


@settings(max_examples=50)
@given(st.lists(st.integers(1, 3_000_000), min_size=1, max_size=30), st.integers(0, 3))
def test_every_call_ends_at_its_deadline_and_not_later_when_nothing_answers(
    timeouts: list[int], servers_up: int
) -> None:
    bench = ClientBench(up=(S1, S2, S3)[:servers_up])
    for number, timeout in enumerate(timeouts, start=1):
        bench.invoke(timeout_us=timeout)
        assert number not in bench.outcomes
    for moment in sorted(set(timeouts)):
        bench.run_until(moment)
        bench.wake()
        ended = {number for number, timeout in enumerate(timeouts, start=1) if timeout <= moment}
        assert set(bench.outcomes) == ended


def test_no_more_is_sent_than_the_window_allows_until_the_oldest_is_answered() -> None:
    bench = opened_bench(window=3)
    for _ in range(5):
        bench.invoke()
    assert sequences(bench.submitted()[1]) == [2, 3, 4]
    bench.answer(S1, 3, 4)
    assert bench.take(Submit) == []
    bench.answer(S1, 2)
    assert sequences(bench.submitted()[1]) == [5, 6]


def test_the_window_does_not_stop_what_was_sent_before() -> None:
    bench = opened_bench(window=3)
    for _ in range(5):
        bench.invoke()
    bench.submitted()
    bench.down(S1)
    assert sequences(bench.submitted()[1]) == [2, 3, 4]


@pytest.mark.parametrize("option", ["message_calls_max", "message_bytes_max"])
def test_a_turn_is_several_messages_when_one_would_be_too_large(option: str) -> None:
    size = len(msgspec.msgpack.encode(["add", 1]))
    bench = opened_bench(**{option: 2 if option == "message_calls_max" else 2 * size})
    for _ in range(5):
        bench.invoke()
    assert [sequences(message) for _, message in bench.take(Submit)] == [[2, 3], [4, 5], [6]]


def test_deadlines_of_finished_calls_do_not_pile_up() -> None:
    bench = opened_bench()
    for number in range(2, 6_000):
        bench.invoke()
        bench.submitted()
        bench.answer(S1, number)
    assert len(bench.core._calls._deadlines) < 2_000


def test_nothing_more_is_said_of_a_cancelled_call() -> None:
    bench = opened_bench()
    queued, sent = bench.invoke(), bench.invoke()
    bench.step(Cancelled(CallId(queued)))
    assert sequences(bench.submitted()[1]) == [2]
    bench.step(Cancelled(CallId(sent)))
    bench.step(Cancelled(CallId(999)))
    bench.answer(S1, 2)
    assert {queued, sent}.isdisjoint(bench.outcomes)
    assert bench.core.open_calls == 0


def test_everything_ends_when_the_client_is_closed() -> None:
    bench = opened_bench()
    sent = bench.invoke()
    bench.submitted()
    waiting, read = bench.invoke(), bench.invoke("read", kind="linearizable")
    bench.step(Closed())
    assert bench.failed(sent)[0] == "unknown"
    assert bench.failed(waiting)[0] == "not_executed"
    assert bench.failed(read)[0] == "not_executed"
    assert bench.take(CloseSession) == [(S1, CloseSession(NUMBER, SESSION))]
    assert bench.core.deadline is None
    late = bench.invoke()
    assert "closed" in bench.failed(late)[1]


def test_a_notification_is_delivered_unless_it_is_of_an_earlier_session() -> None:
    bench = opened_bench()
    payload = msgspec.Raw(msgspec.msgpack.encode("hello"))
    bench.receive(S1, Notified(NUMBER, SESSION, payload))
    bench.receive(S1, Notified(NUMBER, SESSION - 1, payload))
    bench.receive(S1, Notified(NUMBER, NO_SESSION, payload))
    assert bench.delivered == ["hello"], "nor after the session has ended"


def test_a_client_without_a_session_is_told_as_well() -> None:
    bench = ClientBench(exactly_once=False)
    bench.receive(S1, Notified(NUMBER, NO_SESSION, msgspec.Raw(msgspec.msgpack.encode("hello"))))
    assert bench.delivered == ["hello"]


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.booleans())
def test_a_call_ends_once_and_truthfully_whatever_the_servers_do(seed: int, exactly_once: bool) -> None:
    rng = Random(seed)
    bench = ClientBench(exactly_once=exactly_once, seed=seed)
    servers = ScriptedServers(bench, rng)
    calls: list[int] = []
    for _ in range(120):
        action = rng.randrange(10)
        if action < 4:
            calls.append(bench.invoke("add", len(calls) + 1, timeout_us=rng.randrange(1, 3 * SECOND)))
        elif action == 4:
            bench.down(rng.choice([S1, S2, S3]))
        elif action == 5:
            bench.up(rng.choice([S1, S2, S3]))
        elif action == 6:
            bench.run_until(bench.now + rng.randrange(SECOND))
        bench.wake()
        sent, bench.sent = bench.sent, []
        for to, message in sent:
            servers.serve(to, message)
    bench.run_until(bench.now + 10 * SECOND)
    bench.wake()
    assert set(bench.outcomes) == set(calls)
    for number in calls:
        _check_outcome(bench.outcomes[number], servers.executed.get(number, 0))


def _check_outcome(outcome: Outcome, executed: int) -> None:
    assert executed <= 1
    if isinstance(outcome, Returned):
        assert executed == 1
    elif isinstance(outcome, Failed) and outcome.outcome == "not_executed":
        assert executed == 0
