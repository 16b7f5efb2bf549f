"""One TCP connection: the asyncio driver of an end of a link, with one write for each turn of the loop.

Rules of this file:

- What arrives goes through the link to a handler. `ProtocolViolation` closes this connection and no other.
- What is sent gathers until `flush`, which the transport calls once a turn for each connection that has
  something.
- Nothing waits: a connection whose other side does not read loses messages (`Overflow.DROP`) or is cut off.
"""

import asyncio
from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.principals import ANONYMOUS, LOCAL_OPERATOR, Role, role_of
from viewstamp.link.acceptor import Greeted, Proved
from viewstamp.link.dialer import Challenged, Refused, Welcomed
from viewstamp.link.framing import FrameQueue, Splitter
from viewstamp.link.proof import Unproved
from viewstamp.runtime.security import ENDED_EARLY
from viewstamp.runtime.system import tune_socket, unacknowledged_ms

if TYPE_CHECKING:
    from viewstamp.runtime.tls import TlsStream

READ_PAUSE_BYTES: Final = 1 << 20
"""Unread replies at which we stop reading from a client; under a quarter of it we go on."""


LinkStep: TypeAlias = Greeted | Proved | Welcomed | Challenged | Refused
"""A step of the handshake."""


class Overflow(Enum):
    """What happens when more waits for the other side than it may."""

    DROP = "drop"
    CLOSE = "close"


class LinkEnd(Protocol):
    """What a connection needs of `link.dialer.Dialer` or `link.acceptor.Acceptor`."""

    @property
    def out(self) -> FrameQueue:
        """What is to be sent. Always the same object."""
        ...

    @property
    def in_frame(self) -> bool:
        """Whether a frame has begun and not ended."""
        ...

    @property
    def unfinished(self) -> int:
        """The number of the frame that has begun and not ended; 0: none."""
        ...

    @property
    def splitter(self) -> Splitter:
        """Cuts what arrives into frames."""
        ...

    @property
    def message_kind(self) -> int:
        """The kind of the frames whose payloads are messages; none, until the handshake is over."""
        ...

    def receive(self, data: bytes) -> Iterable[LinkStep | bytes]:
        """Take in bytes and return what they mean."""
        ...

    def closed(self) -> None:
        """Keep nothing: the connection has ended."""
        ...


class Handler(Protocol):
    """The part that a connection reports to."""

    def opened(self, connection: "Connection") -> None:
        """The connection stands."""
        ...

    def greeted(self, connection: "Connection", step: LinkStep) -> None:
        """A step of the handshake. `ProtocolViolation` closes the connection."""
        ...

    def closed(self, connection: "Connection", reason: str) -> None:
        """The connection has ended; `reason` is empty where the other side just left."""
        ...

    def paused(self, connection: "Connection", *, paused: bool) -> None:
        """The other side does not read its replies, or does again; reading from it has stopped meanwhile."""
        ...

    def in_frame(self, connection: "Connection", *, in_frame: bool) -> None:
        """A frame has begun and not ended, another one than before; or there is none now."""
        ...


