"""The one port of a factory: a connection identifies itself once, and gets the agent it asks for (2.3.3).

Rules of this file:

- whatever is wrong with what comes closes this connection and no other;
- a connection must identify, and finish each message that it has begun, within `MESSAGE_TIMEOUT_S`; between
  two messages it may stay silent without limit, as customers do;
- who sends faster than he is answered is not read from meanwhile.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias, cast

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import Instant
from viewstamp.runtime.system import Clock, tune_socket
from viewstamp_labs.cs6650.messages import Identification
from viewstamp_labs.cs6650.stubs import UNREAD_BYTES_MAX, ServerStub

MESSAGE_TIMEOUT_S: Final = 5.0
VISITORS_MAX: Final = 16_384
_UNSENT_BYTES_MAX: Final = 1 << 20
"""Answers that the other side does not read; beyond it the connection is closed."""
_SWEEPS_PER_TIMEOUT: Final = 5


class Role(Protocol):
    """The agent that serves a connection: an engineer, an idle factory's admin, an auditor."""

    @property
    def is_waiting(self) -> bool:
        """Whether it is busy with a whole message, so that what has come after it must wait."""
        ...

    def work(self) -> None:
        """Take the messages that have come as a whole. `ProtocolViolation` closes the connection."""
        ...

    def gone(self) -> None:
        """The connection is closed."""
        ...


MakeRole: TypeAlias = Callable[[Identification, ServerStub, "Doorway"], Role]


class Doorway(asyncio.Protocol):
    """One connection that somebody opened to this factory."""

    def __init__(self, reception: "Reception") -> None:
        self._reception = reception
        self._transport: asyncio.Transport | None = None
        self._stub = ServerStub(self._send)
        self._role: Role | None = None
        self._is_incomplete = False
        """Whether the reception was told that a message of this connection is not whole."""

    @property
    def unread_bytes(self) -> int:
        """What has come and waits until what came before it is answered."""
        return len(self._stub.intake)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start. Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_UNSENT_BYTES_MAX)
        tune_socket(transport.get_extra_info("socket"))
        if self._reception.opened(self):
            self._note_incomplete(is_incomplete=True)
        else:
            self.hang_up()

    def data_received(self, data: bytes) -> None:
        """Take in what has come. Called by the loop."""
        self._stub.intake.put(data)
        self.work()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  a peer's end is not an error
        """End. Called by the loop, once."""
        self._transport = None
        self._note_incomplete(is_incomplete=False)
        self._reception.closed(self)
        if self._role is not None:
            self._role.gone()

    def pause_writing(self) -> None:
        """The other side does not read its answers. Called by the loop."""
        self.hang_up()

    def work(self) -> None:
        """Let the role take what has come."""
        if self._transport is None:
            return
        try:
            if self._role is None:
                self._identify()
            before = len(self._stub.intake)
            if self._role is not None:
                self._role.work()
        except ProtocolViolation:
            self.hang_up()
            return
        if before > len(self._stub.intake):
            self._note_incomplete(is_incomplete=False)
        self._take_stock()

    def work_soon(self) -> None:
        """Let the role go on in the next round of the loop."""
        asyncio.get_running_loop().call_soon(self.work)

    def hang_up(self) -> None:
        """Close the connection; what was not sent is lost."""
        if self._transport is not None:
            self._transport.abort()

    def _identify(self) -> None:
        role = self._stub.receive_identification()
        if role is not None:
            self._role = self._reception.make_role(role, self._stub, self)

    def _take_stock(self) -> None:
        """Note whether a message is incomplete, and whether too much waits."""
        waiting, is_busy = len(self._stub.intake), self._role is not None and self._role.is_waiting
        self._note_incomplete(is_incomplete=self._role is None or (waiting > 0 and not is_busy))
        if self._transport is not None:
            if waiting > UNREAD_BYTES_MAX:
                self._transport.pause_reading()
            elif not waiting and not self._transport.is_reading() and not self._transport.is_closing():
                self._transport.resume_reading()

    def _note_incomplete(self, *, is_incomplete: bool) -> None:
        if is_incomplete is not self._is_incomplete:
            self._is_incomplete = is_incomplete
            self._reception.note_incomplete(self, is_incomplete=is_incomplete)

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


class Reception:
    """All connections that others opened to this factory."""

    def __init__(self, make_role: MakeRole, clock: Clock, timeout_s: float = MESSAGE_TIMEOUT_S) -> None:
        self.make_role = make_role
        self._clock = clock
        self._timeout_s = timeout_s
        self._open: set[Doorway] = set()
        self._incomplete: dict[Doorway, Instant] = {}
        """Connections that owe us the rest of a message, and since when; the oldest first."""
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def visitors(self) -> frozenset[Doorway]:
        """The open connections."""
        return frozenset(self._open)

    def accept(self) -> Doorway:
        """Return the protocol of a new connection: what a listening server makes them with."""
        return Doorway(self)

    def opened(self, doorway: Doorway) -> bool:
        """Record a connection; return whether there is room for it."""
        self._open.add(doorway)
        return len(self._open) <= VISITORS_MAX

    def closed(self, doorway: Doorway) -> None:
        """Forget a connection."""
        self._open.discard(doorway)

    def close(self) -> None:
        """Close all connections."""
        if self._sweep is not None:
            self._sweep.cancel()
        for doorway in list(self._open):
            doorway.hang_up()

    def note_incomplete(self, doorway: Doorway, *, is_incomplete: bool) -> None:
        """Watch a connection until its message is whole."""
        if is_incomplete:
            self._incomplete[doorway] = self._clock()
            self._arm()
        else:
            self._incomplete.pop(doorway, None)

    def _arm(self) -> None:
        if self._sweep is None:
            wait_s = self._timeout_s / _SWEEPS_PER_TIMEOUT
            self._sweep = asyncio.get_running_loop().call_later(wait_s, self._on_sweep)

    def _on_sweep(self) -> None:
        self._sweep = None
        limit = self._clock() - int(self._timeout_s * 1e6)
        for doorway, since in list(self._incomplete.items()):
            if since > limit:
                break
            doorway.hang_up()
        if self._incomplete:
            self._arm()
