"""The blocking driver of a `link.dialer.Dialer`: a plain, non-blocking socket to one server."""

import errno
import selectors
import socket
from collections.abc import Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING, Final

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import Instant, NodeId
from viewstamp.link.dialer import Action, Challenged, Dialer, DialLimits, Greeting, Phase, Refused, Welcomed
from viewstamp.link.framing import CLIENT
from viewstamp.link.handshake import Welcome
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.config import KIB
from viewstamp.runtime.security import ENDED_EARLY, SecureDial
from viewstamp.runtime.system import Clock, explain, tune_socket

if TYPE_CHECKING:
    from viewstamp.runtime.tls import TlsStream

_READ_BYTES: Final = 256 * KIB


class SocketLink:
    """The connection to one server. `due` says when `advance` has something to do."""

    def __init__(
        self,
        peer: NodeId,
        address: Address,
        hello: Greeting,
        *,
        limits: DialLimits,
        selector: selectors.BaseSelector,
        rng: Random,
        clock: Clock,
        secure: SecureDial | None = None,
    ) -> None:
        self._secure = secure
        self._tls: TlsStream | None = None
        self.peer = peer
        self.address = address
        self._selector = selector
        self._dialer = Dialer(hello, CLIENT, limits, rng)
        self._dialer.start(clock())
        self._clock = clock
        self._socket: socket.socket | None = None
        self._unsent = b""
        """What the kernel has not taken yet; it goes before the dialer's `out`."""

    @property
    def is_up(self) -> bool:
        """Whether the server has welcomed us."""
        return self._dialer.is_up

    @property
    def named(self) -> Sequence[tuple[int, str, int]]:
        """The members with their addresses, as the server's last welcome had them."""
        return self._dialer.named

    @property
    def refusal(self) -> str:
        """Why the server last refused us; empty where it did not."""
        return self._dialer.refusal

    @property
    def due(self) -> Instant | None:
        """When to dial, or to give up a dial; None: the connection stands."""
        return self._dialer.deadline

    def advance(self) -> bool:
        """Dial, or give up what took too long; return whether the server's absence is news."""
        action = self._dialer.advance(self._clock())
        if action is Action.DIAL:
            return self._dial()
        return action is Action.HANG_UP and self._lost("")

    def hurry(self) -> None:
        """There is a reason to dial now. Where it is in vain, the waits go on growing."""
        self._dialer.hurry(self._clock())

    def send(self, payload: bytes) -> None:
        """Queue a message; a server that is away, or does not read, loses it."""
        self._dialer.send(payload)

    def write(self) -> None:
        """Write what waits, as far as the kernel takes it."""
        if self._socket is not None and self._dialer.is_up and (self._dialer.out.parts or self._unsent):
            self._write(self._socket)

    def ready(self, events: int) -> Iterator[bytes | None]:
        """The socket can be read or written. Yield the server's messages; None: `is_up` has changed."""
        try:
            if self._socket is not None and self._dialer.phase is Phase.DIALLING and self._tls is None:
                self._opened(self._socket)
            if events & selectors.EVENT_WRITE and self._socket is not None:
                self._write(self._socket)
            if events & selectors.EVENT_READ and self._socket is not None:
                yield from self._read(self._socket)
        except (OSError, ProtocolViolation) as error:
            if isinstance(error, OSError) and self._tls is not None and not self._tls.ready:
                self._dialer.distrust(ENDED_EARLY)
            if self._lost(explain(error)):
                yield None

    def give_up(self, reason: str) -> None:
        """Drop a connection over which came what is not allowed; dial again later."""
        self._lost(reason)

    def close(self) -> None:
        """Close the socket and dial no more."""
        self._dialer.stop()
        self._drop()

    def _dial(self) -> bool:
        try:
            found = socket.getaddrinfo(*self.address, type=socket.SOCK_STREAM)
            family, kind, protocol, _, target = found[0]
            self._socket = socket.socket(family, kind, protocol)
        except (OSError, UnicodeError) as error:  # a label of the host may be too long
            return self._lost(explain(error))
        self._socket.setblocking(False)
        tune_socket(self._socket)
        if self._socket.connect_ex(target) not in {0, errno.EINPROGRESS}:
            return self._lost("it cannot be reached")
        self._selector.register(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)
        return False

    def _opened(self, sock: socket.socket) -> None:
        failure = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure:
            raise OSError(failure, "it cannot be reached")
        if self._secure is None:
            self._dialer.opened(self._clock())
            return
        self._tls = self._secure.open()
        self._tls.start()
        self._unsent = self._tls.output()

    def _decrypt(self, tls: "TlsStream", sock: socket.socket, data: bytes) -> bytes:
        """Return what can be read; say hello where the handshake with the server that was meant is over."""
        was_ready = tls.ready
        try:
            plain = tls.receive(data)
        except ProtocolViolation as violation:
            self._dialer.distrust(str(violation))
            raise
        self._unsent += tls.output()
        if tls.ready and not was_ready and self._secure is not None:
            reason = self._secure.refuse(tls.peer)
            if reason is not None:
                self._dialer.distrust(reason)
                raise ProtocolViolation(reason)
            self._dialer.opened(self._clock())
        self._write(sock)
        return plain

    def _read(self, sock: socket.socket) -> Iterator[bytes | None]:
        try:
            data = sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionResetError("it closed the connection")
        if self._tls is not None:
            data = self._decrypt(self._tls, sock, data)
            if not data:
                return
        for event in self._dialer.receive(data):
            if isinstance(event, bytes):
                yield event
            elif isinstance(event, Welcomed):
                yield None
            elif isinstance(event, Challenged):
                self._write(sock)
            else:
                raise ProtocolViolation(event.reason)

    def _write(self, sock: socket.socket) -> None:
        # Only then the next: what waits in the dialer counts toward its limit.
        while data := self._unsent or self._encrypted(self._dialer.out.take()):
            try:
                written = sock.send(data)
            except BlockingIOError:
                written = 0
            self._unsent = data[written:]
            if self._unsent:
                break
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        if self._selector.get_key(sock).events != wanted:
            self._selector.modify(sock, wanted, self)

    def _encrypted(self, data: bytes) -> bytes:
        return self._tls.send(data) if self._tls is not None and data else data

    def _lost(self, reason: str) -> bool:
        """Drop the connection and plan the next dial; return whether the server's absence is news."""
        self._drop()
        return self._dialer.lost(reason, self._clock())

    def _drop(self) -> None:
        self._unsent, self._tls = b"", None
        if self._socket is not None:
            if self._socket in self._selector.get_map():
                self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None


