"""Threads of the simulated world: real ones, of which one runs at a time, and only when it is told to.

Code that blocks in the middle of a call of the system (a sync beside the loop, the upkeep of the journal)
runs as it is. In a simulated call its thread *parks*; the world resumes it when the call is over. Nothing is
left to the scheduler of the operating system, so a seed gives one order.
"""

import threading
from collections.abc import Callable
from typing import Final


class Ended(BaseException):
    """The process that this code belonged to has ended; none of what it does has an effect."""


class _Carrier:
    """A thread that carries one fiber after the other."""

    __slots__ = ("back", "gate", "job")

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        self.back = threading.Lock()
        self.back.acquire()
        self.job: Callable[[], None] | None = None
        threading.Thread(target=self._run, name="viewstamp-fiber", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.gate.acquire()
            assert self.job is not None
            self.job()
            self.job = None
            self.back.release()


_IDLE: Final[list[_Carrier]] = []
"""Threads without a fiber; they serve the next run of this process."""


class Fiber:
    """One simulated thread. Made at rest; `resume` runs it until it parks or ends."""

    __slots__ = ("_carrier", "_error", "_job", "_killed", "over", "turns")

    current: "Fiber | None" = None
    """The one that runs now; None: the world itself does."""

    def __init__(self, job: Callable[[], None]) -> None:
        self._job = job
        self._carrier: _Carrier | None = None
        self._killed = False
        self._error: BaseException | None = None
        self.over = False
        """Whether it has come to its end."""
        self.turns = 0
        """How often it was resumed: what is to resume it remembers this, and comes too late if it grew."""

    def resume(self) -> None:
        """Go on with it, in its own thread, until it parks or ends."""
        carrier = self._carrier
        if carrier is None:
            carrier = self._carrier = _IDLE.pop() if _IDLE else _Carrier()
            carrier.job = self._run
        self.turns += 1
        before = Fiber.current
        assert before is not self
        Fiber.current = self
        carrier.gate.release()
        carrier.back.acquire()
        Fiber.current = before
        if self.over:
            _IDLE.append(carrier)
        if self._error is not None:
            raise self._error

    def park(self) -> None:
        """Stand still until `resume` is called. Only the fiber itself calls this; `Ended`: it was killed."""
        assert Fiber.current is self
        assert self._carrier is not None
        self._carrier.back.release()
        self._carrier.gate.acquire()
        if self._killed:
            raise Ended

    def kill(self) -> None:
        """Let it unwind, if it is not over and is not what runs now."""
        if self.over or Fiber.current is self:
            return
        self._killed = True
        if self._carrier is None:
            self.over = True
            return
        while not self.over:
            self.resume()

    def _run(self) -> None:
        try:
            if not self._killed:
                self._job()
        except Ended:
            pass
        except BaseException as error:  # noqa: BLE001  the world raises it, in its own thread
            self._error = error
        finally:
            self.over = True
