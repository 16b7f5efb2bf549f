"""One TCP connection: frames in, frames out, one write for each turn of the loop.

Rules of this file:

- What arrives goes through the splitter to a handler. `ProtocolViolation` closes this connection and no
  other.
- What is sent gathers until `flush`, which the transport calls once a turn for each connection that has
  something.
- Nothing waits: a connection whose other side does not read loses messages (`Overflow.DROP`) or is cut off.
"""

import asyncio
from enum import Enum
from typing import Final, Protocol, cast

from viewstamp.core.errors import ProtocolViolation
from viewstamp.runtime.framing import Splitter, frame_header
from viewstamp.runtime.system import tune_socket

READ_PAUSE_BYTES: Final = 1 << 20
"""Unread replies at which we stop reading from a client; under a quarter of it we go on."""


class Overflow(Enum):
    """What happens when more waits for the other side than it may."""

    DROP = "drop"
    CLOSE = "close"


class Handler(Protocol):
    """The one that a connection reports to."""

    def opened(self, connection: "Connection") -> None:
        """The connection stands."""
        ...

    def frame(self, connection: "Connection", kind: int, payload: bytes) -> None:
        """A whole frame arrived. `ProtocolViolation` closes the connection with its reason."""
        ...

    def closed(self, connection: "Connection", reason: str) -> None:
        """The connection is no more; `reason` is empty where the other side just left."""
        ...

    def wants_flush(self, connection: "Connection") -> None:
        """Something waits to be sent; called once until the next `flush`."""
        ...

    def paused(self, connection: "Connection", *, paused: bool) -> None:
        """The other side does not read its replies, or does again; reading from it has stopped meanwhile."""
        ...


class Connection(asyncio.Protocol):
    """A connection that either side may have opened."""

    __slots__ = (
        "_closed",
        "_handler",
        "_parts",
        "_queued",
        "_reason",
        "_splitter",
        "_transport",
        "dropped",
        "overflow",
        "send_bytes_max",
        "tag",
    )

    def __init__(
        self, handler: Handler, *, frame_bytes_max: int, send_bytes_max: int, overflow: Overflow
    ) -> None:
        self._handler = handler
        self._splitter = Splitter(frame_bytes_max)
        self._parts: list[bytes] = []
        """Headers and payloads that wait for the flush."""
        self._queued = 0
        """Bytes in `_parts`."""
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self._reason = ""
        self.send_bytes_max = send_bytes_max
        self.overflow = overflow
        self.dropped = 0
        """Frames lost to `Overflow.DROP`."""
        self.tag: object = None
        """Whatever the handler wants to know it by."""

    def raise_limit(self, frame_bytes_max: int) -> None:
        """Allow longer frames from the next one on."""
        self._splitter.payload_bytes_max = frame_bytes_max

    @property
    def is_open(self) -> bool:
        """Whether sending makes sense."""
        return self._transport is not None and not self._closed

    @property
    def waiting_bytes(self) -> int:
        """What has been sent by us and not been taken by the other side's kernel or ours."""
        return self._queued + (0 if self._transport is None else self._transport.get_write_buffer_size())

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
        self._handler.opened(self)

    def data_received(self, data: bytes) -> None:
        """Hand on the frames that these bytes complete. Called by the loop."""
        try:
            frame = self._splitter.single(data)
            if frame is not None and not self._closed:
                self._handler.frame(self, *frame)
                return
            for kind, payload in self._splitter.split(data):
                if self._closed:
                    return
                self._handler.frame(self, kind, payload)
        except ProtocolViolation as violation:
            self.abort(str(violation))

    def eof_received(self) -> bool:
        """The other side will send no more: this connection is over. Called by the loop."""
        if self._splitter.in_frame and not self._closed:
            self._reason = "the connection ended in the middle of a frame"
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End. Called by the loop, once."""
        self._closed = True
        self._parts.clear()
        self._queued = 0
        self._transport = None
        self._handler.closed(self, self._reason or ("" if exc is None else str(exc)))

    def pause_writing(self) -> None:
        """The other side is slow: take in nothing new from it. Called by the loop."""
        if self._transport is not None and self.overflow is Overflow.CLOSE and not self._closed:
            self._transport.pause_reading()
            self._handler.paused(self, paused=True)

    def resume_writing(self) -> None:
        """It has caught up. Called by the loop."""
        if self._transport is not None and self.overflow is Overflow.CLOSE and not self._closed:
            self._transport.resume_reading()
            self._handler.paused(self, paused=False)

    def send(self, kind: int, payload: bytes) -> None:
        """Queue a frame for this turn's write. A closed connection swallows it."""
        if self._closed:
            return
        if not self._parts:
            self._handler.wants_flush(self)
        self._parts.append(frame_header(kind, payload))
        self._parts.append(payload)
        self._queued += len(payload) + 16
        if self._queued > self.send_bytes_max and self.overflow is Overflow.CLOSE:
            # Before the turn ends: what one read brings can ask for thousands of times its length.
            self.abort("the replies were not read")

    def flush(self) -> None:
        """Write what has gathered, in one piece."""
        parts, queued, transport = self._parts, self._queued, self._transport
        if not parts or self._closed or transport is None:
            return
        self._parts = []
        self._queued = 0
        waiting = transport.get_write_buffer_size()
        if waiting and waiting + queued > self.send_bytes_max:
            self._overflow(len(parts) // 2)
            return
        transport.write(b"".join(parts))

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
