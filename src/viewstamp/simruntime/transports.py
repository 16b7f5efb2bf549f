"""The transport of one stream, as those of asyncio: it writes what the kernel takes, and keeps the rest."""

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol

from viewstamp.simruntime.host import Host
from viewstamp.simruntime.sockets import Address, End, Network

_HIGH_BYTES: Final = 64 << 10
_TCP_FIELDS: Final = (24, 56)
"""Where `tcpi_unacked` and `tcpi_last_ack_recv` are (`runtime.system`)."""


class IoLoop(Protocol):
    """What transports need of a loop."""

    host: Host
    network: Network

    def call_soon(self, callback: Callable[..., object], *args: Any) -> Any:
        """Let this be called in the next round."""
        ...

    def call_io(self, callback: Callable[..., object], *args: Any) -> None:
        """Let this be called in the next round, among what the sockets brought."""
        ...

    def create_future(self) -> "asyncio.Future[Any]":
        """Return a future of this loop."""
        ...


class SimSocket:
    """The options of a socket, as far as the runtime reads or sets them."""

    family = socket.AF_INET

    def __init__(self, end: End) -> None:
        self._end = end

    def fileno(self) -> int:
        """Return that it has no number."""
        return -1

    def setsockopt(self, *_: Any) -> None:
        """Set nothing: the simulated kernel behaves as the runtime asks of the real one."""

    def getsockopt(self, _level: int, option: int, size: int) -> bytes:
        """Return `struct tcp_info`, of which two numbers say something."""
        assert option == socket.TCP_INFO
        end, info = self._end, bytearray(size)
        age_ms = (end.host.world.now_us - end.acknowledged_us) // 1_000
        for at, value in zip(_TCP_FIELDS, (int(end.waits), age_ms), strict=True):
            info[at : at + 4] = value.to_bytes(4, sys.byteorder)
        return bytes(info)


