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
    """Return the attributes behind a name."""
    parent = yield from task.enter(operation.parent)
    entry = yield from find(task, parent, operation.name)
    if entry is None:
        raise no_such()
    task.leave_all()
    return (yield from _attributes(task, entry.inode))


def get_attributes(task: Task, operation: GetAttributes) -> Action[Attributes]:
    """Return the attributes of an inode."""
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
    entry: Entry | None = yield from task.call("find", parent.inode, name)
    parent.names[name] = entry
    return entry


def list_names(task: Task, operation: ListNames) -> Action[list[Entry]]:
    """Return all names of a directory, in order."""
    held = yield from task.enter(operation.inode)
    if held.known().kind != "directory":
        raise FileFailure(errno.ENOTDIR, "this is not a directory")
    if not held.complete:
        yield from _list_all(task, held)
    return sorted((entry for entry in held.names.values() if entry is not None), key=lambda entry: entry.name)


def _list_all(task: Task, held: Held) -> Action[None]:
    names: dict[bytes, Entry | None] = {}
    after, more = b"", True
    while more:
        page: Listing = yield from task.call("listing", held.inode, after, LISTING_MAX)
        names.update((entry.name, entry) for entry in page.entries)
        more = page.more
        after = page.entries[-1].name if page.entries else after
    if held.lost:
        raise Again("the lock was lost while its directory was read")
    held.names, held.complete = names, True


def get_totals(task: Task, operation: GetTotals) -> Action[Totals]:
    """Return how full the file system is."""
    del operation
    totals: Totals = yield from task.call("totals")
    return totals
