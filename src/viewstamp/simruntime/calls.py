"""The calls of the system that a simulated process makes for its files (`storage.calls.SystemCalls`).

Each call takes time, may fail or do less than it was asked for, and may be the last one of its process. A
thread that waits for one parks, so that calls of other threads, and rounds of the loop, come in between.
"""

import errno
import fcntl
import os
import stat
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from random import Random
from typing import Final

from viewstamp.sim.world.disk import SimFile, SimFileSystem
from viewstamp.sim.world.options import DiskOptions
from viewstamp.simruntime.executors import SimGuard
from viewstamp.simruntime.fibers import Ended
from viewstamp.simruntime.host import Host
from viewstamp.simruntime.options import CallOptions

BLOCK_BYTES: Final = 512
"""What a direct write is aligned to."""
_HANG_US: Final = 30_000_000
_OWN_FILES: Final = "/proc/self/fd/"
_PID: Final = 4242


class _Opened:
    """An open descriptor."""

    __slots__ = ("direct", "file", "locks", "path")

    def __init__(self, path: str, file: SimFile | None, *, direct: bool) -> None:
        self.path = path
        self.file = file
        """None: a directory."""
        self.direct = direct
        self.locks = False


class Disk:
    """The disk of one machine, its faults, and who looks on."""

    def __init__(self, files: SimFileSystem, rng: Random, options: DiskOptions, calls: CallOptions) -> None:
        self.files = files
        self.rng = rng
        self.options = options
        self.calls = calls
        self.counts: Counter[str] = Counter()
        """How often each fault took effect, besides those that `files` counts."""
        self.made = 0
        """Calls so far."""
        self.crash_at: int | None = None
        """Before this call, counted by `made`, the process ends."""
        self.on_crash: Callable[[], None] = lambda: None
        self.synced: Callable[[str], None] = lambda _folder: None
        """Called when something in a directory, or its names, became durable."""
        self.called: Callable[[str, str], None] = lambda _kind, _path: None
        """Called for each call."""


