"""Operations that change something: content in the cache, names at the service at once."""

import errno
from typing import Any

from viewstamp.services.extents.flushing import flush, flush_or_lose, unpin
from viewstamp.services.extents.held import Held
from viewstamp.services.extents.model import Attributes, Entry, Removed
from viewstamp.services.extents.operations import (
    Close,
    Create,
    FileFailure,
    LinkTo,
    Opened,
    Remove,
    Rename,
    SetAttributes,
    Write,
    no_such,
)
from viewstamp.services.extents.reading import fetch, find
from viewstamp.services.extents.task import Action, Task, fenced


def write(task: Task, operation: Write) -> Action[int]:
    """Write into the cache; where too much waits for the service already, that goes first."""
    handle = task.cache.files.handle(operation.handle)
    held = yield from task.enter(handle.inode)
    task.cache.files.raise_once(handle)
    offset = held.known().size if operation.append else operation.offset
    if offset + len(operation.data) > task.cache.file_bytes_max:
        raise FileFailure(errno.EFBIG, "the file would be too large")
    missing = held.partial(offset, len(operation.data))
    if missing:
        yield from fetch(task, held, missing)
    if task.cache.is_full_of(held):
        yield from flush_or_lose(task, held)
        task.cache.files.raise_once(handle)
    task.changed = True
    held.write(offset, operation.data, task.now_ns)
    task.cache.note_dirty(held)
    return len(operation.data)


def set_attributes(task: Task, operation: SetAttributes) -> Action[Attributes]:
    """Change attributes; at the service at once, unless this client has the file open."""
    held = yield from task.enter(operation.inode)
    known = held.known()
    size = operation.size
    if size is not None and known.kind != "file":
        raise FileFailure(
            errno.EISDIR if known.kind == "directory" else errno.EINVAL, "only a file has a size"
        )
    if size is not None and not 0 <= size <= task.cache.file_bytes_max:
        raise FileFailure(errno.EFBIG, "the file would be too large")
    task.changed = True
    if size is not None and size != known.size:
        held.resize(size, task.now_ns)
    changes = {
        name: value
        for name in ("mode", "uid", "gid", "atime_ns", "mtime_ns")
        if (value := getattr(operation, name)) is not None
    }
    if "mode" in changes:  # of a socket, pipe or device the mode says which it is
        changes["mode"] |= known.mode & ~0o7777
    held.assign(**changes, ctime_ns=max(task.now_ns, held.known().ctime_ns))
    if task.cache.files.is_open(held.inode):
        task.cache.note_dirty(held)
    else:
        yield from flush(task, held)
    return held.known()


def create(task: Task, operation: Create) -> Action[Attributes | Opened]:
    """Make an inode and its name, at the service at once."""
    parent = yield from task.enter(operation.parent)
    entry = yield from find(task, parent, operation.name)
    if entry is not None:
        if operation.exclusive or not operation.opening or entry.kind == "symlink":
            raise FileFailure(errno.EEXIST, "the name is taken")
        task.leave_all()
        return (yield from _open_existing(task, entry.inode, cut=operation.cut))
    made: Attributes
    made, above = yield from task.call("create", fenced(parent), operation.name, operation.birth)
    _renamed(parent, above, {operation.name: Entry(operation.name, made.inode, made.kind)})
    if not operation.opening:
        return made
    return Opened(task.cache.files.open(made.inode), made)


def _open_existing(task: Task, inode: int, *, cut: bool) -> Action[Opened]:
    """Open a file that another has created since the kernel looked for its name."""
    held = yield from task.enter(inode)
    if held.known().kind != "file":
        raise FileFailure(errno.EISDIR, "the name is that of something else")
    handle = task.cache.files.open(inode)
    if cut and held.known().size:
        task.changed = True
        held.resize(0, task.now_ns)
        task.cache.note_dirty(held)
    return Opened(handle, held.known())


def link(task: Task, operation: LinkTo) -> Action[Attributes]:
    """Give an inode another name."""
    held = yield from task.enter_all({operation.inode, operation.parent})
    parent, inode = held[operation.parent], held[operation.inode]
    if (yield from find(task, parent, operation.name)) is not None:
        raise FileFailure(errno.EEXIST, "the name is taken")
    told, above = yield from task.call("link", fenced(inode), fenced(parent), operation.name, task.now_ns)
    _renamed(parent, above, {operation.name: Entry(operation.name, told.inode, told.kind)})
    inode.note(told)
    return inode.known()


