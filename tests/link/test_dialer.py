"""The end that opens connections: when it dials, when it gives up, what it does with any bytes at all."""

from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.link.test_handshake import identity
from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import Instant, NodeId
from viewstamp.link.acceptor import Acceptor, Greeted
from viewstamp.link.dialer import Action, Backoff, Dialer, DialLimits, Phase, Refused, Welcomed
from viewstamp.link.framing import CLIENT, HELLO, PEER, REFUSAL, SERVER, WELCOME, encode_frame
from viewstamp.link.handshake import Doorkeeper, client_hello, encode_refusal

LIMITS = DialLimits(
    hello_bytes_max=4_096,
    frame_bytes_max=10_000,
    send_bytes_max=1_000,
    dial_timeout_ms=2_000,
    backoff_min_ms=20,
    backoff_max_ms=1_000,
)
SECOND = 1_000_000
HELLO_PAYLOAD = client_hello("", None)
WELCOME_FRAME = encode_frame(WELCOME, Doorkeeper(identity(1)).welcome)


def at(now: int) -> Instant:
    return Instant(now)


def dialer(**fields: Any) -> Dialer:
    return Dialer(HELLO_PAYLOAD, CLIENT, LIMITS, Random(1), **fields)


def greeting(now: int = 0, **fields: Any) -> Dialer:
    """Return a dialer whose hello has been sent."""
    made = dialer(**fields)
    if fields:
        made.dial_for(b"first", at(now))
    else:
        made.start(at(now))
    assert made.advance(at(now)) is Action.DIAL
    made.opened(at(now))
    assert made.out.take() == encode_frame(HELLO, HELLO_PAYLOAD)
    return made


def welcomed(now: int = 0, **fields: Any) -> Dialer:
    made = greeting(now, **fields)
    (event,) = made.receive(WELCOME_FRAME)
    assert isinstance(event, Welcomed)
    return made


def test_nothing_is_dialled_when_it_has_not_started() -> None:
    made = dialer()
    assert made.deadline is None
    assert made.advance(at(10**12)) is None


def test_connection_is_up_when_the_server_welcomes_it() -> None:
    made = welcomed()
    assert made.is_up
    assert made.deadline is None
    assert made.send(b"hi")
    assert made.out.take() == encode_frame(CLIENT, b"hi")
    assert list(made.receive(encode_frame(SERVER, b"one") + encode_frame(SERVER, b"two"))) == [b"one", b"two"]


def test_messages_are_lost_and_counted_when_the_server_has_not_welcomed_us() -> None:
    made = greeting()
    assert not made.send(b"lost")
    assert made.dropped == 1
    assert made.out.take() == b""


def test_messages_are_lost_when_the_queue_is_full() -> None:
    made = welcomed()
    assert made.send(bytes(900))
    assert not made.send(bytes(900))
    assert made.dropped == 1


def test_owner_hangs_up_when_the_connection_or_the_welcome_takes_too_long() -> None:
    made = dialer()
    made.start(at(0))
    assert made.advance(at(0)) is Action.DIAL
    assert made.advance(at(2 * SECOND - 1)) is None
    assert made.advance(at(2 * SECOND)) is Action.HANG_UP
    assert made.lost("", at(2 * SECOND))
    assert made.trouble == "no answer"
    made = greeting()
    assert made.advance(at(2 * SECOND)) is Action.HANG_UP
    assert made.advance(at(3 * SECOND)) is None, "once"
    made.lost("", at(3 * SECOND))
    assert made.trouble == "no welcome in time"


def test_waits_grow_and_absence_is_news_once_when_the_server_stays_away() -> None:
    made = dialer()
    made.start(at(0))
    waits = []
    news = []
    now = 0
    for _ in range(9):
        assert made.advance(at(now)) is Action.DIAL
        news.append(made.lost("connection refused", at(now)))
        assert made.deadline is not None
        waits.append(made.deadline - now)
        now = made.deadline
    assert news == [True] + [False] * 8
    for wait_us, limit_ms in zip(waits, [20, 40, 80, 160, 320, 640, 1000, 1000, 1000], strict=True):
        assert limit_ms * 500 <= wait_us <= limit_ms * 1000
    assert made.dials == 9
    assert made.trouble == "connection refused"


