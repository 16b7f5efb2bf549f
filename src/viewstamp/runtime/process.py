"""What a node takes of the process that it runs in: files, threads, copies of itself, and its end.

The loop and the clock are given to a node as well, but by themselves. A simulated world gives all three, and
schedules every thread and every call of the system (`viewstamp.simruntime`).
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from time import monotonic
from typing import Any, Final, Protocol

from viewstamp.runtime.snapshotting import Child, fork_and_stream
from viewstamp.storage.files import FileSystem, OsFileSystem


class Process(Protocol):
    """The process of one node."""

    @property
    def files(self) -> FileSystem:
        """The file system that holds its data directory."""
        ...

    def executor(self, name: str) -> Executor:
        """Return a thread of this name; what is given to it happens in order."""
        ...

    def sample(self, name: str, every_s: float, look: Callable[[float], None]) -> Callable[[], None]:
        """Call `look` again and again from a thread of this name; return what ends that.

        `look` is told for how many seconds this process has run since the last time: not for how long it
        stood still.
        """
        ...

    def fork(self, parts: Iterator[bytes], record: Child | None = None) -> Iterator[bytes]:
        """Let a copy of this process drain the parts; see `snapshotting.fork_and_stream`."""
        ...

    def end(self, code: int) -> Any:
        """End this process now, whatever its threads do."""
        ...


class OwnProcess:
    """The process that this is."""

    def __init__(self) -> None:
        self.files: FileSystem = OsFileSystem()

    def executor(self, name: str) -> Executor:
        """Return a thread."""
        return ThreadPoolExecutor(1, thread_name_prefix=name)

    def sample(self, name: str, every_s: float, look: Callable[[float], None]) -> Callable[[], None]:
        """Start a thread; return what ends it."""
        sampler = _Sampler(every_s, look)
        threading.Thread(target=sampler.run, name=name, daemon=True).start()
        return sampler.ended.set

    def fork(self, parts: Iterator[bytes], record: Child | None = None) -> Iterator[bytes]:
        """Fork."""
        return fork_and_stream(parts, record)

    def end(self, code: int) -> Any:
        """End it."""
        sys.stderr.flush()
        os._exit(code)


class _Sampler:
    __slots__ = ("_every_s", "_look", "ended")

    def __init__(self, every_s: float, look: Callable[[float], None]) -> None:
        self._every_s = every_s
        self._look = look
        self.ended = threading.Event()

    def run(self) -> None:
        before = monotonic()
        while not self.ended.wait(self._every_s):
            now = monotonic()
            self._look(min(now - before, 2 * self._every_s))
            before = now


OWN_PROCESS: Final[Process] = OwnProcess()
