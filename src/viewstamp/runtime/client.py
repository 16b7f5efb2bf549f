"""The async client: a `ClientCore` on the running loop, with a connection to each server.

One future for each call, and nothing else: calls made in one turn of the loop travel in one message, and
there is no task or timer for each of them. All of it belongs to the loop that it was started on.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from viewstamp.core.effects import Send
from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.events import OperatorRequest, PeerDown, PeerUp, Received, Woke
from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.messages import (
    UNREADABLE,
    MembersChanged,
    Redirect,
    WaitFor,
    decode_server_message,
    encode_message,
)
from viewstamp.link.dialer import Dialer, Refused, Welcomed
from viewstamp.link.framing import CLIENT
from viewstamp.link.handshake import Welcome
from viewstamp.machine.definition import Method
from viewstamp.replica.client.client import ClientCore
from viewstamp.replica.events import (
    CallId,
    Cancelled,
    ClientEffect,
    ClientEvent,
    Closed,
    Complete,
    CompleteAll,
    Deliver,
    Failed,
    Operated,
    Outcome,
    Returned,
)
from viewstamp.replica.options import ClientOptions
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.client_base import (
    ASK_AGAIN_S,
    ASK_PAUSE_S,
    CLIENT_LIMITS,
    NO_ERRORS,
    ClientBase,
    Errors,
    change_of,
    hurry_leader,
    hurry_others,
    make_asker,
    refusals_of,
    result_of,
    session_ms,
    with_refusals,
)
from viewstamp.runtime.config import TlsFiles
from viewstamp.runtime.connection import Connection
from viewstamp.runtime.dialing import OutgoingLink
from viewstamp.runtime.discovery import Known, Where, learn
from viewstamp.runtime.proxies import CallKind
from viewstamp.runtime.security import SecureDial
from viewstamp.runtime.system import Clock, explain, monotonic_us
from viewstamp.runtime.tokens import TokenSource
from viewstamp.runtime.turns import Turns

_WOKE: Final = Woke()


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


class AsyncClient(ClientBase):
    """A client of one cluster. `start` it before the first call, `close` it after the last."""

    def __init__(
        self,
        where: Where,
        *,
        timeout_s: float = 10.0,
        exactly_once: bool = True,
        options: ClientOptions | None = None,
        notified: Callable[[bytes], None] | None = None,
        token: TokenSource | None = None,
        clock: Clock = monotonic_us,
        operator: bool = False,
        tls: TlsFiles | None = None,
    ) -> None:
        """Prepare a client. `notified` is called with each one-way message of the machine.

        An `operator` may give directives. `tls` goes before the files that the cluster file names.

        Raises:
            ConfigurationError: `where` does not name a cluster, or `timeout_s` makes no sense.
        """
        super().__init__(
            where,
            timeout_s=timeout_s,
            exactly_once=exactly_once,
            options=options,
            notified=notified,
            token=token,
            clock=clock,
            operator=operator,
            tls=tls,
        )
        self._core: ClientCore | None = None
        self._links: dict[NodeId, OutgoingLink] = {}
        self._calls: dict[CallId, CallFuture] = {}
        self._dirty: list[Connection] = []
        """Connections with something to write in this turn."""
        self._asking: asyncio.Task[None] | None = None
        """Asks for the members, while none that was known can be reached."""
        self._leaving: set[asyncio.Task[None]] = set()
        """Closes connections to servers that were removed."""
        self._turns: Turns | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

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
    def is_closed(self) -> bool:
        """Whether no call can be made: it was closed, or not started."""
        return self._closed or self._core is None

    @property
    def reachable(self) -> list[NodeId]:
        """The members that can be reached now."""
        return [node for node, link in self._links.items() if link.is_up]

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
        self._core = self._make_core(known)
        self._turns = Turns(self._loop, self._clock, self._work)
        for server, address in sorted(known.addresses.items()):
            self._link_to(server, address)

    def _link_to(self, server: NodeId, address: Address) -> None:
        link = self._links[server] = OutgoingLink(
            server,
            address,
            hello=self._greeting(server),
            kind=CLIENT,
            limits=CLIENT_LIMITS,
            rng=self._rng,
            owner=self,
            dirty=self._dirty,
            secure=self._security.dial(self._cluster_id, server),
        )
        link.start()

    def invoke(
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
        core, turns = self._core, self._turns
        if core is None or turns is None or self._closed:
            raise self._not_open()
        turns.now = now = self._clock()
        if not turns.planned:
            turns.plan(now)
        # What `_begin` does, without its calls: this is done for each call, and little else is.
        self._last_call = call = CallId(self._last_call + 1)
        future = self._calls[call] = CallFuture(loop=self._loop)
        future.client, future.call, future.method, future.errors = self, call, method, errors
        deadline = Instant(now + int((self.timeout_s if timeout_s is None else timeout_s) * 1e6))
        if (refused := core.invoke(call, kind, payload, deadline, now)) is not None:
            self._complete(call, refused)
        return future

    def operate(
        self, node: NodeId, directive: OperatorRequest | WaitFor | None, *, timeout_s: float | None = None
    ) -> CallFuture:
        """Ask one node for its status (None), to follow a directive, or to answer a query that may wait.

        The result is its encoded reply.
        """
        now = self._clock()
        call, future, deadline = self._begin(now, timeout_s, None, NO_ERRORS)
        self._feed(Operated(call, node, directive, deadline), now)
        return future

    def set_session_time_to_live(self, seconds: float) -> None:
        """Let the session live this long without a message, within the cluster's bounds; 0: its own.

        The cluster is asked at once. What is counted on (`session`) changes when it has answered.

        Raises:
            ConfigurationError: it is out of range.
            NotExecuted: the client is closed or was not started.
        """
        milliseconds = session_ms(seconds)
        if self._core is None or self._closed or self._turns is None:
            raise self._not_open()
        self._core.want_session(milliseconds)
        self._turns.plan()

    def abandon(self, call: CallId) -> None:
        """Record that nobody waits for this call."""
        if self._calls.pop(call, None) is not None:
            self._feed(Cancelled(call))

    async def close(self) -> None:
        """End every open call, give the session back, close the connections. May be repeated."""
        if self._core is None or self._closed:
            return
        self._feed(Closed())
        self._closed = True
        self._flush()
        if self._turns is not None:
            self._turns.stop()
        if self._asking is not None:
            self._asking.cancel()
        await asyncio.gather(*(link.stop() for link in self._links.values()), *self._leaving)
        await asyncio.sleep(0)

    def trouble(self, node: NodeId) -> str:
        """Return why there is no connection to this server, in a few words; empty where there is one."""
        return self._links[node].trouble

    # Events of the links

    def link_changed(self, peer: NodeId, is_up: bool) -> None:  # noqa: FBT001  as in LinkOwner
        """Feed that a server can be reached, or cannot (`dialing.LinkOwner`)."""
        if not is_up:
            hurry_others(self._links, peer)
            self._ask_if_lost()
        if peer not in self._links:
            return  # it was removed meanwhile
        if is_up and (message := self._named_besides(self._links, peer)) is not None:
            self._follow(message)  # before anything is sent to a server that may name nonsense
            self._feed(Received(peer, message))
        self._feed(PeerUp(peer) if is_up else PeerDown(peer))

    def link_received(self, peer: NodeId, payload: bytes) -> None:
        """Feed a server's message (`dialing.LinkOwner`)."""
        message = decode_server_message(payload)
        if type(message) is Redirect:
            hurry_leader(self._links, message)
        elif type(message) is MembersChanged:
            if not self._is_news(message):
                return
            self._follow(message)
        self._feed(Received(peer, message))

    # Members that change

    def _follow(self, message: MembersChanged) -> None:
        """Connect to the members that a server names, and to no others."""
        change = change_of(self._links, message)
        for server, address in change.new.items():
            self._link_to(server, address)
        for server, address in change.moved.items():
            if not self._links[server].is_up:
                self._links[server].address = address
        for server in change.gone:
            self._feed(PeerDown(server))
            task = self.loop.create_task(self._links.pop(server).stop())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    def _ask_if_lost(self) -> None:
        """None of the members can be reached: perhaps all of them were replaced. Ask until one answers."""
        if self._closed or any(link.is_up for link in self._links.values()):
            return
        if self._asking is None or self._asking.done():
            self._asking = self.loop.create_task(self._ask_again())

    async def _ask_again(self) -> None:
        while True:
            await asyncio.sleep(ASK_AGAIN_S)
            if self._closed or any(link.is_up for link in self._links.values()):
                return
            for address in self._places(self._links.values()):
                answer = await ask(address, make_asker(self._rng), self._clock)
                if not isinstance(answer, str) and answer.cluster_id == self._cluster_id:
                    self._learn(answer, address)
                    break

    def _learn(self, welcome: Welcome, reached_at: Address) -> None:
        """Follow what a welcome names; the server that gave it is found where it was reached."""
        known = learn(welcome, reached_at)
        members = [(int(node), *address) for node, address in known.addresses.items()]
        message = MembersChanged(members)
        self._follow(message)
        self._feed(Received(NodeId(welcome.node), message))

    # The driver's rules, as for a replica

    def _begin(
        self, now: Instant, timeout_s: float | None, method: Method | None, errors: Errors
    ) -> tuple[CallId, CallFuture, Instant]:
        if self._core is None or self._closed:
            raise self._not_open()
        call = self._next_call()
        future = self._calls[call] = CallFuture(loop=self._loop)
        future.client, future.call, future.method, future.errors = self, call, method, errors
        return call, future, self._deadline_in(timeout_s, now)

    def _feed(self, event: ClientEvent, now: Instant | None = None) -> None:
        core, turns = self._core, self._turns
        if core is None or turns is None or self._closed:
            return
        if now is not None:
            turns.now = now
        if not turns.planned:
            turns.plan(now)
        self._carry_out(core.step(event, turns.now))

    def _carry_out(self, effects: Iterable[ClientEffect]) -> None:
        for effect in effects:
            if type(effect) is CompleteAll:
                self._complete_all(effect)
            elif type(effect) is Complete:
                self._complete(effect.call, effect.outcome)
            elif type(effect) is Send:
                link = self._links.get(effect.to)
                if link is None:
                    continue  # that server was removed meanwhile
                if link.up is not None:
                    link.up.send(encode_message(effect.message))
                else:
                    link.lose()
            elif isinstance(effect, Deliver):
                self._deliver(effect)

    def _complete_all(self, effect: CompleteAll) -> None:
        """End the calls of a message. `_complete` does the same for one call, whatever its outcome."""
        calls = self._calls
        for call, payload in effect.results:
            future = calls.get(call)
            if future is None or future.method is None or future.done():
                self._complete(call, Returned(bytes(payload), effect.position))
                continue
            try:
                value = future.method.decode_result(payload)
            except UNREADABLE:
                self._complete(call, Returned(bytes(payload), effect.position))
                continue
            del calls[call]
            future.set_result(value)

    def _complete(self, call: CallId, outcome: Outcome) -> None:
        future = self._calls.pop(call, None)
        if future is None or future.done():
            return
        if type(outcome) is Failed:
            outcome = with_refusals(outcome, refusals_of(self._links))
        try:
            future.set_result(result_of(outcome, future.method, future.errors))
        except Exception as error:  # noqa: BLE001  whatever it is, it is the caller's
            future.set_exception(error)

    def _work(self) -> Instant | None:
        """Do once for all events of this round what they asked for (`turns.Turns`)."""
        core, turns = self._core, self._turns
        if core is None or turns is None or self._closed:
            return None
        # Where calls wait, a wake is due nearly always, and harmless if not: do not ask.
        waiting = core.has_queued
        deadline = None if waiting else core.deadline
        if waiting or (deadline is not None and deadline <= turns.now):
            self._feed(_WOKE)
            deadline = core.deadline
        self._flush()
        return deadline

    def _flush(self) -> None:
        for connection in self._dirty:
            connection.flush()
        self._dirty.clear()

    # Finding the cluster

    async def _discover(self, addresses: list[Address]) -> Known:
        """Ask the addresses in turn which server is there, until one answers or the time is up."""
        troubles = dict.fromkeys(addresses, "no answer")
        try:
            async with asyncio.timeout(self.timeout_s):
                while True:
                    for address in addresses:
                        secure = self._security.dial("", None)
                        answer = await ask(address, make_asker(self._rng), self._clock, secure)
                        if not isinstance(answer, str):
                            return learn(answer, address)
                        troubles[address] = answer
                    await asyncio.sleep(ASK_PAUSE_S)
        except TimeoutError:
            raise self._no_server(troubles) from None


async def ask(
    address: Address, dialer: Dialer, clock: Clock, secure: SecureDial | None = None
) -> Welcome | str:
    """Connect once and return the server's welcome, or in a few words why there was none."""
    dialer.start(clock())
    dialer.advance(clock())
    writer = None
    try:
        async with asyncio.timeout(CLIENT_LIMITS.dial_timeout_ms / 1000):
            context = None if secure is None else secure.credentials.context
            reader, writer = await asyncio.open_connection(*address, ssl=context)
            if secure is not None and (reason := secure.refuse_end(writer.get_extra_info("ssl_object"))):
                return reason
            dialer.opened(clock())
            writer.write(dialer.out.take())
            while data := await reader.read(CLIENT_LIMITS.hello_bytes_max):
                for event in dialer.receive(data):
                    if isinstance(event, Welcomed):
                        return event.welcome
                    if isinstance(event, Refused):
                        return event.reason
    except (OSError, UnicodeError, ProtocolViolation) as error:
        return explain(error)
    finally:
        if writer is not None:
            writer.transport.abort()
    return "it closed the connection"