def remove(task: Task, operation: Remove) -> Action[None]:
    """Remove a name, and with the last one the inode, unless it is open."""
    parent, child = yield from _enter_with_child(task, operation.parent, operation.name)
    if child is None:
        raise no_such()
    is_directory = child.known().kind == "directory"
    if is_directory != operation.directory:
        raise FileFailure(errno.ENOTDIR if operation.directory else errno.EISDIR, "it is of another kind")
    keep = task.cache.files.is_open(child.inode)
    done: Removed = yield from task.call(
        "remove", fenced(parent), operation.name, fenced(child), task.now_ns, keep
    )
    _renamed(parent, done.parents[0], {operation.name: None})
    _gone(task, child, done.gone, keep=keep)


def rename(task: Task, operation: Rename) -> Action[None]:
    """Move a name; over another name it is one command."""
    parents = {operation.parent, operation.new_parent}
    held, replaced = yield from _enter_for_rename(task, operation, parents)
    old, new = held[operation.parent], held[operation.new_parent]
    entry = yield from find(task, old, operation.name)
    if entry is None:
        raise no_such()
    if replaced is not None and operation.keep:
        raise FileFailure(errno.EEXIST, "the name is taken")
    if replaced is not None and replaced.inode == entry.inode:
        return
    keep = replaced is not None and task.cache.files.is_open(replaced.inode)
    done: Removed = yield from task.call(
        "rename", fenced(old), operation.name, fenced(new), operation.new_name,
        None if replaced is None else fenced(replaced), task.now_ns, keep,
    )  # fmt: skip
    _renamed(old, done.parents[0], {operation.name: None})
    _renamed(new, done.parents[1], {operation.new_name: Entry(operation.new_name, entry.inode, entry.kind)})
    if replaced is not None:
        _gone(task, replaced, done.gone, keep=keep)


def close(task: Task, operation: Close) -> Action[None]:
    """Forget a handle; the kernel has flushed before."""
    inode = task.cache.files.close(operation.handle)
    if inode is None or task.cache.files.is_open(inode):
        return
    held = task.cache.held.get(inode)
    if held is not None and held.is_dirty:
        held = yield from task.enter(inode)
        yield from flush_or_lose(task, held)
        task.leave_all()
    if inode in task.cache.files.pinned and not task.cache.files.is_open(inode):
        yield from unpin(task, inode)


def _enter_with_child(task: Task, parent: int, name: bytes) -> Action[tuple[Held, Held | None]]:
    """Enter a directory and what it calls `name`, in the order of their numbers."""
    while True:
        above = yield from task.enter(parent)
        entry = yield from find(task, above, name)
        if entry is None:
            return above, None
        if entry.inode > parent:
            return above, (yield from task.enter(entry.inode))
        task.leave_all()
        held = yield from task.enter_all({parent, entry.inode})
        now = yield from find(task, held[parent], name)
        if now is not None and now.inode == entry.inode:
            return held[parent], held[entry.inode]
        task.leave_all()


def _enter_for_rename(
    task: Task, operation: Rename, parents: set[int]
) -> Action[tuple[dict[int, Held], Held | None]]:
    """Enter both directories, and what has the new name already."""
    over: set[int] = set()
    while True:
        held = yield from task.enter_all(parents | over)
        entry = yield from find(task, held[operation.new_parent], operation.new_name)
        wanted = set() if entry is None else {entry.inode}
        if wanted <= parents | over:
            return held, None if entry is None else held[entry.inode]
        task.leave_all()
        over = wanted


def _renamed(directory: Held, told: Attributes, names: dict[bytes, Any]) -> None:
    """Take what the service did to a directory."""
    directory.note(told)
    directory.names.update(names)


def _gone(task: Task, child: Held, told: Attributes | None, *, keep: bool) -> None:
    """Note what the service made of an inode that lost a name."""
    if told is None:
        return
    if told.links:
        child.note(told)
    elif keep:
        task.cache.files.pinned.add(child.inode)
        child.note(told)
    else:
        task.cache.forget(child)
