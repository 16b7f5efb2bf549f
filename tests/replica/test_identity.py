"""A client's number is public; only the connection that showed its secret speaks for it."""

from collections.abc import Callable

import msgspec
import pytest

from tests.replica.client.clients import NUMBER, S1, S2, SECOND, SECRET, ClientBench
from tests.replica.fakes import HERE, OTHER, Bench, call, lines, replies
from viewstamp.core.effects import Send
from viewstamp.core.events import PeerDown, PeerUp, Woke
from viewstamp.core.ids import ClientAddress
from viewstamp.core.messages import (
    NO_SESSION,
    RESULT,
    SECRET_BYTES,
    ClientMessage,
    CloseSession,
    Identify,
    KeepAlive,
    OpenSession,
    QueryRequest,
    Redirect,
    ServerMessage,
    SessionOpened,
    Submit,
    client_number,
    encode_message,
)
from viewstamp.replica.events import ReplicaEffect, Requested, Respond
from viewstamp.replica.responses import DOES_NOT_FIT, UNIDENTIFIED

THIEF = ClientAddress(66)
ME = Identify(NUMBER, SECRET)
ADD = msgspec.Raw(call("add", 1))
READ = msgspec.Raw(call("read"))


def say(bench: Bench, message: ClientMessage, source: ClientAddress = HERE) -> list[ServerMessage]:
    """Send a message as it comes over a wire."""
    arrived = Requested(source, message, encode_message(message))
    return replies([*bench.step(arrived), *bench.wake()])


def opened(bench: Bench) -> int:
    assert say(bench, ME) == []
    (answer,) = say(bench, OpenSession(NUMBER))
    assert isinstance(answer, SessionOpened)
    return answer.session


STEALING: dict[str, Callable[[int], Submit | OpenSession | KeepAlive | CloseSession | QueryRequest]] = {
    "open": lambda _: OpenSession(NUMBER),
    "keep alive": lambda session: KeepAlive(NUMBER, session),
    "close": lambda session: CloseSession(NUMBER, session),
    "submit": lambda session: Submit(NUMBER, session, 0, [(5, ADD)]),
    "submit a number again": lambda session: Submit(NUMBER, session, 0, [(1, ADD)]),
    "acknowledge": lambda session: Submit(NUMBER, session, 1 << 40, []),
    "submit without a session": lambda _: Submit(NUMBER, NO_SESSION, 0, [(5, ADD)]),
    "query": lambda _: QueryRequest(NUMBER, "linearizable", [(5, READ)]),
    "stale query": lambda _: QueryRequest(NUMBER, "stale", [(5, READ)]),
}


@pytest.mark.parametrize("stealing", STEALING.values(), ids=STEALING)
@pytest.mark.parametrize("tries", ["nothing", "a wrong secret", "its own secret"])
def test_a_number_without_its_secret_is_turned_away_without_effect(
    tries: str, stealing: Callable[[int], Submit | OpenSession | KeepAlive | CloseSession | QueryRequest]
) -> None:
    bench = Bench()
    session = opened(bench)
    assert lines(say(bench, Submit(NUMBER, session, 0, [(1, ADD)]))) == [(1, RESULT, 1)]
    if tries == "a wrong secret":
        assert say(bench, Identify(NUMBER, bytes(SECRET_BYTES)), THIEF) == [
            Redirect(NUMBER, None, False, [], DOES_NOT_FIT)
        ]
    elif tries == "its own secret":
        own = bytes([66]) * SECRET_BYTES
        assert say(bench, Identify(client_number(own), own), THIEF) == []
    before = bench.replica.applied
    message = stealing(session)
    calls = message.calls if isinstance(message, Submit | QueryRequest) else []
    sequences = [sequence for sequence, _ in calls]
    assert say(bench, message, THIEF) == [Redirect(NUMBER, None, False, sequences, UNIDENTIFIED)]
    assert bench.replica.applied == before
    assert bench.replica._responses.addresses.address_of(NUMBER) == HERE
    assert say(bench, KeepAlive(NUMBER, session)) == [SessionOpened(NUMBER, session, 60_000)]


