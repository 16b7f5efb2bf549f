"""A lock cache on an async client: carries out what the cache asks for, for tasks and threads alike.

Rules of this file:

- the cache is stepped under one mutex, by whichever thread wants something of it: a lock that is cached is
  acquired without a change of threads;
- what concerns a waiting caller is done under the mutex, so that it happens in the order of the steps;
- calls and hooks belong to the loop. Nothing here waits for anything with the mutex held.
"""

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Literal, Protocol, TypeAlias, assert_never

from viewstamp.clients.outcomes import outcome_of
from viewstamp.core.durations import number
from viewstamp.core.errors import ConfigurationError, InvalidCall, NotExecuted, PermissionDenied
from viewstamp.core.events import Woke
from viewstamp.core.ids import MICROSECONDS_PER_SECOND, Instant
from viewstamp.replica.events import Raised
from viewstamp.replica.options import ClientOptions
from viewstamp.runtime.client import AsyncClient, CallFuture
from viewstamp.runtime.client_base import Errors, with_session
from viewstamp.runtime.discovery import Where
from viewstamp.runtime.forks import used_after_fork
from viewstamp.runtime.system import Clock, boottime_us
from viewstamp.runtime.tokens import TokenSource
from viewstamp.services.lock_cache import LockCache
from viewstamp.services.lock_events import (
    Abandoned,
    Ask,
    CacheOptions,
    Closing,
    Enter,
    Failure,
    Finished,
    Flush,
    Flushed,
    Grant,
    Left,
    LockEvent,
    Lost,
    Observed,
    Refused,
    Ticket,
    Told,
    Wanted,
    is_text,
)
from viewstamp.services.lock_wire import INVALID_CALL, PERMISSION_DENIED, answered, notice_of, payload_of
from viewstamp.services.locks import InvalidName, LockService

LOG: Final = logging.getLogger("viewstamp.locks")

CALL_TIMEOUT_S: Final = 10.0 * 365 * 86_400
"""Calls of a cache end with their session at the latest."""
WATCH_US: Final = MICROSECONDS_PER_SECOND // 4
"""How often the session is looked at while locks are held or awaited."""
GRACE_S: Final = 5.0
"""How long closing waits for hooks and releases; the end of the session gives back the rest."""
DOUBT_GRACE_S: Final = 0.5
"""The same while the session is in doubt."""

Hook: TypeAlias = Callable[[Grant], Awaitable[None] | None]
"""Called before a lock goes back."""
Standing = Literal["held", "doubtful", "lost", "released"]

_ERRORS: Final = Errors(LockService)


class LockTimeout(NotExecuted, TimeoutError):
    """The lock was not acquired in time. This client no longer waits for it."""


class Waiter(Protocol):
    """A caller that waits for a lock. Called once, in any thread, with the mutex held: it returns at once."""

    def entered(self, held: "HeldLock") -> None:
        """The lock was acquired."""
        ...

    def refused(self, error: Exception) -> None:
        """The lock will not be acquired."""
        ...


class HeldLock:
    """A lock in use. `release` it, or leave the block that it was acquired for."""

    __slots__ = ("_driver", "_grant", "_lost", "_released", "_ticket")

    def __init__(self, driver: "LockDriver", ticket: Ticket, grant: Grant) -> None:
        self._driver = driver
        self._ticket = ticket
        self._grant = grant
        self._lost = False
        self._released = False

    def __repr__(self) -> str:
        return f"<lock {self.name!r}, token {self.token}, {self.standing}>"

    @property
    def name(self) -> str:
        """The lock's name."""
        return self._grant.name

    @property
    def token(self) -> int:
        """The fencing token: send it along with every change of what the lock protects.

        A resource that refuses whatever has a lower token than it has seen is safe from holders that were
        stopped or cut off and do not know that they have lost the lock.
        """
        return self._grant.token

    @property
    def standing(self) -> Standing:
        """What is known of it now.

        held: nobody else has it. doubtful: the cluster was not heard from within the session's time to live,
        and another may have it. lost: the session is gone, and another may have it. released: this process
        gave it back.
        """
        if self._released:
            return "released"
        if self._lost:
            return "lost"
        return "held" if self._driver.is_sure() else "doubtful"

    def release(self) -> None:
        """Give it back. May be repeated."""
        if not self._released:
            self._released = True
            self._driver.left(self._ticket)

    def mark_lost(self) -> None:
        """Its session is gone. For the driver."""
        self._lost = True


