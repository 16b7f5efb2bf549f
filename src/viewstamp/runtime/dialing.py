"""A connection that this side opens, to a server: dialled, greeted, kept, dialled again.

Each member sends over the connection that it opened itself and receives over the one that the other opened.
Two members can therefore never disagree about which of two crossed connections is the real one, and a network
that is cut one way looks like what it is.
"""

import asyncio
import logging
from random import Random
from typing import Final, Protocol

import msgspec

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import NodeId
from viewstamp.runtime.addresses import Address, format_address
from viewstamp.runtime.backoff import Backoff
from viewstamp.runtime.connection import Connection, Overflow
from viewstamp.runtime.framing import HELLO, REFUSAL, SERVER, WELCOME
from viewstamp.runtime.handshake import decode_refusal, decode_welcome

LOG: Final = logging.getLogger("viewstamp.runtime")

LINGER_S: Final = 0.3
"""How long a connection that is being closed may take to write what waits, before it is cut off."""


class LinkLimits(msgspec.Struct, frozen=True):
    """Limits of the connections that this side opens."""

    hello_bytes_max: int
    frame_bytes_max: int
    """Of what comes in once we are welcome."""
    send_bytes_max: int
    """Waiting to be sent; beyond it messages are dropped."""
    dial_timeout_ms: int
    backoff_min_ms: int
    backoff_max_ms: int


class LinkOwner(Protocol):
    """The one that a link reports to."""

    def link_changed(self, peer: NodeId, is_up: bool) -> None:  # noqa: FBT001  the second word of an event
        """The connection stands, or broke, or was not to be had. Told once for each change."""
        ...

    def link_received(self, peer: NodeId, payload: bytes) -> None:
        """The server sent a message. `ProtocolViolation` closes the connection."""
        ...

    def wants_flush(self, connection: Connection) -> None:
        """Something waits to be sent; see `connection.Handler`."""
        ...