def test_a_thief_hears_nothing_that_is_meant_for_the_client() -> None:
    bench = Bench()
    session = opened(bench)
    bench.core.holding = True
    assert say(bench, Submit(NUMBER, session, 0, [(1, msgspec.Raw(call("tell", NUMBER, "hello")))])) == []
    for stealing in STEALING.values():
        say(bench, stealing(session), THIEF)
    told = [effect for effect in bench.commit_held() if isinstance(effect, Respond)]
    assert [type(effect.message).__name__ for effect in told] == ["Notified", "Results"]
    assert {effect.to for effect in told} == {HERE}


def test_the_newest_connection_that_shows_the_secret_counts() -> None:
    bench = Bench()
    session = opened(bench)
    there = ClientAddress(8)
    assert say(bench, ME, there) == []
    assert say(bench, OpenSession(NUMBER), there) == [SessionOpened(NUMBER, session, 60_000)]
    assert say(bench, KeepAlive(NUMBER, session)) == [Redirect(NUMBER, None, False, [], UNIDENTIFIED)]
    bench.gone(HERE)
    assert say(bench, KeepAlive(NUMBER, session), there) == [SessionOpened(NUMBER, session, 60_000)]


def test_a_connection_that_closed_speaks_for_nobody() -> None:
    bench = Bench()
    session = opened(bench)
    bench.gone(HERE)
    assert say(bench, CloseSession(NUMBER, session)) == [Redirect(NUMBER, None, False, [], UNIDENTIFIED)]


def test_a_client_identifies_at_a_follower_and_is_sent_to_the_leader() -> None:
    bench = Bench()
    bench.lead(OTHER)
    assert say(bench, OpenSession(NUMBER)) == [Redirect(NUMBER, None, False, [], UNIDENTIFIED)]
    assert say(bench, ME) == []
    assert say(bench, OpenSession(NUMBER)) == [
        Redirect(NUMBER, OTHER, False, [], "another node leads"),
    ]


def test_a_secret_never_enters_the_log_a_snapshot_or_an_answer() -> None:
    bench = Bench()
    session = opened(bench)
    effects: list[ReplicaEffect] = list(bench.seen)
    for message in (
        Submit(NUMBER, session, 0, [(1, ADD)]),
        QueryRequest(NUMBER, "linearizable", [(2, READ)]),
        Identify(NUMBER + 1, SECRET),
    ):
        say(bench, message)
    written = [event.data for event in bench.core.events if hasattr(event, "data")]
    assert written
    answers = [encode_message(answer) for answer in replies([*effects, *bench.seen])]
    snapshot = bench.save()
    for data in (*written, *answers, snapshot.body, repr(bench.seen).encode()):
        assert SECRET not in bytes(data)
        assert repr(SECRET).encode() not in bytes(data)


def test_a_client_shows_its_secret_once_on_each_connection_and_only_where_it_speaks() -> None:
    bench = ClientBench(up=(S1, S2))
    assert bench.identified == []
    bench.invoke()
    bench.take(OpenSession)
    bench.invoke("read", kind="linearizable")
    bench.take(QueryRequest)
    assert bench.identified == [S1]
    bench.step(PeerDown(S1))
    bench.run_until(bench.now + 100_000)
    assert bench.identified == [S1, S2]
    bench.step(PeerUp(S1))
    bench.step(PeerDown(S2))
    bench.run_until(bench.now + 2_000_000)
    assert bench.identified == [S1, S2, S1]


def test_a_client_identifies_again_where_it_was_turned_away() -> None:
    bench = ClientBench(up=(S1,))
    bench.invoke()
    bench.take(OpenSession)
    bench.receive(S1, Redirect(NUMBER, None, False, [], UNIDENTIFIED))
    bench.run_until(SECOND)
    assert bench.identified == [S1, S1]


def test_the_secret_comes_before_everything_else() -> None:
    bench = ClientBench(up=(S1,))
    bench.invoke()
    effects = bench.step(Woke())
    assert effects == [Send(S1, ME), Send(S1, OpenSession(NUMBER, 1))]
