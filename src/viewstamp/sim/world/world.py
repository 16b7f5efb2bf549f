"""What a simulated world consists of: virtual time with one queue of events, clocks, and random streams.

Rules of this file: nothing happens outside the queue; of two events at one moment the one that was scheduled
first happens first; time moves only to the next event. A run is therefore a pure function of what was
scheduled, and what is scheduled is a pure function of the seed.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any, Final

from viewstamp.core.ids import Instant

EVENTS_WAITING_MAX: Final = 1_000_000
"""More than this in the queue means that something multiplies without end."""


class World:
    """The event queue of one run. Times are microseconds since the run began."""

    __slots__ = ("_order", "_queue", "events", "now_us")

    def __init__(self) -> None:
        self.now_us = 0
        self.events = 0
        """How many things have happened; grows by one for each."""
        self._order = 0
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []

    @property
    def waiting(self) -> int:
        """How many things are scheduled."""
        return len(self._queue)

    @property
    def next_at_us(self) -> int | None:
        """When the next thing happens; None: the world has come to rest."""
        return self._queue[0][0] if self._queue else None

    def at(self, when_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Let `action(*arguments)` happen at a moment, now where that has passed."""
        self._order += 1
        heappush(self._queue, (max(when_us, self.now_us), self._order, action, arguments))

    def after(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Let `action(*arguments)` happen this much later (0 or more)."""
        self._order += 1
        heappush(self._queue, (self.now_us + delay_us, self._order, action, arguments))

    def step(self) -> bool:
        """Let the next thing happen; False where there is none."""
        if not self._queue:
            return False
        self.now_us, _, action, arguments = heappop(self._queue)
        self.events += 1
        action(*arguments)
        return True

    def run_until(self, limit_us: int) -> None:
        """Let everything up to and including this moment happen; then it is that moment."""
        queue = self._queue
        while queue and queue[0][0] <= limit_us:
            self.now_us, _, action, arguments = heappop(queue)
            self.events += 1
            action(*arguments)
        assert len(queue) <= EVENTS_WAITING_MAX, "I20 Bounded: the world's queue grows without end"
        self.now_us = max(self.now_us, limit_us)

    def run_while(self, condition: Callable[[], bool], limit_us: int) -> bool:
        """Run while the condition holds, at most up to the limit; True where it ended before the limit."""
        queue = self._queue
        while condition():
            if not queue or queue[0][0] > limit_us:
                self.now_us = max(self.now_us, limit_us)
                return False
            self.now_us, _, action, arguments = heappop(queue)
            self.events += 1
            action(*arguments)
        return True


_MILLION: Final = 1_000_000


class NodeClock:
    """Converts true (virtual) microseconds to a node's local ones and back. Monotonic by construction."""

    __slots__ = ("_local_base", "_rate_ppm", "_true_base", "drift_ppm")

    def __init__(self, *, start_us: int, drift_ppm: int) -> None:
        """Show `start_us` at true time 0 and gain `drift_ppm` microseconds a second (above -1,000,000)."""
        assert drift_ppm > -_MILLION
        self._true_base = 0
        self._local_base = start_us
        self._rate_ppm = _MILLION + drift_ppm
        self.drift_ppm = drift_ppm
        """How fast it was made to gain; see `steady`."""

    def local(self, true_us: int) -> Instant:
        """Return what this clock shows at a true moment."""
        return Instant(self._local_base + (true_us - self._true_base) * self._rate_ppm // _MILLION)

    def true(self, local_us: int) -> int:
        """Return the first true moment at which this clock shows `local_us` or later."""
        return self._true_base + -(-(local_us - self._local_base) * _MILLION // self._rate_ppm)

    def jump(self, true_us: int, forward_us: int) -> None:
        """Leap forward by `forward_us` (0 or more) at this true moment."""
        assert forward_us >= 0
        self._rebase(true_us)
        self._local_base += forward_us

    def steady(self, true_us: int) -> None:
        """From this true moment on keep exact pace."""
        self._rebase(true_us)
        self._rate_ppm = _MILLION

    def _rebase(self, true_us: int) -> None:
        self._local_base = self.local(true_us)
        self._true_base = true_us


class RandomTree:
    """Hands out the random streams of one run. Asking twice for one name starts the same stream again."""

    __slots__ = ("seed",)

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def stream(self, *name: str | int) -> Random:
        """Return a fresh stream for this purpose, named by words and numbers."""
        return Random("/".join([str(self.seed), *map(str, name)]))  # noqa: S311  reproducible on purpose


def log_uniform(rng: Random, low: float, high: float) -> float:
    """Draw so that each order of magnitude between `low` and `high` (both above 0) is equally likely."""
    return float(low * (high / low) ** rng.random())
