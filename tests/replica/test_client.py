"""The client core: how every call ends, at every branch (DESIGN promises 2 and 3)."""

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.replica.clients import NUMBER, S1, S2, S3, SECOND, SESSION, ClientBench, ScriptedServers, sequences
from viewstamp.core.events import TakeSnapshot
from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.messages import (
    EXPIRED,
    FAILED,
    INVALID,
    NO_SESSION,
    REFUSED,
    RESULT,
    AskStatus,
    CloseSession,
    Direct,
    DirectReply,
    KeepAlive,
    Notified,
    OpenSession,
    Redirect,
    Results,
    SessionOpened,
    Submit,
)
from viewstamp.replica.events import CallId, Cancelled, Closed, Failed, Operated, Outcome, Raised, Returned
from viewstamp.replica.options import ClientOptions

ENCODED_OK = msgspec.msgpack.encode("ok")


def _opened(**options: int) -> ClientBench:
    """Return a bench with an open session at S1."""
    bench = ClientBench(options=ClientOptions(**options))
    bench.invoke()
    bench.open_session()
    bench.submitted()
    bench.answer(S1, 1)
    return bench


# Commands under a session


def test_a_session_is_opened_first_and_all_calls_of_a_turn_are_one_message() -> None:
    bench = ClientBench()
    for _ in range(3):
        bench.invoke()
    bench.open_session()
    to, message = bench.submitted()
    assert (to, message.session, sequences(message), message.acknowledged) == (S1, SESSION, [1, 2, 3], 0)
    bench.answer(S1, 1, 2, 3)
    assert bench.outcomes == dict.fromkeys((1, 2, 3), Returned(ENCODED_OK, 99))


def test_results_are_acknowledged_up_to_the_first_that_is_missing() -> None:
    bench = _opened()
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
    bench = _opened()
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
    bench = _opened()
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
    bench = _opened()
    number = bench.invoke()
    _, first = bench.submitted()
    bench.down(S1)
    to, again = bench.submitted()
    assert to == S2
    assert (again.session, sequences(again)) == (SESSION, sequences(first))
    bench.answer(S2, 2)
    assert bench.outcomes[number] == Returned(ENCODED_OK, 99)


def test_a_command_is_sent_to_the_next_server_when_no_answer_comes() -> None:
    bench = _opened()
    bench.invoke()
    assert bench.submitted()[0] == S1
    bench.run_until(SECOND)
    assert bench.submitted()[0] == S2
    bench.run_until(2 * SECOND)
    assert bench.take(Submit) == [], "the second wait is twice as long"
    bench.run_until(3 * SECOND)
    assert bench.submitted()[0] == S3


def test_calls_sent_again_go_before_new_ones_and_in_order() -> None:
    bench = _opened()
    for _ in range(3):
        bench.invoke()
    bench.submitted()
    bench.invoke()
    bench.down(S1)
    assert sequences(bench.submitted()[1]) == [2, 3, 4, 5]


def test_a_late_answer_counts_though_the_call_was_sent_elsewhere_already() -> None:
    bench = _opened()
    number = bench.invoke()
    bench.submitted()
    bench.run_until(SECOND)
    bench.submitted()
    bench.answer(S1, 2)
    assert bench.outcomes[number] == Returned(ENCODED_OK, 99)
    bench.answer(S2, 2)
    assert bench.take(Submit) == []


def test_the_client_goes_where_it_is_sent_and_remembers_it() -> None:
    bench = _opened()
    bench.invoke()
    bench.submitted()
    bench.redirect(S1, S3, 2)
    assert bench.submitted()[0] == S3
    bench.answer(S3, 2)
    bench.invoke()
    assert bench.submitted()[0] == S3
    assert bench.core.leader == S3


def test_several_redirects_of_one_server_are_followed_once() -> None:
    bench = _opened()
    bench.invoke()
    bench.submitted()
    bench.redirect(S1, S3, 2)
    bench.redirect(S1, S3)
    assert bench.submitted()[0] == S3


