"""Recipes for tasks: locks, semaphores, elections, barriers, queues and others, each a few lines to use."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Self, TypeVar
from weakref import WeakValueDictionary

from viewstamp.clients.claim_driver import ClaimDriver
from viewstamp.clients.countdowns import Countdown
from viewstamp.clients.held_claim import Guard, HeldClaim, OnLoss, not_in_time
from viewstamp.clients.observing import observed
from viewstamp.clients.queues import Queue
from viewstamp.clients.rates import Rate
from viewstamp.clients.registrations import Registration
from viewstamp.core.durations import wait_s
from viewstamp.replica.options import ClientOptions
from viewstamp.runtime.config import TlsFiles
from viewstamp.runtime.discovery import Where
from viewstamp.runtime.tokens import TokenSource
from viewstamp.services.recipes.counters import Count, CounterService
from viewstamp.services.recipes.elections import ElectionService, ElectionState
from viewstamp.services.recipes.keeper_events import Request
from viewstamp.services.recipes.registry import Instances, RegistryService
from viewstamp.services.recipes.semaphores import SemaphoreService

H = TypeVar("H", bound=HeldClaim)


class HeldWrite(HeldClaim):
    """A read-write lock that is held to write."""

    async def downgrade(self) -> None:
        """Go on reading, without a moment at which another may write. The token stays.

        Raises:
            NotExecuted: it is not held any longer.
        """
        mode, *others = self.request.arguments
        del mode
        request = Request("rwlocks", "acquire", "release", self.name, ("read", *others))
        await self._driver.renew(self, request)


class Term(HeldClaim):
    """The time for which this process is elected."""

    async def proclaim(self, value: bytes) -> None:
        """Publish something else, with this term's token.

        Raises:
            NotElected: another one is elected.
        """
        proxy = self._driver.proxy("elections", ElectionService)
        await proxy.proclaim(self.name, self.token, value)


class Counter:
    """One counter."""

    def __init__(self, driver: ClaimDriver, name: str) -> None:
        self._proxy = driver.proxy("counters", CounterService)
        self.name = name

    async def add(self, amount: int = 1, *, at_least: int | None = None, at_most: int | None = None) -> Count:
        """Add, and return the value with the token of the command.

        Raises:
            OutOfBounds: it would leave the bounds. Nothing was added.
        """
        return await self._proxy.add(self.name, amount, at_least, at_most)

    async def set(self, value: int, *, expected: int | None = None) -> Count:
        """Set it, with `expected` only if it is that now; else raise `OutOfBounds`."""
        return await self._proxy.set(self.name, value, expected)

    async def get(self) -> int:
        """Return the value."""
        return await self._proxy.get(self.name)


class Recipes:
    """The recipes of a cluster, shared by all tasks of this process that use this object.

    What is granted lives as long as this client's session: when the process dies, it passes on after the
    session's time to live.
    """

    def __init__(
        self,
        where: Where,
        *,
        session_s: float | None = None,
        label: str = "",
        retry_s: float | None = 3.0,
        timeout_s: float = 10.0,
        parts: Mapping[str, str] | None = None,
        options: ClientOptions | None = None,
        token: TokenSource | None = None,
        tls: TlsFiles | None = None,
    ) -> None:
        """Prepare a client; enter it with `async with`, or `start` and `close` it.

        Args:
            where: an address, several of them, or a cluster file, as for `viewstamp.connect`.
            session_s: seconds after which what this client holds is free when nothing more comes from it,
                within the cluster's bounds (`sessions.time_to_live_min_ms`). None: the cluster's own.
            label: the name of this client in lists of holders.
            retry_s: while a claim waits, the service is asked again after this time. None: never.
            timeout_s: how long to look for the cluster, and how long a single call may take.
            parts: other names of the recipes in the cluster's machine, such as {"queues": "jobs"}; "" where
                the machine is that service itself.
            options: limits and times of the client underneath.
            token: proves the name of a client that has no certificate: see `viewstamp.connect`.
            tls: this client's certificate, where the cluster file does not name it.

        Raises:
            ConfigurationError: `where` names no cluster, or a setting makes no sense.
        """
        self.driver = ClaimDriver(
            where,
            parts=parts,
            retry_s=retry_s,
            timeout_s=timeout_s,
            options=options,
            session_s=session_s,
            token=token,
            tls=tls,
        )
        self._label = label
        self._local: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Of each lock that this process holds or wants whose turn it is here."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Find the cluster.

        Raises:
            NotExecuted: only addresses were given, and none of them answered in time.
        """
        await self.driver.start()

    async def close(self) -> None:
        """Give everything back and end the session. May be repeated."""
        await self.driver.close()

    # What one or several hold

    def lock(
        self, name: str, *, timeout_s: float | None = None, on_loss: OnLoss = "cancel"
    ) -> Guard[HeldClaim]:
        """Hold a lock: that of `viewstamp lock` and of `LockClient`, without its cache."""
        request = Request("locks", "acquire", "release", name, (self._label,))
        return Guard(partial(self._alone, request, timeout_s), on_loss)

    def read(
        self, name: str, *, timeout_s: float | None = None, on_loss: OnLoss = "cancel"
    ) -> Guard[HeldClaim]:
        """Hold a read-write lock together with other readers."""
        request = Request("rwlocks", "acquire", "release", name, ("read", self._label))
        return self._guard("read lock", request, HeldClaim, timeout_s, on_loss)

    def write(
        self, name: str, *, timeout_s: float | None = None, on_loss: OnLoss = "cancel"
    ) -> Guard[HeldWrite]:
        """Hold a read-write lock alone. A writer that waits stops the readers behind it."""
        request = Request("rwlocks", "acquire", "release", name, ("write", self._label))
        return self._guard("write lock", request, HeldWrite, timeout_s, on_loss)

    def semaphore(
        self,
        name: str,
        permits: int | None = None,
        *,
        weight: int = 1,
        timeout_s: float | None = None,
        on_loss: OnLoss = "cancel",
    ) -> Guard[HeldClaim]:
        """Hold `weight` of the `permits` of a semaphore. Where it exists, `permits` may be left out."""
        request = Request("semaphores", "acquire", "release", name, (permits, weight, self._label))
        return self._guard("semaphore", request, HeldClaim, timeout_s, on_loss)

    async def resize(self, name: str, permits: int) -> None:
        """Set how many permits there are. Fewer than are out: nobody gets one until enough came back."""
        await self.driver.proxy("semaphores", SemaphoreService).resize(name, permits)

    def election(
        self,
        name: str,
        *,
        value: bytes = b"",
        priority: int = 0,
        timeout_s: float | None = None,
        on_loss: OnLoss = "cancel",
    ) -> Guard[Term]:
        """Be elected, and publish `value` with the token of the term. To leave the block is to resign."""
        request = Request("elections", "campaign", "resign", name, (value, priority, self._label))
        return self._guard("election", request, Term, timeout_s, on_loss)

    async def leader(self, name: str) -> ElectionState:
        """Return who is elected."""
        return await self.driver.proxy("elections", ElectionService).leader(name)

    def elected(self, name: str) -> AsyncIterator[ElectionState]:
        """Yield who is elected, now and whenever that changes; states in between may be left out."""
        proxy = self.driver.proxy("elections", ElectionService)
        return observed(self.driver, "election", name, proxy.observe, proxy.ignore)

    # Where processes meet

    async def barrier(self, name: str, parties: int, *, timeout_s: float | None = None) -> int:
        """Wait until this number of parties waits here, and return the token of the round.

        Raises:
            ClaimTimeout: not all came in time; this one is counted no more.
            Mismatch: those that wait are of a round of another size.
        """
        request = Request("barriers", "enter", "leave", name, (parties, self._label))
        held = await self._guard("barrier", request, HeldClaim, timeout_s, "ignore")
        held.release()
        return held.token

    def countdown(self, name: str) -> Countdown:
        """Return a countdown: `start` it with a number, let others `arrive`, and `wait` for zero."""
        return Countdown(self.driver, name, self._label)

    # Work, and what is counted

    def queue(self, name: str) -> Queue:
        """Return a queue of items that are taken under a lease."""
        return Queue(self.driver, name, self._label)

    def counter(self, name: str) -> Counter:
        """Return a counter."""
        return Counter(self.driver, name)

    def rate(self, name: str, rate: int, *, per_s: float = 1.0, burst: int | None = None) -> Rate:
        """Return a limit of `rate` in `per_s` seconds, of which `burst` (by default all) may come at once.

        All that use the name have to say the same.
        """
        return Rate(self.driver, name, rate, per_s, rate if burst is None else burst)

    # Who is where

    def registered(
        self, service: str, instance: str, value: bytes = b"", *, ttl_s: float | None = None
    ) -> Registration:
        """Be listed as an instance of a service, inside a block. After a loss it is listed again.

        With `ttl_s` it is renewed by this client's loop, so that a process whose loop hangs goes out of the
        list.

        Raises:
            ConfigurationError: `ttl_s` is below 0.1 s, or above ten years.
        """
        return Registration(self.driver, service, instance, value, ttl_s, self._label)

    async def instances(self, service: str, limit: int = 100) -> Instances:
        """Return the instances of a service."""
        return await self.driver.proxy("registry", RegistryService).instances(service, limit)

    def changes(self, service: str) -> AsyncIterator[Instances]:
        """Yield the instances of a service, now and whenever they change."""
        proxy = self.driver.proxy("registry", RegistryService)
        return observed(self.driver, "registry", service, proxy.observe, proxy.ignore)

    # Underneath

    def _guard(
        self, what: str, request: Request, make: type[H], timeout_s: float | None, on_loss: OnLoss
    ) -> Guard[H]:
        return Guard(partial(self.driver.acquire, what, request, make, timeout_s=timeout_s), on_loss)

    async def _alone(self, request: Request, timeout_s: float | None) -> HeldClaim:
        """Claim what the service grants once to each client: the tasks of this process stand in line here."""
        local = self._local.get(request.name)
        if local is None:
            local = self._local[request.name] = asyncio.Lock()
        try:
            async with asyncio.timeout(wait_s(timeout_s)):
                await local.acquire()
                try:
                    held = await self.driver.acquire("lock", request, HeldClaim)
                except BaseException:
                    local.release()
                    raise
        except TimeoutError:
            raise not_in_time("lock", request.name, timeout_s) from None
        held.on_change(_Once(local))
        if held.standing == "lost":
            local.release()
        return held


class _Once:
    """Lets the next task of this process in when a lock is no longer held here."""

    def __init__(self, local: asyncio.Lock) -> None:
        self._local: asyncio.Lock | None = local

    def __call__(self, standing: str) -> None:
        if standing in {"released", "lost"} and self._local is not None:
            self._local.release()
            self._local = None
