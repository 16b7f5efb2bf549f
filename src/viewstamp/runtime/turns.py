"""The turn loop of a sans-I/O core on asyncio: work gathers for a turn, one timer waits for the deadline.

A *turn* is what happens once for all events of one round of the loop. Servers and clients share this file;
what a turn does is theirs.

The clock is read once a turn, when it is planned. What the sockets bring in one round had arrived when the
round began: a moment read later, after a stall, would make it look fresher than it is.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from viewstamp.core.ids import Instant
from viewstamp.runtime.system import Clock

TURN_US: Final = 10_000
"""How long a turn goes on with work that can wait: what remains is left for the next turn."""
SHARE_US: Final = 2_000
"""How long a turn goes on with what earlier turns left."""
STALL_US: Final = 20_000
"""Coming later than this to a deadline means that the process stood still: the sockets come first."""
_POLL_AGAIN_S: Final = 0.001


class Turns:
    """Plans the turns of one core. `planned` is read directly where a call would be too slow."""

    __slots__ = ("_clock", "_loop", "_stopped", "_timer", "_timer_at", "_work", "now", "planned", "stalls")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Clock, work: Callable[[], Instant | None]
    ) -> None:
        """`work` does a turn and returns the core's deadline after it."""
        self._loop = loop
        self._clock = clock
        self._work = work
        self.planned = False
        """Whether a turn is planned or under way, so that what is added now is not forgotten."""
        self.now = clock()
        """The moment of the turn that is planned or under way, or of the last one."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = Instant(0)
        """The deadline that `_timer` was set for."""
        self._stopped = False
        self.stalls = 0
        """Times that the loop came late to a deadline by more than `STALL_US`."""

    def plan(self, now: Instant | None = None) -> None:
        """Let there be a turn in this round of the loop; `now`: the moment, if it was read already."""
        if not self.planned:
            self.planned = True
            self.now = self._clock() if now is None else now
            self._loop.call_soon(self._run)

    def stop(self) -> None:
        """Let there be no more turns."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run(self) -> None:
        if self._stopped:
            return
        self.planned = True
        try:
            deadline = self._work()
        finally:
            self.planned = False
        self._set_timer(deadline)

    def _set_timer(self, deadline: Instant | None) -> None:
        """Keep one timer that is not later than the deadline; too early is harmless and cheap."""
        timer = self._timer
        if deadline is None or self._stopped or (timer is not None and deadline >= self._timer_at):
            return
        now = self._clock()
        if deadline <= now:
            self.plan()
            return
        if timer is not None:
            timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_later((deadline - now) / 1e6, self._on_timer)

    def _on_timer(self) -> None:
        """The deadline that the timer was set for has come. After a stall let the sockets speak first.

        A process that stood still (a snapshot, a stopped virtual machine) finds its deadlines passed and,
        behind them, the heartbeats that would have moved them. It must not start an election before it has
        read them, nor a client give up on a reply that has arrived.
        """
        self._timer = None
        now = self._clock()
        if now - self._timer_at > STALL_US:
            self.stalls += 1
            self._loop.call_later(_POLL_AGAIN_S, self.plan)
        else:
            self.now = now
            self._run()
