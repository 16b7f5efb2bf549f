"""How what was written here comes to the service: on request, in time, and before a lock goes back."""

from viewstamp.services.extents.held import Held
from viewstamp.services.extents.operations import FileFailure, Sync
from viewstamp.services.extents.task import Action, Again, AwaitKernel, Stale, Task, fenced


def flush(task: Task, held: Held) -> Action[None]:
    """Let the service have all that was written to this inode; the task is inside of its lock.

    What it lacks is sent as whole blocks: the first command cuts the file, and the rest follows when that
    is done.
    """
    changes = held.changes()
    if not changes:
        return
    token = fenced(held)
    yield from task.call("store", token, changes[0])
    yield from task.ask(*(("store", token, change) for change in changes[1:]))
    if not held.lost:
        held.flushed()


def sync(task: Task, operation: Sync) -> Action[None]:
    """Flush an open file; tell once what was lost of it."""
    handle = task.cache.files.handle(operation.handle)
    held = task.cache.held.get(handle.inode)
    if held is not None and held.is_dirty:
        held = yield from task.enter(handle.inode)
        task.cache.files.raise_once(handle)
        yield from flush_or_lose(task, held)
    task.cache.files.raise_once(handle)


def flush_or_lose(task: Task, held: Held) -> Action[None]:
    """Flush; where the lock turns out to be lost, what was written is lost, and its handles hear of it."""
    try:
        yield from flush(task, held)
    except (Stale, Again) as failure:
        task.cache.lose(held, str(failure))


def flush_in_time(task: Task, inode: int) -> Action[None]:
    """Flush what was written some time ago."""
    held = yield from task.enter(inode)
    yield from flush_or_lose(task, held)


def give_back(task: Task, held: Held) -> Action[None]:
    """Flush, pin what is open, let the kernel forget, in this order: then the lock may go back."""
    cache = task.cache
    try:
        yield from flush(task, held)
    except (FileFailure, Again) as failure:
        cache.lose(held, str(failure))
    if cache.files.is_open(held.inode) and not cache.closing:
        yield from pin(task, held.inode)
    yield AwaitKernel(held.inode)


def pin(task: Task, inode: int) -> Action[None]:
    """Keep an open inode for this client, though another may take its last name."""
    try:
        yield from task.call("pin", inode)
        task.cache.files.pinned.add(inode)
        if not task.cache.files.is_open(inode):
            yield from unpin(task, inode)
    except (FileFailure, Again):
        return  # it is gone: its handles hear of it when they are used


def unpin(task: Task, inode: int) -> Action[None]:
    """Keep it no longer: the last handle was closed."""
    task.cache.files.pinned.discard(inode)
    try:
        yield from task.call("unpin", inode)
    except (FileFailure, Again):
        return  # the end of the session does it
