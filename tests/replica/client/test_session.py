"""A client's session: opened when it is needed, kept alive, replaced with care."""

import msgspec

from tests.replica.client.clients import (
    NUMBER,
    S1,
    S2,
    S3,
    SECOND,
    SESSION,
    ClientBench,
    opened_bench,
    sequences,
)
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import (
    EXPIRED,
    REFUSED,
    RESULT,
    AdminReply,
    KeepAlive,
    Notified,
    OpenSession,
    Redirect,
    Results,
    SessionOpened,
    Submit,
)
from viewstamp.replica.events import Failed, Returned

ENCODED_OK = msgspec.msgpack.encode("ok")


def test_a_call_is_unknown_when_its_session_expired_after_an_earlier_attempt() -> None:
    bench = opened_bench()
    number = bench.invoke()
    bench.submitted()
    bench.down(S1)
    bench.submitted()
    bench.answer(S2, 2, kind=EXPIRED, payload="unknown or expired session")
    assert bench.failed(number)[0] == "unknown"


def test_a_new_session_is_opened_for_the_next_call_when_the_old_one_expired() -> None:
    bench = opened_bench()
    bench.invoke()
    bench.submitted()
    bench.answer(S1, 2, kind=EXPIRED, payload="unknown or expired session")
    assert bench.core.session is None
    number = bench.invoke()
    bench.open_session(SESSION * 2)
    _, message = bench.submitted()
    assert (message.session, sequences(message)) == (SESSION * 2, [3]), "numbers are never used again"
    bench.answer(S1, 3)
    assert bench.outcomes[number] == Returned(ENCODED_OK, 99)


def test_calls_that_may_have_been_executed_under_an_old_session_do_not_run_under_a_new_one() -> None:
    bench = opened_bench()
    doubtful, other = bench.invoke(), bench.invoke()
    bench.submitted()
    bench.redirect(S1, S2, 2, entered=True)
    bench.answer(S1, 3, kind=EXPIRED, payload="unknown or expired session")
    bench.open_session(SESSION * 2)
    assert bench.take(Submit) == []
    assert bench.failed(doubtful)[0] == "unknown"
    assert bench.failed(other)[0] == "session_expired"


def test_calls_that_surely_did_not_enter_run_under_a_new_session() -> None:
    bench = opened_bench()
    safe, _ = bench.invoke(), bench.invoke()
    bench.submitted()
    bench.redirect(S1, S2, 2)
    bench.answer(S1, 3, kind=EXPIRED, payload="unknown or expired session")
    bench.open_session(SESSION * 2)
    assert sequences(bench.submitted()[1]) == [2]
    bench.answer(S2, 2)
    assert bench.outcomes[safe] == Returned(ENCODED_OK, 99)


def test_a_doubtful_call_is_not_sent_again_when_a_newer_session_stands() -> None:
    bench = opened_bench()
    doubtful, _ = bench.invoke(), bench.invoke()
    bench.submitted()
    bench.answer(S1, 3, kind=EXPIRED, payload="unknown or expired session")
    bench.invoke()
    bench.open_session(SESSION * 2)
    bench.submitted()
    bench.redirect(S1, S2, 2, entered=True)
    assert bench.failed(doubtful)[0] == "unknown"
    assert bench.take(KeepAlive) == [(S2, KeepAlive(NUMBER, SESSION * 2, 3, 3))]


def test_a_doubtful_call_ends_when_nothing_answers_and_a_newer_session_stands() -> None:
    bench = opened_bench()
    doubtful = bench.invoke(timeout_us=1 << 50)
    bench.invoke()
    bench.submitted()
    bench.answer(S1, 3, kind=EXPIRED, payload="unknown or expired session")
    bench.invoke()
    bench.open_session(SESSION * 2)
    bench.submitted()
    bench.run_until(10 * SECOND)
    bench.wake()
    assert bench.failed(doubtful)[0] == "unknown"


def test_an_idle_client_shows_up_at_the_new_leader_when_it_is_told_of_it() -> None:
    bench = opened_bench()
    bench.redirect(S1, S3)
    assert bench.take(KeepAlive) == [(S3, KeepAlive(NUMBER, SESSION, 2, 1))]


