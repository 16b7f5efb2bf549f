"""A client of a file system without input or output: who runs its operations, and the way back of a lock.

Rules of this file:

- what is kept of an inode is in `held` exactly while its lock is this client's, as far as it knows;
- one task is inside of a lock at a time, so what is kept changes only under the task that is inside;
- a lock goes back in this order: what was written goes to the service, the kernel forgets, it is released;
- an operation that only reads ends while the client is sure of its session, or begins again;
- what was written here and is lost is said once to each handle of the file, as EIO, and to the log.

Source: MIT 6.824 (2012), labs 4 and 5, with the fence and the kernel that they leave out.
"""

import errno
from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, assert_never

from viewstamp.core.events import Woke
from viewstamp.core.ids import MICROSECONDS_PER_SECOND, Instant
from viewstamp.replica.events import Outcome
from viewstamp.services.extents.flushing import flush_in_time, give_back, pin
from viewstamp.services.extents.held import Held
from viewstamp.services.extents.model import BLOCK_BYTES, Attributes, FileLimits
from viewstamp.services.extents.open_files import OpenFiles
from viewstamp.services.extents.operations import (
    Answered,
    Call,
    Cancelled,
    Done,
    FileEffect,
    FileEvent,
    FileFailure,
    FileOptions,
    Finished,
    Invalidate,
    Invalidated,
    Opened,
    Requested,
    Result,
    Say,
    Ticket,
)
from viewstamp.services.extents.service import LOCK_PREFIX, lock_of
from viewstamp.services.extents.table import begin
from viewstamp.services.extents.task import (
    Action,
    Again,
    Ask,
    AwaitKernel,
    Enter,
    Stale,
    Step,
    Task,
    decoded,
    encoded,
    kind_of,
)
from viewstamp.services.lock_cache import LockCache
from viewstamp.services.lock_events import (
    Abandoned,
    CacheOptions,
    Closing,
    Flush,
    Flushed,
    Grant,
    Left,
    LockEffect,
    LockEvent,
    Lost,
    Observed,
    Refused,
    Told,
    Wanted,
)
from viewstamp.services.lock_events import Ask as LockAsk
from viewstamp.services.lock_events import Enter as LockEnter
from viewstamp.services.lock_events import Finished as LocksFinished
from viewstamp.services.lock_events import Ticket as LockTicket
from viewstamp.services.lock_wire import answered, payload_of
from viewstamp.services.locks import Revoke

NOBODY: Final = Ticket(0)
CONTENDED_US: Final = MICROSECONDS_PER_SECOND
"""How long after its lock went back a directory is asked of the service, and not locked, to look a
name up."""
CONTENDED_MAX: Final = 1_000
_FAILED: Final = "the locks of the file system cannot be used"


