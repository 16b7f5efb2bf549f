"""What one client may take: places, unfinished frames, time for a frame, replies that it does not read."""

import logging
from contextlib import AsyncExitStack

import pytest

from tests.runtime.fakes import CLIENT_HELLO, Visitor, hello_frame, quick_config, until, visiting
from tests.runtime.test_transport import greet, lone_node
from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import ClientAddress, Instant
from viewstamp.core.messages import AskStatus, KeepAlive, encode_message
from viewstamp.core.principals import ANONYMOUS, LOCAL_OPERATOR
from viewstamp.link.framing import (
    CLIENT,
    FREE_BYTES,
    REFUSAL,
    WELCOME,
    UnfinishedBytes,
    encode_frame,
    frame_header,
)
from viewstamp.link.handshake import ANY_NODE, WIRE, Hello, decode_refusal
from viewstamp.runtime.bounded_log import AGAIN_US, BURST, TOLD_MAX, BoundedLog
from viewstamp.runtime.places import Client, ClientPlaces

ASK = encode_frame(CLIENT, encode_message(AskStatus(1)))
OTHER = encode_frame(CLIENT, encode_message(KeepAlive(1, 1)))


async def first_kind(visitor: Visitor) -> int:
    visitor.say(hello_frame(CLIENT_HELLO))
    return (await visitor.frame())[0]


async def test_an_operator_gets_in_when_clients_take_all_places() -> None:
    config = quick_config(clients_max=1, operators_max=1)
    async with lone_node(config) as node, visiting(node.port) as first, AsyncExitStack() as stack:
        await greet(first)
        for number in range(1, 4):  # the oldest in the reserve gives way
            operator = await stack.enter_async_context(visiting(node.port))
            await greet(operator)
            operator.say(ASK)
            await until(lambda expected=number: len(node.inbox.client_frames) == expected)  # type: ignore[misc]
        first.say(ASK)
        await until(lambda: len(node.inbox.client_frames) == 4)


async def test_a_client_in_the_reserve_is_refused_when_it_asks_for_more_than_operators() -> None:
    async with lone_node(quick_config(clients_max=1)) as node, visiting(node.port) as first:
        await greet(first)
        async with visiting(node.port) as second:
            await greet(second)
            second.say(OTHER)
            kind, payload = await second.frame()
            assert kind == REFUSAL
            assert "1 clients are connected, which is the limit" in decode_refusal(payload)
        assert node.inbox.client_frames == []


async def test_a_client_that_said_nothing_gives_way_and_one_that_spoke_does_not() -> None:
    config = quick_config(clients_max=2, silent_timeout_ms=1)
    async with lone_node(config) as node, visiting(node.port) as spoke, visiting(node.port) as silent:
        await greet(spoke)
        await greet(silent)
        spoke.say(OTHER)
        await until(lambda: len(node.inbox.client_frames) == 1)
        (since,) = node.transport._places._silent.values()
        await until(lambda: node.transport._clock() - since > 1_000)
        async with visiting(node.port) as third:
            await greet(third)
            await silent.closed()
            third.say(OTHER)
            await until(lambda: len(node.inbox.client_frames) == 2)
            spoke.say(OTHER)
            await until(lambda: len(node.inbox.client_frames) == 3)
            assert node.metrics.clients_displaced == 1


async def test_one_address_has_a_limit_of_its_own() -> None:
    async with lone_node(quick_config(clients_per_address_max=1)) as node, visiting(node.port) as first:
        await greet(first)
        async with visiting(node.port) as second:
            assert await first_kind(second) == REFUSAL
        first.writer.close()
        await until(lambda: node.transport.clients_connected == 0)
        async with visiting(node.port) as third:
            assert await first_kind(third) == WELCOME


