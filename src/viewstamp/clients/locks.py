"""Locks for tasks: the async front of a lock cache."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

from viewstamp.clients.lock_driver import HeldLock, Hook, LockDriver, LockTimeout
from viewstamp.core.durations import wait_s
from viewstamp.replica.options import ClientOptions
from viewstamp.runtime.discovery import Where
from viewstamp.runtime.proxies import make_proxy
from viewstamp.runtime.tokens import TokenSource
from viewstamp.services.lock_wire import STOCK_PART
from viewstamp.services.locks import LockService


class LockClient:
    """The locks of a cluster, shared by all tasks of this process that use this object.

    A lock that a task gives back stays with this process until another one wants it: to have it again costs
    no message. The tasks get it in the order of asking. A task that asks for a lock that it holds already
    waits for itself.
    """

    def __init__(
        self,
        where: Where,
        *,
        part: str = STOCK_PART,
        retry_s: float | None = 3.0,
        on_release: Hook | None = None,
        label: str = "",
        timeout_s: float = 10.0,
        options: ClientOptions | None = None,
        session_s: float | None = None,
        token: TokenSource | None = None,
    ) -> None:
        """Prepare a client; enter it with `async with`, or `start` and `close` it.

        Args:
            where: an address, several of them, or a cluster file, as for `viewstamp.connect`.
            part: the lock service's name in the cluster's machine; "" where the machine is `LockService`.
            retry_s: while a task waits, the service is asked again after this time.
                None: never; then a lock comes when the service says so, again after each change of primary.
            on_release: called (and awaited, if it returns an awaitable) with the grant before a lock goes
                back to the service, such as to write back what was cached under it. Not called for a lock
                that was lost.
            label: the name of this client in the list of holders.
            timeout_s: how long to look for the cluster.
            options: limits and times of the client underneath.
            session_s: seconds after which the locks of this client are free when nothing more comes from it,
                within the cluster's bounds (`sessions.time_to_live_min_ms`). None: the cluster's own.
            token: proves the name of a client that has no certificate: see `viewstamp.connect`.

        Raises:
            ConfigurationError: `where` names no cluster, or a setting makes no sense.
        """
        self._driver = LockDriver(
            where,
            part=part,
            retry_s=retry_s,
            on_release=on_release,
            label=label,
            timeout_s=timeout_s,
            options=options,
            session_s=session_s,
            token=token,
        )
        self.service: type[LockService] = make_proxy(LockService, self._driver.client, part=part)
        """For questions, such as `await locks.service.stat("name")`."""

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
        await self._driver.start()

    async def close(self) -> None:
        """Give back all locks, also those in use, and end the session. May be repeated."""
        await self._driver.close()

    @property
    def messages(self) -> int:
        """How many times the service was asked for something so far."""
        return self._driver.messages

    async def acquire(self, name: str, *, timeout_s: float | None = None) -> HeldLock:
        """Wait for a lock and return it; `release` it afterwards.

        Raises:
            LockTimeout: it was not acquired in time.
            ConfigurationError: `timeout_s` is not a number of seconds.
            InvalidName, TooManyLocks, TooManyWaiters: the service refused.
            NotExecuted: the client is closed, or the cluster offers no locks under this name.
        """
        within_s = wait_s(timeout_s)
        waiter = _TaskWaiter(asyncio.get_running_loop())
        ticket = self._driver.want(name, waiter)
        try:
            async with asyncio.timeout(within_s):
                return await waiter.future
        except TimeoutError:
            self._driver.give_up(ticket)
            raise LockTimeout(f"lock {name!r} was not acquired within {timeout_s:g} s") from None
        except BaseException:
            self._driver.give_up(ticket)
            raise

    @asynccontextmanager
    async def hold(self, name: str, *, timeout_s: float | None = None) -> AsyncIterator[HeldLock]:
        """Hold a lock for a block; raises what `acquire` raises."""
        held = await self.acquire(name, timeout_s=timeout_s)
        try:
            yield held
        finally:
            held.release()


class _TaskWaiter:
    """A task that waits for a lock, on the loop of the client."""

    __slots__ = ("future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[HeldLock] = loop.create_future()

    def entered(self, held: HeldLock) -> None:
        self._end(self.future.set_result, held)

    def refused(self, error: Exception) -> None:
        self._end(self.future.set_exception, error)

    def _end(self, end: Any, value: Any) -> None:
        if not self.future.done():
            end(value)
