"""The client of a cache, whose loop runs in a thread, and the leases that keys end with.

Rules of this file:

- a key ends with a lease. Keys that are set with one time to live within a thirty-second part of it share a
  lease, which lives that much longer. So a process has at most 33 leases for each time to live, and a key
  ends at its time or up to 3 % later.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from viewstamp.clients.coordination import Coordination
from viewstamp.clients.loop_thread import LoopThread
from viewstamp.core.ids import MICROSECONDS_PER_MS
from viewstamp.runtime.discovery import Where
from viewstamp.runtime.system import boottime_us
from viewstamp.services.store import CoordinationStore

T = TypeVar("T")
SHARE: Final = 32
TTL_MS_MIN: Final = 100
TTL_MS_MAX: Final = 300_000_000_000
SLOTS_MAX: Final = 1_000


class Leases:
    """The leases of this process, by the time to live of their keys."""

    def __init__(self, store: type[CoordinationStore]) -> None:
        self._store = store
        self._slots: dict[int, tuple[int, int]] = {}
        """Time to live: its present lease, and until when that is used for further keys."""
        self._granting = asyncio.Lock()

    async def lease_for(self, ttl_s: float) -> int:
        """Return a lease that lives for this time, and up to a thirty-second part longer.

        Raises:
            NotExecuted, OutcomeUnknown, TooMany: there is none.
        """
        ttl_ms = max(TTL_MS_MIN, min(round(ttl_s * 1000), TTL_MS_MAX))
        async with self._granting:  # many keys that are set at once have one lease
            return await self._lease_for(ttl_ms)

    async def _lease_for(self, ttl_ms: int) -> int:
        now = boottime_us()
        lease, until = self._slots.get(ttl_ms, (0, 0))
        if now < until:
            return lease
        lease = await self._store.lease_grant(ttl_ms + ttl_ms // SHARE)
        if len(self._slots) >= SLOTS_MAX:
            self._slots = {ttl: slot for ttl, slot in self._slots.items() if now < slot[1]}
        if len(self._slots) < SLOTS_MAX:
            self._slots[ttl_ms] = lease, now + ttl_ms // SHARE * MICROSECONDS_PER_MS
        return lease

    def forget(self) -> None:
        """Use no lease again: one of them has ended early."""
        self._slots.clear()


class Client:
    """A client of the store, for threads and for tasks of other loops."""

    def __init__(self, where: Where, options: dict[str, Any]) -> None:
        """Find the cluster.

        Raises:
            ConfigurationError: `where` names no cluster, or an option makes no sense.
            NotExecuted: only addresses were given, and none of them answered in time.
        """
        self.coordination = Coordination(where, **options)
        self.store = self.coordination.store
        self.leases = Leases(self.store)
        self._thread = LoopThread("viewstamp-cache")
        try:
            self._thread.run(self.coordination.start())
        except BaseException:
            self._thread.end()
            raise

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Return what a call comes to, to a thread."""
        return self._thread.run(call)

    async def arun(self, call: Coroutine[Any, Any, T]) -> T:
        """Return what a call comes to, to a task of another loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self._thread.loop))

    def close(self) -> None:
        """Close the client and end the thread."""
        self._thread.close(self.coordination.close)