class FileCache:
    """The cache of one client. `step` takes an event in and returns what must be done, in order."""

    def __init__(self, options: FileOptions | None = None) -> None:
        self.options = options or FileOptions()
        self.file_bytes_max = FileLimits().file_bytes_max
        self._locks = LockCache(CacheOptions(self.options.retry_us, hooked=True, label=self.options.label))
        self._lock_events: deque[LockEvent] = deque()
        self.held: OrderedDict[int, Held] = OrderedDict()
        """By inode, the one that was used longest ago first."""
        self._leaving: dict[int, Held] = {}
        """Whose locks are on their way back."""
        self._tasks: dict[Ticket, Task] = {}
        self._waiting: dict[int, Task] = {}
        """By the ticket under which a task waits for a lock, or is inside."""
        self._entries: dict[tuple[int, int], int] = {}
        """Ticket of each lock that a task is inside of, by the identity of the task and the inode."""
        self._calls: dict[int, tuple[Task, int, str] | LockAsk] = {}
        """Of each call under way its task, place and method; or a question for a lock."""
        self._kernel: dict[int, Task] = {}
        """Tasks that wait until the kernel has forgotten an inode, by the number of the order."""
        self._last_order = 0
        self.files = OpenFiles()
        self._contended: OrderedDict[int, Instant] = OrderedDict()
        """Directories whose locks went back, and until when they count as wanted by others."""
        self._dirty: set[int] = set()
        self._flush_at: Instant | None = None
        self._blocks = 0
        self._last_call = 0
        self._last_ticket = 0
        self._last_handle = 0
        self._now = Instant(0)
        self._session: int | None = None
        self._until: Instant | None = None
        self.closing = False
        self._now_ns = 0
        self._effects: list[FileEffect] = []

    @property
    def deadline(self) -> Instant | None:
        """The next moment at which it wants to be woken; None: never."""
        times = [time for time in (self._locks.deadline, self._flush_at) if time is not None]
        return min(times, default=None)

    def __len__(self) -> int:
        """Return how many locks it has, wants or gives back."""
        return len(self._locks)

    def is_sure(self, now: Instant) -> bool:
        """Return whether what is held is held for certain."""
        return self._locks.is_sure(now)

    def step(self, event: FileEvent, now: Instant) -> list[FileEffect]:
        """Take in one event and return what must be done, in order. `now` never goes back."""
        self._now = now
        match event:
            case Requested():
                self._requested(event)
            case Cancelled():
                self._cancelled(event.ticket)
            case Answered():
                self._answered(event.call, event.outcome)
            case Invalidated():
                task = self._kernel.pop(event.number, None)
                if task is not None:
                    self._run(task)
            case Observed():
                self._observed(event)
            case Told():
                self._lock_events.append(event)
            case Woke():
                self._woke()
            case Closing():
                self.closing = True
                self._lock_events.append(event)
            case _:
                assert_never(event)
        self._drain()
        effects, self._effects = self._effects, []
        return effects

    # For tasks

    def is_full_of(self, held: Held) -> bool:
        """Return whether so much of an inode waits for the service that no more may."""
        return len(held.dirty) * BLOCK_BYTES >= self.options.dirty_bytes_max

    def is_contended(self, inode: int) -> bool:
        """Return whether this is a directory whose lock others wanted a moment ago, and is not here now."""
        until = self._contended.get(inode)
        if until is None or inode in self.held:
            return False
        if self._now < until:
            return True
        del self._contended[inode]
        return False

    def note_dirty(self, held: Held) -> None:
        """Something was written: it is flushed in time."""
        self._dirty.add(held.inode)
        if self._flush_at is None:
            self._flush_at = Instant(self._now + self.options.flush_us)

    @property
    def unflushed(self) -> tuple[int, ...]:
        """The inodes of which the service lacks something, as far as it has said."""
        both = (*self.held.items(), *self._leaving.items())
        return tuple(sorted({inode for inode, held in both if held.is_dirty and not held.lost}))

    def lose(self, held: Held, why: str) -> None:
        """Another may have the lock: what is kept counts no longer. May be repeated."""
        if held.lost:
            return
        held.lost = True
        self._forget(held)
        if held.is_dirty:
            self.files.lost(held.inode)
            text = f"what was written into inode {held.inode} was lost: {why}"
            self._effects.append(Say(text))
        self._invalidate(held.inode)

    def _invalidate(self, inode: int) -> int:
        self._last_order += 1
        self._effects.append(Invalidate(inode, self._last_order))
        return self._last_order

    def forget(self, held: Held) -> None:
        """Keep nothing of an inode: it is gone."""
        held.attributes = None
        held.names.clear()
        held.blocks.clear()
        held.dirty.clear()
        held.changed = held.complete = False

    def leave(self, task: Task) -> None:
        """Let a task leave all locks that it is inside of."""
        for inode in list(task.inside):
            self._count(task.inside.pop(inode))
            ticket = self._entries.pop((id(task), inode))
            self._waiting.pop(ticket, None)
            self._lock_events.append(Left(LockTicket(ticket)))

    # Operations

    def _requested(self, event: Requested) -> None:
        self._now_ns = max(self._now_ns, event.now_ns)
        operation = event.operation
        task = Task(self, event.ticket, lambda task: begin(task, operation), event.now_ns)
        self._tasks[event.ticket] = task
        self._run(task)

    def _start(self, action: Callable[[Task], Action[Any]]) -> Task:
        """Start a task of the cache's own."""
        task = Task(self, NOBODY, action, self._now_ns)
        self._run(task)
        return task

    def _run(self, task: Task, value: Any = None, error: Exception | None = None) -> None:
        """Let a task go on until it waits again or ends."""
        if task.has_lost and not isinstance(error, Stale | Again):
            error = Again("the lock was lost")
        try:
            step = task.action.send(value) if error is None else task.action.throw(error)
        except StopIteration as end:
            self._returned(task, end.value)
        except Again as again:
            self._begin_again(task, str(again))
        except FileFailure as failure:
            if isinstance(failure, Stale):
                for held in list(task.inside.values()):
                    self.lose(held, str(failure))
            self._returned(task, failure)
        else:
            self._wait(task, step)

    def _wait(self, task: Task, step: Step) -> None:
        match step:
            case Enter(inode):
                self._last_ticket += 1
                task.waits_for = self._last_ticket
                self._waiting[self._last_ticket] = task
                self._lock_events.append(Wanted(LockTicket(self._last_ticket), lock_of(inode)))
            case Ask(calls):
                task.waiting, task.answers = len(calls), {}
                for place, call in enumerate(calls):
                    number = self._new_call((task, place, call[0]))
                    self._effects.append(Call(number, "files", kind_of(call[0]), encoded(call)))
            case AwaitKernel(inode):
                self._kernel[self._invalidate(inode)] = task
            case _:
                assert_never(step)

    def _returned(self, task: Task, result: Result | FileFailure) -> None:
        """Take the result, which counts if the client is sure of the locks that the task is inside of."""
        if task.inside and not task.changed and (task.has_lost or not self.is_sure(self._now)):
            if isinstance(result, Opened):
                self.files.close(result.handle)
            self._begin_again(task, "")
        else:
            self._end(task, result)

    def _begin_again(self, task: Task, why: str) -> None:
        if task.changed or task.ticket not in self._tasks:
            self._end(task, FileFailure(errno.EIO, why))
            return
        self.leave(task)
        task.action = task.begin(task)
        self._run(task)

    def _end(self, task: Task, result: Result | FileFailure) -> None:
        valid_us = 0
        if isinstance(result, Attributes):
            held = task.inside.get(result.inode)
            if held is not None and not held.lost and self._until is not None:
                valid_us = max(0, self._until - self._now)
        self.leave(task)
        if self._tasks.pop(task.ticket, None) is not None:
            self._effects.append(Done(task.ticket, result, valid_us))

    def _cancelled(self, ticket: Ticket) -> None:
        task = self._tasks.get(ticket)
        if task is None or task.changed:
            return
        if task.waits_for is not None:
            del self._waiting[task.waits_for]
            self._lock_events.append(Abandoned(LockTicket(task.waits_for)))
            task.waits_for = None
        task.action.close()
        task.waiting = 0
        self._end(task, FileFailure(errno.EINTR, "the caller waits no longer"))

    # Calls

    def _new_call(self, of: tuple[Task, int, str] | LockAsk) -> int:
        self._last_call += 1
        self._calls[self._last_call] = of
        return self._last_call

    def _answered(self, number: int, outcome: Outcome) -> None:
        of = self._calls.pop(number)
        if isinstance(of, LockAsk):
            self._lock_events.append(answered(of, outcome))
            return
        task, place, method = of
        if not task.waiting:
            return  # it was cancelled
        task.answers[place] = decoded(method, outcome)
        task.waiting -= 1
        if task.waiting:
            return
        results = [task.answers[place] for place in range(len(task.answers))]
        failure = next((result for result in results if isinstance(result, FileFailure | Again)), None)
        self._run(task, results, failure)

    # Locks

    def _drain(self) -> None:
        """Feed the locks, and do what they ask for, until nothing is left to do."""
        self._feed_locks()
        if len(self.held) > self.options.held_max:
            self._keep_few()
            self._feed_locks()

    def _feed_locks(self) -> None:
        while self._lock_events:
            for effect in self._locks.step(self._lock_events.popleft(), self._now):
                self._do(effect)

    def _do(self, effect: LockEffect) -> None:
        match effect:
            case LockAsk():
                number = self._new_call(effect)
                self._effects.append(Call(number, "locks", "command", payload_of(effect)))
            case LockEnter(ticket, grant):
                self._entered(int(ticket), grant)
            case Refused(ticket, failure):
                task = self._waiting.pop(int(ticket))
                task.waits_for = None
                self._run(task, error=FileFailure(errno.EIO, failure.explanation or _FAILED))
            case Lost(_, grant):
                held = self.held.get(_inode_of(grant))
                if held is not None:
                    self.lose(held, "the session of this client is gone, and another may have its lock")
            case Flush(grant):
                self._give_back(grant)
            case LocksFinished():
                self._effects.append(Finished())
            case _:
                assert_never(effect)

    def _entered(self, ticket: int, grant: Grant) -> None:
        task = self._waiting[ticket]
        inode = _inode_of(grant)
        held = self.held.get(inode)
        if held is None or held.grant != grant:
            assert held is None or not held.is_dirty, inode
            held = self.held[inode] = Held(inode, grant)
        self.held.move_to_end(inode)
        task.waits_for = None
        task.inside[inode] = held
        self._entries[id(task), inode] = ticket
        self._run(task, held)

    def _give_back(self, grant: Grant) -> None:
        inode = _inode_of(grant)
        held = self.held.pop(inode, None)
        if held is None:
            held = Held(inode, grant)  # nothing was kept: the task that wanted it was gone, or it was lost
        self._leaving[inode] = held
        if held.attributes is not None and held.attributes.kind == "directory":
            self._contended[inode] = Instant(self._now + CONTENDED_US)
            if len(self._contended) > CONTENDED_MAX:
                self._contended.popitem(last=False)

        def action(task: Task) -> Action[None]:
            yield from give_back(task, held)
            self._forget(held)
            del self._leaving[inode]
            self._lock_events.append(Flushed(grant.name))

        self._start(action)

    def _forget(self, held: Held) -> None:
        if self.held.get(held.inode) is held:
            del self.held[held.inode]
        self._blocks -= held.counted
        held.counted = 0

    def _observed(self, event: Observed) -> None:
        before, self._session, self._until = self._session, event.session, event.until
        self._lock_events.append(event)
        if before is not None and event.session != before and self.files.pinned:
            kept, self.files.pinned = sorted(self.files.pinned), set()
            for inode in kept:
                self._start(lambda task, inode=inode: pin(task, inode))  # type: ignore[misc]

    # Room and time

    def _count(self, held: Held) -> None:
        """Count the blocks of an inode, and forget those of others if they are too many."""
        if held.lost:
            return
        self._blocks += len(held.blocks) - held.counted
        held.counted = len(held.blocks)
        room = self.options.clean_bytes_max // BLOCK_BYTES
        if self._blocks <= room:
            return
        for other in self.held.values():
            if self._is_inside(other):
                continue
            other.evict()
            self._blocks += len(other.blocks) - other.counted
            other.counted = len(other.blocks)
            if self._blocks <= room:
                return

    def _is_inside(self, held: Held) -> bool:
        return self._locks.state_of(lock_of(held.inode)) == "locked"

    def _keep_few(self) -> None:
        """Give back the locks that were used longest ago, where there are too many."""
        idle = (held.grant for held in self.held.values() if not self._is_inside(held))
        for grant in islice(idle, len(self.held) - self.options.held_max):
            self._lock_events.append(Told(Revoke(grant.name, grant.sequence, grant.token)))

    def _woke(self) -> None:
        self._lock_events.append(Woke())
        if self._flush_at is None or self._now < self._flush_at:
            return
        self._flush_at = None
        dirty, self._dirty = self._dirty, set()
        for inode in sorted(dirty):
            held = self.held.get(inode)
            if held is not None and held.is_dirty:
                self._start(lambda task, inode=inode: flush_in_time(task, inode))  # type: ignore[misc]


def _inode_of(grant: Grant) -> int:
    return int(grant.name.removeprefix(LOCK_PREFIX))
