"""The state of a file system: inodes, directories, blocks, and who has an inode open that lost its name.

Rules of this file:

- an inode number is never used twice; 1 is the root;
- the names of a directory are in `names` and, in order, in `sorted`; a name is kept as text of the same bytes
  (Latin-1), which has their order;
- an inode lives while it has a link or a pin; a directory has 2 `links`, and one more for each directory
  in it;
- a stored block has no byte beyond the size of its file, so that a file that grows again reads as NULs there;
- `used` is the sum of the lengths of all blocks;
- an operation that raises has changed nothing.
"""

from typing import Final

from viewstamp.services.extents.model import (
    BLOCK_BYTES,
    LISTING_MAX,
    NAME_BYTES_MAX,
    READ_BLOCKS_MAX,
    ROOT,
    STORE_BYTES_MAX,
    TARGET_BYTES_MAX,
    TIME_NS_MAX,
    Attributes,
    Birth,
    Change,
    Entry,
    FileLimits,
    InvalidChange,
    IsADirectory,
    Kind,
    Listing,
    NameTaken,
    NameTooLong,
    NoInode,
    NoName,
    NoSpace,
    NotADirectory,
    NotEmpty,
    Piece,
    Removed,
    Totals,
    permission_bits,
)
from viewstamp.services.sorted_names import SortedNames

_ID_MAX: Final = (1 << 32) - 1


class Inode:
    """One file, directory or symbolic link."""

    __slots__ = ("blocks", "device", "fence", "kind", "links", "mode", "names", "owner", "parent", "pins",
                 "size", "sorted", "target", "times")  # fmt: skip

    def __init__(self, kind: Kind, mode: int, owner: tuple[int, int], times: tuple[int, int, int]) -> None:
        self.kind: Kind = kind
        self.mode = mode
        self.owner = owner
        self.times = times
        """atime, mtime and ctime."""
        self.links = 2 if kind == "directory" else 1
        self.size = 0
        self.device = 0
        self.fence = 0
        """The largest token that was seen with it, where the locks are in another machine."""
        self.parent = 0
        """Of a directory."""
        self.target = b""
        self.blocks: dict[int, bytes] = {}
        self.names: dict[str, int] = {}
        self.sorted = SortedNames()
        self.pins: set[int] = set()
        """Clients that have it open though another may hold its lock."""