class SimCalls:
    """The system as one life of a host sees it."""

    def __init__(self, host: Host, disk: Disk) -> None:
        self._host = host
        self._life = host.life
        self._disk = disk
        self._files = disk.files
        self._opened: dict[int, _Opened] = {}
        self._next = 3

    # What happens at each call

    def _enter(self, kind: str, path: str) -> None:
        """Count a call, end the process if it is to be its last, and let it take time."""
        host, disk = self._host, self._disk
        host.check(self._life)
        disk.made += 1
        if disk.crash_at is not None and disk.made >= disk.crash_at:
            disk.crash_at = None
            disk.counts["crash at a call"] += 1
            disk.on_crash()
            raise Ended
        disk.called(kind, path)
        host.wait(disk.rng.randint(1, disk.calls.call_max_us))
        host.check(self._life)

    def _fault(self, name: str, share: float) -> bool:
        if share and self._disk.rng.random() < share:
            self._disk.counts[name] += 1
            return True
        return False

    def _sync_us(self) -> int:
        options, rng = self._disk.options, self._disk.rng
        if self._fault("sync that hangs", self._disk.calls.hang_rate):
            return _HANG_US
        if self._fault("slow sync", options.stall_rate):
            return rng.randrange(1, options.stall_max_us)
        return options.sync_min_us + int(rng.expovariate(1.0 / options.sync_mean_us))

    def _of(self, descriptor: int) -> _Opened:
        found = self._opened.get(descriptor)
        if found is None:
            self._host.check(self._life)
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return found

    def _file(self, descriptor: int) -> SimFile:
        file = self._of(descriptor).file
        if file is None:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        return file

    # SystemCalls

    def open(self, path: str | os.PathLike[str], flags: int, mode: int = 0o777, /) -> int:  # noqa: ARG002  as in `os`
        """Open a file."""
        path = os.fspath(path)
        self._enter("open", path)
        if path.startswith(_OWN_FILES):
            return self._open_again(path)
        files = self._files
        found = files.status(path)
        if flags & os.O_DIRECTORY:
            if found is None or found.kind != "directory":
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            return self._keep(_Opened(path, None, direct=False))
        if flags & os.O_CREAT and (found is None or flags & os.O_EXCL):
            file = files.create(path)
        else:
            file = files.open(path, writable=bool(flags & os.O_RDWR))
        assert isinstance(file, SimFile)
        return self._keep(_Opened(path, file, direct=False))

    def _open_again(self, path: str) -> int:
        """Open a file of this process once more, for direct writes."""
        if not self._disk.calls.direct:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        first = self._of(int(path.removeprefix(_OWN_FILES)))
        return self._keep(_Opened(first.path, first.file, direct=True))

    def _keep(self, opened: _Opened) -> int:
        self._next += 1
        self._opened[self._next] = opened
        return self._next

    def close(self, descriptor: int, /) -> None:
        """Close a descriptor. Called when the collector comes by as well, so it takes no time."""
        opened = self._opened.pop(descriptor, None)
        if opened is not None and opened.locks and self._life == self._host.life:
            self._files.locked.discard(opened.path)

    def pwrite(self, descriptor: int, data: bytes | memoryview, offset: int, /) -> int:
        """Write some of it."""
        opened, file = self._of(descriptor), self._file(descriptor)
        content = bytes(data)
        self._enter("pwrite", opened.path)
        if opened.direct:
            if offset % BLOCK_BYTES or len(content) % BLOCK_BYTES:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            if self._fault("direct write refused", self._disk.calls.direct_refused):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if self._fault("write error", self._disk.calls.write_error):
            number = self._disk.rng.choice((errno.EIO, errno.ENOSPC, errno.EDQUOT))
            raise OSError(number, os.strerror(number))
        return file.pwrite(content, offset)

    def pread(self, descriptor: int, length: int, offset: int, /) -> bytes:
        """Read some of it; reads take no time."""
        return self._file(descriptor).pread(length, offset)

    def fdatasync(self, descriptor: int, /) -> None:
        """Make durable what was written to a file before this began."""
        opened, file = self._of(descriptor), self._file(descriptor)
        self._enter("fdatasync", opened.path)
        mark = file.begin_sync()
        self._host.wait(self._sync_us())
        file.finish_sync(mark)
        self._disk.synced(os.path.dirname(opened.path))  # noqa: PTH120  paths are strings here

    def fsync(self, descriptor: int, /) -> None:
        """Make a file, or the names in a directory, durable."""
        opened = self._of(descriptor)
        if opened.file is not None:
            self.fdatasync(descriptor)
            return
        self._enter("fsync", opened.path)
        mark = self._files.begin_sync_directory(opened.path)
        self._host.wait(self._sync_us())
        if self._fault("directory sync failed", self._disk.calls.directory_sync_error):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._files.finish_sync_directory(opened.path, mark)
        self._disk.synced(opened.path)

    def fstat(self, descriptor: int, /) -> os.stat_result:
        """Return what an open file is."""
        file = self._of(descriptor).file
        return (
            _status(stat.S_IFDIR | 0o700, 0) if file is None else _status(stat.S_IFREG | 0o600, file.size())
        )

    def lstat(self, path: str, /) -> os.stat_result:
        """Return what stands at a path."""
        self._host.check(self._life)
        found = self._files.status(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        kind = stat.S_IFREG if found.kind == "file" else stat.S_IFDIR
        return _status(kind | found.mode, found.size_bytes)

    def ftruncate(self, descriptor: int, length: int, /) -> None:
        """Set the length of a file."""
        self._enter("ftruncate", self._of(descriptor).path)
        self._file(descriptor).truncate(length)

    def replace(self, source: str, target: str, /) -> None:
        """Give a file another name."""
        self._enter("rename", target)
        self._files.rename(source, target)

    def unlink(self, path: str, /) -> None:
        """Remove a name."""
        self._enter("unlink", path)
        self._files.unlink(path)

    def listdir(self, path: str, /) -> list[str]:
        """Return the names in a directory, in any order."""
        self._host.check(self._life)
        names = self._files.listdir(path)
        self._disk.rng.shuffle(names)
        return names

    def mkdir(self, path: str, mode: int = 0o777, /) -> None:  # noqa: ARG002  as in `os`
        """Make a directory."""
        self._enter("mkdir", path)
        self._files.mkdir(path)

    def geteuid(self) -> int:
        """Return the user."""
        return 0

    def getpid(self) -> int:
        """Return the number of the process."""
        return _PID

    def flock(self, descriptor: int, operation: int, /) -> None:
        """Lock a file until it is closed or the process ends."""
        opened = self._of(descriptor)
        if operation & fcntl.LOCK_EX:
            if opened.path in self._files.locked:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            self._files.locked.add(opened.path)
            opened.locks = True

    def guard(self) -> AbstractContextManager[object]:
        """Return a lock between the threads of this process."""
        return SimGuard(self._host)


def _status(mode: int, size: int) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, 0, 0, size, 0, 0, 0))
