"""Everything that storage asks of a file system, as one small interface, and the real one.

The rules of this file:

1. All of `viewstamp.storage` reaches the disk through `FileSystem`; the simulator has another.
2. `File` and `FileSystem` raise `OSError`, as the operating system does. `explained` turns it into
   `StorageError`: one line that says what was being done to which path.
3. A failed sync is never tried again: the kernel may have dropped the pages and would report success.
4. What is opened is a regular file: a FIFO would wait for a writer, a device has no end. Opening never waits.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Final, Literal, Protocol

import msgspec

from viewstamp.core.errors import ConfigurationError, StorageError
from viewstamp.storage.calls import OWN_CALLS, SystemCalls

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600
ZERO_FILL_PIECE_BYTES: Final = 1 << 20
_ZEROS: Final = bytes(ZERO_FILL_PIECE_BYTES)


class PathStatus(msgspec.Struct, frozen=True):
    """What stands at a path, symbolic links not followed."""

    kind: Literal["file", "directory", "link", "other"]
    mode: int
    """Permission bits only."""
    owned: bool
    """Whether the user of this process owns it."""
    size_bytes: int


class AlreadyLocked(Exception):
    """Another process, or another opening in this one, holds the lock; `holder` is what it wrote into it."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


class Closeable(Protocol):
    """Something that is held until it is closed. Closing twice is allowed."""

    def close(self) -> None:
        """Give it back."""
        ...


class File(Closeable, Protocol):
    """An open file. Positions are arguments: there is no current one."""

    def pwrite(self, data: bytes, offset: int) -> int:
        """Write some of `data`, at least one byte of it, and return how many bytes."""
        ...

    def pread(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes; fewer at the end of the file, or for no reason."""
        ...

    def fdatasync(self) -> None:
        """Return when everything written to this file, and its size, is durable."""
        ...

    def size(self) -> int:
        """Return the length in bytes."""
        ...


class FileSystem(Protocol):
    """A file system as storage needs it. Paths are strings with `/`."""

    def open(self, path: str, *, writable: bool) -> File:
        """Open an existing file. Never follows a symbolic link at the last step."""
        ...

    def create(self, path: str) -> File:
        """Make a new empty file, which must not exist, and open it for reading and writing."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Give a file another name in the same directory, atomically, in place of what stood there."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a name. The content lives as long as it is open."""
        ...

    def listdir(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""
        ...

    def mkdir(self, path: str) -> None:
        """Make a directory that only its owner may use. Its parent must exist."""
        ...

    def sync_directory(self, path: str) -> None:
        """Return when all names made, changed and removed in this directory are durable."""
        ...

    def status(self, path: str) -> PathStatus | None:
        """Say what stands at a path; None: nothing."""
        ...

    def lock(self, path: str) -> Closeable:
        """Hold an exclusive lock until the answer is closed or the process ends.

        Raises:
            AlreadyLocked: somebody else holds it.
        """
        ...

    def guard(self) -> AbstractContextManager[object]:
        """Return a new lock between the threads that use these files."""
        ...


class OsFile:
    """A file of the operating system."""

    __slots__ = ("calls", "descriptor")

    def __init__(self, descriptor: int, calls: SystemCalls = OWN_CALLS) -> None:
        self.descriptor = descriptor
        """-1 once it is closed."""
        self.calls = calls

    def pwrite(self, data: bytes, offset: int) -> int:
        """Write some of `data` and return how many bytes."""
        return self.calls.pwrite(self.descriptor, data, offset)

    def pread(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes."""
        return self.calls.pread(self.descriptor, length, offset)

    def fdatasync(self) -> None:
        """Make content and size durable."""
        self.calls.fdatasync(self.descriptor)

    def size(self) -> int:
        """Return the length in bytes."""
        return self.calls.fstat(self.descriptor).st_size

    def close(self) -> None:
        """Close it, once."""
        if self.descriptor >= 0:
            self.calls.close(self.descriptor)
            self.descriptor = -1

    def __del__(self) -> None:
        # A snapshot that was pruned while a follower still reads it is closed when its last reader lets go.
        self.close()


def open_regular(path: str | os.PathLike[str], flags: int, calls: SystemCalls = OWN_CALLS) -> int:
    """Open a regular file without ever waiting, and return its descriptor. Raises `OSError`."""
    descriptor = calls.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, FILE_MODE)
    if not stat.S_ISREG(calls.fstat(descriptor).st_mode):
        calls.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return descriptor