def test_waits_begin_again_when_a_connection_stood_for_a_while() -> None:
    made = dialer()
    made.start(at(0))
    now = 0
    for _ in range(8):
        made.advance(at(now))
        made.lost("", at(now))
        assert made.deadline is not None
        now = made.deadline
    made.advance(at(now))
    made.opened(at(now))
    list(made.receive(WELCOME_FRAME))
    assert made.lost("", at(now + 2 * SECOND)), "it was up: that it is gone is news"
    assert made.deadline is not None
    assert made.deadline - now - 2 * SECOND <= 20_000


def test_waits_stay_long_when_a_server_welcomes_and_hangs_up_at_once() -> None:
    made = welcomed()
    waits = []
    now = 0
    for _ in range(8):
        made.lost("", at(now))
        assert made.deadline is not None
        waits.append(made.deadline - now)
        now = made.deadline
        made.advance(at(now))
        made.opened(at(now))
        list(made.receive(WELCOME_FRAME))
    assert waits[-1] >= 500_000


def test_refusal_is_news_once_and_waits_are_long_when_the_server_refuses() -> None:
    made = greeting()
    frame = encode_frame(REFUSAL, encode_refusal("this is node 3"))
    assert list(made.receive(frame)) == [Refused("this is node 3", is_news=True)]
    made.lost("", at(0))
    assert made.trouble == made.refusal == "this is node 3"
    assert made.deadline is not None
    assert made.deadline >= 500_000
    made.advance(made.deadline)
    made.opened(made.deadline or at(0))
    assert list(made.receive(frame)) == [Refused("this is node 3", is_news=False)]


def test_server_is_dialled_at_once_when_there_is_a_reason() -> None:
    made = dialer()
    made.start(at(0))
    made.advance(at(0))
    made.hurry(at(5))
    assert made.deadline == 2 * SECOND, "it is being dialled"
    made.lost("", at(10))
    made.hurry(at(11))
    assert made.advance(at(11)) is Action.DIAL
    made.lost("", at(11))
    made.nudge(at(12))
    assert made.advance(at(12)) is Action.DIAL
    made.lost("", at(12))
    assert made.deadline is not None
    assert made.deadline <= 12 + 20_000, "a nudge makes the waits short again"


def test_nothing_is_dialled_when_it_was_stopped() -> None:
    made = welcomed()
    made.stop()
    made.lost("", at(5))
    made.hurry(at(6))
    assert made.deadline is None
    assert made.phase is Phase.STOPPED


def test_each_end_is_news_when_it_dials_on_demand() -> None:
    made = dialer(on_demand=True)
    for now in (0, 10):
        made.dial_for(b"message", at(now))
        made.dial_for(b"another", at(now))
        assert made.advance(at(now)) is Action.DIAL
        assert made.lost("connection refused", at(now))
        assert made.deadline is None


def test_held_messages_go_first_when_it_dialled_for_them() -> None:
    made = welcomed(on_demand=True)
    assert made.send(b"second")
    assert made.out.take() == encode_frame(CLIENT, b"first") + encode_frame(CLIENT, b"second")


def test_stream_begins_again_when_the_last_one_was_cut_within_a_frame() -> None:
    made = greeting()
    assert list(made.receive(WELCOME_FRAME[:-3])) == []
    cut = made.in_frame
    made.lost("", at(0))
    made.advance(made.deadline or at(0))
    made.opened(at(10))
    assert (cut, made.in_frame) == (True, False)
    (event,) = made.receive(WELCOME_FRAME)
    assert isinstance(event, Welcomed)