async def test_a_principal_with_a_name_has_a_limit_of_its_own_wherever_it_connects_from() -> None:
    places = ClientPlaces(quick_config(clients_per_address_max=1))
    async with lone_node(quick_config()) as node, visiting(node.port) as one, visiting(node.port) as two:
        await greet(one)
        await greet(two)
        first, second = (
            connection for connection in node.transport._open if isinstance(connection.tag, Client)
        )
        first.principal = second.principal = "client/shop"
        assert {first.owner, second.owner} == {"client/shop"}
        places.admit(first, ClientAddress(1), first.owner, Instant(0))
        assert "1 clients of client/shop are connected" in str(places.room_for(second.owner, Instant(0)))
        for unnamed in (ANONYMOUS, LOCAL_OPERATOR):
            second.principal = unnamed
            assert second.owner == second.host != ""
            assert places.room_for(second.owner, Instant(0)) is None


async def test_the_frame_that_goes_over_the_budget_is_given_up_and_the_others_end() -> None:
    size = FREE_BYTES + 1_000
    whole = encode_frame(CLIENT, bytes(size))
    async with lone_node(quick_config(unfinished_bytes_max=1_500)) as node, AsyncExitStack() as stack:
        one, two, three = [await stack.enter_async_context(visiting(node.port)) for _ in range(3)]
        for each in (one, two, three):
            await greet(each)
        one.say(whole[:-1])
        await until(lambda: node.transport._unfinished.used > 0)
        two.say(whole[:-1])
        await two.closed()
        three.say(whole[:100])  # short ones are free
        one.say(whole[-1:])
        three.say(whole[100:1_000])
        await until(lambda: len(node.inbox.client_frames) == 1)
        assert node.transport._unfinished.used == 0
        assert node.transport.clients_connected == 2


def test_a_budget_is_given_back_by_whoever_took_it() -> None:
    budget = UnfinishedBytes(100)
    budget.change(0, FREE_BYTES + 100)
    with pytest.raises(ProtocolViolation, match="100 bytes"):
        budget.change(0, FREE_BYTES + 1)
    budget.change(0, FREE_BYTES)
    budget.change(FREE_BYTES + 100, 0)
    assert budget.used == 0
    budget.change(FREE_BYTES, FREE_BYTES + 100)


async def test_a_frame_that_comes_byte_by_byte_is_given_up_in_time() -> None:
    async with lone_node(quick_config(frame_timeout_ms=20)) as node, visiting(node.port) as slow:
        await greet(slow)
        slow.say(frame_header(CLIENT, bytes(1_000)))
        slow.say(b"x")
        await slow.closed()
        await until(lambda: node.metrics.frames_late == 1)


async def test_frames_one_after_the_other_are_not_taken_for_one_that_never_ends() -> None:
    frame = encode_frame(CLIENT, bytes(100))
    async with lone_node(quick_config(frame_timeout_ms=200)) as node, visiting(node.port) as client:
        await greet(client)
        client.say(frame[:50])
        marks = set()
        for number in range(1, 9):
            await until(lambda: node.transport._deadlines._frames)
            marks |= set(node.transport._deadlines._frames.values())
            client.say(frame[50:] + frame[:50])
            await until(lambda expected=number: len(node.inbox.client_frames) == expected)  # type: ignore[misc]
        assert len(marks) > 1, "each frame has a time of its own"
        client.say(frame[50:])
        await until(lambda: not node.transport._deadlines._frames)
        assert node.metrics.frames_late == 0


async def test_a_client_that_sends_nothing_for_long_is_disconnected() -> None:
    async with lone_node(quick_config(client_idle_timeout_ms=20)) as node, visiting(node.port) as client:
        await greet(client)
        await client.closed()
        await until(lambda: node.metrics.clients_idle == 1)


async def test_those_that_do_not_read_are_cut_off_when_together_they_take_too_much() -> None:
    async with lone_node(quick_config(unread_bytes_max=3 << 20)) as node, AsyncExitStack() as stack:
        deaf = [await stack.enter_async_context(visiting(node.port)) for _ in range(4)]
        for client in deaf:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.say(hello_frame(CLIENT_HELLO))
        await until(lambda: node.transport.clients_connected == 4)
        for address in list(node.transport._clients):
            for _ in range(20):
                node.transport.respond(address, bytes(1 << 20))
        node.transport.flush()
        await until(lambda: node.metrics.clients_stalled >= 1)
        assert node.transport._deadlines.unread_bytes() < 30 << 20


