"""Virtual time and the one queue of things that are going to happen.

Rules of this file: nothing happens outside the queue; of two things at one moment the one that was scheduled
first happens first; time moves only to the next thing. A run is therefore a pure function of what was
scheduled, and what is scheduled is a pure function of the seed.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

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
            self.step()
        return True
