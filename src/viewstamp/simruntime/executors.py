"""What blocks in the simulated world: executors whose work runs in fibers, and locks between threads."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from types import TracebackType
from typing import Any, TypeVar

from viewstamp.simruntime.fibers import Ended, Fiber
from viewstamp.simruntime.host import Host

T = TypeVar("T")
_START_US = 30
"""How long a thread takes to begin with what it is given, at most."""


class SimExecutor(Executor):
    """Threads of one life. With one thread, what is given to it happens in order."""

    def __init__(self, host: Host, threads: int) -> None:
        self._host = host
        self._life = host.life
        self._threads = threads
        self._queue: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._working = 0
        self._waiting: list[Fiber] = []
        """Those that wait for the end of all work."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Let a thread do this, and return the future of its result."""
        future: Future[T] = Future()
        self._queue.append((future, lambda: fn(*args, **kwargs)))
        if self._working < self._threads and self._life == self._host.life:
            self._working += 1
            self._host.spawn(self._work, self._host.rng.randrange(1, _START_US))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  as in `Executor`
        """Return when all work is done; called in a thread of the same life."""
        while self._working and self._life == self._host.life:
            fiber = Fiber.current
            assert fiber is not None, "an executor is shut down in a thread"
            self._waiting.append(fiber)
            fiber.park()

    def _work(self) -> None:
        while self._queue:
            future, job = self._queue.popleft()
            try:
                result = job()
            except Ended:
                raise
            except BaseException as error:  # noqa: BLE001  as in `concurrent.futures`
                future.set_exception(error)
            else:
                future.set_result(result)
        self._working -= 1
        for fiber in self._waiting:
            self._host.wake(fiber)
        self._waiting.clear()


class SimGuard:
    """A lock between the threads of one life, the loop's among them."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._life = host.life
        self._held = False
        self._holder: Fiber | None = None
        self._waiting: deque[Fiber] = deque()
        self.contended = 0

    def __enter__(self) -> None:
        host = self._host
        host.check(self._life)
        fiber = Fiber.current
        while self._held:
            self.contended += 1
            if fiber is None:
                self._hurry()
            else:
                self._waiting.append(fiber)
                fiber.park()
            host.check(self._life)
        self._held, self._holder = True, fiber

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held, self._holder = False, None
        if self._life == self._host.life and self._waiting:
            self._host.wake(self._waiting.popleft())

    def _hurry(self) -> None:
        """The loop's thread stands still until the holder lets go: run the holder until then."""
        holder = self._holder
        assert holder is not None, "the loop's thread waits for itself"
        self._host.spent_us += 100
        holder.resume()