class OsFileSystem:
    """The file system of the operating system (Linux; local file systems only, because of the lock)."""

    __slots__ = ("_calls",)

    def __init__(self, calls: SystemCalls = OWN_CALLS) -> None:
        self._calls = calls

    def open(self, path: str, *, writable: bool) -> File:
        """Open an existing file."""
        access = os.O_RDWR if writable else os.O_RDONLY
        return OsFile(open_regular(path, access | os.O_NOFOLLOW, self._calls), self._calls)

    def create(self, path: str) -> File:
        """Make a new empty file."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return OsFile(self._calls.open(path, flags, FILE_MODE), self._calls)

    def rename(self, source: str, target: str) -> None:
        """Give a file another name."""
        self._calls.replace(source, target)

    def unlink(self, path: str) -> None:
        """Remove a name."""
        self._calls.unlink(path)

    def listdir(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""
        return sorted(self._calls.listdir(path))

    def mkdir(self, path: str) -> None:
        """Make a directory that only its owner may use."""
        self._calls.mkdir(path, DIRECTORY_MODE)

    def sync_directory(self, path: str) -> None:
        """Make the names in this directory durable."""
        calls = self._calls
        descriptor = calls.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            calls.fsync(descriptor)
        finally:
            calls.close(descriptor)

    def status(self, path: str) -> PathStatus | None:
        """Say what stands at a path; None: nothing."""
        try:
            found = self._calls.lstat(path)
        except FileNotFoundError:
            return None
        return PathStatus(
            kind=_kind(found.st_mode),
            mode=stat.S_IMODE(found.st_mode),
            owned=found.st_uid == self._calls.geteuid(),
            size_bytes=found.st_size,
        )

    def lock(self, path: str) -> Closeable:
        """Hold an exclusive lock, and write the number of this process into the file."""
        calls = self._calls
        descriptor = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, calls)
        file = OsFile(descriptor, calls)
        try:
            calls.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.pread(32, 0).decode("ascii", "replace").strip()
            file.close()
            raise AlreadyLocked(holder) from None
        calls.ftruncate(descriptor, 0)
        file.pwrite(f"{calls.getpid()}\n".encode(), 0)
        return file

    def guard(self) -> AbstractContextManager[object]:
        """Return a new lock between threads."""
        return self._calls.guard()


def _kind(mode: int) -> Literal["file", "directory", "link", "other"]:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "other"


def explain(error: OSError, doing: str, path: str) -> StorageError:
    """Return the one line for a person about an error of the operating system."""
    if error.errno == errno.ENOSPC:
        return StorageError(f"cannot {doing} {path}: the disk is full; free some space and start again")
    return StorageError(f"cannot {doing} {path}: {error.strerror or error}")


@contextlib.contextmanager
def explained(doing: str, path: str) -> Iterator[None]:
    """Turn an `OSError` of the block into a `StorageError` that names the path."""
    try:
        yield
    except OSError as error:
        raise explain(error, doing, path) from error


def write_all(file: File, data: bytes, offset: int) -> None:
    """Write all of `data`, however little the system takes at a time. Raises `OSError`."""
    done = file.pwrite(data, offset)
    while done < len(data):
        done += file.pwrite(data[done:], offset + done)


def read_all(file: File, length: int, offset: int) -> bytes:
    """Read exactly `length` bytes, or fewer where the file ends. Raises `OSError`."""
    data = file.pread(length, offset)
    if len(data) == length:
        return data
    pieces = [data]
    missing = length - len(data)
    while missing and pieces[-1]:
        pieces.append(file.pread(missing, offset + length - missing))
        missing -= len(pieces[-1])
    return b"".join(pieces)


def read_small_file(files: FileSystem, path: str, bytes_max: int) -> bytes:
    """Return the content of a file of at most `bytes_max` bytes. Raises `OSError`, also for a longer one."""
    file = files.open(path, writable=False)
    try:
        size = file.size()
        if size > bytes_max:
            raise OSError(errno.EFBIG, f"it has {size} bytes, more than {bytes_max}", path)
        return read_all(file, size, 0)
    finally:
        file.close()


def fill_with_zeros(file: File, size_bytes: int) -> None:
    """Write zeros from the start: extents that are only allocated make every later sync write metadata.

    Raises `OSError`.
    """
    for offset in range(0, size_bytes, ZERO_FILL_PIECE_BYTES):
        piece = min(ZERO_FILL_PIECE_BYTES, size_bytes - offset)
        write_all(file, _ZEROS if piece == ZERO_FILL_PIECE_BYTES else _ZEROS[:piece], offset)


def replace_file(files: FileSystem, directory: str, name: str, content: bytes) -> None:
    """Put a small file in place durably and atomically: after a crash it has its old content or the new.

    Raises:
        StorageError: it could not be done; the old content is still there, or the new one is.
    """
    temporary = f"{directory}/{name}.tmp"
    with explained("write", f"{directory}/{name}"):
        if files.status(temporary) is not None:
            files.unlink(temporary)
        file = files.create(temporary)
        try:
            write_all(file, content, 0)
            file.fdatasync()
        finally:
            file.close()
        files.rename(temporary, f"{directory}/{name}")
        files.sync_directory(directory)


def open_named(path: Path | str) -> BinaryIO:
    """Open a file that the user named, for reading.

    Raises:
        ConfigurationError: it cannot be opened, or is not a regular file; one line that names it.
    """
    try:
        return os.fdopen(open_regular(path, os.O_RDONLY), "rb")
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"cannot read {path}: {reason}") from error


def read_named(path: Path | str, *, bytes_max: int) -> bytes:
    """Return the content of a file that the user named.

    Raises:
        ConfigurationError: it cannot be read, is not a regular file, or is longer than `bytes_max`.
    """
    with open_named(path) as file:
        try:
            content = file.read(bytes_max + 1)
        except OSError as error:
            raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > bytes_max:
        raise ConfigurationError(f"cannot read {path}: it is too long, more than {bytes_max} bytes")
    return content
