"""What a client keeps of one inode while it holds the inode's lock.

Rules of this file:

- `base` is how far the service's content counts: what is beyond was cut here, and reads as NULs;
- a block is here in full or not at all; one that is missing is the service's, as far as `base`;
- `dirty` blocks are here; `cut` is the smallest size that the file had here since the last flush, where
  that is smaller than the size at the service;
- once the lock is lost nothing here counts, and nothing is written here.
"""

from viewstamp.services.extents.model import (
    BLOCK_BYTES,
    STORE_BYTES_MAX,
    TIME_NS_MAX,
    Attributes,
    Change,
    Entry,
)
from viewstamp.services.lock_events import Grant


class Held:
    """One inode under its lock."""

    __slots__ = ("attributes", "base", "blocks", "changed", "complete", "counted", "cut", "dirty", "grant",
                 "inode", "lost", "misses", "names")  # fmt: skip

    def __init__(self, inode: int, grant: Grant) -> None:
        self.inode = inode
        self.grant = grant
        self.attributes: Attributes | None = None
        """None: not asked for yet."""
        self.base = 0
        self.blocks: dict[int, bytearray] = {}
        self.dirty: set[int] = set()
        self.cut: int | None = None
        self.changed = False
        """The attributes are newer than the service's."""
        self.names: dict[bytes, Entry | None] = {}
        """Of a directory, as far as known; None: there is no such name."""
        self.misses = 0
        """How often a name was not known: at the second time the directory is read."""
        self.complete = False
        """All names are known."""
        self.lost = False
        self.counted = 0
        """Blocks of it that the cache has counted."""

    @property
    def is_dirty(self) -> bool:
        """Whether the service lacks something."""
        return self.changed

    def learn(self, attributes: Attributes) -> None:
        """Take the service's attributes, the first time."""
        self.attributes = attributes
        self.base = attributes.size

    def known(self) -> Attributes:
        """Return the attributes, which are here."""
        assert self.attributes is not None, self.inode
        return self.attributes

    def missing(self, first: int, last: int) -> list[int]:
        """Return which blocks from `first` to `last`, both included, are to be fetched first."""
        end = -(-self.base // BLOCK_BYTES)
        return [number for number in range(first, min(last, end - 1) + 1) if number not in self.blocks]

    def keep(self, number: int, content: bytes) -> None:
        """Keep a block that came from the service, as far as it counts."""
        if number not in self.blocks:
            self.blocks[number] = bytearray(content[: max(0, self.base - number * BLOCK_BYTES)])

    def read(self, offset: int, size: int) -> bytes:
        """Return the content of a range whose blocks are here."""
        end = min(offset + size, self.known().size)
        pieces = []
        while offset < end:
            number, start = divmod(offset, BLOCK_BYTES)
            length = min(BLOCK_BYTES - start, end - offset)
            piece = bytes(self.blocks.get(number, b"")[start : start + length])
            pieces.append(piece + bytes(length - len(piece)))
            offset += length
        return b"".join(pieces)

    def partial(self, offset: int, length: int) -> list[int]:
        """Return which blocks a write changes in part, and so must be here before."""
        if not length:
            return []
        first, last = offset // BLOCK_BYTES, (offset + length - 1) // BLOCK_BYTES
        covered = {
            number
            for number in range(first, last + 1)
            if offset <= number * BLOCK_BYTES and (number + 1) * BLOCK_BYTES <= offset + length
        }
        return [number for number in self.missing(first, last) if number not in covered]

    def write(self, offset: int, data: bytes, now_ns: int) -> None:
        """Write a range whose partial blocks are here."""
        view = memoryview(data)
        at = offset
        while view:
            number, start = divmod(at, BLOCK_BYTES)
            length = min(BLOCK_BYTES - start, len(view))
            block = self.blocks.setdefault(number, bytearray())
            if len(block) < start:
                block.extend(bytes(start - len(block)))
            block[start : start + length] = view[:length]
            self.dirty.add(number)
            at += length
            view = view[length:]
        size = max(self.known().size, offset + len(data))
        self._touch(now_ns, size=size)

    def resize(self, size: int, now_ns: int) -> None:
        """Cut the file, or let it end with NULs."""
        if size < self.known().size:
            self.base = min(self.base, size)
            self.cut = size if self.cut is None else min(self.cut, size)
            last, within = divmod(size, BLOCK_BYTES)
            for number in [number for number in self.blocks if number >= last]:
                if number == last and within:
                    del self.blocks[number][within:]
                else:
                    del self.blocks[number]
                    self.dirty.discard(number)
        self._touch(now_ns, size=size)

    def _touch(self, now_ns: int, *, size: int) -> None:
        """Set size and times: later than before, so that nobody takes the content for the same."""
        before = self.known()
        now = min(max(now_ns, before.mtime_ns + 1), TIME_NS_MAX)
        self.assign(size=size, mtime_ns=now, ctime_ns=now)

    def assign(self, **changes: int) -> None:
        """Change attributes here; the service hears of it with the next flush."""
        self.attributes = replaced(self.known(), **changes)
        self.changed = True

    def note(self, told: Attributes) -> None:
        """Take what the service did to it: a name more or less. What was changed here stays."""
        mine = self.attributes
        if mine is None or not self.changed:
            if mine is None:
                self.base = told.size
            self.attributes = told
        else:
            self.attributes = replaced(mine, links=told.links, ctime_ns=max(mine.ctime_ns, told.ctime_ns))

    # The way to the service

    def changes(self) -> list[Change]:
        """Return what the service lacks, in commands: the first, then the rest in any order."""
        if not self.changed:
            return []
        size = self.known().size
        runs: list[list[tuple[int, bytes]]] = [[]]
        room = STORE_BYTES_MAX
        for number in sorted(self.dirty):
            content = bytes(self.blocks[number][: max(0, size - number * BLOCK_BYTES)])
            if len(content) > room:
                runs.append([])
                room = STORE_BYTES_MAX
            runs[-1].append((number, content))
            room -= len(content)
        return [Change(self.known(), None if place else self.cut, run) for place, run in enumerate(runs)]

    def flushed(self) -> None:
        """The service has it all."""
        self.dirty.clear()
        self.cut = None
        self.changed = False
        self.base = self.known().size

    def evict(self) -> None:
        """Forget the blocks that the service has."""
        for number in [number for number in self.blocks if number not in self.dirty]:
            del self.blocks[number]


def replaced(attributes: Attributes, **changes: int) -> Attributes:
    """Return attributes with some of them changed."""
    known = {name: getattr(attributes, name) for name in attributes.__struct_fields__}
    return Attributes(**{**known, **changes})
