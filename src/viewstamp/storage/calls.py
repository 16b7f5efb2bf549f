"""The calls of the operating system that storage makes: all of them, and no others.

`files` and `direct` make their calls through this interface, so that the simulated world can stand below the
very code that runs in production, and let each call fail, be short or be slow.
"""

import fcntl
import os
import threading
from contextlib import AbstractContextManager
from typing import Final, Protocol


class SystemCalls(Protocol):
    """As in `os`, with its names. All of them raise `OSError`; a thread waits for as long as a call takes."""

    def open(self, path: str | os.PathLike[str], flags: int, mode: int = 0o777, /) -> int:
        """Open a file and return its descriptor."""
        ...

    def close(self, descriptor: int, /) -> None:
        """Give a descriptor back."""
        ...

    def pwrite(self, descriptor: int, data: bytes | memoryview, offset: int, /) -> int:
        """Write some of `data`; return how many bytes."""
        ...

    def pread(self, descriptor: int, length: int, offset: int, /) -> bytes:
        """Return up to `length` bytes."""
        ...

    def fdatasync(self, descriptor: int, /) -> None:
        """Make the content of a file and its length durable."""
        ...

    def fsync(self, descriptor: int, /) -> None:
        """Make a file or the names in a directory durable."""
        ...

    def fstat(self, descriptor: int, /) -> os.stat_result:
        """Return what an open file is."""
        ...

    def lstat(self, path: str, /) -> os.stat_result:
        """Return what stands at a path, links not followed."""
        ...

    def ftruncate(self, descriptor: int, length: int, /) -> None:
        """Set the length of a file."""
        ...

    def replace(self, source: str, target: str, /) -> None:
        """Give a file another name."""
        ...

    def unlink(self, path: str, /) -> None:
        """Remove a name."""
        ...

    def listdir(self, path: str, /) -> list[str]:
        """Return the names in a directory, in any order."""
        ...

    def mkdir(self, path: str, mode: int = 0o777, /) -> None:
        """Make a directory."""
        ...

    def geteuid(self) -> int:
        """Return the user of this process."""
        ...

    def getpid(self) -> int:
        """Return the number of this process."""
        ...

    def flock(self, descriptor: int, operation: int, /) -> None:
        """Lock an open file, as in `fcntl`."""
        ...

    def guard(self) -> AbstractContextManager[object]:
        """Return a new lock between threads."""
        ...


class _OwnCalls:
    """Those of the operating system."""

    open = staticmethod(os.open)
    close = staticmethod(os.close)
    pwrite = staticmethod(os.pwrite)
    pread = staticmethod(os.pread)
    fdatasync = staticmethod(os.fdatasync)
    fsync = staticmethod(os.fsync)
    fstat = staticmethod(os.fstat)
    lstat = staticmethod(os.lstat)
    ftruncate = staticmethod(os.ftruncate)
    replace = staticmethod(os.replace)
    unlink = staticmethod(os.unlink)
    listdir = staticmethod(os.listdir)
    mkdir = staticmethod(os.mkdir)
    geteuid = staticmethod(os.geteuid)
    getpid = staticmethod(os.getpid)
    flock = staticmethod(fcntl.flock)
    guard = staticmethod(threading.Lock)


OWN_CALLS: Final[SystemCalls] = _OwnCalls()