def ask_blocking(
    address: Address, dialer: Dialer, clock: Clock, timeout_s: float, secure: SecureDial | None = None
) -> Welcome | str:
    """Connect once, blocking, and return the server's welcome, or in a few words why there was none."""
    dialer.start(clock())
    dialer.advance(clock())
    try:
        with _connected(address, timeout_s, secure) as sock:
            dialer.opened(clock())
            sock.sendall(dialer.out.take())
            while data := sock.recv(_READ_BYTES):
                for event in dialer.receive(data):
                    if isinstance(event, Welcomed):
                        return event.welcome
                    if isinstance(event, Refused):
                        return event.reason
                    if isinstance(event, Challenged):
                        sock.sendall(dialer.out.take())
    except (OSError, UnicodeError, ProtocolViolation) as error:
        return explain(error)
    return "it closed the connection"


def _connected(address: Address, timeout_s: float, secure: SecureDial | None) -> socket.socket:
    """Connect, blocking; with TLS to any node of the CA's."""
    sock = socket.create_connection(address, timeout=timeout_s)
    if secure is None:
        return sock
    secured = secure.credentials.context.wrap_socket(sock)
    reason = secure.refuse_end(secured)
    if reason is not None:
        secured.close()
        raise ProtocolViolation(reason)
    return secured
