"""A client whose principal may not make a call: it ends at once, and is not repeated."""

import msgspec

from tests.replica.client.clients import NUMBER, S1, S2, SESSION, ClientBench
from viewstamp.core.messages import (
    DENIED,
    KeepAlive,
    OpenSession,
    QueryRequest,
    Redirect,
    Results,
    SessionOpened,
    Submit,
)
from viewstamp.machine.access import Denial
from viewstamp.replica.events import Failed

DENIAL = Denial("client/a", "add", "key", "other")


def line(sequence: int, denial: object = DENIAL) -> Results:
    return Results(NUMBER, 0, [(sequence, DENIED, msgspec.Raw(msgspec.msgpack.encode(denial)))])


def with_session() -> ClientBench:
    bench = ClientBench(up=(S1, S2))
    first = bench.invoke()
    ((to, asked),) = bench.take(OpenSession)
    bench.receive(to, SessionOpened(NUMBER, SESSION, 60_000, asked.question))
    ((then, sent),) = bench.take(Submit)
    bench.answer(then, sent.calls[0][0], 1)
    assert first in bench.outcomes
    return bench


def test_a_denied_command_ends_at_once_with_what_is_missing() -> None:
    bench = with_session()
    call = bench.invoke()
    ((to, sent),) = bench.take(Submit)
    bench.receive(to, line(sent.calls[0][0]))
    assert bench.outcomes[call] == Failed("denied", DENIAL.text, denial=DENIAL)
    assert bench.take(Submit) == []


def test_a_denied_query_ends_at_once() -> None:
    bench = ClientBench(up=(S1, S2))
    call = bench.invoke("read", kind="linearizable")
    ((to, sent),) = bench.take(QueryRequest)
    bench.receive(to, line(sent.calls[0][0]))
    assert bench.outcomes[call] == Failed("denied", DENIAL.text, denial=DENIAL)


def test_a_command_is_in_doubt_when_another_server_took_an_earlier_attempt_in() -> None:
    bench = with_session()
    call = bench.invoke()
    ((to, sent),) = bench.take(Submit)
    number = sent.calls[0][0]
    bench.receive(to, Redirect(NUMBER, None, True, [number], "another leads"))
    bench.run_until(bench.now + 1_000_000)
    assert bench.sent, "it is sent again"
    then = bench.sent[-1][0]
    bench.receive(then, line(number))
    outcome = bench.outcomes[call]
    assert isinstance(outcome, Failed)
    assert outcome.outcome == "unknown"
    assert "client/a may not call add" in outcome.reason


def test_all_commands_end_when_the_session_is_denied_and_later_ones_ask_again() -> None:
    bench = ClientBench(up=(S1, S2))
    calls = [bench.invoke(), bench.invoke()]
    ((to, _),) = bench.take(OpenSession)
    refusal = Denial("client/a", "", "grant")
    bench.receive(to, line(0, refusal))
    assert [bench.outcomes[call] for call in calls] == [Failed("denied", refusal.text, denial=refusal)] * 2
    assert bench.take(OpenSession) == []
    bench.invoke()
    assert len(bench.take(OpenSession)) == 1


def test_a_client_is_quiet_when_its_session_is_not_kept_alive_for_it() -> None:
    bench = with_session()
    bench.run_until(bench.now + 30_000_000)
    (to, _) = [(to, message) for to, message in bench.sent if isinstance(message, KeepAlive)][-1]
    bench.sent.clear()
    bench.receive(to, line(0, Denial("client/a", "", "grant")))
    bench.run_until(bench.now + 120_000_000)
    assert bench.sent == []
    assert bench.core.session is None


def test_a_denial_that_cannot_be_read_is_a_denial() -> None:
    bench = with_session()
    call = bench.invoke()
    ((to, sent),) = bench.take(Submit)
    bench.receive(to, line(sent.calls[0][0], "no"))
    outcome = bench.outcomes[call]
    assert isinstance(outcome, Failed)
    assert outcome.outcome == "denied"