def test_servers_that_name_each_other_are_asked_ever_more_slowly() -> None:
    bench = _opened()
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
    bench = _opened()
    number = bench.invoke()
    bench.submitted()
    bench.answer(S1, 2, kind=REFUSED, payload="too much to do")
    assert bench.take(Submit) == []
    bench.run_until(bench.now + SECOND)
    assert sequences(bench.submitted()[1]) == [2]
    bench.answer(S1, 2)
    assert bench.outcomes[number] == Returned(ENCODED_OK, 99)


# How a call ends without a result


def test_a_call_is_not_executed_when_no_server_was_ever_reached() -> None:
    bench = ClientBench(up=())
    number = bench.invoke(timeout_us=SECOND)
    bench.run_until(SECOND)
    bench.wake()
    outcome, reason = bench.failed(number)
    assert outcome == "not_executed"
    assert reason == "not executed: no result in time; nodes 1, 2, 3 cannot be reached"
    assert bench.sent == []


def test_a_call_is_not_executed_when_the_session_never_opened() -> None:
    bench = ClientBench()
    number = bench.invoke(timeout_us=SECOND // 2)
    bench.take(OpenSession)
    bench.run_until(SECOND // 2)
    bench.wake()
    assert bench.failed(number)[0] == "not_executed"


def test_a_call_is_unknown_when_it_was_sent_and_nothing_was_heard() -> None:
    bench = _opened()
    number = bench.invoke(timeout_us=SECOND // 2)
    bench.submitted()
    bench.run_until(SECOND // 2)
    bench.wake()
    outcome, reason = bench.failed(number)
    assert outcome == "unknown"
    assert "node 1 did not answer" in reason


def test_the_reason_names_both_the_silent_and_the_unreachable() -> None:
    bench = _opened()
    number = bench.invoke(timeout_us=SECOND + SECOND // 2)
    bench.submitted()
    bench.down(S3)
    bench.run_until(SECOND + SECOND // 2)
    bench.wake()
    assert "nodes 1, 2 did not answer, node 3 cannot be reached" in bench.failed(number)[1]


def test_a_call_is_not_executed_when_every_attempt_was_turned_away() -> None:
    bench = _opened()
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
    bench = _opened()
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
    bench = _opened()
    number = bench.invoke(timeout_us=0)
    assert bench.failed(number)[0] == "not_executed"


def test_calls_beyond_the_limit_fail_at_once() -> None:
    bench = ClientBench(options=ClientOptions(calls_max=2))
    numbers = [bench.invoke() for _ in range(3)]
    assert list(bench.outcomes) == numbers[2:]
    assert "2 calls are open already" in bench.failed(numbers[2])[1]


@settings(max_examples=50, deadline=None)
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


# Sessions


def test_a_call_is_unknown_when_its_session_expired_after_an_earlier_attempt() -> None:
    bench = _opened()
    number = bench.invoke()
    bench.submitted()
    bench.down(S1)
    bench.submitted()
    bench.answer(S2, 2, kind=EXPIRED, payload="not known any more")
    assert bench.failed(number)[0] == "unknown"


def test_a_new_session_is_opened_for_the_next_call_when_the_old_one_expired() -> None:
    bench = _opened()
    bench.invoke()
    bench.submitted()
    bench.answer(S1, 2, kind=EXPIRED, payload="not known any more")
    assert bench.core.session is None
    number = bench.invoke()
    bench.open_session(SESSION * 2)
    _, message = bench.submitted()
    assert (message.session, sequences(message)) == (SESSION * 2, [3]), "numbers are never used again"
    bench.answer(S1, 3)
    assert bench.outcomes[number] == Returned(ENCODED_OK, 99)


def test_calls_that_may_have_been_executed_under_an_old_session_do_not_run_under_a_new_one() -> None:
    bench = _opened()
    doubtful, other = bench.invoke(), bench.invoke()
    bench.submitted()
    bench.redirect(S1, S2, 2, entered=True)
    bench.answer(S1, 3, kind=EXPIRED, payload="not known any more")
    bench.open_session(SESSION * 2)
    assert bench.take(Submit) == []
    assert bench.failed(doubtful)[0] == "unknown"
    assert bench.failed(other)[0] == "session_expired"


def test_calls_that_surely_did_not_enter_run_under_a_new_session() -> None:
    bench = _opened()
    safe, _ = bench.invoke(), bench.invoke()
    bench.submitted()
    bench.redirect(S1, S2, 2)
    bench.answer(S1, 3, kind=EXPIRED, payload="not known any more")
    bench.open_session(SESSION * 2)
    assert sequences(bench.submitted()[1]) == [2]
    bench.answer(S2, 2)
    assert bench.outcomes[safe] == Returned(ENCODED_OK, 99)


def test_a_doubtful_call_is_not_sent_again_when_a_newer_session_stands() -> None:
    bench = _opened()
    doubtful, _ = bench.invoke(), bench.invoke()
    bench.submitted()
    bench.answer(S1, 3, kind=EXPIRED, payload="not known any more")
    bench.invoke()
    bench.open_session(SESSION * 2)
    bench.submitted()
    bench.redirect(S1, S2, 2, entered=True)
    assert bench.failed(doubtful)[0] == "unknown"
    assert bench.take(KeepAlive) == [(S2, KeepAlive(NUMBER, SESSION * 2))]


def test_an_idle_client_shows_up_at_the_new_leader_when_it_is_told_of_it() -> None:
    bench = _opened()
    bench.redirect(S1, S3)
    assert bench.take(KeepAlive) == [(S3, KeepAlive(NUMBER, SESSION))]


def test_the_session_is_kept_alive_when_nothing_else_is_sent() -> None:
    bench = _opened()
    bench.run_until(20 * SECOND)
    assert bench.take(KeepAlive) == [(S1, KeepAlive(NUMBER, SESSION))]
    bench.receive(S1, SessionOpened(NUMBER, SESSION, 60_000))
    bench.run_until(39 * SECOND)
    assert bench.take(KeepAlive) == []
    bench.run_until(40 * SECOND)
    assert len(bench.take(KeepAlive)) == 1


def test_a_keep_alive_goes_to_the_next_server_when_nothing_answers() -> None:
    bench = _opened()
    bench.run_until(20 * SECOND)
    bench.take(KeepAlive)
    bench.run_until(21 * SECOND)
    assert bench.take(KeepAlive) == [(S2, KeepAlive(NUMBER, SESSION))]


def test_the_session_is_given_up_when_a_keep_alive_finds_it_gone() -> None:
    bench = _opened()
    bench.run_until(20 * SECOND)
    bench.take(KeepAlive)
    bench.answer(S1, 0, kind=EXPIRED, payload="gone")
    assert bench.core.session is None
    bench.run_until(200 * SECOND)
    assert bench.sent == [], "no session is opened before it is needed"


def test_the_client_shows_up_elsewhere_at_once_when_its_server_is_gone() -> None:
    bench = _opened()
    bench.down(S1)
    assert bench.take(KeepAlive) == [(S2, KeepAlive(NUMBER, SESSION))]
    bench.redirect(S2, S3)
    assert bench.take(KeepAlive) == [(S3, KeepAlive(NUMBER, SESSION))]


def test_the_wish_for_a_session_is_repeated_elsewhere_when_it_is_redirected_or_unanswered() -> None:
    bench = ClientBench()
    bench.invoke()
    assert bench.take(OpenSession) == [(S1, OpenSession(NUMBER))]
    bench.redirect(S1, S3)
    assert bench.take(OpenSession) == [(S3, OpenSession(NUMBER))]
    bench.run_until(SECOND)
    assert bench.take(OpenSession) == [(S1, OpenSession(NUMBER))]
    bench.down(S1)
    bench.run_until(bench.now + 100_000)
    assert [to for to, _ in bench.take(OpenSession)] == [S2]


def test_another_clients_messages_are_ignored() -> None:
    bench = _opened()
    number = bench.invoke()
    bench.submitted()
    encoded = msgspec.Raw(ENCODED_OK)
    bench.receive(S1, Results(NUMBER + 1, 1, [(2, RESULT, encoded)]))
    bench.receive(S1, Redirect(NUMBER + 1, S3, False, [], ""))
    bench.receive(S1, SessionOpened(NUMBER + 1, 5, 1))
    bench.receive(S1, Notified(NUMBER + 1, 0, encoded))
    assert number not in bench.outcomes
    assert (bench.core.session, bench.delivered, bench.core.leader) == (SESSION, [], S1)


def test_an_answer_that_nobody_waits_for_is_ignored() -> None:
    bench = _opened()
    bench.answer(S1, 1, 77)
    bench.receive(S2, DirectReply(5, None))
    assert bench.take(Submit) == []


# Without a session


def test_a_command_without_a_session_is_sent_once_and_unknown_when_the_connection_breaks() -> None:
    bench = ClientBench(exactly_once=False)
    number = bench.invoke()
    assert bench.submitted()[1].session == NO_SESSION
    bench.down(S1)
    outcome, reason = bench.failed(number)
    assert outcome == "unknown"
    assert "the connection broke" in reason
    assert bench.take(Submit) == []


def test_a_command_without_a_session_is_unknown_at_once_when_it_may_have_entered() -> None:
    bench = ClientBench(exactly_once=False)
    number = bench.invoke()
    bench.submitted()
    bench.redirect(S1, S2, 1, entered=True)
    assert bench.failed(number)[0] == "unknown"


def test_a_command_without_a_session_is_sent_elsewhere_when_it_surely_did_not_enter() -> None:
    bench = ClientBench(exactly_once=False)
    number = bench.invoke()
    bench.submitted()
    bench.redirect(S1, S2, 1)
    assert bench.submitted()[0] == S2
    bench.answer(S2, 1)
    assert bench.outcomes[number] == Returned(ENCODED_OK, 99)


def test_a_command_without_a_session_waits_for_its_late_answer_until_its_deadline() -> None:
    bench = ClientBench(exactly_once=False)
    early, late = bench.invoke(timeout_us=5 * SECOND), bench.invoke(timeout_us=5 * SECOND)
    bench.submitted()
    bench.run_until(3 * SECOND)
    assert bench.take(Submit) == []
    bench.answer(S1, 1)
    bench.run_until(5 * SECOND)
    bench.wake()
    assert bench.outcomes[early] == Returned(ENCODED_OK, 99)
    assert bench.failed(late)[0] == "unknown"


def test_a_command_without_a_session_goes_on_when_it_is_turned_away_late() -> None:
    bench = ClientBench(exactly_once=False)
    bench.invoke()
    bench.submitted()
    bench.run_until(2 * SECOND)
    bench.redirect(S1, S2, 1)
    assert bench.submitted()[0] == S2


# Reads


def test_reads_are_one_message_to_the_leader_and_share_the_numbers_of_commands() -> None:
    bench = _opened()
    bench.invoke("read", kind="linearizable")
    bench.invoke("read", kind="linearizable")
    to, message = bench.asked()
    assert (to, message.reads, sequences(message)) == (S1, "linearizable", [2, 3])


def test_a_read_is_repeated_freely_and_is_never_unknown() -> None:
    bench = ClientBench(exactly_once=False)
    number = bench.invoke("read", kind="linearizable", timeout_us=4 * SECOND)
    assert bench.asked()[0] == S1
    bench.run_until(SECOND)
    assert bench.asked()[0] == S2
    bench.down(S2)
    bench.run_until(SECOND + 100_000)
    assert bench.asked()[0] == S3
    bench.redirect(S3, S1, 1)
    bench.run_until(bench.now + 100_000)
    assert bench.asked()[0] == S1
    bench.run_until(4 * SECOND)
    bench.wake()
    assert bench.failed(number)[0] == "not_executed"


def test_stale_reads_are_spread_over_all_servers() -> None:
    bench = ClientBench()
    servers = set()
    for _ in range(3):
        bench.invoke("read", kind="stale")
        servers.add(bench.asked()[0])
    assert servers == {S1, S2, S3}


def test_stale_reads_go_on_when_the_target_is_in_a_pause() -> None:
    bench = _opened()
    bench.invoke()
    bench.submitted()
    bench.answer(S1, 2, kind=REFUSED, payload="busy")
    bench.invoke("read", kind="stale")
    assert bench.asked()[1].reads == "stale"


# Limits


def test_no_more_is_sent_than_the_window_allows_until_the_oldest_is_answered() -> None:
    bench = _opened(window=3)
    for _ in range(5):
        bench.invoke()
    assert sequences(bench.submitted()[1]) == [2, 3, 4]
    bench.answer(S1, 3, 4)
    assert bench.take(Submit) == []
    bench.answer(S1, 2)
    assert sequences(bench.submitted()[1]) == [5, 6]


def test_the_window_does_not_stop_what_was_sent_before() -> None:
    bench = _opened(window=3)
    for _ in range(5):
        bench.invoke()
    bench.submitted()
    bench.down(S1)
    assert sequences(bench.submitted()[1]) == [2, 3, 4]


@pytest.mark.parametrize("option", ["message_calls_max", "message_bytes_max"])
def test_a_turn_is_several_messages_when_one_would_be_too_large(option: str) -> None:
    size = len(msgspec.msgpack.encode(["add", 1]))
    bench = _opened(**{option: 2 if option == "message_calls_max" else 2 * size})
    for _ in range(5):
        bench.invoke()
    assert [sequences(message) for _, message in bench.take(Submit)] == [[2, 3], [4, 5], [6]]


def test_deadlines_of_finished_calls_do_not_pile_up() -> None:
    bench = _opened()
    for number in range(2, 6_000):
        bench.invoke()
        bench.submitted()
        bench.answer(S1, number)
    assert len(bench.core._calls._deadlines) < 2_000


# Cancelling, closing, operators


def test_nothing_more_is_said_of_a_cancelled_call() -> None:
    bench = _opened()
    queued, sent = bench.invoke(), bench.invoke()
    bench.step(Cancelled(CallId(queued)))
    assert sequences(bench.submitted()[1]) == [2]
    bench.step(Cancelled(CallId(sent)))
    bench.step(Cancelled(CallId(999)))
    bench.answer(S1, 2)
    assert {queued, sent}.isdisjoint(bench.outcomes)
    assert bench.core.open_calls == 0


def test_everything_ends_when_the_client_is_closed() -> None:
    bench = _opened()
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


def test_status_is_asked_of_one_node_only_and_answered_with_its_reply() -> None:
    bench = ClientBench()
    bench.step(Operated(CallId(50), S2, None, Instant(SECOND)))
    assert bench.take(AskStatus) == [(S2, AskStatus(1))]
    reply = DirectReply(1, None)
    bench.receive(S2, reply)
    assert bench.outcomes[50] == Returned(msgspec.msgpack.encode(reply), 0)


@pytest.mark.parametrize(("directive", "outcome"), [(None, "not_executed"), (TakeSnapshot(), "unknown")])
def test_an_operation_ends_at_once_when_its_node_goes_away(directive: object, outcome: str) -> None:
    bench = ClientBench()
    bench.step(Operated(CallId(50), S2, directive, Instant(SECOND)))
    bench.wake()
    assert isinstance(bench.sent[0][1], AskStatus | Direct)
    bench.down(S2)
    assert bench.failed(50) == (outcome, "node 2: node 2 cannot be reached")


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


def test_a_notification_is_delivered_unless_it_is_of_an_earlier_session() -> None:
    bench = _opened()
    payload = msgspec.Raw(msgspec.msgpack.encode("hello"))
    bench.receive(S1, Notified(NUMBER, SESSION, payload))
    bench.receive(S1, Notified(NUMBER, SESSION - 1, payload))
    assert bench.delivered == ["hello"]


# Everything at once


@settings(max_examples=60, deadline=None)
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