def test_the_session_is_kept_alive_when_nothing_else_is_sent() -> None:
    bench = opened_bench()
    bench.run_until(20 * SECOND)
    ((server, asked),) = bench.take(KeepAlive)
    assert (server, asked.session) == (S1, SESSION)
    bench.confirm(S1, asked)
    bench.run_until(39 * SECOND)
    assert bench.take(KeepAlive) == []
    bench.run_until(40 * SECOND)
    assert len(bench.take(KeepAlive)) == 1


def test_the_cluster_is_asked_at_once_when_the_client_wants_another_time_to_live() -> None:
    bench = opened_bench()
    before = bench.core.session_until
    bench.core.want_session(5_000)
    bench.run_until(1)
    ((_, asked),) = bench.take(KeepAlive)
    assert asked.time_to_live_ms == 5_000
    assert bench.core.session_until == before, "the old one is counted on until a server has answered"
    bench.receive(S1, SessionOpened(NUMBER, SESSION, 5_000, asked.question))
    assert bench.core.session_until is not None
    assert bench.core.session_until < 6 * SECOND
    bench.run_until(3 * SECOND)
    assert bench.take(KeepAlive), "a shorter life is kept alive more often"


def test_the_session_is_sure_for_nine_tenths_of_its_life_from_the_question_on() -> None:
    bench = opened_bench()
    first = bench.core.session_until
    assert first is not None
    assert first <= 54 * SECOND
    bench.run_until(20 * SECOND)
    ((_, asked),) = bench.take(KeepAlive)
    bench.run_until(20 * SECOND + SECOND // 2)
    assert bench.core.session_until == first, "asking alone confirms nothing"
    bench.confirm(S1, asked)
    assert bench.core.session_until == 74 * SECOND


def test_an_answer_counts_from_its_own_question_when_two_are_open() -> None:
    bench = opened_bench()
    first = bench.core.session_until
    bench.run_until(20 * SECOND)
    bench.run_until(21 * SECOND)
    (_, earlier), (_, later) = bench.take(KeepAlive)
    bench.confirm(S1, earlier)
    assert bench.core.session_until == 74 * SECOND
    bench.confirm(S2, later)
    assert bench.core.session_until == 75 * SECOND
    bench.confirm(S1, earlier)
    assert (first, bench.core.session_until) == (54 * SECOND, 75 * SECOND)


def test_a_session_is_not_sure_again_when_an_old_answer_comes_after_a_long_stop() -> None:
    bench = opened_bench()
    bench.run_until(20 * SECOND)
    ((_, asked),) = bench.take(KeepAlive)
    bench.confirm(S1, asked)
    bench.now = 200 * SECOND
    assert [server for server, _ in bench.take(KeepAlive)] == [S1]
    bench.confirm(S1, asked)
    assert bench.core.session_until == 74 * SECOND, "the same answer twice"


def test_only_the_last_questions_may_be_answered() -> None:
    bench = opened_bench()
    sure = bench.core.session_until
    asked: list[tuple[NodeId, KeepAlive]] = []
    while len(asked) < 9:
        bench.run_until(bench.now + SECOND)
        asked += bench.take(KeepAlive)
    bench.confirm(*asked[0])
    assert bench.core.session_until == sure
    bench.confirm(*asked[1])
    assert bench.core.session_until != sure


def test_the_client_asks_after_its_session_when_calls_never_pause() -> None:
    bench = opened_bench()
    for second in range(1, 30):
        bench.run_until(second * SECOND)
        bench.invoke()
        (_, message) = bench.submitted()
        bench.answer(S1, message.calls[0][0])
    bench.run_until(30 * SECOND)
    assert len(bench.take(KeepAlive)) == 1


def test_no_session_is_sure_when_it_is_gone() -> None:
    bench = opened_bench()
    bench.run_until(20 * SECOND)
    bench.answer(S1, 0, kind=EXPIRED, payload=SESSION)
    assert bench.core.session_until is None


def test_a_keep_alive_goes_to_the_next_server_when_nothing_answers() -> None:
    bench = opened_bench()
    bench.run_until(20 * SECOND)
    bench.take(KeepAlive)
    bench.run_until(21 * SECOND)
    assert bench.take(KeepAlive) == [(S2, KeepAlive(NUMBER, SESSION, 3, 1))]


def test_the_session_is_given_up_when_a_keep_alive_finds_it_gone() -> None:
    bench = opened_bench()
    bench.run_until(20 * SECOND)
    bench.take(KeepAlive)
    bench.answer(S1, 0, kind=EXPIRED, payload=SESSION)
    assert bench.core.session is None
    bench.run_until(200 * SECOND)
    assert bench.sent == [], "no session is opened before it is needed"


def test_a_session_stays_when_an_answer_says_that_the_one_before_it_is_gone() -> None:
    bench = opened_bench()
    bench.run_until(20 * SECOND)
    bench.take(KeepAlive)
    bench.invoke()
    bench.submitted()
    bench.answer(S1, 2, kind=EXPIRED, payload="unknown or expired session")
    bench.invoke()
    bench.open_session(SESSION * 2)
    bench.submitted()
    bench.answer(S1, 0, kind=EXPIRED, payload=SESSION)
    assert bench.core.session == SESSION * 2
    bench.answer(S1, 0, kind=EXPIRED, payload="unreadable")
    assert bench.core.session == SESSION * 2
    bench.answer(S1, 0, kind=EXPIRED, payload=SESSION * 2)
    assert bench.core.session is None


def test_the_client_shows_up_elsewhere_at_once_when_its_server_is_gone() -> None:
    bench = opened_bench()
    bench.down(S1)
    assert bench.take(KeepAlive) == [(S2, KeepAlive(NUMBER, SESSION, 2, 1))]
    bench.redirect(S2, S3)
    assert bench.take(KeepAlive) == [(S3, KeepAlive(NUMBER, SESSION, 3, 1))]


def test_the_wish_for_a_session_is_repeated_elsewhere_when_it_is_redirected_or_unanswered() -> None:
    bench = ClientBench()
    bench.invoke()
    assert bench.take(OpenSession) == [(S1, OpenSession(NUMBER, 1))]
    bench.redirect(S1, S3)
    assert bench.take(OpenSession) == [(S3, OpenSession(NUMBER, 2))]
    bench.run_until(SECOND)
    assert bench.take(OpenSession) == [(S1, OpenSession(NUMBER, 3))]
    bench.down(S1)
    bench.run_until(bench.now + 100_000)
    assert [to for to, _ in bench.take(OpenSession)] == [S2]


def test_another_clients_messages_are_ignored() -> None:
    bench = opened_bench()
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
    bench = opened_bench()
    bench.answer(S1, 1, 77)
    bench.receive(S2, AdminReply(5, None))
    assert bench.take(Submit) == []


def test_a_client_that_is_refused_a_session_says_so_at_once_and_may_ask_again() -> None:
    bench = ClientBench(up=(S1, S2))
    first, second = bench.invoke(), bench.invoke()
    ((to, asked),) = bench.take(OpenSession)
    refusal = msgspec.Raw(msgspec.msgpack.encode("the cluster keeps 5 sessions already"))
    bench.receive(to, Results(NUMBER, 0, [(0, REFUSED, refusal)]))
    for call in (first, second):
        outcome = bench.outcomes[call]
        assert isinstance(outcome, Failed)
        assert outcome.outcome == "not_executed"
        assert outcome.reason.startswith("not executed: the cluster keeps 5 sessions already")
    assert bench.take(OpenSession) == []
    bench.invoke()
    ((again, later),) = bench.take(OpenSession)
    assert again == to
    assert later.question > asked.question


def test_a_late_refusal_of_a_session_is_no_answer_to_another_question() -> None:
    bench = ClientBench(up=(S1, S2))
    call = bench.invoke()
    ((to, _),) = bench.take(OpenSession)
    bench.run_until(1_500_000)
    ((then, asked),) = bench.take(OpenSession)
    assert then != to
    refusal = msgspec.Raw(msgspec.msgpack.encode("full"))
    bench.receive(to, Results(NUMBER, 0, [(0, REFUSED, refusal)]))
    assert call not in bench.outcomes
    bench.confirm(then, asked)
    bench.receive(then, Results(NUMBER, 0, [(0, REFUSED, refusal)]))
    assert call not in bench.outcomes
