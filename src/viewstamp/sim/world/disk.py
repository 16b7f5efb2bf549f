"""A disk with one seed: what was not synced may vanish, tear or survive; its other faults are asked for.

The rules of this file:

1. Content becomes durable by `fdatasync` of its file, names by `sync_directory` of theirs, by nothing else.
2. What is volatile is kept as `content` keeps it.
3. A sync that failed has lost its sectors: a later one reports success and does not save them, as Linux does.
4. Every effect of a fault is counted in `effects`.
"""

import errno
import os
import posixpath
import threading
from collections import Counter
from contextlib import AbstractContextManager
from random import Random
from typing import Final

import msgspec

from viewstamp.sim.world.content import (
    SECTOR_BYTES,
    Content,
    DiskFaults,
    Link,
    NameChange,
    Rename,
    SyncMark,
    Unlink,
    apply_change,
    draw_outcome,
    parent_of,
)
from viewstamp.storage.files import AlreadyLocked, Closeable, File, PathStatus

_ROOTS: Final = frozenset({".", "/"})


class PowerFailure(BaseException):
    """The power failed before the operation that was asked for (`SimFileSystem.fail_at`): now `crash`."""


class Damage(msgspec.Struct, frozen=True):
    """A byte that is not what was written."""

    path: str
    offset: int


