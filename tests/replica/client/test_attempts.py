"""How often a call is sent: commands without a session once, reads freely."""

from typing import Any

import msgspec
import pytest

from tests.replica.client.clients import S1, S2, S3, SECOND, ClientBench, opened_bench, sequences
from viewstamp.core.messages import (
    NO_SESSION,
    REFUSED,
    Submit,
)
from viewstamp.replica.events import CallId, Cancelled, Returned

ENCODED_OK = msgspec.msgpack.encode("ok")


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


def test_reads_are_one_message_to_the_leader_and_share_the_numbers_of_commands() -> None:
    bench = opened_bench()
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
    bench = opened_bench()
    bench.invoke()
    bench.submitted()
    bench.answer(S1, 2, kind=REFUSED, payload="busy")
    bench.invoke("read", kind="stale")
    assert bench.asked()[1].reads == "stale"


@pytest.mark.parametrize("kind", ["command", "linearizable"])
def test_a_client_leaves_a_silent_server_when_its_calls_are_too_short_to_wait_for_it(kind: Any) -> None:
    """Calls with less time than an answer has must not hold the client at a server that never answers."""
    bench = ClientBench(exactly_once=False)
    sent = set()
    for _ in range(8):
        number = bench.invoke("read", kind=kind, timeout_us=SECOND // 4)
        bench.run_until(bench.now + SECOND // 4)
        bench.wake()
        assert bench.failed(number)[0] == ("unknown" if kind == "command" else "not_executed")
        sent |= {to for to, _ in bench.sent}
    assert sent >= {S1, S2}


def test_a_client_leaves_a_silent_server_when_its_calls_are_cancelled() -> None:
    bench = ClientBench(exactly_once=False)
    assert bench.invoke("read", kind="linearizable")
    assert bench.asked()[0] == S1
    bench.step(Cancelled(CallId(1)))
    bench.run_until(SECOND + 1)
    bench.invoke("read", kind="linearizable")
    assert bench.asked()[0] == S2


def test_a_client_stays_when_its_server_answers_too_late_for_the_call() -> None:
    bench = ClientBench(exactly_once=False)
    bench.invoke("read", kind="linearizable", timeout_us=SECOND // 4)
    bench.asked()
    bench.run_until(SECOND // 2)
    bench.answer(S1, 1)
    bench.run_until(2 * SECOND)
    bench.invoke("read", kind="linearizable")
    assert bench.asked()[0] == S1


def test_answers_to_stale_reads_do_not_hold_a_client_at_a_server_that_answers_nothing_else() -> None:
    bench = ClientBench(exactly_once=False, servers=(S1, S2), up=(S1, S2))
    bench.invoke("read", kind="linearizable", timeout_us=SECOND // 4)
    bench.asked()
    bench.run_until(SECOND // 2)
    for _ in range(2):  # they go to the servers in turn
        bench.invoke("read", kind="stale")
        to, message = bench.asked()
        bench.answer(to, *sequences(message))
    bench.run_until(SECOND + 1)
    bench.invoke("read", kind="linearizable")
    assert bench.asked()[0] == S2
