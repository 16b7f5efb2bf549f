"""Clients take turns: what one sends at once waits for the others, within bounds."""

from contextlib import AsyncExitStack

from tests.runtime.fakes import Visitor, quick_config, until, visiting
from tests.runtime.test_driver import CLIENT, bench
from tests.runtime.test_transport import Node, greet, lone_node
from viewstamp.core.ids import Instant
from viewstamp.core.messages import AskStatus, encode_message
from viewstamp.core.principals import ANONYMOUS
from viewstamp.link.framing import CLIENT as CLIENT_FRAME
from viewstamp.link.framing import encode_frame
from viewstamp.replica.events import Requested
from viewstamp.runtime.turns import TURN_US

ASK = encode_message(AskStatus(1))


async def two_clients(node: Node, stack: AsyncExitStack) -> tuple[Visitor, Visitor]:
    """Return two clients that have spoken."""
    first, second = [await stack.enter_async_context(visiting(node.port)) for _ in range(2)]
    for count, client in enumerate((first, second), 1):
        await greet(client)
        client.say(encode_frame(CLIENT_FRAME, b"first"))
        await until(lambda expected=count: len(node.inbox.client_frames) == expected)  # type: ignore[misc]
    node.inbox.client_frames.clear()
    return first, second


async def test_the_connections_take_turns_when_there_was_no_time() -> None:
    async with lone_node() as node, AsyncExitStack() as stack:
        first, second = await two_clients(node, stack)
        node.inbox.in_time = False
        first.say(b"".join(encode_frame(CLIENT_FRAME, b"a%d" % n) for n in range(3)))
        await until(lambda: node.metrics.client_messages_waited == 3)
        second.say(encode_frame(CLIENT_FRAME, b"b"))
        await until(lambda: node.metrics.client_messages_waited == 4)
        assert (node.inbox.client_frames, node.inbox.turns_wanted) == ([], 4)
        assert node.transport.serve_waiting(), "there is no time yet"
        node.inbox.in_time = True
        assert not node.transport.serve_waiting()
        assert [payload for _, payload in node.inbox.client_frames] == [b"a0", b"b", b"a1", b"a2"]


async def test_a_connection_whose_messages_wait_is_not_read_from_and_keeps_their_order() -> None:
    async with lone_node() as node, AsyncExitStack() as stack:
        first, _ = await two_clients(node, stack)
        node.inbox.in_time = False
        first.say(encode_frame(CLIENT_FRAME, b"1"))
        await until(lambda: node.metrics.client_messages_waited == 1)
        (connection,) = [each for each in node.transport._clients.values() if each.is_held]
        node.inbox.in_time = True
        first.say(encode_frame(CLIENT_FRAME, b"2"))
        assert node.inbox.client_frames == []
        assert not node.transport.serve_waiting()
        await until(lambda: len(node.inbox.client_frames) == 2)
        assert [payload for _, payload in node.inbox.client_frames] == [b"1", b"2"]
        assert not connection.is_held


async def test_one_is_given_up_when_too_much_waits_and_nothing_of_it_remains() -> None:
    async with lone_node(quick_config(unfinished_bytes_max=1_000)) as node, AsyncExitStack() as stack:
        first, second = await two_clients(node, stack)
        node.inbox.in_time = False
        first.say(encode_frame(CLIENT_FRAME, bytes(600)))
        await until(lambda: node.metrics.client_messages_waited == 1)
        second.say(encode_frame(CLIENT_FRAME, bytes(600)))
        await second.closed()
        await until(lambda: node.transport.clients_connected == 1)
        node.inbox.in_time = True
        assert not node.transport.serve_waiting()
        assert [len(payload) for _, payload in node.inbox.client_frames] == [600]
        assert node.transport._backlog.size_bytes == 0


async def test_a_client_that_does_not_read_is_asked_for_nothing_more() -> None:
    """Each message may be answered by a thousand times its length."""
    async with lone_node() as node, AsyncExitStack() as stack:
        first, _ = await two_clients(node, stack)
        asked = node.inbox.client_frames
        take = node.inbox.client_frame

        def answer(source: object, payload: bytes, principal: str) -> None:
            take(source, payload, principal)  # type: ignore[arg-type]
            node.transport.respond(source, bytes(2 << 20))  # type: ignore[arg-type]

        node.inbox.client_frame = answer  # type: ignore[method-assign]
        first.writer.transport.pause_reading()  # type: ignore[attr-defined]
        first.say(encode_frame(CLIENT_FRAME, b"x") * 50)
        await until(lambda: node.transport._backlog.size_bytes > 0)
        for _ in range(20):
            node.transport.serve_waiting()
            node.transport.flush()
        assert len(asked) < 10
        assert node.transport.clients_connected == 2


async def test_a_turn_has_no_more_time_for_clients_after_a_while() -> None:
    now = 1_000_000
    async with bench(clock=lambda: Instant(now)) as b:
        await until(lambda: not b.driver._turns.planned)
        assert b.driver.has_time()
        b.driver.client_frame(CLIENT, ASK, ANONYMOUS)
        assert b.driver.has_time()
        now += TURN_US + 1
        assert not b.driver.has_time()
        await until(lambda: not b.driver._turns.planned)
        assert b.driver.has_time()


async def test_what_waits_has_another_turn_until_nothing_is_left() -> None:
    now = 1_000_000
    waiting = [ASK] * 5

    async with bench(clock=lambda: Instant(now)) as b:

        def serve() -> bool:
            nonlocal now
            while waiting and b.driver.has_time():
                b.driver.client_frame(CLIENT, waiting.pop(), ANONYMOUS)
                now += TURN_US // 2 + 1
            return bool(waiting)

        b.diary.waiting = waiting
        b.diary.serve_waiting = serve  # type: ignore[method-assign]
        before = b.metrics.turns
        b.driver.work_waits()
        await until(lambda: not waiting)
        assert sum(isinstance(event, Requested) for event in b.replica.events) == 5
        assert b.metrics.turns - before >= 3, "two messages fill a turn"
