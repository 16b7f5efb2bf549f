"""A node's own connection to another member: dialled, greeted, kept, dialled again.

Each node sends over the connection that it opened itself and receives over the one that the other opened. Two
members can therefore never disagree about which of two crossed connections is the real one, and a network
that is cut one way looks like what it is.
"""

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import Final

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import NodeId
from viewstamp.runtime.addresses import Address, format_address
from viewstamp.runtime.config import NodeConfig
from viewstamp.runtime.connection import Connection, Overflow
from viewstamp.runtime.framing import HELLO, PEER, REFUSAL, WELCOME
from viewstamp.runtime.handshake import decode_refusal, decode_welcome
from viewstamp.runtime.metrics import Metrics

LOG: Final = logging.getLogger("viewstamp.runtime")


class Backoff:
    """Waiting times that double, with jitter: half of each is certain, half is drawn."""

    __slots__ = ("_max_s", "_min_s", "_next_s", "_rng")

    def __init__(self, min_ms: int, max_ms: int, rng: Random) -> None:
        self._min_s = min_ms / 1000
        self._max_s = max_ms / 1000
        self._next_s = self._min_s
        """_min_s <= _next_s <= _max_s."""
        self._rng = rng

    def reset(self) -> None:
        """Begin again with the shortest wait."""
        self._next_s = self._min_s

    def exhaust(self) -> None:
        """Go to the longest wait at once: trying soon cannot help."""
        self._next_s = self._max_s

    def draw_s(self) -> float:
        """Return the next wait in seconds, and double the one after it."""
        wait_s = self._next_s
        self._next_s = min(2 * wait_s, self._max_s)
        return wait_s * (0.5 + self._rng.random() / 2)


class PeerLink:
    """The connection to one member, over which this node sends to it. May lose messages, never waits."""

    def __init__(
        self,
        peer: NodeId,
        address: Address,
        *,
        hello: bytes,
        config: NodeConfig,
        rng: Random,
        metrics: Metrics,
        changed: Callable[[NodeId, bool], None],
        wants_flush: Callable[[Connection], None],
    ) -> None:
        self.peer = peer
        self._address = address
        self._hello = hello
        self._config = config
        self._metrics = metrics
        self._changed = changed
        self._flush_wanted = wants_flush
        self._backoff = Backoff(config.dial_backoff_min_ms, config.dial_backoff_max_ms, rng)
        self._connection: Connection | None = None
        """Set from the moment it is opened until it is closed."""
        self._is_up: bool | None = None
        """What `changed` was last told; None: nothing yet."""
        self._over = asyncio.Event()
        """Set when the connection that is being kept has closed."""
        self._nudged = asyncio.Event()
        """Set when there is a reason to dial now."""
        self._last_refusal = ""
        self._task: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether the member has welcomed us and the connection stands."""
        return self._is_up is True

    def start(self) -> None:
        """Begin to dial."""
        self._task = asyncio.get_running_loop().create_task(self._keep_connected())

    async def stop(self) -> None:
        """Close the connection and dial no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            self._connection.close("")

    def nudge(self) -> None:
        """The member has just called us, so that it is worth trying now."""
        if not self.is_up:
            self._backoff.reset()
            self._nudged.set()

    def send(self, payload: bytes) -> None:
        """Send a message of the protocol, or lose it where the member is away."""
        if self._is_up and self._connection is not None:
            self._connection.send(PEER, payload)
            self._metrics.peer_messages_out += 1
        else:
            self._metrics.peer_messages_dropped += 1

    def opened(self, connection: Connection) -> None:
        """Introduce ourselves (`connection.Handler`)."""
        self._connection = connection
        connection.send(HELLO, self._hello)

    def frame(self, connection: Connection, kind: int, payload: bytes) -> None:
        """Take the answer to our hello; nothing else comes this way (`connection.Handler`)."""
        if kind == WELCOME and not self.is_up:
            decode_welcome(payload)
            self._last_refusal = ""
            self._tell(is_up=True)
        elif kind == REFUSAL:
            self._refused(decode_refusal(payload))
            connection.close("refused")
        else:
            raise ProtocolViolation(f"frame kind {kind} does not come this way")

    def closed(self, connection: Connection, reason: str) -> None:
        """Take note that it broke (`connection.Handler`)."""
        if reason and reason != "refused":
            LOG.debug("connection to node %d ended: %s", self.peer, reason)
        self._metrics.peer_messages_dropped += connection.dropped
        if connection is self._connection:
            self._connection = None
            self._tell(is_up=False)
            self._over.set()

    def wants_flush(self, connection: Connection) -> None:
        """See `connection.Handler`."""
        self._flush_wanted(connection)

    def paused(self, connection: Connection, *, paused: bool) -> None:
        """Never called: a link drops messages instead (`connection.Handler`)."""

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            await self._connect_once()
            if loop.time() - begun > self._config.dial_backoff_max_ms / 1000:
                self._backoff.reset()
            await self._wait_for_nudge(self._backoff.draw_s())

    async def _connect_once(self) -> None:
        """Dial, greet, and return when the connection is over or did not come about."""
        self._metrics.dials += 1
        self._over.clear()
        try:
            async with asyncio.timeout(self._config.dial_timeout_ms / 1000):
                await asyncio.get_running_loop().create_connection(self._make_connection, *self._address)
        except (OSError, TimeoutError) as error:
            LOG.debug("node %d at %s: %s", self.peer, format_address(self._address), error)
            self._tell(is_up=False)
            return
        if not await self._welcomed():
            self._abort("no welcome in time")
        await self._over.wait()

    async def _welcomed(self) -> bool:
        """Wait for the welcome as long as a dial may take, or for the end of the connection."""
        deadline = asyncio.get_running_loop().time() + self._config.dial_timeout_ms / 1000
        try:
            async with asyncio.timeout_at(deadline):
                await self._over.wait()
        except TimeoutError:
            return self.is_up
        return True

    def _abort(self, reason: str) -> None:
        if self._connection is not None:
            self._connection.abort(reason)

    def _make_connection(self) -> Connection:
        config = self._config
        return Connection(
            self,
            frame_bytes_max=config.hello_bytes_max,
            send_bytes_max=config.peer_send_bytes_max,
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
        if reason != self._last_refusal:
            self._last_refusal = reason
            where = format_address(self._address)
            LOG.warning("node %d at %s refuses this node: %s", self.peer, where, reason)

    def _tell(self, *, is_up: bool) -> None:
        if is_up is not self._is_up:
            self._is_up = is_up
            self._changed(self.peer, is_up)