class Link:
    """The connection to one server, over which this side sends to it. May lose messages, never waits."""

    def __init__(
        self,
        peer: NodeId,
        address: Address,
        *,
        hello: bytes,
        kind: int,
        limits: LinkLimits,
        rng: Random,
        owner: LinkOwner,
    ) -> None:
        self.peer = peer
        self._address = address
        self._hello = hello
        self._kind = kind
        """Of the frames that this side sends: PEER or CLIENT."""
        self._limits = limits
        self._owner = owner
        self._backoff = Backoff(limits.backoff_min_ms, limits.backoff_max_ms, rng)
        self._connection: Connection | None = None
        """Set from the moment it is opened until it is closed."""
        self._is_up: bool | None = None
        """What the owner was last told; None: nothing yet."""
        self._over = asyncio.Event()
        """Set when the connection that is being kept has closed."""
        self._nudged = asyncio.Event()
        """Set when there is a reason to dial now."""
        self.refusal = ""
        """Why the server last refused us; empty where it did not."""
        self.trouble = ""
        """Why there is no connection, in a few words."""
        self.dials = 0
        self.dropped = 0
        """Messages lost because the server was away or its queue was full."""
        self._held: list[bytes] = []
        """What was sent while we dial on demand."""
        self._task: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether the member has welcomed us and the connection stands."""
        return self._is_up is True

    def start(self) -> None:
        """Begin to dial."""
        self._task = asyncio.get_running_loop().create_task(self._keep_connected())

    def dial(self, payload: bytes) -> None:
        """Try once to connect, unless that is under way; the owner is told how it ended, every time.

        The message is sent if the server welcomes us, before the owner is told; else it is lost.
        """
        if sum(map(len, self._held)) + len(payload) <= self._limits.send_bytes_max:
            self._held.append(payload)
        if self._task is None or self._task.done():
            self._is_up = None
            self._task = asyncio.get_running_loop().create_task(self._connect_once())

    async def stop(self) -> None:
        """Close the connection and dial no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            self._connection.close("")
            if not await self._ended_within(LINGER_S):
                self._abort("")
                await self._over.wait()

    def nudge(self) -> None:
        """The member has just called us, so that it is worth trying now."""
        if not self.is_up:
            self._backoff.reset()
            self._nudged.set()

    def hurry(self) -> None:
        """There is a reason to dial now. Where it is in vain, the waits go on growing."""
        if not self.is_up:
            self._nudged.set()

    def send(self, payload: bytes) -> bool:
        """Send a message, or lose it where the server is away; tell which."""
        if self._is_up and self._connection is not None:
            self._connection.send(self._kind, payload)
            return True
        self.dropped += 1
        return False

    def opened(self, connection: Connection) -> None:
        """Introduce ourselves (`connection.Handler`)."""
        self._connection = connection
        connection.send(HELLO, self._hello)
        connection.flush()

    def frame(self, connection: Connection, kind: int, payload: bytes) -> None:
        """Take the answer to our hello, then what a server sends to its clients (`connection.Handler`)."""
        if kind == SERVER and self._is_up:
            self._owner.link_received(self.peer, payload)
        elif kind == WELCOME and not self.is_up:
            decode_welcome(payload)
            connection.raise_limit(self._limits.frame_bytes_max)
            self.refusal = self.trouble = ""
            for held in self._held:
                connection.send(self._kind, held)
            self._held.clear()
            connection.flush()
            self._tell(is_up=True)
        elif kind == REFUSAL:
            self._refused(decode_refusal(payload))
            connection.close("")
        else:
            raise ProtocolViolation(f"frame kind {kind} does not come this way")

    def closed(self, connection: Connection, reason: str) -> None:
        """Take note that it broke (`connection.Handler`)."""
        self.trouble = self.refusal or reason or "the connection was closed"
        if reason:
            LOG.debug("connection to node %d ended: %s", self.peer, reason)
        self.dropped += connection.dropped
        if connection is self._connection:
            self._connection = None
            self._tell(is_up=False)
            self._over.set()

    def wants_flush(self, connection: Connection) -> None:
        """See `connection.Handler`."""
        self._owner.wants_flush(connection)

    def paused(self, connection: Connection, *, paused: bool) -> None:
        """Never called: a link drops messages instead (`connection.Handler`)."""

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            await self._connect_once()
            if loop.time() - begun > self._limits.backoff_max_ms / 1000:
                self._backoff.reset()
            await self._wait_for_nudge(self._backoff.draw_s())

    async def _connect_once(self) -> None:
        """Dial, greet, and return when the connection is over or did not come about."""
        self.dials += 1
        self._over.clear()
        try:
            async with asyncio.timeout(self._limits.dial_timeout_ms / 1000):
                await asyncio.get_running_loop().create_connection(self._make_connection, *self._address)
        except (OSError, TimeoutError) as error:
            self.trouble = _in_words(error)
            self._tell(is_up=False)
            return
        ended = await self._ended_within(self._limits.dial_timeout_ms / 1000)
        if not ended and not self.is_up:
            self._abort("no welcome in time")
        await self._over.wait()

    async def _ended_within(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._over.wait()
        except TimeoutError:
            return False
        return True

    def _abort(self, reason: str) -> None:
        if self._connection is not None:
            self._connection.abort(reason)

    def _make_connection(self) -> Connection:
        return Connection(
            self,
            frame_bytes_max=self._limits.hello_bytes_max,
            send_bytes_max=self._limits.send_bytes_max,
            overflow=Overflow.DROP,
        )

    async def _wait_for_nudge(self, wait_s: float) -> None:
        self._nudged.clear()
        try:
            async with asyncio.timeout(wait_s):
                await self._nudged.wait()
        except TimeoutError:
            pass

    def _refused(self, reason: str) -> None:
        self._backoff.exhaust()
        if reason != self.refusal:
            self.refusal = reason
            LOG.warning("node %d at %s refuses us: %s", self.peer, format_address(self._address), reason)

    def _tell(self, *, is_up: bool) -> None:
        if is_up is not self._is_up:
            self._is_up = is_up
            self._held.clear()
            self._owner.link_changed(self.peer, is_up)


def _in_words(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no answer"
    return " ".join(str(error).split()) or type(error).__name__
