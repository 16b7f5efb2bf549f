"""The content of files and the names in directories, with what of them is not durable yet, sector by sector.

The rules of this file:

1. What is volatile is kept as former versions of the sectors that changed: a sync costs nothing, no file is
   ever copied.
2. A sync covers what was written before it began, and nothing that was written while it ran.
3. Names become durable by a sync of their directory, in any order where there was none.
"""

import posixpath
from random import Random
from typing import Final, TypeAlias

import msgspec

SECTOR_BYTES: Final = 512


class DiskFaults(msgspec.Struct):
    """Probabilities of faults, each between 0 and 1. May be changed at any time."""

    torn: float = 0.5
    """The share of files and directories with volatile content are torn in a crash; the others keep all of
    it or lose all of it."""
    kept: float = 0.5
    """The share of those others that keep all of it."""
    sync_error: float = 0.0
    """The share of syncs of a file that fail with EIO."""
    disk_full: float = 0.0
    """The share of growing writes that fail with ENOSPC."""
    short_write: float = 0.0
    """The share of writes of more than one sector that stop at a sector's end."""


class SyncMark(msgspec.Struct, frozen=True):
    """What a file held when a sync began."""

    size_bytes: int
    versions: dict[int, int]
    """For each sector with volatile content how many former versions it had."""


class Content:
    """The content of one file."""

    __slots__ = ("data", "dropped", "durable_bytes", "former")

    def __init__(self) -> None:
        self.data = bytearray()
        """As a reader sees it."""
        self.durable_bytes = 0
        """Length that would certainly survive a crash."""
        self.former: dict[int, list[bytes]] = {}
        """For each sector with volatile content what it held before, the durable version first."""
        self.dropped: dict[int, list[bytes]] = {}
        """The same for sectors that a failed sync gave up: only writing them again can save them."""

    def write(self, data: bytes, offset: int) -> None:
        """Write all of it; what it changes is volatile."""
        content = self.data
        end = offset + len(data)
        for sector in range(offset // SECTOR_BYTES, (end + SECTOR_BYTES - 1) // SECTOR_BYTES):
            begin = sector * SECTOR_BYTES
            if sector in self.dropped:
                self.former[sector] = self.dropped.pop(sector)
            self.former.setdefault(sector, []).append(bytes(content[begin : begin + SECTOR_BYTES]))
        if offset > len(content):
            content.extend(bytes(offset - len(content)))
        content[offset:end] = data

    def sync(self) -> None:
        """Make everything durable at once."""
        self.former.clear()
        self.durable_bytes = len(self.data)

    def begin_sync(self) -> SyncMark:
        """Return what a sync covers that begins now."""
        return SyncMark(len(self.data), {sector: len(versions) for sector, versions in self.former.items()})

    def finish_sync(self, mark: SyncMark) -> None:
        """Make durable what stood here when the sync began, and nothing that was written since."""
        former = self.former
        for sector, count in mark.versions.items():
            versions = former.get(sector)
            if versions is None:
                continue  # another sync, or a failed one, has had it meanwhile
            if len(versions) > count:
                former[sector] = versions[
                    count:
                ]  # written again since: what stood here is its durable version
            else:
                del former[sector]
        self.durable_bytes = max(self.durable_bytes, mark.size_bytes)

    def is_durable(self, begin: int, end: int) -> bool:
        """Return whether these bytes would survive any crash as they are now."""
        if end > self.durable_bytes:
            return False
        sectors = range(begin // SECTOR_BYTES, (end + SECTOR_BYTES - 1) // SECTOR_BYTES)
        return all(self._is_settled(sector, begin, end) for sector in sectors)

    def _is_settled(self, sector: int, begin: int, end: int) -> bool:
        """Return whether every version of a sector holds the same between these places of the file."""
        versions = [*self.dropped.get(sector, ()), *self.former.get(sector, ())]
        if not versions:
            return True
        first = sector * SECTOR_BYTES
        low, high = max(begin, first), min(end, first + SECTOR_BYTES)
        now = self.data[low:high]
        return all(version[low - first : high - first] == now for version in versions)

    def drop(self) -> None:
        """Count everything volatile as written, and save none of it: what a failed sync does."""
        for sector, versions in self.former.items():
            self.dropped.setdefault(sector, versions)
        self.former.clear()

    def crash(self, rng: Random, faults: DiskFaults) -> str:
        """Decide what survives and return the outcome in a word."""
        volatile = {**self.former, **self.dropped}
        if not volatile:
            return "untouched"
        outcome = draw_outcome(rng, faults)
        if outcome != "kept":
            size = self._surviving_size(rng, outcome)
            for sector, versions in sorted(volatile.items()):
                if outcome == "lost":
                    self._put(sector, versions[0])
                elif rng.random() < 0.5:
                    self._put(sector, rng.choice(versions))
            del self.data[size:]
        self.former.clear()
        self.dropped.clear()
        self.durable_bytes = len(self.data)
        return outcome

    def _surviving_size(self, rng: Random, outcome: str) -> int:
        if outcome == "lost" or len(self.data) == self.durable_bytes:
            return self.durable_bytes
        steps = (len(self.data) - self.durable_bytes) // SECTOR_BYTES + 1
        return min(self.durable_bytes + rng.randint(0, steps) * SECTOR_BYTES, len(self.data))

    def _put(self, sector: int, version: bytes) -> None:
        begin = sector * SECTOR_BYTES
        length = len(self.data[begin : begin + SECTOR_BYTES])
        self.data[begin : begin + length] = version[:length].ljust(length, b"\0")


class Link(msgspec.Struct, frozen=True):
    """A name was made for this content; None: for a directory."""

    path: str
    content: Content | None


class Unlink(msgspec.Struct, frozen=True):
    """A name was removed."""

    path: str


class Rename(msgspec.Struct, frozen=True):
    """A file got another name, in place of what stood there."""

    source: str
    target: str


NameChange: TypeAlias = Link | Unlink | Rename


def draw_outcome(rng: Random, faults: DiskFaults) -> str:
    """Return whether what is volatile is torn, kept or lost in a crash."""
    if rng.random() < faults.torn:
        return "torn"
    return "kept" if rng.random() < faults.kept else "lost"


def apply_change(change: NameChange, names: dict[str, Content | None]) -> None:
    """Carry a change out."""
    match change:
        case Link():
            names[change.path] = change.content
        case Unlink():
            names.pop(change.path, None)
        case Rename():
            if change.source in names:
                names[change.target] = names.pop(change.source)


def parent_of(path: str) -> str:
    """Return the directory of a path."""
    return posixpath.dirname(path) or "."
