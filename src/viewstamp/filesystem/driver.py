"""Between the cache of a file system and a cluster, on one event loop."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import msgspec

from viewstamp.clients.outcomes import outcome_of
from viewstamp.core.errors import NotExecuted
from viewstamp.core.events import Woke
from viewstamp.core.ids import MICROSECONDS_PER_SECOND, Instant
from viewstamp.runtime.client import AsyncClient, CallFuture
from viewstamp.runtime.client_base import with_session
from viewstamp.runtime.discovery import Where
from viewstamp.runtime.system import Clock, monotonic_us
from viewstamp.runtime.tokens import TokenSource
from viewstamp.services.extents.cache import FileCache
from viewstamp.services.extents.operations import (
    Answered,
    Call,
    Cancelled,
    Done,
    FileEffect,
    FileEvent,
    FileFailure,
    FileOptions,
    Finished,
    Invalidate,
    Invalidated,
    Operation,
    Requested,
    Result,
    Say,
    Ticket,
)
from viewstamp.services.lock_events import Closing, Observed, Told
from viewstamp.services.lock_wire import notice_of

LOG: Final = logging.getLogger("viewstamp.filesystem")

CALL_TIMEOUT_S: Final = 10.0 * 365 * 86_400
"""Calls of a cache end with their session at the latest."""
GRACE_S: Final = 10.0
"""How long closing waits for what is not flushed yet."""
WATCH_US: Final = MICROSECONDS_PER_SECOND // 4
"""How often the session is looked at."""

Ended: TypeAlias = Callable[[Result | FileFailure, int], None]
"""Told of the result of an operation, and for how many microseconds its attributes are valid."""


class FileDriver:
    """The cache of this process, and the clients underneath."""

    def __init__(
        self,
        where: Where,
        *,
        locks: Where | None = None,
        options: FileOptions | None = None,
        session_s: float | None = None,
        timeout_s: float = 10.0,
        token: TokenSource | None = None,
        clock: Clock = monotonic_us,
    ) -> None:
        """Prepare it; `start` it on the loop that it shall run on.

        Args:
            where: the cluster of the files.
            locks: the cluster of the locks, where it is another one.
            options: of the cache.
            session_s: seconds after which the locks of this client are free when nothing comes from it.
            timeout_s: how long to look for the cluster.
            token: proves the name of a client that has no certificate.
            clock: the time.

        Raises:
            ConfigurationError: an argument makes no sense.
        """
        options = options or FileOptions()
        if locks is not None:
            options = msgspec.structs.replace(options, claims=True)
        make = partial(
            AsyncClient, timeout_s=timeout_s, options=with_session(None, session_s), token=token, clock=clock
        )
        self.files = make(where, notified=None if locks is not None else self._notified)
        self.locks = self.files if locks is None else make(locks, notified=self._notified)
        self.cache = FileCache(options)
        self.forget: Callable[[int, int], None] | None = None
        """Lets the kernel forget an inode, and calls `forgotten` with the number that it is given."""
        self._clock = clock
        self._ended: dict[Ticket, Ended] = {}
        self._last_ticket = 0
        self._seen: tuple[int | None, Instant | None] = (None, None)
        self._timer: asyncio.TimerHandle | None = None
        self._finished = asyncio.Event()
        self._closed = False

    async def start(self) -> None:
        """Find the cluster; raise `NotExecuted` if no server answers in time."""
        await self.files.start()
        if self.locks is not self.files:
            await self.locks.start()
        self._arm()

    async def close(self, grace_s: float = GRACE_S) -> tuple[int, ...]:
        """Flush, give all locks back, and end the session. May be repeated.

        Returns the inodes of which what was written last may be lost, since no server took it in time.
        """
        if self._closed:
            return ()
        unflushed: tuple[int, ...] = ()
        self._closed = True
        self._feed(Closing())
        try:
            async with asyncio.timeout(grace_s):
                await self._finished.wait()
        except TimeoutError:
            unflushed = self.cache.unflushed
            LOG.warning("no server answers: the locks of this mount are free when its session has ended")
        if self._timer is not None:
            self._timer.cancel()
        await self.files.close()
        if self.locks is not self.files:
            await self.locks.close()
        return unflushed

    def request(self, operation: Operation, now_ns: int, ended: Ended) -> Ticket:
        """Begin an operation; `ended` is called once, perhaps before this returns."""
        self._last_ticket += 1
        ticket = Ticket(self._last_ticket)
        self._ended[ticket] = ended
        self._feed(Requested(ticket, operation, now_ns))
        return ticket

    async def do(self, operation: Operation, now_ns: int) -> Result:
        """Carry out an operation and return its result; raise `FileFailure`."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

        def ended(result: Result | FileFailure, _: int) -> None:
            if future.done():
                return
            if isinstance(result, FileFailure):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.request(operation, now_ns, ended)
        return await future

    def cancel(self, ticket: Ticket) -> None:
        """Let an operation end with EINTR, if it has changed nothing."""
        if ticket in self._ended:
            self._feed(Cancelled(ticket))

    def forgotten(self, number: int) -> None:
        """The kernel has forgotten."""
        self._feed(Invalidated(number))

    # Steps

    def _feed(self, event: FileEvent) -> None:
        self._observe()
        self._do_all(self.cache.step(event, self._clock()))
        self._arm()

    def _observe(self) -> None:
        seen = self.locks.session
        if seen != self._seen:
            self._seen = seen
            self._do_all(self.cache.step(Observed(*seen), self._clock()))

    def _do_all(self, effects: list[FileEffect]) -> None:
        for effect in effects:
            match effect:
                case Call():
                    self._call(effect)
                case Done(ticket, result, valid_us):
                    self._ended.pop(ticket)(result, valid_us)
                case Invalidate(inode, number):
                    if self.forget is None:
                        asyncio.get_running_loop().call_soon(self.forgotten, number)
                    else:
                        self.forget(inode, number)
                case Say(text):
                    LOG.error("%s", text)
                case Finished():
                    self._finished.set()

    def _call(self, call: Call) -> None:
        client = self.locks if call.service == "locks" else self.files
        try:
            future = client.invoke(call.kind, call.payload, timeout_s=CALL_TIMEOUT_S)
        except NotExecuted:
            return  # the client is closed
        future.add_done_callback(partial(self._answered, call.call))

    def _answered(self, number: int, future: CallFuture | asyncio.Future[bytes]) -> None:
        self._feed(Answered(number, outcome_of(future)))

    def _notified(self, payload: bytes) -> None:
        notice = notice_of(payload)
        if notice is not None:
            self._feed(Told(notice))

    def _arm(self) -> None:
        if self._timer is not None:
            return
        deadline, now = self.cache.deadline, self._clock()
        pause_us = WATCH_US if deadline is None else max(0, min(WATCH_US, deadline - now))
        self._timer = self.files.loop.call_later(pause_us / MICROSECONDS_PER_SECOND, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        deadline = self.cache.deadline
        if deadline is not None and deadline <= self._clock():
            self._feed(Woke())
        else:
            self._observe()
            self._arm()