@pytest.mark.parametrize(
    "data",
    [
        encode_frame(SERVER, b"early"),
        encode_frame(PEER, b"x"),
        encode_frame(HELLO, HELLO_PAYLOAD),
        encode_frame(WELCOME, b"\xc1"),
        b"HTTP/1.1 200 OK\r\n\r\n",
        WELCOME_FRAME + WELCOME_FRAME,
    ],
    ids=["message", "member's message", "hello", "no welcome", "http", "two welcomes"],
)
def test_server_violates_the_protocol_when_it_says_anything_but_a_welcome(data: bytes) -> None:
    made = greeting()
    with pytest.raises(ProtocolViolation):
        list(made.receive(data))


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(st.binary(max_size=60), max_size=6), st.lists(st.integers(0, 600), max_size=10))
def test_both_ends_agree_when_the_streams_are_cut_anywhere(messages: list[bytes], cuts: list[int]) -> None:
    door = Doorkeeper(identity(1))
    acceptor = Acceptor(4_096, at(SECOND))
    made = dialer()
    made.start(at(0))
    made.advance(at(0))
    made.opened(at(0))
    got: list[bytes] = []
    for piece in pieces(made.out.take(), cuts):
        for event in acceptor.receive(piece):
            assert isinstance(event, Greeted)
            assert door.refuse(event.hello) is None
            acceptor.accept(door.welcome, is_peer=False, frame_bytes_max=1_000)
    for piece in pieces(acceptor.out.take(), cuts):
        list(made.receive(piece))
    assert made.is_up
    for message in messages:
        made.send(message)
    for piece in pieces(made.out.take(), cuts):
        for event in acceptor.receive(piece):
            assert isinstance(event, bytes)
            got.append(event)
    assert got == messages


FRAMES = st.builds(
    encode_frame, st.sampled_from([HELLO, WELCOME, REFUSAL, PEER, CLIENT, SERVER]), st.binary()
)


@given(st.lists(st.one_of(st.binary(max_size=100), FRAMES, st.just(WELCOME_FRAME)), max_size=8))
def test_both_ends_are_total_when_the_bytes_are_hostile(data: list[bytes]) -> None:
    acceptor = Acceptor(4_096, at(SECOND))
    with suppress(ProtocolViolation):
        for piece in data:
            list(acceptor.receive(piece))
    made = greeting()
    with suppress(ProtocolViolation):
        for piece in data:
            list(made.receive(piece))
    made.lost("", at(1))
    assert made.phase is Phase.WAITING
    assert made.trouble.isprintable()


def test_waits_double_up_to_the_limit_when_nothing_helps() -> None:
    backoff = Backoff(20, 1000, Random(1))
    for limit in [20, 40, 80, 160, 320, 640, 1000, 1000, 1000]:
        assert limit // 2 <= backoff.draw_us() <= limit


def test_waits_differ_when_the_generators_do() -> None:
    assert len({Backoff(20_000, 1_000_000, Random(seed)).draw_us() for seed in range(20)}) > 15


def test_waits_are_short_again_when_reset() -> None:
    backoff = Backoff(20, 1000, Random(1))
    backoff.exhaust()
    assert backoff.draw_us() >= 500
    backoff.reset()
    assert backoff.draw_us() <= 20


def test_dials_of_a_minute_are_few_when_a_server_is_down() -> None:
    backoff = Backoff(20_000, 1_000_000, Random(7))
    dials = elapsed_us = 0
    while elapsed_us < 60 * SECOND:
        elapsed_us += backoff.draw_us()
        dials += 1
    assert dials <= 130


def test_hello_names_a_member_when_a_member_dials() -> None:
    hello = Doorkeeper(identity(2)).hello_to(NodeId(1), Instant(7))  # type: ignore[arg-type]
    acceptor = Acceptor(4_096, at(SECOND))
    (event,) = acceptor.receive(encode_frame(HELLO, hello))
    assert isinstance(event, Greeted)
    assert (event.hello.role, event.hello.node, event.hello.to) == ("peer", 2, 1)