class SimFile:
    """An open file of a `SimFileSystem`."""

    __slots__ = ("_content", "_files", "_life", "_path", "_writable")

    def __init__(self, files: "SimFileSystem", path: str, content: Content, *, writable: bool) -> None:
        self._files = files
        self._path = path
        self._content = content
        self._life = files.life
        self._writable = writable

    def _check(self) -> None:
        if self._life != self._files.life:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def pwrite(self, data: bytes, offset: int) -> int:
        """Write some of `data` and return how many bytes."""
        self._check()
        assert self._writable
        _refuse_negative(offset)
        files = self._files
        files.operate("pwrite", self._path)
        offset = files.displace(self._path, offset)
        data = files.shorten(data, offset)
        files.check_space(len(self._content.data), offset + len(data))
        self._content.write(data, offset)
        return len(data)

    def pread(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes."""
        self._check()
        _refuse_negative(length, offset)
        return bytes(self._content.data[offset : offset + length])

    def fdatasync(self) -> None:
        """Make content and length durable."""
        self._check()
        self._files.operate("fdatasync", self._path)
        if self._files.happens("sync_error", self._files.faults.sync_error):
            self._content.drop()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._content.sync()
        self._files.synced()

    def begin_sync(self) -> SyncMark:
        """Begin a sync that takes time; `finish_sync` makes durable what stands here now."""
        self._check()
        self._files.operate("fdatasync", self._path)
        return self._content.begin_sync()

    def finish_sync(self, mark: SyncMark) -> None:
        """End a sync. Raises `OSError` where it fails; what it covered is dropped then."""
        self._check()
        if self._files.happens("sync_error", self._files.faults.sync_error):
            self._content.drop()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._content.finish_sync(mark)
        self._files.synced()

    def truncate(self, length: int) -> None:
        """Set the length; what is cut off is gone at once."""
        self._check()
        del self._content.data[length:]

    def size(self) -> int:
        """Return the length in bytes."""
        self._check()
        return len(self._content.data)

    def close(self) -> None:
        """Close it."""
        self._life = -1


def _refuse_negative(*numbers: int) -> None:
    """Do as the system does, where a slice would answer with something."""
    if min(numbers) < 0:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


class _SimLock:
    __slots__ = ("_files", "_life", "_path")

    def __init__(self, files: "SimFileSystem", path: str) -> None:
        self._files = files
        self._life = files.life
        self._path = path

    def close(self) -> None:
        """Give the lock back, once."""
        if self._life == self._files.life:
            self._files.locked.discard(self._path)
        self._life = -1


class SimFileSystem:
    """A `storage.files.FileSystem` that lives in memory and can be made to fail."""

    def __init__(self, rng: Random, *, faults: DiskFaults | None = None) -> None:
        self.faults = DiskFaults() if faults is None else faults
        self.capacity_bytes: int | None = None
        """Sum of the lengths of all files that it can hold; None: without end."""
        self.effects: Counter[str] = Counter()
        """How often each fault took effect."""
        self.rotten: list[Damage] = []
        """What `rot` and `displace_next` did."""
        self.operations = 0
        """Number of operations so far that change something or make it durable."""
        self.next_effect = ""
        """The name of a probability in `faults` whose effect happens at the next occasion, once; "": none."""
        self.fail_at: int | None = None
        """Before this operation (the first is number 1) the power fails, once."""
        self.displace_next_bytes = 0
        """By how many bytes the next write is misdirected; 0: it is not."""
        self.displace_under = ""
        """Only a write to a file whose path begins with this."""
        self.misdirected = False
        """Whether a write was misdirected and nothing durable behind it shows that: no reader of a log can
        tell it from one that was never made."""
        self._followed = False
        """Whether another write was made since, durable or not."""
        self.life = 0
        """Grows with each crash and kill; files opened before are dead."""
        self.locked: set[str] = set()
        self._rng = rng
        self._names: dict[str, Content | None] = {}
        """All paths as a reader sees them; None: a directory."""
        self._durable_names: dict[str, Content | None] = {}
        self._changes: list[tuple[int, NameChange]] = []
        """What separates the two, in order, numbered."""
        self._renamed = 0
        """The number of the last change."""

    # FileSystem

    def open(self, path: str, *, writable: bool) -> File:
        """Open an existing file."""
        return SimFile(self, path, self._content(path), writable=writable)

    def create(self, path: str) -> File:
        """Make a new empty file."""
        self._make(path, Content())
        return self.open(path, writable=True)

    def mkdir(self, path: str) -> None:
        """Make a directory."""
        self._make(path, None)

    def _make(self, path: str, content: Content | None) -> None:
        self.operate("create", path)
        self._check_directory(parent_of(path))
        if path in self._names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self._change(Link(path, content))

    def rename(self, source: str, target: str) -> None:
        """Give a file another name."""
        self.operate("rename", target)
        assert parent_of(source) == parent_of(target)
        self._content(source)
        self._change(Rename(source, target))

    def unlink(self, path: str) -> None:
        """Remove a name."""
        self.operate("unlink", path)
        self._content(path)
        self._change(Unlink(path))

    def listdir(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""
        self._check_directory(path)
        return sorted(posixpath.basename(name) for name in self._names if parent_of(name) == path)

    def sync_directory(self, path: str) -> None:
        """Make the names in this directory durable."""
        self.finish_sync_directory(path, self.begin_sync_directory(path))

    def begin_sync_directory(self, path: str) -> int:
        """Begin such a sync; `finish_sync_directory` makes durable what was changed up to now."""
        self.operate("sync_directory", path)
        self._check_directory(path)
        return self._renamed

    def finish_sync_directory(self, path: str, upto: int) -> None:
        """End it."""
        kept: list[tuple[int, NameChange]] = []
        for number, change in self._changes:
            where = change.target if isinstance(change, Rename) else change.path
            if parent_of(where) == path and number <= upto:
                apply_change(change, self._durable_names)
            else:
                kept.append((number, change))
        self._changes = kept

    def durable_files(self, folder: str) -> dict[str, Content]:
        """Return the files of a directory whose names would survive any crash, by name."""
        found = self._durable_names.items()
        inside = {
            path: content for path, content in found if content is not None and parent_of(path) == folder
        }
        return {posixpath.basename(path): content for path, content in sorted(inside.items())}

    def status(self, path: str) -> PathStatus | None:
        """Return the kind and size of what is at a path; None: nothing."""
        if path in _ROOTS:
            return PathStatus("directory", 0o700, owned=True, size_bytes=0)
        if path not in self._names:
            return None
        content = self._names[path]
        if content is None:
            return PathStatus("directory", 0o700, owned=True, size_bytes=0)
        return PathStatus("file", 0o600, owned=True, size_bytes=len(content.data))

    def lock(self, path: str) -> Closeable:
        """Hold an exclusive lock."""
        if path in self.locked:
            raise AlreadyLocked("1")
        if path not in self._names:
            self._make(path, Content())
        self.locked.add(path)
        return _SimLock(self, path)

    def guard(self) -> AbstractContextManager[object]:
        """Return a lock between threads."""
        return threading.Lock()

    def _content(self, path: str) -> Content:
        content = self._names.get(path)
        if content is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return content

    def _check_directory(self, path: str) -> None:
        found = self.status(path)
        if found is None or found.kind != "directory":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def _change(self, change: NameChange) -> None:
        apply_change(change, self._names)
        self._renamed += 1
        self._changes.append((self._renamed, change))

    # Faults

    def crash(self) -> None:
        """The power failed: decide what survives of all that was not synced, and lose the rest."""
        self.kill()
        for content in self._contents():
            self.effects[f"content_{content.crash(self._rng, self.faults)}"] += 1
        if self._changes:
            self.effects[f"names_{self._crash_names()}"] += 1
        reachable = {path for path in self._durable_names if self._has_parents(path)}
        self._names = {path: content for path, content in self._durable_names.items() if path in reachable}
        self._durable_names = dict(self._names)
        self._changes = []

    def _crash_names(self) -> str:
        outcome = draw_outcome(self._rng, self.faults)
        for _, change in self._changes:
            if outcome == "kept" or (outcome == "torn" and self._rng.random() < 0.5):
                apply_change(change, self._durable_names)
        return outcome

    def _has_parents(self, path: str) -> bool:
        parent = parent_of(path)
        return parent in _ROOTS or (parent in self._durable_names and self._has_parents(parent))

    def kill(self) -> None:
        """The process ended; the machine runs on, and everything written is still in its memory."""
        self.life += 1
        self.locked.clear()
        self.fail_at = None
        self._followed = False

    def rot(self, under: str = "") -> Damage | None:
        """Flip one bit of a file whose path begins with `under`; None: there is nothing but zeros."""
        used = {
            path: len(content.data.rstrip(b"\0"))
            for path, content in sorted(self._names.items())
            if content is not None and path.startswith(under)
        }
        paths = [path for path, length in used.items() if length]
        if not paths:
            return None
        path = self._rng.choices(paths, [used[path] for path in paths])[0]
        damage = Damage(path, self._rng.randrange(used[path]))
        self._content(path).data[damage.offset] ^= 1 << self._rng.randrange(8)
        self.rotten.append(damage)
        self.effects["bit_rot"] += 1
        return damage

    def read(self, path: str) -> bytes:
        """Return the content of a file as a reader sees it now."""
        return bytes(self._content(path).data)

    def overwrite(self, path: str, content: bytes) -> None:
        """Replace a file's content as damage does; it is durable at once."""
        target = self._content(path)
        target.data[:] = content
        target.former.clear()
        target.dropped.clear()
        target.durable_bytes = len(content)

    def paths(self) -> list[str]:
        """Return the paths of all files, sorted."""
        return sorted(path for path, content in self._names.items() if content is not None)

    def image(self) -> dict[str, bytes | None]:
        """Return everything on it as a reader sees it now; None: a directory."""
        return {path: None if found is None else bytes(found.data) for path, found in self._names.items()}

    @staticmethod
    def from_image(image: dict[str, bytes | None], rng: Random) -> "SimFileSystem":
        """Return a disk on which all of this is durable."""
        files = SimFileSystem(rng)
        for path, data in image.items():
            content = None
            if data is not None:
                content = Content()
                content.data[:] = data
                content.durable_bytes = len(data)
            files._names[path] = files._durable_names[path] = content
        return files

    def _contents(self) -> list[Content]:
        found: dict[int, Content] = {}
        for names in (self._durable_names, self._names):
            for content in names.values():
                if content is not None:
                    found[id(content)] = content
        return list(found.values())

    # For `SimFile`

    def operate(self, kind: str, path: str) -> None:
        """Count an operation that is about to happen. Raises `PowerFailure` where `fail_at` says so."""
        self.operations += 1
        if self.operations == self.fail_at:
            self.fail_at = None
            raise PowerFailure(f"before operation {self.operations}: {kind} {path}")

    def happens(self, effect: str, probability: float) -> bool:
        """Draw, unless it was asked for, and count."""
        asked = effect == self.next_effect
        if asked:
            self.next_effect = ""
        if asked or (probability and self._rng.random() < probability):
            self.effects[effect] += 1
            return True
        return False

    def shorten(self, data: bytes, offset: int) -> bytes:
        """Return as much of `data` as this write takes."""
        first = SECTOR_BYTES - offset % SECTOR_BYTES
        if len(data) <= first or not self.happens("short_write", self.faults.short_write):
            return data
        return data[: first + self._rng.randrange((len(data) - first - 1) // SECTOR_BYTES + 1) * SECTOR_BYTES]

    def displace(self, path: str, offset: int) -> int:
        """Return where the write really goes."""
        if not self.displace_next_bytes or not path.startswith(self.displace_under):
            self._followed = self.misdirected
            return offset
        place = offset + self.displace_next_bytes
        if place < 0:
            place = offset - self.displace_next_bytes
        self.displace_next_bytes = 0
        self.effects["misdirected_write"] += 1
        self.rotten.append(Damage("", place))
        self.misdirected, self._followed = True, False
        return place

    def synced(self) -> None:
        """A sync succeeded: what was written behind a misdirected write is durable."""
        if self._followed:
            self.misdirected = self._followed = False

    def check_space(self, length: int, wanted: int) -> None:
        """Raise `OSError` where a file cannot grow from `length` to `wanted`."""
        if wanted <= length:
            return
        full = self.happens("disk_full", self.faults.disk_full)
        if not full and self.capacity_bytes is not None:
            used = sum(len(content.data) for content in self._names.values() if content is not None)
            full = used + wanted - length > self.capacity_bytes
            self.effects["disk_full"] += full
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
