"""Locks for threads: the blocking front of a lock cache, whose loop runs in a thread of its own."""

import asyncio
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from viewstamp.clients.lock_driver import HeldLock, Hook, LockDriver, LockTimeout
from viewstamp.clients.loop_thread import LoopThread
from viewstamp.core.durations import wait_s
from viewstamp.replica.options import ClientOptions
from viewstamp.runtime.discovery import Where
from viewstamp.runtime.proxies import make_proxy
from viewstamp.runtime.tokens import TokenSource
from viewstamp.services.lock_events import Grant
from viewstamp.services.lock_wire import STOCK_PART
from viewstamp.services.locks import LockPage, LockService, LockState


class BlockingLockClient:
    """The locks of a cluster, shared by all threads of this process that use this object.

    As `LockClient`, without async. A cached lock is acquired without a change of threads.
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
        """Find the cluster; the arguments are those of `LockClient`. `on_release` runs in a worker thread.

        Raises:
            ConfigurationError: `where` names no cluster, or a setting makes no sense.
            NotExecuted: only addresses were given, and none of them answered in time.
        """
        self._driver = LockDriver(
            where,
            part=part,
            retry_s=retry_s,
            on_release=None if on_release is None else _in_thread(on_release),
            label=label,
            timeout_s=timeout_s,
            options=options,
            session_s=session_s,
            token=token,
        )
        self._service: type[LockService] = make_proxy(LockService, self._driver.client, part=part)
        self._thread = LoopThread("viewstamp-locks")
        self._closed = False
        try:
            self._thread.run(self._driver.start())
        except BaseException:
            self._thread.end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back all locks, also those in use, and end the session. May be repeated."""
        if not self._closed:
            self._closed = True
            self._thread.close(self._driver.close)

    @property
    def messages(self) -> int:
        """How many times the service was asked for something so far."""
        return self._driver.messages

    def acquire(self, name: str, *, timeout_s: float | None = None) -> HeldLock:
        """Wait for a lock and return it; `release` it afterwards, in whichever thread.

        Raises:
            LockTimeout: it was not acquired in time.
            ConfigurationError: `timeout_s` is not a number of seconds.
            InvalidName, TooManyLocks, TooManyWaiters: the service refused.
            NotExecuted: the client is closed, or the cluster offers no locks under this name.
        """
        within_s = wait_s(timeout_s)
        waiter = _ThreadWaiter()
        ticket = self._driver.want(name, waiter)
        try:
            came = waiter.over.wait(None if within_s == math.inf else within_s)
        except BaseException:
            self._driver.give_up(ticket)
            raise
        if not came:
            self._driver.give_up(ticket)
            raise LockTimeout(f"lock {name!r} was not acquired within {timeout_s:g} s")
        return waiter.result()

    @contextmanager
    def hold(self, name: str, *, timeout_s: float | None = None) -> Iterator[HeldLock]:
        """Hold a lock for a block; raises what `acquire` raises."""
        held = self.acquire(name, timeout_s=timeout_s)
        try:
            yield held
        finally:
            held.release()

    def stat(self, name: str) -> LockState:
        """Return the holder of a lock and the clients that wait for it."""
        state: LockState = self._thread.run(self._service.stat(name))
        return state

    def held(self, prefix: str = "", after: str = "", limit: int = 100) -> LockPage:
        """Return the locks that anybody holds, page by page (`LockService.held`)."""
        page: LockPage = self._thread.run(self._service.held(prefix, after, limit))
        return page


def _in_thread(hook: Hook) -> Hook:
    async def run(grant: Grant) -> None:
        waiting = await asyncio.to_thread(hook, grant)
        assert waiting is None, "the hook of a blocking client is an ordinary function"

    return run


class _ThreadWaiter:
    """A thread that waits for a lock."""

    __slots__ = ("_error", "_held", "over")

    def __init__(self) -> None:
        self.over = threading.Event()
        self._held: HeldLock | None = None
        self._error: Exception | None = None

    def entered(self, held: HeldLock) -> None:
        self._held = held
        self.over.set()

    def refused(self, error: Exception) -> None:
        self._error = error
        self.over.set()

    def result(self) -> HeldLock:
        if self._error is not None:
            raise self._error
        assert self._held is not None
        return self._held
