"""Operations that change nothing."""

import errno

from viewstamp.services.extents.held import Held
from viewstamp.services.extents.model import (
    BLOCK_BYTES,
    LISTING_MAX,
    Attributes,
    Entry,
    Listing,
    Piece,
    Totals,
)
from viewstamp.services.extents.operations import (
    FileFailure,
    GetAttributes,
    GetTotals,
    ListNames,
    Lookup,
    Open,
    Opened,
    Read,
    ReadLink,
    no_such,
)
from viewstamp.services.extents.task import Action, Again, Task

_BLOCKS_PER_CALL = 4
_AHEAD_BLOCKS = 4
"""Blocks that are fetched beyond what was asked for."""


def lookup(task: Task, operation: Lookup) -> Action[Attributes]:
    """Return the attributes behind a name.

    Where other clients want the lock of the directory as well, the service is asked instead: names, and
    what it says of directories, are never written back, so that it knows them.
    """
    if task.cache.is_contended(operation.parent):
        seen: Attributes | None = yield from task.call("peek", operation.parent, operation.name)
        if seen is None:
            raise no_such()
        return seen if seen.kind == "directory" else (yield from _attributes(task, seen.inode))
    parent = yield from task.enter(operation.parent)
    entry = yield from find(task, parent, operation.name)
    if entry is None:
        raise no_such()
    task.leave_all()
    return (yield from _attributes(task, entry.inode))


def get_attributes(task: Task, operation: GetAttributes) -> Action[Attributes]:
    """Return the attributes of an inode."""
    if task.cache.is_contended(operation.inode):
        seen: Attributes = yield from task.call("look", operation.inode)
        return seen
    return (yield from _attributes(task, operation.inode))


def _attributes(task: Task, inode: int) -> Action[Attributes]:
    held = yield from task.enter(inode)
    return held.known()


def open_file(task: Task, operation: Open) -> Action[Opened]:
    """Open a file that is there."""
    held = yield from task.enter(operation.inode)
    return Opened(task.cache.files.open(operation.inode), held.known())


def read(task: Task, operation: Read) -> Action[bytes]:
    """Return a piece of a file."""
    handle = task.cache.files.handle(operation.handle)
    held = yield from task.enter(handle.inode)
    task.cache.files.raise_once(handle)
    if operation.size <= 0 or operation.offset >= held.known().size:
        return b""
    first, last = operation.offset // BLOCK_BYTES, (operation.offset + operation.size - 1) // BLOCK_BYTES
    missing = held.missing(first, last)
    if missing:
        yield from fetch(task, held, [*missing, *held.missing(last + 1, last + _AHEAD_BLOCKS)])
    return held.read(operation.offset, operation.size)


def fetch(task: Task, held: Held, blocks: list[int]) -> Action[None]:
    """Fetch blocks that are not here."""
    runs: list[tuple[int, int]] = []
    for number in blocks:
        if runs and number == sum(runs[-1]) and runs[-1][1] < _BLOCKS_PER_CALL:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    pieces: list[Piece] = yield from task.ask(*(("read", held.inode, first, count) for first, count in runs))
    for (first, count), piece in zip(runs, pieces, strict=True):
        for place in range(count):
            held.keep(first + place, piece.blocks[place] if place < len(piece.blocks) else b"")


def read_link(task: Task, operation: ReadLink) -> Action[bytes]:
    """Return where a symbolic link points; it never changes."""
    held = yield from task.enter(operation.inode)
    if held.known().kind != "symlink":
        raise FileFailure(errno.EINVAL, "this is not a symbolic link")
    target: bytes = yield from task.call("target", operation.inode)
    return target


def find(task: Task, parent: Held, name: bytes) -> Action[Entry | None]:
    """Return the entry of a name in a directory whose lock the task is inside of."""
    if parent.known().kind != "directory":
        raise FileFailure(errno.ENOTDIR, "this is not a directory")
    if name in parent.names or parent.complete:
        return parent.names.get(name)
    if parent.misses == 1:
        yield from _list(task, parent, pages=1)
        if name in parent.names or parent.complete:
            return parent.names.get(name)
    parent.misses += 1
    entry: Entry | None = yield from task.call("find", parent.inode, name)
    parent.names[name] = entry
    return entry


def list_names(task: Task, operation: ListNames) -> Action[list[Entry]]:
    """Return all names of a directory, in order."""
    held = yield from task.enter(operation.inode)
    if held.known().kind != "directory":
        raise FileFailure(errno.ENOTDIR, "this is not a directory")
    if not held.complete:
        yield from _list(task, held, pages=None)
    return sorted((entry for entry in held.names.values() if entry is not None), key=lambda entry: entry.name)


def _list(task: Task, held: Held, *, pages: int | None) -> Action[None]:
    """Read the names of a directory, all of them or as many as this number of pages has."""
    names: dict[bytes, Entry | None] = {}
    after, more = b"", True
    while more and (pages is None or pages > 0):
        page: Listing = yield from task.call("listing", held.inode, after, LISTING_MAX)
        names.update((entry.name, entry) for entry in page.entries)
        more = page.more
        after = page.entries[-1].name if page.entries else after
        pages = None if pages is None else pages - 1
    if held.lost:
        raise Again("the lock was lost while its directory was read")
    held.names, held.complete = {**held.names, **names}, not more


def get_totals(task: Task, operation: GetTotals) -> Action[Totals]:
    """Return how full the file system is."""
    del operation
    totals: Totals = yield from task.call("totals")
    return totals
