"""How long a connection may stay as it is: without a hello, within a frame, with replies unread, silent.

One timer serves all connections; what it closes was late by up to a quarter of the time in question.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from viewstamp.core.ids import Instant
from viewstamp.link.acceptor import Acceptor
from viewstamp.runtime.bounded_log import BoundedLog
from viewstamp.runtime.config import NodeConfig
from viewstamp.runtime.connection import Connection
from viewstamp.runtime.metrics import Metrics
from viewstamp.runtime.system import Clock

_SWEEPS_PER_TIMEOUT: Final = 4


class Deadlines:
    """The connections of one node that are waited for."""

    def __init__(
        self,
        config: NodeConfig,
        clock: Clock,
        metrics: Metrics,
        log: BoundedLog,
        refuse: Callable[[Connection, str], None],
        is_suspended: Callable[[], bool],
    ) -> None:
        """`refuse` ends a stranger with a reason that it is told. While `is_suspended` nothing is late."""
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._refuse = refuse
        self._is_suspended = is_suspended
        self.strangers: dict[Connection, Acceptor] = {}
        """Connections without an accepted hello, the oldest first."""
        self._paused: dict[Connection, Instant] = {}
        """Clients that do not read their replies, and since when."""
        self._frames: dict[Connection, Instant] = {}
        """Connections in the middle of a frame, and when it began."""
        self._clients: dict[Connection, int] = {}
        """Clients, and for how many quarters of the idle timeout they have sent nothing."""
        self._ends: dict[Connection, asyncio.TimerHandle] = {}
        """Connections that end at a certain moment, such as that of a token."""
        self._timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def stop(self) -> None:
        """Wait for nothing from now on."""
        self._stopped = True
        for timer in (self._timer, self._idle_timer, *self._ends.values()):
            if timer is not None:
                timer.cancel()
        self._timer = self._idle_timer = None

    def client_came(self, connection: Connection) -> None:
        """Watch whether it sends anything."""
        self._clients[connection] = 0
        if self._idle_timer is None and not self._stopped:
            self._plan_idle()

    def end_after(self, connection: Connection, seconds: float, reason: str) -> None:
        """Close a connection after this time."""
        loop = asyncio.get_running_loop()
        self._ends[connection] = loop.call_later(seconds, connection.close, reason)

    def paused(self, connection: Connection, *, paused: bool) -> None:
        """The other side does not read, or does again."""
        self._mark(self._paused, connection, is_late=paused)
        if paused:
            self._bound_unread()
        if not paused and connection in self._frames:
            self._mark(self._frames, connection, is_late=True)  # it was not read from meanwhile

    def in_frame(self, connection: Connection, *, in_frame: bool) -> None:
        """A frame has begun and not ended (another one than before), or there is none now."""
        self._mark(self._frames, connection, is_late=in_frame)

    def forget(self, connection: Connection) -> None:
        """It has ended."""
        for known in (self.strangers, self._paused, self._frames, self._clients):
            known.pop(connection, None)
        if (timer := self._ends.pop(connection, None)) is not None:
            timer.cancel()

    def unread_bytes(self) -> int:
        """Return how many bytes of replies wait for clients that do not read."""
        return sum(connection.waiting_bytes for connection in self._paused)

    def _bound_unread(self) -> None:
        """Cut off those that have not read for the longest time, where all of them together take too much."""
        limit, size = self._config.unread_bytes_max, self.unread_bytes()
        for connection in list(self._paused):
            if size <= limit:
                return
            size -= connection.waiting_bytes
            self._metrics.clients_stalled += 1
            connection.abort(f"{limit} bytes of replies wait for clients that do not read them")

    def plan(self) -> None:
        """Look at the connections in a while."""
        if self._timer is None and not self._stopped:
            config = self._config
            shortest_ms = min(
                config.hello_timeout_ms, config.client_stall_timeout_ms, config.frame_timeout_ms
            )
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(shortest_ms / _SWEEPS_PER_TIMEOUT / 1000, self._on_timer)

    def _mark(self, since: dict[Connection, Instant], connection: Connection, *, is_late: bool) -> None:
        since.pop(connection, None)
        if is_late:
            since[connection] = self._clock()
            self.plan()

    def _on_timer(self) -> None:
        self._timer = None
        if not self._is_suspended():
            self._sweep()
        self._log.flush()
        if self.strangers or self._paused or self._frames or self._log.owes:
            self.plan()

    def _sweep(self) -> None:
        config, now = self._config, self._clock()
        for connection, acceptor in list(self.strangers.items()):
            if acceptor.deadline is None or acceptor.deadline <= now:  # None: said while all was silent
                self._refuse(connection, "no hello in time")
        for connection in _older_than(self._paused, now - 1000 * config.client_stall_timeout_ms):
            self._metrics.clients_stalled += 1
            connection.abort("the replies were not read in time")
        for connection in _older_than(self._frames, now - 1000 * config.frame_timeout_ms):
            if not connection.is_held:
                self._metrics.frames_late += 1
                connection.abort(f"a frame was not complete within {config.frame_timeout_ms} ms")

    def _plan_idle(self) -> None:
        wait_s = self._config.client_idle_timeout_ms / _SWEEPS_PER_TIMEOUT / 1000
        self._idle_timer = asyncio.get_running_loop().call_later(wait_s, self._on_idle_timer)

    def _on_idle_timer(self) -> None:
        for connection, quiet in list(self._clients.items()):
            if connection.heard or self._is_suspended():
                connection.heard = False
                self._clients[connection] = 0
            elif quiet < _SWEEPS_PER_TIMEOUT:
                self._clients[connection] = quiet + 1
            else:
                self._metrics.clients_idle += 1
                connection.close(f"nothing was sent for {self._config.client_idle_timeout_ms} ms")
        self._plan_idle()


def _older_than(since: dict[Connection, Instant], moment: int) -> list[Connection]:
    """Return the connections from before this moment; the dict is in order of time."""
    return [connection for connection, begun in since.items() if begun < moment]
