"""The blocking client: a `ClientCore` on plain sockets. No event loop; any number of threads may call.

Rules of this file:

- Everything is done under one lock. The thread that finds nobody reading becomes the reader: it waits for the
  sockets, without the lock, on behalf of all; the others wait for a result, or for its place.
- A lone thread therefore sends, waits and decodes by itself, without a change of threads.
- While nobody calls, a small daemon thread looks after the session now and then, so that it does not expire.
"""

import selectors
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from viewstamp.core.effects import Send
from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.events import OperatorRequest, PeerDown, PeerUp, Received, Woke
from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.messages import MembersChanged, ServerMessage, decode_server_message, encode_message
from viewstamp.machine.definition import Method
from viewstamp.replica.events import (
    CallId,
    Cancelled,
    ClientEvent,
    Closed,
    Complete,
    CompleteAll,
    Invoked,
    Operated,
    Outcome,
)
from viewstamp.replica.exports import Reading
from viewstamp.replica.options import ClientOptions
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.client_base import (
    ASK_PAUSE_S,
    CLIENT_LIMITS,
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
from viewstamp.runtime.discovery import Known, Where, learn
from viewstamp.runtime.proxies import CallKind
from viewstamp.runtime.sockets import SocketLink, ask_blocking
from viewstamp.runtime.system import Clock, monotonic_us
from viewstamp.runtime.tokens import TokenSource

_WOKE: Final = Woke()
_UPKEEP_S: Final = 0.25
"""How often the session is looked after while nobody calls; far below any time to live."""
_WAIT_MAX_S: Final = 1.0
_ASK_TIMEOUT_S: Final = CLIENT_LIMITS.dial_timeout_ms / 1000


MakeEvent: TypeAlias = Callable[[CallId, Instant], ClientEvent]
Asked: TypeAlias = OperatorRequest | Reading | None
"""What an operator asks of one node; None: its status."""


class BlockingClient(ClientBase):
    """A client of one cluster. Make it, call, `close` it."""

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
        """Find the cluster and begin to connect to its members; as an `operator` one may give directives.

        `tls` goes before the files that the cluster file names.

        Raises:
            ConfigurationError: `where` does not name a cluster, or `timeout_s` makes no sense.
            NotExecuted: only addresses were given, and none of them answered in time.
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
        self._changed = threading.Condition(threading.Lock())
        """Holds the lock; told whenever a call ended or the reader left its place."""
        self._reading = False
        """Whether a thread waits for the sockets."""
        self._reads_until = Instant(0)
        """Until when, at most."""
        self._over = threading.Event()
        """Set with `_closed`, for the thread that looks after the session."""
        self._outcomes: dict[CallId, Outcome | None] = {}
        """What each open call ended in; None: it has not."""
        located = self._located
        known = located if isinstance(located, Known) else self._discover(located)
        self._core = self._make_core(known)
        self._selector = selectors.DefaultSelector()
        self._waker, self._wakened = socket.socketpair()
        self._wakened.setblocking(False)
        self._selector.register(self._wakened, selectors.EVENT_READ)
        self._links = {server: self._link_to(server, at) for server, at in known.addresses.items()}
        self._keeper = threading.Thread(target=self._keep_session, name="viewstamp-session", daemon=True)
        self._keeper.start()

    def _link_to(self, server: NodeId, address: Address) -> SocketLink:
        return SocketLink(
            server,
            address,
            self._greeting(server),
            limits=CLIENT_LIMITS,
            selector=self._selector,
            rng=self._rng,
            clock=self._clock,
            secure=self._security.dial(self._cluster_id, server),
        )

    @property
    def servers(self) -> tuple[NodeId, ...]:
        """The members of the cluster."""
        return tuple(sorted(self._links))

    @property
    def reachable(self) -> list[NodeId]:
        """The members that can be reached now."""
        with self._changed:
            return [node for node, link in self._links.items() if link.is_up]

    def call(self, kind: CallKind, payload: bytes, *, timeout_s: float | None = None) -> bytes:
        """Make a call and return its encoded result.

        Raises:
            NotExecuted, OutcomeUnknown, CommandFailed: see `core.errors`.
        """
        result = result_of(self._call(kind, payload, timeout_s), None)
        assert isinstance(result, bytes)
        return result

    def invoke(
        self, kind: CallKind, payload: bytes, *, timeout_s: float | None, method: Method, errors: Errors
    ) -> Any:
        """Make a call for a proxy and return its result (`proxies.Caller`)."""
        return result_of(self._call(kind, payload, timeout_s), method, errors)

    def operate(
        self,
        requests: Iterable[tuple[NodeId, Asked]],
        *,
        timeout_s: float | None = None,
    ) -> list[Outcome]:
        """Ask nodes for their status (None), a part of their log, or to follow a directive; all at once.

        Returns how each ended. A result is the node's encoded reply.
        """
        asked = list(requests)
        outcomes = self._call_all([_operating(node, directive) for node, directive in asked], timeout_s)
        refusals = refusals_of(self._links)
        return [
            with_refusals(outcome, {node: refusals[node]} if node in refusals else {})
            for outcome, (node, _) in zip(outcomes, asked, strict=True)
        ]

    def set_session_time_to_live(self, seconds: float) -> None:
        """Let the session live this long without a message, as `AsyncClient.set_session_time_to_live`.

        Raises:
            ConfigurationError: it is out of range.
            NotExecuted: the client is closed.
        """
        milliseconds = session_ms(seconds)
        with self._changed:
            if self._closed:
                raise self._not_open()
            self._core.want_session(milliseconds)
            self._wake_reader()

    def close(self) -> None:
        """End every open call, give the session back, close the connections. May be repeated."""
        with self._changed:
            if self._closed:
                return
            self._feed(Closed())
            self._closed = True
            self._over.set()
            self._write()
            self._wake_reader()
            self._changed.notify_all()
            while self._reading:
                self._changed.wait(_WAIT_MAX_S)
            for link in self._links.values():
                link.close()
            self._selector.close()
            self._waker.close()
            self._wakened.close()
        if threading.current_thread() is not self._keeper:
            self._keeper.join()

    def left_behind(self) -> None:
        """Refuse calls in a child of `fork`; a thread that is not here may have had the lock."""
        super().left_behind()
        self._changed = threading.Condition(threading.Lock())
        self._over = threading.Event()
        self._over.set()

    # Calling

    def _call(self, kind: CallKind, payload: bytes, timeout_s: float | None) -> Outcome:
        def invoking(call: CallId, deadline: Instant) -> ClientEvent:
            return Invoked(call, kind, payload, deadline)

        (outcome,) = self._call_all([invoking], timeout_s)
        return with_refusals(outcome, refusals_of(self._links))

    def _call_all(self, events: list[MakeEvent], timeout_s: float | None) -> list[Outcome]:
        deadline = self._deadline_in(timeout_s, self._clock())
        with self._changed:
            if self._closed:
                raise self._not_open()
            calls = [self._begin(event, deadline) for event in events]
            self._advance()
            try:
                return [self._wait_for(call) for call in calls]
            except BaseException:
                for call in calls:
                    self._feed(Cancelled(call))
                raise
            finally:
                for call in calls:
                    del self._outcomes[call]

    def _begin(self, event: MakeEvent, deadline: Instant) -> CallId:
        call = self._next_call()
        self._outcomes[call] = None
        self._feed(event(call, deadline))
        return call

    def _wait_for(self, call: CallId) -> Outcome:
        """Return the outcome, as the reader or beside it."""
        while (outcome := self._outcomes[call]) is None:
            if self._reading or self._closed:
                self._changed.wait(_WAIT_MAX_S)
            else:
                self._read_once(self._pause_us())
        return outcome

    # Time and sockets; all of it with the lock held

    def _pause_us(self) -> int:
        """Return how long nothing can happen unless a socket has something."""
        moments = [link.due for link in self._links.values()]
        moments.append(self._core.deadline)
        due = min((moment for moment in moments if moment is not None), default=None)
        longest = int(_WAIT_MAX_S * 1e6)
        return longest if due is None else max(0, min(longest, due - self._clock()))

    def _read_once(self, pause_us: int) -> None:
        """Wait for the sockets, without the lock, then take in what came and let time pass."""
        self._reading = True
        self._reads_until = Instant(self._clock() + pause_us)
        self._changed.release()
        try:
            ready = self._selector.select(pause_us / 1e6)
        finally:
            self._changed.acquire()
            self._reading = False
            self._changed.notify_all()
        if self._over.is_set():
            return
        for key, events in ready:
            if key.data is None:
                self._drain_wakeups()
            else:
                self._socket_ready(key.data, events)
        self._advance()
        self._changed.notify_all()

    def _socket_ready(self, link: SocketLink, events: int) -> None:
        try:
            for payload in link.ready(events):
                if payload is None:
                    self._link_changed(link)
                else:
                    self._received(link.peer, decode_server_message(payload))
        except ProtocolViolation as violation:
            link.give_up(str(violation))
            self._feed(PeerDown(link.peer))

    def _link_changed(self, link: SocketLink) -> None:
        if not link.is_up:
            hurry_others(self._links, link.peer)
        if link.is_up and (message := self._named_besides(self._links, link.peer)) is not None:
            self._received(link.peer, message)  # before anything is sent to a server that may name nonsense
        self._feed(PeerUp(link.peer) if link.is_up else PeerDown(link.peer))

    def _received(self, source: NodeId, message: ServerMessage) -> None:
        hurry_leader(self._links, message)
        if type(message) is MembersChanged:
            if self._operator and self._security.secret is not None:
                return  # a server without the secret could name itself as any member, and pass on the proof
            if not self._is_news(message):
                return
            self._follow(message)
        self._feed(Received(source, message))

    def _follow(self, message: MembersChanged) -> None:
        """Connect to the members that a server names, and to no others."""
        change = change_of(self._links, message)
        for server, address in change.new.items():
            self._links[server] = self._link_to(server, address)
        for server, address in change.moved.items():
            if not self._links[server].is_up:
                self._links[server].address = address
        for server in change.gone:
            self._feed(PeerDown(server))
            self._links.pop(server).close()

    def _advance(self) -> None:
        """Let time pass: wake the core if it is due, dial what is due, write what waits."""
        now = self._clock()
        for link in list(self._links.values()):
            if link.due is not None and link.due <= now and link.advance():
                self._feed(PeerDown(link.peer))
        deadline = self._core.deadline
        if deadline is not None and deadline <= now:
            self._feed(_WOKE)
        self._write()
        if self._reading and self._pause_us() + self._clock() < self._reads_until:
            self._wake_reader()

    def _write(self) -> None:
        for link in self._links.values():
            link.write()

    def _feed(self, event: ClientEvent) -> None:
        for effect in self._core.step(event, self._clock()):
            if isinstance(effect, Complete | CompleteAll):
                for ended in effect.each():
                    if ended.call in self._outcomes:
                        self._outcomes[ended.call] = ended.outcome
            elif isinstance(effect, Send):
                if effect.to in self._links:  # else that server was removed meanwhile
                    self._links[effect.to].send(encode_message(effect.message))
            else:
                self._deliver(effect)

    def _wake_reader(self) -> None:
        self._reads_until = Instant(0)
        self._waker.send(b"\0")

    def _drain_wakeups(self) -> None:
        try:
            while self._wakened.recv(4096):
                pass
        except BlockingIOError:
            return

    def _keep_session(self) -> None:
        while not self._over.wait(_UPKEEP_S):
            with self._changed:
                if not self._reading and not self._closed:  # it may be closed since the wait ended
                    self._read_once(0)
            self._ask_if_lost()

    def _ask_if_lost(self) -> None:
        """None of the members can be reached: perhaps all of them were replaced. Ask the places once."""
        with self._changed:
            if self._closed or any(link.is_up for link in self._links.values()):
                return
            places = self._places(self._links.values())
        for address in places:
            answer = ask_blocking(address, make_asker(self._rng), self._clock, _ASK_TIMEOUT_S)
            if not isinstance(answer, str) and answer.cluster_id == self._cluster_id:
                known = learn(answer, address)
                members = [(int(node), *at) for node, at in known.addresses.items()]
                with self._changed:
                    if not self._closed:
                        self._received(NodeId(answer.node), MembersChanged(members))
                return

    def _discover(self, addresses: list[Address]) -> Known:
        """Ask the addresses in turn which server is there, until one answers or the time is up."""
        deadline = self._clock() + int(self.timeout_s * 1e6)
        troubles = dict.fromkeys(addresses, "no answer")
        while self._clock() < deadline:
            for address in addresses:
                left_s = max(ASK_PAUSE_S, (deadline - self._clock()) / 1e6)
                secure = self._security.dial("", None)
                wait_s = min(left_s, _ASK_TIMEOUT_S)
                answer = ask_blocking(address, make_asker(self._rng), self._clock, wait_s, secure)
                if not isinstance(answer, str):
                    return learn(answer, address)
                troubles[address] = answer
            self._over.wait(ASK_PAUSE_S)
        raise self._no_server(troubles)


def _operating(node: NodeId, directive: Asked) -> MakeEvent:
    return lambda call, deadline: Operated(call, node, directive, deadline)
