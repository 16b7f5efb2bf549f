"""The async client: a `ClientCore` on the running loop, with a connection to each server.

One future for each call, and nothing else: calls made in one turn of the loop travel in one message, and
there is no task or timer for each of them. All of it belongs to the loop that it was started on.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from viewstamp.core.effects import Send
from viewstamp.core.errors import ConfigurationError, NotExecuted, ProtocolViolation
from viewstamp.core.events import Directive, PeerDown, PeerUp, Received, Woke
from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.messages import Redirect, decode_server_message, encode_message
from viewstamp.machine.definition import Method
from viewstamp.replica.client.client import ClientCore, ClientSetup
from viewstamp.replica.events import (
    CallId,
    Cancelled,
    ClientEffect,
    ClientEvent,
    Closed,
    Complete,
    Deliver,
    Failed,
    Invoked,
    Operated,
    Outcome,
)
from viewstamp.replica.options import ClientOptions
from viewstamp.runtime.addresses import Address, format_address
from viewstamp.runtime.config import KIB, MIB
from viewstamp.runtime.connection import Connection, Overflow
from viewstamp.runtime.dialing import Link, LinkLimits
from viewstamp.runtime.discovery import Known, Where, client_hello, learn, locate
from viewstamp.runtime.framing import CLIENT, HELLO, REFUSAL, WELCOME
from viewstamp.runtime.handshake import decode_refusal, decode_welcome
from viewstamp.runtime.outcomes import NO_ERRORS, Errors, result_of, with_refusals
from viewstamp.runtime.proxies import CallKind
from viewstamp.runtime.system import Clock, check_timeout_s, fresh_number, fresh_rng, monotonic_us

LOG: Final = logging.getLogger("viewstamp.runtime")
_WOKE: Final = Woke()

CLIENT_LIMITS: Final = LinkLimits(
    hello_bytes_max=16 * KIB,
    frame_bytes_max=64 * MIB,
    send_bytes_max=64 * MIB,
    dial_timeout_ms=2_000,
    backoff_min_ms=20,
    backoff_max_ms=1_000,
)


class CallFuture(asyncio.Future[Any]):
    """What a call returns. To cancel it is to stop waiting: what was sent stays sent, other calls go on."""

    # Set by `AsyncClient._begin`: a constructor in Python would cost as much as all the rest of a future.
    __slots__ = ("call", "client", "errors", "method")

    client: "AsyncClient"
    call: CallId
    method: Method | None
    errors: Errors

    def cancel(self, msg: Any | None = None) -> bool:
        """Give up waiting for the result."""
        cancelled = super().cancel(msg)
        if cancelled:
            self.client.abandon(self.call)
        return cancelled


class AsyncClient:
    """A client of one cluster. `start` it before the first call, `close` it after the last."""

    def __init__(
        self,
        where: Where,
        *,
        timeout_s: float = 10.0,
        exactly_once: bool = True,
        options: ClientOptions | None = None,
        notified: Callable[[bytes], None] | None = None,
        clock: Clock = monotonic_us,
    ) -> None:
        """Prepare a client. `notified` is called with each one-way message of the machine.

        Raises:
            ConfigurationError: `where` names no cluster, or `timeout_s` makes no sense.
        """
        self._located = locate(where)
        self.timeout_s = check_timeout_s(timeout_s)
        self._exactly_once = exactly_once
        self._options = options or ClientOptions()
        self._notified = notified
        self._clock = clock
        self._core: ClientCore | None = None
        self._links: dict[NodeId, Link] = {}
        self._calls: dict[CallId, CallFuture] = {}
        self._last_call = 0
        self._dirty: list[Connection] = []
        self._turn_planned = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = Instant(0)
        """The deadline that `_timer` was set for."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it was started on."""
        assert self._loop is not None, "the client was not started"
        return self._loop

    @property
    def servers(self) -> tuple[NodeId, ...]:
        """The members of the cluster, once started."""
        return tuple(self._links)

    @property
    def session(self) -> tuple[int | None, Instant | None]:
        """The number of the session, and until when it lives for certain; None: there is none."""
        core = self._core
        return (None, None) if core is None else (core.session, core.session_until)

    async def start(self) -> None:
        """Find the cluster and begin to connect to its members.

        Raises:
            NotExecuted: only addresses were given, and none of them answered in time.
        """
        if self._core is not None:
            return
        self._loop = asyncio.get_running_loop()
        known = self._located if isinstance(self._located, Known) else await self._discover(self._located)
        rng = fresh_rng()
        self._core = ClientCore(
            ClientSetup(
                servers=tuple(sorted(known.addresses)),
                number=fresh_number(),
                rng=rng,
                now=self._clock(),
                options=self._options,
                exactly_once=self._exactly_once,
                write_routing="any" if known.write_routing == "any" else "leader",
            )
        )
        for server, address in sorted(known.addresses.items()):
            hello = client_hello(known.cluster_id, server)
            link = Link(server, address, hello=hello, kind=CLIENT, limits=CLIENT_LIMITS, rng=rng, owner=self)
            self._links[server] = link
            link.start()

    def call(
        self,
        kind: CallKind,
        payload: bytes,
        *,
        timeout_s: float | None = None,
        method: Method | None = None,
        errors: Errors = NO_ERRORS,
    ) -> CallFuture:
        """Make a call and return the future of its result: encoded, or decoded by `method` if it is given.

        The future raises `NotExecuted`, `OutcomeUnknown`, `CommandFailed`, or what the machine declared.
        """
        return self.invoke(kind, payload, timeout_s=timeout_s, method=method, errors=errors)

    def invoke(
        self,
        kind: CallKind,
        payload: bytes,
        *,
        timeout_s: float | None,
        method: Method | None,
        errors: Errors,
    ) -> CallFuture:
        """Make a call for a proxy (`proxies.Caller`)."""
        now = self._clock()
        call, future, deadline = self._begin(now, timeout_s, method, errors)
        assert self._core is not None  # `_begin` has looked
        if effects := self._core.step(Invoked(call, kind, payload, deadline), now):
            self._carry_out(effects)
        if not self._turn_planned:
            self._plan_turn()
        return future

    def operate(
        self, node: NodeId, directive: Directive | None, *, timeout_s: float | None = None
    ) -> CallFuture:
        """Ask one node for its status (None), or to follow a directive; the result is its encoded reply."""
        now = self._clock()
        call, future, deadline = self._begin(now, timeout_s, None, NO_ERRORS)
        self._feed(Operated(call, node, directive, deadline), now)
        return future

    def abandon(self, call: CallId) -> None:
        """Take note that nobody waits for this call any more."""
        if self._calls.pop(call, None) is not None:
            self._feed(Cancelled(call))

    async def close(self) -> None:
        """End every open call, give the session back, close the connections. May be repeated."""
        if self._core is None or self._closed:
            return
        self._feed(Closed())
        self._closed = True
        self._flush()
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*(link.stop() for link in self._links.values()))
        await asyncio.sleep(0)

    def trouble(self, node: NodeId) -> str:
        """Return why there is no connection to this server, in a few words; empty where there is one."""
        return self._links[node].trouble

    # What the links tell

    def link_changed(self, peer: NodeId, is_up: bool) -> None:  # noqa: FBT001  as in LinkOwner
        """Feed that a server can be reached, or cannot (`links.LinkOwner`).

        When one breaks another may be about to lead, perhaps one that was away and is back: dial those now.
        """
        if not is_up:
            for link in self._links.values():
                if link.peer != peer:
                    link.hurry()
        self._feed(PeerUp(peer) if is_up else PeerDown(peer))

    def link_received(self, peer: NodeId, payload: bytes) -> None:
        """Feed a server's message (`links.LinkOwner`)."""
        message = decode_server_message(payload)
        if isinstance(message, Redirect) and message.leader in self._links:
            self._links[message.leader].hurry()
        self._feed(Received(peer, message))

    def wants_flush(self, connection: Connection) -> None:
        """Remember a connection for this turn's write (`links.LinkOwner`)."""
        self._dirty.append(connection)
        self._plan_turn()

    # The driver's rules, as for a replica

    def _begin(
        self, now: Instant, timeout_s: float | None, method: Method | None, errors: Errors
    ) -> tuple[CallId, CallFuture, Instant]:
        if self._core is None or self._closed:
            raise NotExecuted("the client is closed or was not started: no call can be made")
        self._last_call += 1
        call = CallId(self._last_call)
        future = self._calls[call] = CallFuture(loop=self._loop)
        future.client, future.call, future.method, future.errors = self, call, method, errors
        wait_s = self.timeout_s if timeout_s is None else timeout_s
        return call, future, Instant(now + int(wait_s * 1e6))

    def _feed(self, event: ClientEvent, now: Instant | None = None) -> None:
        if self._core is None or self._closed:
            return
        self._carry_out(self._core.step(event, self._clock() if now is None else now))
        if not self._turn_planned:
            self._plan_turn()

    def _carry_out(self, effects: Iterable[ClientEffect]) -> None:
        for effect in effects:
            if type(effect) is Complete:
                self._complete(effect.call, effect.outcome)
            elif type(effect) is Send:
                self._links[effect.to].send(encode_message(effect.message))
            elif isinstance(effect, Deliver):
                self._deliver(effect)

    def _deliver(self, effect: Deliver) -> None:
        if self._notified is not None:
            self._notified(effect.payload)

    def _complete(self, call: CallId, outcome: Outcome) -> None:
        future = self._calls.pop(call, None)
        if future is None or future.done():
            return
        if type(outcome) is Failed:
            outcome = with_refusals(outcome, {node: link.refusal for node, link in self._links.items()})
        try:
            future.set_result(result_of(outcome, future.method, future.errors))
        except Exception as error:  # noqa: BLE001  whatever it is, it is the caller's
            future.set_exception(error)

    def _plan_turn(self) -> None:
        if not self._turn_planned:
            self._turn_planned = True
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_planned = False
        if self._core is None or self._closed:
            return
        # Where calls wait, a wake is due nearly always, and harmless if not: do not ask.
        deadline = None if (waiting := self._core.has_queued) else self._core.deadline
        if waiting or (deadline is not None and deadline <= self._clock()):
            self._turn_planned = True  # the step below plans none: this turn goes on after it
            self._feed(_WOKE)
            self._turn_planned = False
        self._flush()
        self._arm_timer()

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.flush()

    def _arm_timer(self) -> None:
        assert self._core is not None
        deadline = self._core.deadline
        if deadline is None:
            return
        now = self._clock()
        if deadline <= now:
            self._plan_turn()
            return
        timer = self._timer
        if timer is None or deadline < self._timer_at:
            if timer is not None:
                timer.cancel()
            self._timer_at = deadline
            self._timer = self.loop.call_later((deadline - now) / 1e6, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._turn()

    # Finding the cluster

    async def _discover(self, addresses: list[Address]) -> Known:
        """Ask the addresses in turn who they are, until one answers or the time is up."""
        troubles = ""
        try:
            async with asyncio.timeout(self.timeout_s):
                while True:
                    troubles_now = []
                    for address in addresses:
                        answer = await _ask_who(address)
                        if isinstance(answer, Known):
                            return answer
                        troubles_now.append(f"{format_address(address)}: {answer}")
                    troubles = "; ".join(troubles_now)
                    await asyncio.sleep(CLIENT_LIMITS.backoff_min_ms * 5 / 1000)
        except TimeoutError:
            where = troubles or ", ".join(map(format_address, addresses))
            raise NotExecuted(f"no server answered within {self.timeout_s:g} s: {where}") from None


async def _ask_who(address: Address) -> Known | str:
    """Connect once and return what the server's welcome says, or in a few words why there was none."""
    loop = asyncio.get_running_loop()
    visitor = _Visitor(address)
    try:
        async with asyncio.timeout(CLIENT_LIMITS.dial_timeout_ms / 1000):
            await loop.create_connection(visitor.make_connection, *address)
            return await visitor.answer
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return "connection refused" if isinstance(error, ConnectionRefusedError) else str(error)
    finally:
        visitor.leave()


class _Visitor:
    """Connects only to hear the welcome. A `connection.Handler`."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self.answer: asyncio.Future[Known | str] = asyncio.get_running_loop().create_future()
        self._connection = Connection(
            self, frame_bytes_max=CLIENT_LIMITS.hello_bytes_max, send_bytes_max=KIB, overflow=Overflow.DROP
        )

    def make_connection(self) -> Connection:
        return self._connection

    def leave(self) -> None:
        self.answer.cancel()
        self._connection.abort("")

    def opened(self, connection: Connection) -> None:
        connection.send(HELLO, client_hello("", None))
        connection.flush()

    def frame(self, connection: Connection, kind: int, payload: bytes) -> None:  # noqa: ARG002  as in Handler
        if kind == REFUSAL:
            self._answer(decode_refusal(payload))
        elif kind == WELCOME:
            try:
                self._answer(learn(decode_welcome(payload), self._address))
            except ConfigurationError as error:
                raise ProtocolViolation(str(error)) from error
        else:
            raise ProtocolViolation(f"frame kind {kind} does not come before a welcome")

    def closed(self, connection: Connection, reason: str) -> None:  # noqa: ARG002  as in Handler
        self._answer(reason or "it closed the connection")

    def wants_flush(self, connection: Connection) -> None:
        """Nothing to do: the one frame is flushed where it is sent."""

    def paused(self, connection: Connection, *, paused: bool) -> None:
        """Never called: see `Overflow.DROP`."""

    def _answer(self, answer: Known | str) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)
