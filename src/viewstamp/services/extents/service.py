"""The commands of a file system, and the fence before every one that changes an inode.

`FileService` has the locks in the same machine: a change is executed only while its caller holds the lock of
the inode, under the very token that it sends. `ExtentService` has them elsewhere, as in the labs of MIT
6.824: it knows the largest token that was shown with each inode and refuses a smaller one, so that a
client shows its token (`claim`) before it believes what it reads.
"""

from collections.abc import Iterator
from typing import ClassVar, Final

from viewstamp.machine.state_machine import StateMachine, command, query
from viewstamp.services.extents.images import LENGTH_BYTES, frames, pieces_of, restore_piece
from viewstamp.services.extents.model import (
    REFUSALS,
    Attributes,
    Birth,
    Change,
    Entry,
    Fenced,
    FileLimits,
    Listing,
    Piece,
    Removed,
    StaleToken,
    Totals,
)
from viewstamp.services.extents.tree import FileTree
from viewstamp.services.locks import LockService, NoSession

LOCK_PREFIX: Final = "inode/"
_SEPARATOR: Final = bytes(LENGTH_BYTES)
"""An empty piece, between the locks and the files of a snapshot."""


def lock_of(inode: int) -> str:
    """Return the name of the lock of an inode."""
    return f"{LOCK_PREFIX}{inode}"


class ExtentService(StateMachine):
    """A file system whose locks are elsewhere: a token smaller than one that was seen is refused."""

    raises: ClassVar[tuple[type[Exception], ...]] = (*REFUSALS, NoSession)
    """What clients get as these very exceptions."""
    file_limits: ClassVar[FileLimits] = FileLimits()

    def __init__(self) -> None:
        super().__init__()
        self._tree = FileTree(self.file_limits)

    @command
    def make(self, birth: Birth) -> Attributes:
        """Make an empty file system; raise `NameTaken` where there is one."""
        return self._tree.make_root(birth)

    @query
    def look(self, inode: int) -> Attributes:
        """Return what `stat` says of an inode; raise `NoInode`."""
        return self._tree.attributes(inode)

    @query
    def target(self, inode: int) -> bytes:
        """Return where a symbolic link points; raise `NoInode`."""
        return self._tree.inode(inode).target

    @query
    def find(self, parent: int, name: bytes) -> Entry | None:
        """Return the entry of a name; raise `NoInode` or `NotADirectory`."""
        return self._tree.find(parent, name)

    @query
    def peek(self, parent: int, name: bytes) -> Attributes | None:
        """Return the attributes behind a name, as far as the service has them."""
        entry = self._tree.find(parent, name)
        return None if entry is None else self._tree.attributes(entry.inode)

    @query
    def listing(self, parent: int, after: bytes = b"", limit: int = 1_000) -> Listing:
        """Return up to `limit` entries (1,000 at most) whose names follow `after`."""
        return self._tree.listing(parent, after, limit)

    @query
    def read(self, inode: int, first: int, count: int) -> Piece:
        """Return attributes and up to 8 blocks of a file, from the block `first` on."""
        return self._tree.read(inode, first, count)

    @query
    def totals(self) -> Totals:
        """Return how full the file system is."""
        return self._tree.totals()

    @command
    def create(self, parent: Fenced, name: bytes, birth: Birth) -> tuple[Attributes, Attributes]:
        """Make an inode and its name at once; return its attributes and those of the directory."""
        self._require(parent)
        return self._tree.create(parent.inode, name, birth)

    @command
    def link(self, inode: Fenced, parent: Fenced, name: bytes, now_ns: int) -> tuple[Attributes, Attributes]:
        """Give an inode another name; return its attributes and those of the directory."""
        self._require(inode, parent)
        return self._tree.link(inode.inode, parent.inode, name, now_ns)

    @command(frees=True)
    def remove(self, parent: Fenced, name: bytes, inode: Fenced, now_ns: int, keep: bool = False) -> Removed:  # noqa: FBT001, FBT002  it travels
        """Remove a name of an inode, and the inode with its last name; `keep`: the caller has it open."""
        self._require(parent, inode)
        client = self._caller_with_session() if keep else None
        return self._tree.remove(parent.inode, name, inode.inode, now_ns, client)

    @command
    def rename(
        self, parent: Fenced, name: bytes, new_parent: Fenced, new_name: bytes, replaced: Fenced | None,
        now_ns: int, keep: bool = False,  # noqa: FBT001, FBT002  it travels
    ) -> Removed:  # fmt: skip
        """Move a name, over that of the inode `replaced` if it is given, at once."""
        self._require(parent, new_parent, *(() if replaced is None else (replaced,)))
        client = self._caller_with_session() if keep else None
        over = 0 if replaced is None else replaced.inode
        return self._tree.rename((parent.inode, name), (new_parent.inode, new_name), over, now_ns, client)

    @command
    def store(self, inode: Fenced, change: Change) -> Attributes:
        """Write blocks, size and attributes of an inode."""
        self._require(inode)
        return self._tree.store(inode.inode, change)

    @command
    def pin(self, inode: int) -> None:
        """Keep an inode, also without a name, until `unpin` or the end of the session."""
        self._tree.pin(self._caller_with_session(), inode)

    @command(frees=True)
    def unpin(self, inode: int) -> None:
        """Keep it no longer."""
        self._tree.unpin(self._caller_with_session(), inode)

    @command
    def claim(self, inode: Fenced) -> Attributes:
        """Show the token of an inode, so that a smaller one is refused from now on; return its attributes."""
        self._require(inode)
        return self._tree.attributes(inode.inode)

    def session_ended(self, client: int) -> None:
        """Unpin all that this client had open."""
        super().session_ended(client)
        self._tree.client_gone(client)

    def snapshot(self) -> Iterator[bytes]:
        """Yield pieces of the files, each behind its length."""
        yield from pieces_of(self._tree)

    def restore(self, snapshot: bytes) -> None:
        """Set the state of a fresh service; raise ValueError where the bytes are not a snapshot of one."""
        for piece in frames(snapshot):
            restore_piece(self._tree, piece)

    def _require(self, *fenced: Fenced) -> None:
        """Let a change pass whose tokens are current; raise `NoInode` or `StaleToken`."""
        inodes = [self._tree.inode(one.inode) for one in fenced]
        for one, inode in zip(fenced, inodes, strict=True):
            if one.token < inode.fence:
                raise StaleToken(_stale(one))
        for one, inode in zip(fenced, inodes, strict=True):
            inode.fence = one.token

    def _caller_with_session(self) -> int:
        if not self.context.session:
            raise NoSession("an open file needs a client with a session: connect with exactly_once=True")
        return self.context.client


