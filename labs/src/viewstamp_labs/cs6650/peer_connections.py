"""The PFA's lines to the other factories: dialled when there is something to replicate, never before (2.3.2).

Rules of this file:

- a line that is out is dialled again when the next order comes, at most once every `REDIAL_US`: a dead
  factory costs an order next to nothing, and one that is back is found at once (3.2);
- an order waits for a dial `PATIENCE_S` at most, and only for the first order after it began: a machine that
  does not even refuse cannot hold up the others;
- a factory that has stopped reading is cut off.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import Instant, NodeId
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.system import Clock, tune_socket
from viewstamp_labs.cs6650.messages import ReplicationRequest, ReplicationResponse
from viewstamp_labs.cs6650.stubs import ReplicationStub

REDIAL_US: Final = 100_000
PATIENCE_S: Final = 0.1
DIAL_TIMEOUT_S: Final = 2.0
UNSENT_BYTES_MAX: Final = 1 << 20


class LineOwner(Protocol):
    """Whom a line tells what happens."""

    def line_up(self, peer: NodeId) -> None:
        """The factory's admin can be talked to."""
        ...

    def line_down(self, peer: NodeId) -> None:
        """The connection broke, or a dial was in vain."""
        ...

    def answered(self, peer: NodeId, response: ReplicationResponse) -> None:
        """The idle factory's admin has answered."""
        ...

    def patience_over(self) -> None:
        """A dial takes long: do not wait for it."""
        ...


class Line:
    """The connection to one other factory's IFA."""

    def __init__(self, peer: NodeId, address: Address, owner: LineOwner, clock: Clock) -> None:
        self.peer = peer
        self._address = address
        self._owner = owner
        self._clock = clock
        self._wire: _Wire | None = None
        """The connection that stands; the assignment's socket, None being its -1."""
        self._dial: asyncio.Task[None] | None = None
        self._dial_again_at = Instant(0)
        self._patience: asyncio.TimerHandle | None = None
        """Runs while orders wait for the dial."""

    @property
    def is_up(self) -> bool:
        """Whether the connection stands."""
        return self._wire is not None

    @property
    def is_awaited(self) -> bool:
        """Whether an order should wait for the dial that is under way."""
        return self._patience is not None

    @property
    def may_be_dialled(self) -> bool:
        """Whether it is out, not being dialled, and was not tried only just now."""
        return self._wire is None and self._dial is None and self._clock() >= self._dial_again_at

    def send(self, request: ReplicationRequest) -> bool:
        """Send a request; return whether the connection stands."""
        if self._wire is None:
            return False
        self._wire.stub.send_replication(request)
        return True

    def call(self) -> None:
        """Dial, unless the line is up, being dialled, or was tried only just now."""
        if self.may_be_dialled:
            loop = asyncio.get_running_loop()
            self._dial = loop.create_task(self._connect())
            self._patience = loop.call_later(PATIENCE_S, self._lose_patience)

    def close(self) -> None:
        """Close the connection and dial no more."""
        self._stop_waiting()
        if self._dial is not None:
            self._dial.cancel()
        if self._wire is not None:
            self._wire.cut()

    def opened(self, wire: "_Wire") -> None:
        """Take over a connection that stands."""
        self._wire = wire
        self._stop_waiting()
        wire.stub.identify()
        self._owner.line_up(self.peer)

    def answered(self, response: ReplicationResponse) -> None:
        """Pass an answer on."""
        self._owner.answered(self.peer, response)

    def broken(self, wire: "_Wire") -> None:
        """Note that a connection is no more."""
        if self._wire is wire:
            self._wire = None
            self._owner.line_down(self.peer)

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(lambda: _Wire(self), *self._address)
        except OSError:  # TimeoutError is one
            self._dial_again_at = Instant(self._clock() + REDIAL_US)
            self._stop_waiting()
            self._owner.line_down(self.peer)
        finally:
            self._dial = None

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        self._patience = None
        self._owner.patience_over()


class _Wire(asyncio.Protocol):
    """One connection of a line, from connect to close."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._transport: asyncio.Transport | None = None
        self.stub = ReplicationStub(self._send)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)
        tune_socket(transport.get_extra_info("socket"))
        self._line.opened(self)

    def data_received(self, data: bytes) -> None:
        self.stub.intake.put(data)
        try:
            while self._transport is not None and (response := self.stub.receive_response()) is not None:
                self._line.answered(response)
        except ProtocolViolation:
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  a failure like any other
        self._transport = None
        self._line.broken(self)

    def pause_writing(self) -> None:
        self.cut()

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def make_lines(
    peers: dict[NodeId, Address], owner: LineOwner, clock: Clock, make: Callable[..., Line] = Line
) -> dict[NodeId, Line]:
    """Return a line to each of the other factories; none is dialled."""
    return {peer: make(peer, address, owner, clock) for peer, address in sorted(peers.items())}
