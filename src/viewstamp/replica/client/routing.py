"""Where a client sends: it remembers who leads, follows redirects, turns to the next server, and backs off.

Rules of this file:

- nothing is sent to a server that is not connected;
- servers are tried in the order of the configuration, from the one tried last;
- after a round without progress there is a pause, which doubles, with jitter; any progress ends it
  (docs/faults.md#k24).
"""

from random import Random
from typing import Literal

from viewstamp.core.ids import MICROSECONDS_PER_MS, Instant, NodeId
from viewstamp.replica.options import ClientOptions

_DOUBLINGS_MAX = 16


class Router:
    """Chooses the server for the next message."""

    __slots__ = ("_failures", "_options", "_rng", "_turn", "not_before", "servers", "target", "up")

    def __init__(
        self,
        servers: tuple[NodeId, ...],
        rng: Random,
        options: ClientOptions,
        routing: Literal["leader", "any"],
        now: Instant,
    ) -> None:
        assert servers
        self.servers = servers
        self.up: set[NodeId] = set()
        """Those that are connected."""
        self.target = servers[0] if routing == "any" else rng.choice(servers)
        """The server that commands go to. With `any`, all clients of a cluster begin with the same one."""
        self.not_before = now
        """Nothing is sent to the target before this moment."""
        self._rng = rng
        self._options = options
        self._failures = 0
        """Servers tried without progress since the last progress."""
        self._turn = rng.randrange(len(servers))

    def serve(self, servers: tuple[NodeId, ...]) -> None:
        """From now on these are the servers. One that stays and is connected stays connected."""
        assert servers
        self.servers = servers
        self.up.intersection_update(servers)
        self._turn %= len(servers)
        if self.target not in servers:
            self.target = min(self.up, default=servers[0])

    def choose(self, now: Instant) -> NodeId | None:
        """Return the server for commands and linearizable reads; None: none is available now."""
        if now < self.not_before:
            return None
        if self.target not in self.up:
            self._turn_to_next()
        return self.target if self.target in self.up else None

    def choose_any(self) -> NodeId | None:
        """Return some connected server, a different one each time."""
        count = len(self.servers)
        for step in range(1, count + 1):
            server = self.servers[(self._turn + step) % count]
            if server in self.up:
                self._turn = (self._turn + step) % count
                return server
        return None

    def connected(self, server: NodeId, now: Instant) -> None:
        """A server is connected; the first one is tried at once."""
        if server not in self.servers:
            return
        if not self.up:
            self._failures, self.not_before = 0, now
        self.up.add(server)

    def progress(self) -> None:
        """The target did what it was asked for."""
        if self._failures:
            self._failures = 0

    def redirected(self, source: NodeId, leader: NodeId | None, now: Instant) -> None:
        """`source` named the leader, or said that it does not know it."""
        if source != self.target:
            return  # an answer to what was sent before the target changed
        self._failures += 1
        if leader is not None and leader != source and leader in self.up:
            self.target = leader
            if self._failures > 2:  # two servers that name each other: neither knows the leader
                self._pause(now)
        else:
            self._turn_to_next()
            self._pause_after_round(now)

    def failed(self, source: NodeId, now: Instant) -> None:
        """`source` did not answer, or its connection broke."""
        if source == self.target:
            self._failures += 1
            self._turn_to_next()
            self._pause_after_round(now)

    def overloaded(self, now: Instant) -> None:
        """The target has too much to do."""
        self._failures += 1
        self._pause(now)

    def _turn_to_next(self) -> None:
        count = len(self.servers)
        first = self.servers.index(self.target)
        for step in range(1, count + 1):
            server = self.servers[(first + step) % count]
            if server in self.up:
                self.target = server
                return

    def _pause_after_round(self, now: Instant) -> None:
        if self._failures >= len(self.servers):
            self._pause(now)

    def _pause(self, now: Instant) -> None:
        assert self._failures > 0, "a pause follows a failure"
        options = self._options
        doublings = min(self._failures - 1, _DOUBLINGS_MAX)
        pause_ms = min(options.backoff_max_ms, options.backoff_min_ms << doublings)
        pause_us = pause_ms * MICROSECONDS_PER_MS
        self.not_before = Instant(now + pause_us // 2 + self._rng.randrange(pause_us // 2 + 1))