class SimTransport(asyncio.Transport):
    """Connects an end of a stream with a protocol."""

    def __init__(self, loop: IoLoop, end: End, protocol: Any) -> None:
        super().__init__()
        self._loop = loop
        self._end = end
        self._protocol = protocol
        self._buffer = bytearray()
        self._high = _HIGH_BYTES
        self._low = _HIGH_BYTES // 4
        self._paused_writing = False
        self._reading = False
        self._closing = False
        self._lost = False
        self._planned_read = False
        self._planned_flush = False
        end.readable = self._on_readable
        end.writable = self._on_writable
        loop.call_soon(self._made)

    def _made(self) -> None:
        self._protocol.connection_made(self)
        self._loop.call_soon(self.resume_reading)

    # asyncio.Transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the address of the other end, or of this one, or the socket."""
        if name == "peername":
            return self._end.other.name
        if name == "socket":
            return SimSocket(self._end)
        return self._end.name if name == "sockname" else default

    def is_closing(self) -> bool:
        """Return whether it is closed, or being closed."""
        return self._closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set how much may wait before the protocol is paused."""
        self._high = _HIGH_BYTES if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait here."""
        return len(self._buffer)

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`."""
        self._reading = False

    def resume_reading(self) -> None:
        """Read again."""
        if not self._reading and not self._closing:
            self._reading = True
            self._on_readable()

    def write(self, data: Any) -> None:
        """Send this after what waits."""
        if self._closing or self._lost or not data:
            return
        if self._loop.network.options.deferred_writes:
            self._buffer += data
            if not self._planned_flush:
                self._planned_flush = True
                self._loop.call_soon(self._flush)
        elif self._buffer:
            self._buffer += data
        else:
            taken = self._send(bytes(data))
            self._buffer += data[taken:]
        self._pause_if_full()

    def close(self) -> None:
        """Close it when what waits has been sent."""
        if self._closing:
            return
        self._closing = True
        self._reading = False
        if not self._buffer:
            self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        """Close it now."""
        self._force(None)

    # What the kernel tells

    def _on_readable(self) -> None:
        if not self._planned_read:
            self._planned_read = True
            self._loop.call_io(self._read)

    def _on_writable(self) -> None:
        self._loop.call_io(self._flush)

    def _read(self) -> None:
        self._planned_read = False
        if self._lost:
            return
        end, now_us = self._end, self._loop.host.world.now_us
        if end.error is not None:
            self._force(end.error)
            return
        if not self._reading or self._closing:
            return
        if end.stalled_until_us > now_us:
            self._planned_read = True
            self._loop.host.world.at(end.stalled_until_us, self._stall_over)
            return
        data = end.receive(self._loop.network.options.read_bytes_max)
        if data:
            self._protocol.data_received(data)
        elif end.eof:
            if not self._protocol.eof_received():
                self.close()
            return
        if end.unread or end.eof or end.error is not None:
            self._on_readable()

    def _stall_over(self) -> None:
        self._planned_read = False
        if not self._lost and self._end.stands:
            self._on_readable()

    def _send(self, data: bytes) -> int:
        try:
            return self._end.send(data)
        except OSError as error:
            self._force(error)
            return len(data)

    def _flush(self) -> None:
        self._planned_flush = False
        if self._lost or not self._buffer:
            return
        taken = self._send(bytes(self._buffer))
        del self._buffer[:taken]
        if self._paused_writing and len(self._buffer) <= self._low:
            self._paused_writing = False
            self._protocol.resume_writing()
        if not self._buffer and self._closing:
            self._lose(None)

    def _pause_if_full(self) -> None:
        if len(self._buffer) > self._high and not self._paused_writing:
            self._paused_writing = True
            self._protocol.pause_writing()

    def _force(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._buffer.clear()
        self._closing = True
        self._reading = False
        self._loop.call_soon(self._lose, error)

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._end.close()
        self._protocol.connection_lost(error)


class Listener:
    """A port on which a process listens: an `asyncio.Server` of the simulated world."""

    def __init__(self, loop: IoLoop, factory: Callable[[], Any], address: Address) -> None:
        self.loop = loop
        self.host = loop.host
        self.life = loop.host.life
        self.address = address
        self.sockets: tuple[Any, ...] = ()
        self._factory = factory
        self._queue: list[End] = []
        network = loop.network
        older = network.listeners.get(address)
        if older is not None and older.stands:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        network.listeners[address] = self

    @property
    def stands(self) -> bool:
        """Whether its process lives and has not closed it."""
        return self.loop.host.life == self.life and self.loop.network.listeners.get(self.address) is self

    def queue(self, end: End) -> None:
        """A connection waits to be accepted."""
        self._queue.append(end)
        if len(self._queue) == 1:
            self.loop.call_io(self._accept)

    def _accept(self) -> None:
        queue, self._queue = self._queue, []
        if len(queue) > 1:
            self.loop.network.counts["accepted in another order"] += 1
            self.loop.host.rng.shuffle(queue)
        for end in queue:
            SimTransport(self.loop, end, self._factory())

    def close(self) -> None:
        """Listen no longer; what was not accepted is reset."""
        if self.stands:
            del self.loop.network.listeners[self.address]
        for end in self._queue:
            end.closed = True
            end.break_off()
        self._queue.clear()

    async def wait_closed(self) -> None:
        """Return when it is closed."""


async def connect(loop: IoLoop, factory: Callable[[], Any], to: Address) -> tuple[Any, Any]:
    """Open a connection; `OSError` where nothing listens."""
    done: asyncio.Future[End] = loop.create_future()
    loop.network.knock(loop.host, to, lambda end: loop.call_io(_settle, done, end), done.done)
    end = await done
    protocol = factory()
    return SimTransport(loop, end, protocol), protocol


def _settle(done: "asyncio.Future[End]", end: End | None) -> None:
    """Give the caller of `connect` its connection, or the refusal."""
    if done.done():
        if end is not None:
            end.close()
    elif end is None:
        done.set_exception(ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)))
    else:
        done.set_result(end)