class Connection(asyncio.Protocol):
    """A connection that either side may have opened."""

    __slots__ = (
        "_closed",
        "_dirty",
        "_handler",
        "_host",
        "_out",
        "_reason",
        "_transport",
        "_unfinished",
        "deliver",
        "dropped",
        "heard",
        "is_distrusted",
        "is_full",
        "is_held",
        "is_stalled",
        "link",
        "overflow",
        "principal",
        "send_bytes_max",
        "tag",
        "tls",
    )

    def __init__(
        self,
        handler: Handler,
        link: LinkEnd,
        *,
        dirty: list["Connection"],
        deliver: Callable[[bytes], None],
        send_bytes_max: int,
        overflow: Overflow,
        tls: "TlsStream | None" = None,
    ) -> None:
        """`dirty` is where it adds itself when something waits to be sent, once until the next `flush`.

        With `tls` a connection that this side opened stands, for its handler, once its handshake is over.
        """
        self.tls = tls
        self.link = link
        self.deliver = deliver
        """Called with each message. `ProtocolViolation` closes the connection."""
        self._dirty = dirty
        self._handler = handler
        self._out = link.out
        self._transport: asyncio.Transport | None = None
        self._host = ""
        self._closed = False
        self._reason = ""
        self._unfinished = 0
        """The frame that was in its middle after the last bytes; 0: none."""
        self.heard = True
        """Whether bytes have come since the owner last set this to False."""
        self.is_stalled = False
        """Whether the other side does not read what we send."""
        self.is_full = False
        """Whether so much was sent since the last `flush` that nothing more should be asked for before it."""
        self.is_held = False
        """Whether the owner does not want to read from it now (`hold`)."""
        self.send_bytes_max = send_bytes_max
        self.overflow = overflow
        self.dropped = 0
        """Frames lost to `Overflow.DROP`."""
        self.tag: object = None
        """Whatever the handler wants to know it by."""
        self.is_distrusted = False
        """Whether TLS or the proof failed: this end does not trust the other, or the reverse."""
        self.principal = ANONYMOUS
        """The name of the other end, as far as it has been proved (`core.principals`)."""

    @property
    def stands(self) -> bool:
        """Whether there is a connection of the system's, which ends with a call of `connection_lost`."""
        return self._transport is not None

    @property
    def waiting_bytes(self) -> int:
        """What has been sent by us and not been taken by the other side's kernel or ours."""
        return self._out.size + (0 if self._transport is None else self._transport.get_write_buffer_size())

    @property
    def host(self) -> str:
        """The other side's host; empty where it has none."""
        return self._host

    @property
    def descriptor(self) -> int | None:
        """The number of its socket; None where it has none."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        return None if sock is None or sock.fileno() < 0 else int(sock.fileno())

    def silent_ms(self) -> int:
        """Return for how long the other machine has acknowledged nothing; 0 where nothing waits for that."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        return 0 if sock is None else unacknowledged_ms(sock)

    @property
    def owner(self) -> str:
        """Against whose limit of connections it counts: its principal, where it has a name, or its host."""
        named = role_of(self.principal) is not Role.ANONYMOUS and self.principal != LOCAL_OPERATOR
        return self.principal if named else self.host

    @property
    def peer_name(self) -> str:
        """The other side's host and port, for messages to people."""
        name = None if self._transport is None else self._transport.get_extra_info("peername")
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "a connection"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start. Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=READ_PAUSE_BYTES)
        tune_socket(transport.get_extra_info("socket"))
        name = transport.get_extra_info("peername")
        self._host = str(name[0]) if isinstance(name, tuple) else ""
        if self.tls is None or self.tls.server_side:
            self._handler.opened(self)
        else:
            self.tls.start()
            self._transport.write(self.tls.output())

    def data_received(self, data: bytes) -> None:
        """Hand on what these bytes complete. Called by the loop."""
        self.heard = True
        if self.tls is not None:
            data = self._decrypt(self.tls, data)
            if not data:
                return
        link = self.link
        frame = link.splitter.single(data)
        try:
            if frame is not None and frame[0] == link.message_kind:  # nearly always
                if not self._closed:
                    self.deliver(frame[1])
                return
            for event in link.receive(data):
                if self._closed:
                    return
                if type(event) is bytes:
                    self.deliver(event)
                else:
                    self._handler.greeted(self, cast("LinkStep", event))
            self._note_unfinished()
        except ProtocolViolation as violation:
            self.is_distrusted |= isinstance(violation, Unproved)
            self.abort(str(violation))

    def _decrypt(self, tls: "TlsStream", data: bytes) -> bytes:
        """Return what can be read now; nothing while the handshake goes on."""
        transport, was_ready = self._transport, tls.ready
        try:
            plain = tls.receive(data)
        except ProtocolViolation as violation:
            self.is_distrusted = True
            if transport is not None and not self._closed:
                transport.write(tls.output())
                self._closed, self._reason = True, str(violation)
                transport.close()
            return b""
        answer = tls.output()
        if answer and transport is not None:
            transport.write(answer)
        if tls.ready and not was_ready and not tls.server_side and not self._closed:
            self._handler.opened(self)
        return plain

    def _note_unfinished(self) -> None:
        unfinished = self.link.unfinished
        if unfinished != self._unfinished:
            self._unfinished = unfinished
            self._handler.in_frame(self, in_frame=unfinished != 0)

    def eof_received(self) -> bool:
        """The other side will send no more: this connection is over. Called by the loop."""
        if self.link.in_frame and not self._closed:
            self._reason = "the connection ended in the middle of a frame"
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End. Called by the loop, once."""
        if self.tls is not None and not self.tls.ready and not self.tls.server_side and not self._closed:
            self._reason, self.is_distrusted = ENDED_EARLY, True
        self._closed = True
        self._transport = None
        self.link.closed()
        self._handler.closed(self, self._reason or ("" if exc is None else str(exc)))

    def pause_writing(self) -> None:
        """The other side is slow: take in nothing new from it. Called by the loop."""
        if self._transport is not None and self.overflow is Overflow.CLOSE and not self._closed:
            self.is_stalled = True
            if not self.is_held:
                self._transport.pause_reading()
            self._handler.paused(self, paused=True)

    def resume_writing(self) -> None:
        """It has caught up. Called by the loop."""
        if self._transport is not None and self.overflow is Overflow.CLOSE and not self._closed:
            self.is_stalled = False
            if not self.is_held:
                self._transport.resume_reading()
            self._handler.paused(self, paused=False)

    def hold(self, *, held: bool) -> None:
        """Stop reading from the other side, or go on."""
        if held == self.is_held or self._transport is None:
            return
        self.is_held = held
        if self.is_stalled or self._closed:
            return
        if held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def send(self, payload: bytes) -> None:
        """Queue a message for this turn's write. A closed connection swallows it."""
        if self._closed:
            return
        out = self._out
        if not out.parts:
            self._dirty.append(self)
        out.put(payload)
        if out.size > READ_PAUSE_BYTES:
            self.is_full = True
            if out.size > self.send_bytes_max and self.overflow is Overflow.CLOSE:
                # Before the turn ends: what one read brings can ask for thousands of times its length.
                self.abort("the replies were not read")

    def flush(self) -> None:
        """Write what has gathered, in one piece."""
        out, transport = self._out, self._transport
        self.is_full = False
        if not out.parts or self._closed or transport is None:
            return
        waiting = transport.get_write_buffer_size()
        if waiting and waiting + out.size > self.send_bytes_max:
            self._overflow(len(out.parts) // 2)
            out.clear()
            return
        data, tls = out.take(), self.tls
        if tls is None:
            transport.write(data)
        elif tls.ready:
            transport.write(tls.send(data))

    def close(self, reason: str) -> None:
        """Send what waits, then close."""
        if not self._closed and self._transport is not None:
            self.flush()
            self._closed = True
            self._reason = self._reason or reason
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Close now; what was not written is lost."""
        if self._transport is not None:
            self._closed = True
            self._reason = self._reason or reason
            self._transport.abort()

    def _overflow(self, frames: int) -> None:
        if self.overflow is Overflow.DROP:
            self.dropped += frames
        else:
            self.abort("the replies were not read")
