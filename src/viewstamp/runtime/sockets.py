"""A plain, non-blocking socket to one server, for the blocking client."""

import errno
import selectors
import socket
from collections.abc import Iterator
from random import Random
from typing import Final

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import Instant, NodeId
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.backoff import Backoff
from viewstamp.runtime.config import KIB, MIB
from viewstamp.runtime.framing import (
    CLIENT,
    HELLO,
    REFUSAL,
    SERVER,
    WELCOME,
    Splitter,
    encode_frame,
    frame_header,
)
from viewstamp.runtime.handshake import Welcome, decode_refusal, decode_welcome
from viewstamp.runtime.system import tune_socket

_READ_BYTES: Final = 256 * KIB
_HELLO_BYTES_MAX: Final = 16 * KIB
_FRAME_BYTES_MAX: Final = 64 * MIB
_SEND_BYTES_MAX: Final = 64 * MIB
_DIAL_TIMEOUT_US: Final = 2_000_000
_BACKOFF_MS: Final = (20, 1_000)


class SocketLink:
    """The connection to one server. `due` says when `advance` has something to do."""

    def __init__(
        self,
        peer: NodeId,
        address: Address,
        hello: bytes,
        selector: selectors.BaseSelector,
        rng: Random,
    ) -> None:
        self.peer = peer
        self._address = address
        self._hello = hello
        self._selector = selector
        self._backoff = Backoff(*_BACKOFF_MS, rng)
        self._socket: socket.socket | None = None
        self._splitter = Splitter(_HELLO_BYTES_MAX)
        self._waiting: list[bytes] = []
        """What is to be written, in order."""
        self._waiting_bytes = 0
        self.is_up = False
        """Whether the server has welcomed us."""
        self.refusal = ""
        """Why the server last refused us; empty where it did not."""
        self._told_down = False
        self.due: Instant | None = Instant(0)
        """When to dial, or to give up a dial; None: the connection stands."""

    def advance(self, now: Instant) -> bool:
        """Dial, or give up what took too long; tell whether the server is now known to be away."""
        if self._socket is not None:
            return self._lost(now)
        try:
            found = socket.getaddrinfo(*self._address, type=socket.SOCK_STREAM)
            family, kind, protocol, _, target = found[0]
            self._socket = socket.socket(family, kind, protocol)
        except OSError:
            return self._lost(now)
        self._socket.setblocking(False)
        tune_socket(self._socket)
        if self._socket.connect_ex(target) not in {0, errno.EINPROGRESS}:
            return self._lost(now)
        self._splitter = Splitter(_HELLO_BYTES_MAX)
        self._waiting = [encode_frame(HELLO, self._hello)]
        self._waiting_bytes = len(self._waiting[0])
        self.due = Instant(now + _DIAL_TIMEOUT_US)
        self._selector.register(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)
        return False

    def hurry(self, now: Instant) -> None:
        """There is a reason to dial now. Where it is in vain, the waits go on growing."""
        if self._socket is None and self.due is not None:
            self.due = min(self.due, now)

    def send(self, payload: bytes) -> None:
        """Queue a message; a server that is away, or does not read, loses it."""
        if self.is_up and self._waiting_bytes < _SEND_BYTES_MAX:
            self._waiting += (frame_header(CLIENT, payload), payload)
            self._waiting_bytes += len(payload)

    def write(self) -> None:
        """Write what waits, as far as the kernel takes it."""
        if self._waiting and self._socket is not None and self.is_up:
            self._write(self._socket)

    def ready(self, events: int, now: Instant) -> Iterator[bytes | None]:
        """The socket can be read or written. Yield the server's messages; None: `is_up` has changed."""
        try:
            if events & selectors.EVENT_WRITE and self._socket is not None:
                self._write(self._socket)
            if events & selectors.EVENT_READ and self._socket is not None:
                yield from self._read(self._socket)
        except (OSError, ProtocolViolation):
            if self._lost(now):
                yield None

    def give_up(self, now: Instant) -> None:
        """Drop a connection over which came what is not allowed; dial again later."""
        self._lost(now)

    def close(self) -> None:
        """Close the socket and dial no more."""
        self.is_up = False
        self.due = None
        self._drop()

    def _read(self, sock: socket.socket) -> Iterator[bytes | None]:
        try:
            data = sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionResetError
        for kind, payload in self._splitter.split(data):
            if kind == SERVER and self.is_up:
                yield payload
            elif kind == WELCOME and not self.is_up:
                decode_welcome(payload)
                self._welcomed()
                yield None
            elif kind == REFUSAL:
                self._backoff.exhaust()
                self.refusal = decode_refusal(payload)
                raise ProtocolViolation(self.refusal)
            else:
                raise ProtocolViolation(f"frame kind {kind} does not come this way")

    def _welcomed(self) -> None:
        self.is_up = True
        self.refusal = ""
        self._told_down = False
        self.due = None
        self._backoff.reset()
        self._splitter.payload_bytes_max = _FRAME_BYTES_MAX

    def _write(self, sock: socket.socket) -> None:
        if self._waiting:
            data = b"".join(self._waiting)
            try:
                written = sock.send(data)
            except BlockingIOError:
                written = 0
            rest = data[written:]
            self._waiting = [rest] if rest else []
            self._waiting_bytes = len(rest)
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._waiting else 0)
        if self._selector.get_key(sock).events != wanted:
            self._selector.modify(sock, wanted, self)

    def _lost(self, now: Instant) -> bool:
        """Drop the connection and plan the next dial; tell whether this is news."""
        self._drop()
        self.due = Instant(now + int(self._backoff.draw_s() * 1e6))
        news = self.is_up or not self._told_down
        self.is_up = False
        self._told_down = True
        return news

    def _drop(self) -> None:
        self._waiting = []
        self._waiting_bytes = 0
        if self._socket is not None:
            if self._socket in self._selector.get_map():
                self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None


def ask_who(address: Address, hello: bytes, timeout_s: float) -> Welcome | str:
    """Connect once, blocking, and return the server's welcome, or in a few words why there was none."""
    splitter = Splitter(_HELLO_BYTES_MAX)
    try:
        with socket.create_connection(address, timeout=min(timeout_s, _DIAL_TIMEOUT_US / 1e6)) as sock:
            sock.sendall(encode_frame(HELLO, hello))
            while data := sock.recv(_READ_BYTES):
                for kind, payload in splitter.split(data):
                    return decode_welcome(payload) if kind == WELCOME else decode_refusal(payload)
    except ConnectionRefusedError:
        return "connection refused"
    except (OSError, ProtocolViolation) as error:
        return "no answer" if isinstance(error, TimeoutError) else str(error)
    return "it closed the connection"
