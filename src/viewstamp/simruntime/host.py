"""A machine of the simulated world, with one process at a time: its clock, its threads, the time it takes.

Rules of this file:

1. A *life* is one process. What was scheduled for a life does nothing once it is over.
2. Code on the loop takes no time by itself. What it waits for (a sync on the loop's thread) is added up as
   `spent_us`; the loop's next round comes after that, and what was sent after it leaves after it.
3. A thread that waits parks, and the others go on meanwhile.
"""

from collections.abc import Callable
from random import Random

from viewstamp.core.ids import Instant
from viewstamp.sim.world.world import NodeClock, World
from viewstamp.simruntime.fibers import Ended, Fiber


class Host:
    """A machine with one address. `begin` and `end` bound the life of its process."""

    def __init__(self, name: str, world: World, rng: Random, *, drift_ppm: int = 0) -> None:
        self.name = name
        self.world = world
        self.rng = rng
        self.clock = NodeClock(start_us=rng.randrange(1, 10**9), drift_ppm=drift_ppm)
        self.life = 0
        """Number of the present life, or of the last one."""
        self.alive = False
        """Whether a process runs."""
        self.powered = True
        """Whether the machine answers; False only while a power failure lasts."""
        self.paused_until_us = 0
        self.busy_until_us = 0
        """The loop's thread is in the middle of something until then."""
        self.spent_us = 0
        """What the code that runs on the loop now has waited for."""
        self.on_end: list[Callable[[], None]] = []
        """Called once, when the life is over."""
        self._fibers: list[Fiber] = []

    def now_us(self) -> int:
        """Return this moment of true time, as the running code has come to it."""
        return self.world.now_us + (self.spent_us if Fiber.current is None else 0)

    def read_clock(self) -> Instant:
        """Return what the clock of this machine shows."""
        return self.clock.local(self.now_us())

    def begin(self) -> int:
        """Begin a life and return its number."""
        assert not self.alive
        self.life += 1
        self.alive = True
        self.busy_until_us = self.world.now_us
        self.spent_us = 0
        return self.life

    def end(self) -> None:
        """End the life at once; its threads unwind without an effect."""
        self.alive = False
        self.life += 1
        self.paused_until_us = 0
        fibers, self._fibers = self._fibers, []
        for fiber in fibers:
            fiber.kill()
        waiting, self.on_end = self.on_end, []
        for action in waiting:
            action()

    def check(self, life: int) -> None:
        """Raise `Ended` where this life is over."""
        if life != self.life:
            raise Ended

    def spawn(self, job: Callable[[], None], delay_us: int) -> Fiber:
        """Let a thread of this life begin after a while."""
        fiber = Fiber(job)
        self._fibers = [each for each in self._fibers if not each.over]
        self._fibers.append(fiber)
        self.world.after(self.spent_us + delay_us, self._go_on, fiber, self.life, 0)
        return fiber

    def wait(self, delay_us: int) -> None:
        """Let this much time pass for the code that calls; `Ended` where its life ends meanwhile."""
        life, fiber = self.life, Fiber.current
        if fiber is None:
            self.spent_us += delay_us
            return
        self.world.after(delay_us, self._go_on, fiber, life, fiber.turns)
        fiber.park()
        self.check(life)

    def wake(self, fiber: Fiber) -> None:
        """Let a parked thread of this life go on, soon."""
        self.world.after(1, self._go_on, fiber, self.life, fiber.turns)

    def _go_on(self, fiber: Fiber, life: int, turns: int) -> None:
        if life != self.life or fiber.over or turns != fiber.turns:
            return
        if self.paused_until_us > self.world.now_us:
            self.world.at(self.paused_until_us, self._go_on, fiber, life, turns)
        else:
            fiber.resume()