WATCHFUL = msgspec.structs.replace(LIMITS, silence_ms=600)
LOOK_US = 200_000


def watchful(now: int = 0) -> Dialer:
    """Return a dialer that has been welcomed and looks whether the other machine acknowledges."""
    made = Dialer(HELLO_PAYLOAD, CLIENT, WATCHFUL, Random(1))
    made.start(at(now))
    assert made.advance(at(now)) is Action.DIAL
    made.opened(at(now))
    made.receive(WELCOME_FRAME)
    return made


def look(made: Dialer, now: int, silent_ms: int) -> Action | None:
    assert made.deadline is not None
    assert made.deadline <= now
    assert made.advance(at(now)) is Action.LOOK
    return made.looked(at(now), silent_ms)


def test_a_connection_is_given_up_within_a_second_when_the_other_machine_acknowledges_nothing() -> None:
    made = watchful()
    now, silent_since = 0, 250_000
    while (action := look(made, now := now + LOOK_US, max(0, now - silent_since) // 1000)) is None:
        assert now - silent_since < SECOND
    assert action is Action.HANG_UP
    made.lost("", at(now))
    assert made.trouble == "its machine no longer answers"


@pytest.mark.parametrize("silent_ms", [0, 199])
def test_a_connection_stands_when_its_machine_acknowledges_now_and_then(silent_ms: int) -> None:
    made = watchful()
    for turn in range(1, 50):
        assert look(made, turn * LOOK_US, 60_000 if turn % 3 else silent_ms) is None


def test_a_connection_that_was_idle_stands_when_what_is_sent_now_is_acknowledged() -> None:
    made = watchful()
    assert look(made, LOOK_US, 3_600_000) is None  # sent just now, after an hour
    assert look(made, 2 * LOOK_US, 0) is None
    for turn in range(3, 6):
        assert look(made, turn * LOOK_US, 3_600_000 if turn % 2 else 0) is None


def test_a_hello_that_is_not_acknowledged_is_given_up_before_the_welcome_is_due() -> None:
    made = Dialer(HELLO_PAYLOAD, CLIENT, WATCHFUL, Random(1))
    made.start(at(0))
    made.advance(at(0))
    made.opened(at(0))
    actions = [look(made, turn * LOOK_US, turn * 200) for turn in range(1, 5)]
    assert actions == [None, None, None, Action.HANG_UP]


def test_a_process_that_is_stopped_is_waited_for_when_its_machine_acknowledges_the_hello() -> None:
    made = Dialer(HELLO_PAYLOAD, CLIENT, WATCHFUL, Random(1))
    made.start(at(0))
    made.advance(at(0))
    made.opened(at(0))
    for turn in range(1, 10):
        assert look(made, turn * LOOK_US, 0) is None
    assert made.advance(at(2 * SECOND)) is Action.HANG_UP


def test_dials_are_short_but_for_one_in_eight_when_nobody_answers() -> None:
    made = Dialer(HELLO_PAYLOAD, CLIENT, WATCHFUL, Random(1))
    made.start(at(0))
    now, waits, pauses = 0, [], []
    for _ in range(16):
        assert made.advance(at(now)) is Action.DIAL
        began, now = now, int(made.deadline or 0)
        waits.append((now - began) // 1000)
        assert made.advance(at(now)) is Action.HANG_UP
        made.lost("", at(now))
        pauses.append((int(made.deadline or 0) - now) // 1000)
        now = int(made.deadline or 0)
    assert waits == [*[300] * 7, 2_000] * 2
    assert pauses[:7] == [20] * 7


def test_a_dial_under_way_is_begun_again_when_the_server_calls() -> None:
    made = Dialer(HELLO_PAYLOAD, CLIENT, WATCHFUL, Random(1))
    made.start(at(0))
    assert made.advance(at(0)) is Action.DIAL
    made.nudge(at(100))
    assert made.advance(at(100)) is Action.HANG_UP