class FileTree:
    """All inodes of one file system."""

    def __init__(self, limits: FileLimits) -> None:
        self.limits = limits
        self.inodes: dict[int, Inode] = {}
        self.next_inode = ROOT
        self.used = 0
        self.pinned: dict[int, set[int]] = {}
        """Of each client the inodes that it has pinned: an index of `Inode.pins`."""

    # Questions

    def inode(self, number: int) -> Inode:
        """Return an inode; raise `NoInode`."""
        found = self.inodes.get(number)
        if found is None:
            missing = f"inode {number}" if self.inodes else "file system: make one"
            raise NoInode(f"there is no {missing}")
        return found

    def directory(self, number: int) -> Inode:
        """Return a directory; raise `NoInode` or `NotADirectory`."""
        found = self.inode(number)
        if found.kind != "directory":
            raise NotADirectory(f"inode {number} is not a directory")
        return found

    def attributes(self, number: int) -> Attributes:
        """Return what `stat` says; raise `NoInode`."""
        inode = self.inode(number)
        size = len(inode.target) if inode.kind == "symlink" else inode.size
        return Attributes(
            number, inode.kind, inode.mode, *inode.owner, inode.links, size, *inode.times, inode.device
        )

    def find(self, parent: int, name: bytes) -> Entry | None:
        """Return the entry of a name."""
        number = self.directory(parent).names.get(name.decode("latin-1"))
        return None if number is None else Entry(name, number, self.inodes[number].kind)

    def listing(self, parent: int, after: bytes, limit: int) -> Listing:
        """Return up to `limit` entries (1,000 at most) that follow `after`."""
        directory = self.directory(parent)
        limit = max(0, min(limit, LISTING_MAX))
        names = directory.sorted.page("", after.decode("latin-1"), limit + 1)
        entries = []
        for name in names[:limit]:
            number = directory.names[name]
            entries.append(Entry(name.encode("latin-1"), number, self.inodes[number].kind))
        return Listing(entries, more=len(names) > limit)

    def read(self, number: int, first: int, count: int) -> Piece:
        """Return up to 8 blocks; blocks beyond the end are left out."""
        inode = self.inode(number)
        last = min(first + max(0, min(count, READ_BLOCKS_MAX)), -(-inode.size // BLOCK_BYTES))
        blocks = [inode.blocks.get(block, b"") for block in range(max(0, first), last)]
        return Piece(self.attributes(number), blocks)

    def totals(self) -> Totals:
        """Return how full it is."""
        orphans = sum(1 for pins in self.pinned.values() for number in pins if not self.inodes[number].links)
        pins = sum(map(len, self.pinned.values()))
        limits = self.limits
        return Totals(len(self.inodes), limits.inodes_max, self.used, limits.bytes_max, orphans, pins)

    # Changes

    def make_root(self, birth: Birth) -> Attributes:
        """Make an empty file system; raise `NameTaken` where there is one."""
        if self.inodes:
            raise NameTaken("there is a file system already: nothing was changed")
        if birth.kind != "directory":
            raise NotADirectory("the root is a directory")
        root = self._born(birth)
        root.parent = ROOT
        return self.attributes(ROOT)

    def create(self, parent: int, name: bytes, birth: Birth) -> tuple[Attributes, Attributes]:
        """Make an inode and its name at once; return its attributes and those of the directory."""
        directory, key = self._room_for(parent, name)
        inode = self._born(birth)
        number = self.next_inode - 1
        inode.parent = parent
        self._enter(directory, key, number, birth.now_ns)
        if birth.kind == "directory":
            directory.links += 1
        return self.attributes(number), self.attributes(parent)

    def link(self, number: int, parent: int, name: bytes, now_ns: int) -> tuple[Attributes, Attributes]:
        """Give an inode another name; return its attributes and those of the directory."""
        inode = self.inode(number)
        if inode.kind == "directory":
            raise IsADirectory("a directory has one name")
        if not inode.links:
            raise NoInode(f"inode {number} has lost its last name")
        if inode.links >= self.limits.links_max:
            raise NoSpace(f"an inode has up to {self.limits.links_max} names")
        directory, key = self._room_for(parent, name)
        inode.links += 1
        inode.times = (*inode.times[:2], _time(now_ns))
        self._enter(directory, key, number, now_ns)
        return self.attributes(number), self.attributes(parent)

    def remove(self, parent: int, name: bytes, number: int, now_ns: int, pinned_by: int | None) -> Removed:
        """Remove a name, and its inode where that was the last and nobody has it open."""
        directory = self.directory(parent)
        key = self._expect(directory, name, number)
        inode = self.inodes[number]
        if inode.kind == "directory" and inode.names:
            raise NotEmpty(f"the directory {number} has entries")
        if pinned_by is not None:
            self._require_pin_room(pinned_by)
        self._leave(directory, key, now_ns)
        gone = self._unlinked(number, directory, now_ns, pinned_by)
        return Removed([self.attributes(parent)], gone)

    def rename(
        self, source: tuple[int, bytes], target: tuple[int, bytes], replaced: int, now_ns: int,
        pinned_by: int | None,
    ) -> Removed:  # fmt: skip
        """Move a name, over that of the inode `replaced` if it is not 0, at once."""
        old, new = self.directory(source[0]), self.directory(target[0])
        old_key = source[1].decode("latin-1")
        number = old.names.get(old_key)
        if number is None:
            raise NoName("the name to be moved does not exist")
        moved = self.inodes[number]
        new_key = self._expect(new, target[1], replaced) if replaced else self._room_for(*target)[1]
        if replaced == number:
            return Removed([self.attributes(source[0]), self.attributes(target[0])])
        self._require_move(moved, number, target[0], replaced)
        if pinned_by is not None and replaced:
            self._require_pin_room(pinned_by)
        self._leave(old, old_key, now_ns)
        gone = None
        if replaced:
            self._leave(new, new_key, now_ns)
            gone = self._unlinked(replaced, new, now_ns, pinned_by)
        self._enter(new, new_key, number, now_ns)
        moved.times = (*moved.times[:2], _time(now_ns))
        if moved.kind == "directory":
            moved.parent = target[0]
            old.links -= 1
            new.links += 1
        return Removed([self.attributes(source[0]), self.attributes(target[0])], gone)

    def store(self, number: int, change: Change) -> Attributes:
        """Write blocks, size and attributes of one inode."""
        inode = self.inode(number)
        wanted = change.attributes
        self._check_change(inode, change)
        if inode.kind == "file":
            self._write(inode, change)
            inode.size = wanted.size
        inode.mode = permission_bits(wanted.mode) | (inode.mode & ~0o7777)
        inode.owner = _owner(wanted.uid, wanted.gid)
        inode.times = (_time(wanted.atime_ns), _time(wanted.mtime_ns), _time(wanted.ctime_ns))
        return self.attributes(number)

    def pin(self, client: int, number: int) -> None:
        """Keep an inode until this client unpins it or is gone, also without a name. May be repeated."""
        inode = self.inode(number)
        if client not in inode.pins:
            self._require_pin_room(client)
        inode.pins.add(client)
        self.pinned.setdefault(client, set()).add(number)

    def unpin(self, client: int, number: int) -> None:
        """Keep it no longer. May be repeated."""
        inode = self.inodes.get(number)
        if inode is None or client not in inode.pins:
            return
        inode.pins.discard(client)
        mine = self.pinned[client]
        mine.discard(number)
        if not mine:
            del self.pinned[client]
        self._drop_if_gone(number, inode)

    def client_gone(self, client: int) -> None:
        """Unpin all that this client had pinned."""
        for number in sorted(self.pinned.get(client, ())):
            self.unpin(client, number)

    # Parts of changes

    def _born(self, birth: Birth) -> Inode:
        if len(self.inodes) >= self.limits.inodes_max:
            raise NoSpace(f"the file system has {self.limits.inodes_max} inodes, as many as it may")
        if len(birth.target) > TARGET_BYTES_MAX:
            raise NameTooLong(f"the target of a symbolic link has up to {TARGET_BYTES_MAX} bytes")
        if not 0 <= birth.device <= _ID_MAX or not 0 <= birth.mode <= 0o177777:
            raise InvalidChange("the mode or the device is out of range")
        now = _time(birth.now_ns)
        mode = birth.mode if birth.kind == "other" else permission_bits(birth.mode)
        inode = Inode(birth.kind, mode, _owner(birth.uid, birth.gid), (now, now, now))
        inode.target, inode.device = birth.target, birth.device
        self.inodes[self.next_inode] = inode
        self.next_inode += 1
        return inode

    def _room_for(self, parent: int, name: bytes) -> tuple[Inode, str]:
        """Return the directory, and the name as it is kept; raise where it is taken or none."""
        directory = self.directory(parent)
        if len(name) > NAME_BYTES_MAX:
            raise NameTooLong(f"a name has up to {NAME_BYTES_MAX} bytes")
        if not name or name in {b".", b".."} or b"/" in name or b"\0" in name:
            raise InvalidChange("this is not a name")
        key = name.decode("latin-1")
        if key in directory.names:
            raise NameTaken("the directory has this name already")
        if not directory.links:
            raise NoInode("the directory was removed")
        return directory, key

    def _expect(self, directory: Inode, name: bytes, number: int) -> str:
        key = name.decode("latin-1")
        if directory.names.get(key) != number:
            raise NoName("the directory does not have this name for this inode")
        return key

    def _require_move(self, moved: Inode, number: int, parent: int, replaced: int) -> None:
        if replaced:
            other = self.inodes[replaced]
            if other.kind == "directory" and moved.kind != "directory":
                raise IsADirectory("a directory is not replaced by a file")
            if other.kind != "directory" and moved.kind == "directory":
                raise NotADirectory("a file is not replaced by a directory")
            if other.names:
                raise NotEmpty("the directory to be replaced has entries")
        above = parent
        while moved.kind == "directory" and above != ROOT:
            if above == number:
                raise InvalidChange("a directory cannot be moved into itself")
            above = self.inodes[above].parent

    def _enter(self, directory: Inode, key: str, number: int, now_ns: int) -> None:
        directory.names[key] = number
        directory.sorted.add(key)
        _touched(directory, now_ns)

    def _leave(self, directory: Inode, key: str, now_ns: int) -> None:
        del directory.names[key]
        directory.sorted.remove(key)
        _touched(directory, now_ns)

    def _unlinked(self, number: int, parent: Inode, now_ns: int, pinned_by: int | None) -> Attributes:
        inode = self.inodes[number]
        if inode.kind == "directory":
            inode.links = 0
            parent.links -= 1
        else:
            inode.links -= 1
        inode.times = (*inode.times[:2], _time(now_ns))
        if pinned_by is not None and not inode.links:
            self.pin(pinned_by, number)
        left = self.attributes(number)
        self._drop_if_gone(number, inode)
        return left

    def _drop_if_gone(self, number: int, inode: Inode) -> None:
        if not inode.links and not inode.pins:
            self.used -= sum(map(len, inode.blocks.values()))
            del self.inodes[number]

    def _require_pin_room(self, client: int) -> None:
        if len(self.pinned.get(client, ())) >= self.limits.pins_per_client_max:
            raise NoSpace(f"a client may have {self.limits.pins_per_client_max} such files open")

    def _check_change(self, inode: Inode, change: Change) -> None:
        size, limits = change.attributes.size, self.limits
        if not 0 <= size <= limits.file_bytes_max or (change.cut is not None and change.cut < 0):
            raise InvalidChange(f"a file has from 0 to {limits.file_bytes_max} bytes")
        if inode.kind != "file" and (change.blocks or change.cut is not None):
            raise InvalidChange("only a file has content")
        if sum(len(content) for _, content in change.blocks) > STORE_BYTES_MAX:
            raise InvalidChange(f"one command stores up to {STORE_BYTES_MAX} bytes")
        for number, content in change.blocks:
            if number < 0 or len(content) > BLOCK_BYTES or number * BLOCK_BYTES + len(content) > size:
                raise InvalidChange("a block is out of range")
        added = sum(max(0, len(content) - len(inode.blocks.get(n, b""))) for n, content in change.blocks)
        if added and self.used + added > limits.bytes_max:
            raise NoSpace(f"the file system has {limits.bytes_max} bytes, as many as it may")

    def _write(self, inode: Inode, change: Change) -> None:
        size = change.attributes.size
        cut = min(size, inode.size) if change.cut is None else min(change.cut, size)
        if cut < inode.size:
            self._cut(inode, cut)
        for number, content in change.blocks:
            self.used += len(content) - len(inode.blocks.pop(number, b""))
            if content:
                inode.blocks[number] = content

    def _cut(self, inode: Inode, size: int) -> None:
        last, within = divmod(size, BLOCK_BYTES)
        for number in [number for number in inode.blocks if number >= last]:
            content = inode.blocks.pop(number)
            kept = content[:within] if number == last else b""
            self.used -= len(content) - len(kept)
            if kept:
                inode.blocks[number] = kept


def _touched(directory: Inode, now_ns: int) -> None:
    now = max(_time(now_ns), directory.times[1] + 1) if directory.times[1] < TIME_NS_MAX else TIME_NS_MAX
    directory.times = (directory.times[0], now, now)


def _time(now_ns: int) -> int:
    return max(-TIME_NS_MAX, min(now_ns, TIME_NS_MAX))


def _owner(uid: int, gid: int) -> tuple[int, int]:
    if not 0 <= uid <= _ID_MAX or not 0 <= gid <= _ID_MAX:
        raise InvalidChange("a user or group is out of range")
    return uid, gid
