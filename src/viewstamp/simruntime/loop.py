"""An event loop of asyncio in virtual time: one for each process of the simulated world.

A *round* is what `asyncio.BaseEventLoop._run_once` does: what the sockets brought, then the timers that are
due, then all that was ready when the round began. The world decides when a round happens. Of a process that
has ended, nothing is run.
"""

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable
from contextvars import Context
from heapq import heappop, heappush
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, Final

from viewstamp.simruntime.executors import SimExecutor
from viewstamp.simruntime.fibers import Ended
from viewstamp.simruntime.host import Host
from viewstamp.simruntime.options import LoopOptions
from viewstamp.simruntime.sockets import Network
from viewstamp.simruntime.transports import Listener, connect

_DEFAULT_THREADS: Final = 8


class SimLoop(asyncio.AbstractEventLoop):
    """The loop of one life of a host."""

    def __init__(
        self, host: Host, network: Network, options: LoopOptions, escaped: Callable[[BaseException], None]
    ) -> None:
        """`escaped` is told of exceptions that nothing caught: in production the log would have them."""
        self.host = host
        self.network = network
        self.options = options
        self._life = host.life
        self._escaped = escaped
        self._ready: deque[asyncio.Handle] = deque()
        self._io: list[asyncio.Handle] = []
        """What the sockets brought since the last round."""
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._made = 0
        self._round_at_us: int | None = None
        """When the next round is; None: nothing is to be done."""
        self._executor = SimExecutor(host, _DEFAULT_THREADS)
        self._running = False
        host.on_end.append(self.abandon)

    # Time and callbacks

    def time(self) -> float:
        """Return the clock of the host, in seconds."""
        return self.host.read_clock() / 1e6

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Let this be called in the next round."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        if not self._running:
            self._plan(self.host.world.now_us)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_io(self, callback: Callable[..., object], *args: Any) -> None:
        """Let this be called in the next round, among what the sockets brought."""
        self._io.append(asyncio.Handle(callback, args, self))
        self._plan(self.host.world.now_us)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Let this be called after `delay` seconds."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Let this be called at a moment of `time`."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._made += 1
        heappush(self._timers, (when, self._made, timer))
        if not self._running:
            self._plan_timer()
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: a cancelled timer is passed over when it is due."""

    def _plan_timer(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heappop(timers)
        if timers:
            self._plan(self.host.clock.true(int(timers[0][0] * 1e6) + 1))

    def _plan(self, at_us: int) -> None:
        """Let there be a round at this moment, or when the thread is free."""
        at_us = max(at_us, self.host.busy_until_us)
        if self._round_at_us is None or at_us < self._round_at_us:
            self._round_at_us = at_us
            self.host.world.at(at_us, self._round, at_us)

    # Rounds

    def _round(self, planned_us: int) -> None:
        host, now_us = self.host, self.host.world.now_us
        if self._life != host.life or planned_us != self._round_at_us:
            return
        self._round_at_us = None
        if max(host.paused_until_us, host.busy_until_us) > now_us:
            self._plan(max(host.paused_until_us, host.busy_until_us))
            return
        self._collect()
        host.spent_us = 0
        self._running = True
        events._set_running_loop(self)  # noqa: SLF001  what every loop does
        try:
            self._run_ready()
        finally:
            events._set_running_loop(None)  # noqa: SLF001
            self._running = False
        if self._life == host.life:
            self._after_round(now_us)

    def _collect(self) -> None:
        """Make ready what the sockets brought, in any order, and then the timers that are due."""
        io = self._io
        if io:
            if len(io) > 1 and self.options.shuffled:
                self.host.rng.shuffle(io)
            self._ready.extend(io)
            io.clear()
        timers, end = self._timers, self.time() + 1e-6
        while timers and timers[0][0] < end:
            timer = heappop(timers)[2]
            if not timer.cancelled():
                self._ready.append(timer)

    def _run_ready(self) -> None:
        ready, life, host = self._ready, self._life, self.host
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()  # noqa: SLF001  as in asyncio
                if host.life != life:
                    return

    def _after_round(self, now_us: int) -> None:
        host, options = self.host, self.options
        cost = host.rng.randint(options.round_min_us, options.round_max_us)
        if options.slow and host.rng.random() < options.slow:
            cost += host.rng.randrange(options.slow_max_us)
        host.busy_until_us = now_us + host.spent_us + cost
        host.spent_us = 0
        if self._ready or self._io:
            self._plan(now_us)
        else:
            self._plan_timer()

    # Futures, tasks, threads

    def create_future(self) -> "asyncio.Future[Any]":
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> Any:
        """Return a task of this loop."""
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """Let a thread do this."""
        return asyncio.wrap_future((executor or self._executor).submit(func, *args), loop=self)

    def get_debug(self) -> bool:
        """Return that this loop does not debug."""
        return False

    def is_running(self) -> bool:
        """Return whether a round is under way."""
        return self._running

    def is_closed(self) -> bool:
        """Return whether the life of its process is over."""
        return self._life != self.host.life

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report what nothing caught."""
        error = context.get("exception")
        if self._life == self.host.life and not isinstance(error, Ended):
            self._escaped(error or RuntimeError(context.get("message", "")))

    def abandon(self) -> None:
        """Its process is over: what was never begun never will be."""
        for task in asyncio.all_tasks(self):
            coroutine: Any = task.get_coro()
            if getcoroutinestate(coroutine) == CORO_CREATED:
                coroutine.close()

    # Sockets

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any
    ) -> Any:
        """Connect to a port of the simulated world."""
        return await connect(self, protocol_factory, (host, port))

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        """Listen on a port of this host."""
        return Listener(self, protocol_factory, (host, port))


def make_loop(
    host: Host, network: Network, options: LoopOptions, escaped: Callable[[BaseException], None]
) -> SimLoop:
    """Return the loop of the present life of a host."""
    # Of the interface it has what the runtime uses; the rest raises where it is called.
    return SimLoop(host, network, options, escaped)  # type: ignore[abstract]