class FileService(ExtentService, LockService):
    """A file system and its locks in one machine: only the present holder of an inode's lock changes it."""

    raises: ClassVar[tuple[type[Exception], ...]] = (*REFUSALS, *LockService.raises)
    """What clients get as these very exceptions."""

    def snapshot(self) -> Iterator[bytes]:
        """Yield pieces of the locks, then of the files, each behind its length."""
        yield from LockService.snapshot(self)
        yield _SEPARATOR
        yield from pieces_of(self._tree)

    def restore(self, snapshot: bytes) -> None:
        """Set the state of a fresh service; raise ValueError where the bytes are not a snapshot of one."""
        end = 0
        for piece in frames(snapshot):
            if not piece:
                break
            end += LENGTH_BYTES + len(piece)
        LockService.restore(self, snapshot[:end])
        for piece in frames(memoryview(snapshot)[end + LENGTH_BYTES :]):
            restore_piece(self._tree, piece)

    def _require(self, *fenced: Fenced) -> None:
        for one in fenced:
            lock = self._locks.get(lock_of(one.inode))
            holder = None if lock is None else lock.holder
            if holder is None or holder.token != one.token or holder.client != self.context.client:
                raise StaleToken(_stale(one))


def _stale(fenced: Fenced) -> str:
    return f"inode {fenced.inode} is locked by another, or was: token {fenced.token} counts no longer"