class LockDriver:
    """The locks of one client of one cluster, for any number of tasks and threads."""

    def __init__(
        self,
        where: Where,
        *,
        part: str,
        retry_s: float | None,
        on_release: Hook | None,
        label: str,
        timeout_s: float,
        options: ClientOptions | None = None,
        session_s: float | None = None,
        token: TokenSource | None = None,
        clock: Clock = boottime_us,
    ) -> None:
        """Prepare it; `start` it on the loop that it shall run on.

        Raises:
            ConfigurationError: `where` names no cluster, or `retry_s` makes no sense.
        """
        if retry_s is not None and not 0 < number(retry_s, "retry_s") <= CALL_TIMEOUT_S:
            raise ConfigurationError(f"retry_s is {retry_s}: give seconds, more than 0, or None for never")
        retry_us = None if retry_s is None else int(retry_s * MICROSECONDS_PER_SECOND)
        self._cache = LockCache(CacheOptions(retry_us, hooked=on_release is not None, label=label))
        self.client = AsyncClient(
            where,
            timeout_s=timeout_s,
            options=with_session(options, session_s),
            token=token,
            notified=self._notified,
            clock=clock,
        )
        self._part = part
        self._hook = on_release
        self._clock = clock
        self._mutex = threading.Lock()
        self._thread = 0
        """Where the loop runs."""
        self._last_ticket = 0
        self._waiters: dict[Ticket, Waiter] = {}
        self._held: dict[Ticket, HeldLock] = {}
        self._orders: deque[Ask | Flush | Finished] = deque()
        """What the loop has to do, in order."""
        self._work_planned = False
        self._hooks: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._seen: tuple[int | None, Instant | None] = (None, None)
        self._finished = asyncio.Event()
        self._closed = False
        """No caller gets a lock from now on."""
        self._over = False
        """The client is closed."""

    async def start(self) -> None:
        """Find the cluster; raise `NotExecuted` if no server answers in time."""
        self._thread = threading.get_ident()
        await self.client.start()

    async def close(self, grace_s: float = GRACE_S) -> None:
        """Give all locks back, those in use as well, and end the session."""
        if self._closed:
            return
        self._closed = True
        if self._thread:
            await self._give_all_back(grace_s)
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        await self.client.close()

    async def _give_all_back(self, grace_s: float) -> None:
        if not self._cache.is_sure(self._clock()):
            grace_s = min(grace_s, DOUBT_GRACE_S)  # the cluster has not been heard from for long
        self._feed(Closing())
        for ticket, held in list(self._held.items()):
            held.mark_lost()
            self.left(ticket)
        try:
            async with asyncio.timeout(grace_s):
                await self._finished.wait()
        except TimeoutError:
            LOG.warning("not all locks went back within %g s: the end of the session does it", grace_s)

    # For tasks and threads

    def want(self, name: str, waiter: Waiter) -> Ticket:
        """Ask for a lock; `waiter` is told how it ended, perhaps before this returns.

        Raises:
            NotExecuted: it was not started, or before a fork.
            InvalidCall: the name is not text.
            InvalidName: it contains a lone surrogate, which no message can carry.
        """
        if self.client.is_parents:
            raise used_after_fork()
        if not self._thread:
            raise NotExecuted("the lock client was not started: enter it first")
        if not isinstance(name, str):
            raise InvalidCall(f"the name {name!r} of a lock is not text: nothing was sent")
        if not is_text(name):
            raise InvalidName(
                f"the name {name[:100]!a} of a lock is not valid text: it contains a lone surrogate"
            )
        with self._mutex:
            self._last_ticket += 1
            ticket = Ticket(self._last_ticket)
            self._waiters[ticket] = waiter
            self._step(Wanted(ticket, name))
        self._order_work()
        return ticket

    def give_up(self, ticket: Ticket) -> None:
        """Wait no longer. If the lock came meanwhile, give it back."""
        with self._mutex:
            held = self._held.get(ticket)
            if self._waiters.pop(ticket, None) is not None:
                self._step(Abandoned(ticket))
        if held is not None:
            held.release()
        self._order_work()

    def left(self, ticket: Ticket) -> None:
        """Take a lock back from its user. For `HeldLock`."""
        if self.client.is_parents:
            return  # the parent holds it, and a thread that is not here may have had its mutex
        with self._mutex:
            if self._held.pop(ticket, None) is None:
                return  # closing took it
            self._step(Left(ticket))
        self._order_work()

    def is_sure(self) -> bool:
        """Return whether what is held is held for certain."""
        return not self.client.is_parents and not self._closed and self._cache.is_sure(self._clock())

    @property
    def messages(self) -> int:
        """Calls that this client has made so far."""
        return self._cache.asked

    # Steps

    def _feed(self, event: LockEvent) -> None:
        with self._mutex:
            self._step(event)
        self._order_work()

    def _step(self, event: LockEvent) -> None:
        """Feed the cache. With the mutex held."""
        for effect in self._cache.step(event, self._clock()):
            match effect:
                case Enter():
                    held = self._held[effect.ticket] = HeldLock(self, effect.ticket, effect.grant)
                    self._waiters.pop(effect.ticket).entered(held)
                case Refused():
                    self._waiters.pop(effect.ticket).refused(_error_of(effect.failure))
                case Lost():
                    self._lost(effect)
                case Ask() | Flush() | Finished():
                    self._orders.append(effect)
                case _:
                    assert_never(effect)

    def _lost(self, effect: Lost) -> None:
        LOG.warning("the lock %r was lost: its session is gone, and another may hold it", effect.grant.name)
        if effect.ticket is not None:
            self._held[effect.ticket].mark_lost()

    # On the loop

    def _order_work(self) -> None:
        """Let the loop carry out what was ordered. Without the mutex."""
        if not self._orders or self._work_planned or self._over:
            return
        self._work_planned = True
        loop = self.client.loop
        if threading.get_ident() == self._thread:
            loop.call_soon(self._work)
        else:
            loop.call_soon_threadsafe(self._work)

    def _work(self) -> None:
        self._work_planned = False
        while self._orders:
            order = self._orders.popleft()
            match order:
                case Ask():
                    self._call(order)
                case Flush():
                    self._flush(order)
                case Finished():
                    self._finished.set()
                case _:
                    assert_never(order)
        self._arm_timer()

    def _call(self, ask: Ask) -> None:
        try:
            future = self.client.invoke("command", payload_of(ask, self._part), timeout_s=CALL_TIMEOUT_S)
        except NotExecuted:
            return  # the client is closed, and the waiting callers have been told
        future.add_done_callback(partial(self._ended, ask))

    def _ended(self, ask: Ask, future: CallFuture | asyncio.Future[bytes]) -> None:
        self._observe()
        self._feed(answered(ask, outcome_of(future)))

    def _flush(self, order: Flush) -> None:
        assert self._hook is not None
        running = asyncio.ensure_future(_run_hook(self._hook, order.grant))
        self._hooks.add(running)
        running.add_done_callback(partial(self._flushed, order.grant.name))

    def _flushed(self, name: str, running: asyncio.Future[None]) -> None:
        self._hooks.discard(running)
        self._feed(Flushed(name))

    def _notified(self, payload: bytes) -> None:
        notice = notice_of(payload)
        if notice is not None:
            self._observe()
            self._feed(Told(notice))

    def _observe(self) -> None:
        seen = self.client.session
        if seen != self._seen:
            self._seen = seen
            self._feed(Observed(*seen))

    def _arm_timer(self) -> None:
        if self._timer is not None or self._closed or not len(self._cache):
            return
        now = self._clock()
        deadline = self._cache.deadline
        pause_us = WATCH_US if deadline is None else max(0, min(WATCH_US, deadline - now))
        self._timer = self.client.loop.call_later(pause_us / MICROSECONDS_PER_SECOND, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._observe()
        deadline = self._cache.deadline
        if deadline is not None and deadline <= self._clock():
            self._feed(Woke())
        self._arm_timer()


async def _run_hook(hook: Hook, grant: Grant) -> None:
    try:
        waiting = hook(grant)
        if inspect.isawaitable(waiting):
            await waiting
    except Exception:
        # The lock goes back all the same: others wait for it, and nobody here could do better.
        LOG.exception("the hook before the release of the lock %r failed", grant.name)


def _error_of(failure: Failure) -> Exception:
    if failure.kind == PERMISSION_DENIED:
        return PermissionDenied(failure.explanation)
    if failure.outcome == "raised" and failure.kind != INVALID_CALL:
        return _ERRORS.make(Raised(failure.kind, failure.explanation))
    return NotExecuted(failure.explanation)