def test_lines_about_strangers_are_bounded_in_number_and_in_length(caplog: pytest.LogCaptureFixture) -> None:
    now = 0
    log = BoundedLog(logging.getLogger("viewstamp.test"), lambda: Instant(now))
    with caplog.at_level(logging.INFO, "viewstamp.test"):
        for number in range(5_000):
            log.write(logging.WARNING, "refused client", f"{number}: \n\x1b" + "x" * 5_000)
        assert len(caplog.messages) == BURST
        assert all(len(line) < 400 and line.isprintable() for line in caplog.messages)
        log.write(logging.WARNING, "refused peer", "a kind of its own")
        assert log.owes
        now = 10_000_000
        log.flush()
    assert caplog.messages[-1] == "refused client: 4,980 more in the last 10 s"
    assert not log.owes


def test_what_a_stranger_does_again_is_told_once_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    now = 0
    log = BoundedLog(logging.getLogger("viewstamp.test"), lambda: Instant(now))
    with caplog.at_level(logging.INFO, "viewstamp.test"):
        for _ in range(5_000):
            log.write(logging.WARNING, "refused", "at 10.0.0.9:1: no", once="10.0.0.9: no")
        log.write(logging.WARNING, "refused", "at 10.0.0.8:1: no", once="10.0.0.8: no")
        log.write(logging.WARNING, "closed", "at 10.0.0.9:1: no", once="10.0.0.9: no")
        assert caplog.messages == [
            "refused at 10.0.0.9:1: no",
            "refused at 10.0.0.8:1: no",
            "closed at 10.0.0.9:1: no",
        ]
        assert not log.owes, "what is repeated takes no token of others"
        now = AGAIN_US
        log.write(logging.WARNING, "refused", "at 10.0.0.9:2: no", once="10.0.0.9: no")
        log.write(logging.WARNING, "refused", "at 10.0.0.8:2: no", once="10.0.0.8: no")
    assert caplog.messages[3:] == [
        "refused (4,999 times more in the last hour) at 10.0.0.9:2: no",
        "refused at 10.0.0.8:2: no",
    ]


def test_what_was_told_is_kept_of_a_bounded_number(caplog: pytest.LogCaptureFixture) -> None:
    now = 0
    log = BoundedLog(logging.getLogger("viewstamp.test"), lambda: Instant(now))
    with caplog.at_level(logging.INFO, "viewstamp.test"):
        for number in range(2 * TOLD_MAX):
            now = number * 1_000_000
            log.write(logging.WARNING, "refused", "x" * 9_000, once=f"{number}" + "x" * 9_000)
    assert len(caplog.messages) == 2 * TOLD_MAX
    assert len(log._told) == TOLD_MAX
    assert max(len(once) for _, once in log._told) <= 300


async def test_what_a_stranger_calls_its_cluster_is_quoted_in_part() -> None:
    async with lone_node() as node, visiting(node.port) as stranger:
        stranger.say(hello_frame(Hello(WIRE, "client", "x\n" * 1_000, 0, ANY_NODE, ANY_NODE, 0)))
        kind, payload = await stranger.frame()
        assert kind == REFUSAL
        assert decode_refusal(payload).count("x?") == 50


async def test_each_budget_is_named_with_its_use() -> None:
    config = quick_config(clients_max=7)
    async with lone_node(config) as node, visiting(node.port) as client, visiting(node.port):
        await greet(client)
        client.say(encode_frame(CLIENT, bytes(FREE_BYTES + 500))[:-1])
        await until(lambda: node.transport._unfinished.used)
        await until(lambda: node.transport.strangers_connected == 1)
        usage = {what: (used, limit) for what, used, limit in node.transport.usage()}
    assert usage["clients"] == (1, 7)
    assert usage["clients of one owner"] == (1, config.clients_per_address_max)
    assert usage["connections without a hello"] == (1, config.strangers_max)
    assert usage["bytes of unfinished frames"] == (515, config.unfinished_bytes_max)
    assert usage["operators in the reserve"] == (0, config.operators_max)
    assert usage["bytes of replies not read"] == (0, config.unread_bytes_max)
