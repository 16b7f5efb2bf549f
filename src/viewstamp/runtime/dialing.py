"""The asyncio driver of a `link.dialer.Dialer`: a connection that this side opens to a server and keeps."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Final, Protocol

from viewstamp.core.ids import Instant, NodeId
from viewstamp.link.dialer import Action, Challenged, Dialer, DialLimits, Greeting, Phase, Refused, Welcomed
from viewstamp.runtime.addresses import Address, format_address
from viewstamp.runtime.config import NodeConfig
from viewstamp.runtime.connection import Connection, LinkStep, Overflow
from viewstamp.runtime.security import SecureDial
from viewstamp.runtime.system import explain

LOG: Final = logging.getLogger("viewstamp.runtime")

LINGER_S: Final = 0.3
"""How long a connection that is being closed may take to write what waits, before it is cut off."""


class LinkOwner(Protocol):
    """The part that a link reports to."""

    def link_changed(self, peer: NodeId, is_up: bool) -> None:  # noqa: FBT001  the second word of an event
        """The connection is up, went down, or could not be opened. Called once per change."""
        ...

    def link_received(self, peer: NodeId, payload: bytes) -> None:
        """The server sent a message. `ProtocolViolation` closes the connection."""
        ...


class OutgoingLink:
    """The connection to one server, over which this side sends to it. May lose messages, never waits."""

    def __init__(
        self,
        peer: NodeId,
        address: Address,
        *,
        hello: Greeting,
        kind: int,
        limits: DialLimits,
        rng: Random,
        owner: LinkOwner,
        dirty: list[Connection],
        on_demand: bool = False,
        secure: SecureDial | None = None,
    ) -> None:
        self._secure = secure
        self._opening: Connection | None = None
        """Set while its TLS handshake goes on."""
        self.peer = peer
        self.address = address
        self._limits = limits
        self._owner = owner
        self._dirty = dirty
        self._deliver = partial(owner.link_received, peer)
        self._dialer = Dialer(hello, kind, limits, rng, on_demand=on_demand)
        self._connection: Connection | None = None
        """Set from the moment it is opened until it is closed."""
        self.up: Connection | None = None
        """The connection to send over, while the member has welcomed us and it stands."""
        self._over = asyncio.Event()
        """Set while there is no connection."""
        self._over.set()
        self._attempt: asyncio.Task[None] | None = None
        """Opens a connection."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_up(self) -> bool:
        """Whether the member has welcomed us and the connection stands."""
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
    def trouble(self) -> str:
        """Why there is no connection, in a few words."""
        return self._dialer.trouble

    @property
    def dials(self) -> int:
        """How often a connection was tried."""
        return self._dialer.dials

    @property
    def dropped(self) -> int:
        """Messages lost because the server was away or its queue was full."""
        return self._dialer.dropped

    def start(self) -> None:
        """Begin to dial."""
        self._dialer.start(_now())
        self._set_timer()

    def dial(self, payload: bytes) -> None:
        """Dial once, on demand, for this message (`Dialer.dial_for`)."""
        self._dialer.dial_for(payload, _now())
        self._set_timer()

    async def stop(self) -> None:
        """Close the connection and dial no more."""
        self._dialer.stop()
        self.up = None
        self._set_timer()
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.gather(self._attempt, return_exceptions=True)
        if self._opening is not None and self._opening.stands:
            self._opening.abort("")
            await self._over.wait()
        if self._connection is not None:
            self._connection.close("")
            try:
                async with asyncio.timeout(LINGER_S):
                    await self._over.wait()
            except TimeoutError:
                if self._connection is not None:
                    self._connection.abort("")
                await self._over.wait()

    def nudge(self) -> None:
        """The member has just called us, so that it is worth trying now."""
        self._dialer.nudge(_now())
        self._set_timer()

    def hurry(self) -> None:
        """There is a reason to dial now. Where it is in vain, the waits go on growing."""
        self._dialer.hurry(_now())
        self._set_timer()

    def lose(self) -> None:
        """Count a message that is not sent, since the server is away."""
        self._dialer.dropped += 1

    def opened(self, connection: Connection) -> None:
        """Say hello, if the other end is the server that was meant (`connection.Handler`)."""
        self._opening = None
        if self._secure is not None and self._dialer.phase is Phase.DIALLING:
            reason = self._secure.refuse(None if connection.tls is None else connection.tls.peer)
            if reason is not None:
                self._distrust(reason)
                connection.abort("")
                self._over.set()
                self._lost(reason)
                return
        if self._dialer.phase is not Phase.DIALLING:
            connection.abort("")  # it came too late
            return
        self._connection = connection
        self._over.clear()
        self._dialer.opened(_now())
        self._set_timer()
        connection.flush()

    def greeted(self, connection: Connection, step: LinkStep) -> None:
        """Take the answer to our hello (`connection.Handler`)."""
        if isinstance(step, Welcomed):
            self.up = connection
            self._set_timer()
            connection.flush()
            self._owner.link_changed(self.peer, True)
        elif isinstance(step, Challenged):
            connection.flush()
        elif isinstance(step, Refused):
            if step.is_news:
                where = format_address(self.address)
                LOG.warning("node %d at %s refuses us: %s", self.peer, where, step.reason)
            connection.close("")

    def closed(self, connection: Connection, reason: str) -> None:
        """Record that the connection has ended (`connection.Handler`)."""
        if reason:
            LOG.debug("connection to node %d ended: %s", self.peer, reason)
        self._dialer.dropped += connection.dropped
        if connection is self._opening:
            self._opening = None
            self._over.set()
            if connection.is_distrusted:
                self._distrust(reason)
            self._lost(reason)
        if connection is self._connection:
            self._connection = self.up = None
            self._over.set()
            if connection.is_distrusted:
                self._distrust(reason)
            self._lost(reason)

    def paused(self, connection: Connection, *, paused: bool) -> None:
        """Never called: a link drops messages instead (`connection.Handler`)."""

    def in_frame(self, connection: Connection, *, in_frame: bool) -> None:
        """Ignored: a member sends over the connection that it opened itself (`connection.Handler`)."""

    def _set_timer(self) -> None:
        """Keep one timer, at the dialer's deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._dialer.deadline
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline / 1e6, self._on_deadline)

    def _on_deadline(self) -> None:
        self._timer = None
        action = self._dialer.advance(_now())
        if action is Action.DIAL:
            self._attempt = asyncio.get_running_loop().create_task(self._connect())
        elif action is Action.LOOK and self._connection is not None:
            action = self._dialer.looked(_now(), self._connection.silent_ms())
        if action is Action.HANG_UP:
            self._hang_up()
        self._set_timer()

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(self._make_connection, *self.address)
        except (OSError, UnicodeError) as error:  # a label of the host may be too long
            self._opening = None  # uvloop has made it before there is a connection
            self._over.set()
            self._lost(explain(error))

    def _hang_up(self) -> None:
        if self._connection is not None:
            LOG.debug("connection to node %d is given up: %s", self.peer, self._dialer.overdue)
            self._connection.abort("")
            return
        if self._attempt is not None:
            self._attempt.cancel()
        if self._opening is not None:
            opening, self._opening = self._opening, None
            opening.abort("")
            self._over.set()
        self._lost("")

    def _lost(self, reason: str) -> None:
        is_news = self._dialer.lost(reason, _now())
        self._set_timer()
        if is_news:
            self._owner.link_changed(self.peer, False)

    def _distrust(self, reason: str) -> None:
        if self._dialer.distrust(reason):
            LOG.warning("node %d at %s: %s", self.peer, format_address(self.address), reason)

    def _make_connection(self) -> Connection:
        tls = None if self._secure is None else self._secure.open()
        connection = Connection(
            self,
            self._dialer,
            dirty=self._dirty,
            deliver=self._deliver,
            send_bytes_max=self._limits.send_bytes_max,
            overflow=Overflow.DROP,
            tls=tls,
        )
        if tls is not None:
            self._opening = connection
            self._over.clear()
        return connection


def _now() -> Instant:
    return Instant(int(asyncio.get_running_loop().time() * 1e6))


def link_limits(config: NodeConfig, *, on_demand: bool) -> DialLimits:
    """Return the limits of a member's connections to the others."""
    return DialLimits(
        hello_bytes_max=config.hello_bytes_max,
        frame_bytes_max=config.peer_frame_bytes_max,
        send_bytes_max=config.peer_send_bytes_max,
        dial_timeout_ms=config.dial_timeout_ms,
        backoff_min_ms=config.dial_backoff_min_ms,
        backoff_max_ms=config.dial_backoff_max_ms,
        silence_ms=0 if on_demand else config.link_silence_ms,
    )
