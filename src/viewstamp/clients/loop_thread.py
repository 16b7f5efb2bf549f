"""An event loop in a thread of its own, for the blocking fronts of clients that live on a loop."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from viewstamp.core.errors import NotExecuted
from viewstamp.runtime.forks import stays_behind, used_after_fork

T = TypeVar("T")


class LoopThread:
    """A loop in a thread of its own."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()
        self.ended = False
        self.is_parents = False
        """Whether this process is a child of `fork`, where there is no such thread."""
        stays_behind(self)

    def left_behind(self) -> None:
        """Refuse everything: the thread is the parent's (`forks.StaysBehind`)."""
        self.ended = self.is_parents = True

    def run(self, awaitable: Awaitable[T]) -> T:
        """Return what this comes to on the loop. An interrupted thread waits no longer, and cancels it.

        Raises:
            NotExecuted: the client is closed, or was made before a fork.
        """
        if self.ended:
            if asyncio.iscoroutine(awaitable):
                awaitable.close()
            raise (
                used_after_fork()
                if self.is_parents
                else NotExecuted("the client is closed: no call can be made")
            )
        future = asyncio.run_coroutine_threadsafe(_awaited(awaitable), self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Close a client there, and end. In a child of `fork` nothing is closed: it is the parent's."""
        if self.is_parents:
            return
        try:
            self.run(close())
        finally:
            self.end()

    def end(self) -> None:
        """Stop the loop."""
        self.run(self.loop.shutdown_default_executor())
        self.ended = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable
