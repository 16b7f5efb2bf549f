"""Locks of a replicated service: granted in the order of asking, each grant under a fencing token.

Rules of this file:

- a lock is in `_locks` exactly while a client holds it; the clients that wait for it stand in its queue;
- of each lock a client holds it, or waits for it, or has finished with it: its latest sequence number stands
  in exactly one of the three places, and a request with a lower one is late and changes nothing;
- a duplicate of a client's latest request is answered from the state as it is now;
- every notification says what the state is, so that all of them can be made again from it, by any replica;
- what the digest of results covers comes in an order that the state itself determines: names are sorted
  wherever several locks change at once.

Source: MIT 6.824 (2012), lab 7, step one. Where the lab's server says `retry` for "ask again", `Retry` here
also says the answer. A lock is held by a client's session: when that ends, its locks pass to those who wait.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any, ClassVar, Final, Literal, TypeAlias

import msgspec

from viewstamp.core.ids import LogTime
from viewstamp.machine.state_machine import StateMachine, command, query
from viewstamp.services.sorted_names import SortedNames

NAME_BYTES_MAX: Final = 1_024
LABEL_BYTES_MAX: Final = 256
QUEUE_SHOWN_MAX: Final = 100
"""Waiters that one answer names."""
PAGE_LOCKS_MAX: Final = 1_000

_IMAGES_PER_PIECE: Final = 512
_LENGTH_BYTES: Final = 4


class InvalidName(Exception):
    """The name or the label is empty or too long. Nothing was changed."""


class NotHeld(Exception):
    """The client neither holds the lock nor has waited for it under this number. Nothing was changed."""


class NoSession(Exception):
    """The client has no session, so nothing would give its locks back when it dies. Nothing was changed."""


class TooManyLocks(Exception):
    """The service, or this client, has as many locks as it may. Nothing was changed."""


class TooManyWaiters(Exception):
    """As many clients wait for the lock as may. Nothing was changed."""


class LockLimits(msgspec.Struct, frozen=True):
    """What one service bears. Equal on all members: a refusal is a result like any other."""

    locks_max: int = 1_000_000
    """Locks that are held at once."""
    places_per_client_max: int = 65_536
    """Locks that one client holds or waits for."""
    waiters_max: int = 65_536
    """Clients that wait for one lock."""
    finished_per_client_max: int = 1_024
    """Locks given back whose last sequence number is remembered, for late copies of requests."""


class Holder(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The holder of a lock."""

    client: int
    sequence: int
    """The number that the client gave to this acquisition."""
    token: int
    """Fencing token: larger than that of every earlier grant of this lock."""
    label: str
    """What the client calls itself."""
    since: int
    """Log time of the grant, in microseconds."""


class Waiter(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A client that waits for a lock."""

    client: int
    sequence: int
    label: str


class Acquired(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How an `acquire` was answered."""

    state: Literal["granted", "waiting", "late"]
    """waiting: a `Retry` follows. late: the client has asked or finished under a later number since."""
    token: int = 0
    """The fencing token, if granted."""
    wanted: bool = False
    """Others wait: give it back after use."""


WAITING: Final = Acquired("waiting")
LATE: Final = Acquired("late")

Released: TypeAlias = Literal["released", "withdrawn", "late"]
"""How a `release` was answered. withdrawn: the client was still waiting, and waits no more."""


class Revoke(msgspec.Struct, frozen=True, array_like=True, tag="lock.revoke", gc=False):
    """To a holder: others wait for this lock. It may arrive before the grant, twice, or late."""

    name: str
    sequence: int
    token: int


class Retry(msgspec.Struct, frozen=True, array_like=True, tag="lock.retry", gc=False):
    """To one that waited: the lock is yours; a client that asks again under this number is told the same."""

    name: str
    sequence: int
    token: int
    wanted: bool
    """Others wait already."""


Notice: TypeAlias = Revoke | Retry


class LockState(msgspec.Struct, frozen=True, array_like=True):
    """One lock as it is now."""

    name: str
    holder: Holder | None
    waiters: int
    queue: list[Waiter]
    """The first of those that wait, in order."""


class LockPage(msgspec.Struct, frozen=True, array_like=True):
    """Part of the held locks, in the order of their names."""

    locks: list[LockState]
    more: bool
    """There is more: ask again with `after` set to the last name of this page."""


class _Lock:
    """A held lock."""

    __slots__ = ("holder", "queue")

    def __init__(self, holder: Holder) -> None:
        self.holder = holder
        self.queue: OrderedDict[int, Waiter] = OrderedDict()
        """By client, first come first. The holder is not among them."""


class _Client:
    """What one client has to do with locks. An index of the locks, but for `finished`."""

    __slots__ = ("finished", "held", "waiting")

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.waiting: set[str] = set()
        self.finished: OrderedDict[str, tuple[int, Released]] = OrderedDict()
        """By name: the last number, and how its release was answered. Disjoint from `held` and `waiting`."""


class _LockImage(msgspec.Struct, frozen=True, array_like=True):
    name: str
    holder: Holder
    queue: list[Waiter]


class _FinishedImage(msgspec.Struct, frozen=True, array_like=True):
    client: int
    locks: list[tuple[str, int, Released]]


_Piece: TypeAlias = tuple[list[_LockImage], list[_FinishedImage]]
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(_Piece).decode


class LockService(StateMachine):
    """Named locks. `services.lock_cache` is the client that goes with it."""

    raises: ClassVar[tuple[type[Exception], ...]] = (
        InvalidName,
        NotHeld,
        NoSession,
        TooManyLocks,
        TooManyWaiters,
    )
    """What clients get as these very exceptions."""
    limits: ClassVar[LockLimits] = LockLimits()

    def __init__(self) -> None:
        self._locks: dict[str, _Lock] = {}
        self._names = SortedNames()
        """Those of `_locks`, in order: a page of them costs as much among a million as among ten."""
        self._clients: dict[int, _Client] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @command(keys=("name",))
    def acquire(self, name: str, sequence: int, label: str = "") -> Acquired:
        """Ask for a lock under a number of the caller's choosing, larger than all that it used for this lock.

        The same number again is a duplicate and answered as things stand now: with the same token if the lock
        is held under it, and with another `Revoke` to the holder if not.

        Raises:
            InvalidName, NoSession, TooManyLocks, TooManyWaiters: see there.
        """
        client = self._caller()
        _check(name, label)
        latest = self._latest(client, name)
        if sequence < latest or sequence < 1:
            return LATE
        lock = self._locks.get(name)
        if lock is not None and lock.holder.client == client:
            if sequence > latest:
                lock.holder = self._new_holder(Waiter(client, sequence, label))
            return Acquired("granted", lock.holder.token, bool(lock.queue))
        waits = lock is not None and client in lock.queue
        if sequence == latest and not waits:
            return LATE
        if not waits:
            self._require_room(client, lock)
        return self._take_or_wait(name, lock, Waiter(client, sequence, label))

    @command(keys=("name",), frees=True)
    def release(self, name: str, sequence: int) -> Released:
        """Give back the lock that was asked for under this number, or wait for it no more.

        Raises:
            NotHeld: the client has never asked for it under this number.
            NoSession: see there.
        """
        client = self._caller()
        lock = self._locks.get(name)
        if sequence == self._latest(client, name):
            if lock is not None and lock.holder.client == client:
                return self._finish(client, name, sequence, "released")
            if lock is not None and client in lock.queue:
                return self._finish(client, name, sequence, "withdrawn")
            return self._clients[client].finished[name][1] if sequence else self._refuse(name)
        if sequence < self._latest(client, name):
            return "late"
        return self._refuse(name)

    @query(keys=("name",))
    def stat(self, name: str) -> LockState:
        """Return who holds the lock and who waits for it; a lock that nobody holds has no holder."""
        lock = self._locks.get(name)
        return LockState(name, None, 0, []) if lock is None else _shown(name, lock)

    @query(prefixes=("prefix",))
    def held(self, prefix: str = "", after: str = "", limit: int = 100) -> LockPage:
        """Return up to `limit` locks (at most 1,000) whose names begin with `prefix` and follow `after`."""
        limit = max(0, min(limit, PAGE_LOCKS_MAX))
        names = self._names.page(prefix, after, limit + 1)
        locks = [_shown(name, self._locks[name]) for name in names[:limit]]
        return LockPage(locks, len(names) > limit)

    def session_ended(self, client: int) -> None:
        """Withdraw whatever this client waits for and pass on whatever it holds."""
        record = self._clients.pop(client, None)
        if record is None:
            return
        for name in sorted(record.waiting):
            del self._locks[name].queue[client]
        for name in sorted(record.held):
            self._pass_on(name)

    def pending_notifications(self) -> Iterable[tuple[int, Any]]:
        """Return every grant, and a revocation for each that others wait for."""
        return self.pending_notifications_for(self._clients)

    def pending_notifications_for(self, clients: Collection[int]) -> Iterable[tuple[int, Any]]:
        """Return what these clients may have missed: their grants, and which of them others wait for."""
        for client in sorted(clients):
            record = self._clients.get(client)
            for name in () if record is None else sorted(record.held):
                lock = self._locks[name]
                holder = lock.holder
                yield client, Retry(name, holder.sequence, holder.token, bool(lock.queue))
                if lock.queue:
                    yield client, Revoke(name, holder.sequence, holder.token)

    def snapshot(self) -> Iterator[bytes]:
        """Yield pieces of the locks and of the finished numbers, each behind its length."""
        locks = (
            _LockImage(name, lock.holder, list(lock.queue.values()))
            for name, lock in sorted(self._locks.items())
        )
        while piece := list(islice(locks, _IMAGES_PER_PIECE)):
            yield _framed((piece, []))
        finished = (
            _FinishedImage(client, [(name, *last) for name, last in record.finished.items()])
            for client, record in sorted(self._clients.items())
            if record.finished
        )
        while images := list(islice(finished, _IMAGES_PER_PIECE)):
            yield _framed(([], images))

    def restore(self, snapshot: bytes) -> None:
        """Set the state of a fresh service; raise ValueError where the bytes are not a snapshot of one."""
        for locks, finished in _pieces(snapshot):
            for image in locks:
                self._restore_lock(image)
            for record in finished:
                self._record(record.client).finished.update((n, (s, how)) for n, s, how in record.locks)

    # Who asks, and under which number last

    def _caller(self) -> int:
        context = self.context
        if not context.session:
            raise NoSession("a lock needs a client with a session: connect with exactly_once=True")
        return context.client

    def _latest(self, client: int, name: str) -> int:
        """Return the client's highest number for this lock; 0 where none is known."""
        record = self._clients.get(client)
        if record is None:
            return 0
        if name in record.held:
            return self._locks[name].holder.sequence
        if name in record.waiting:
            return self._locks[name].queue[client].sequence
        return record.finished[name][0] if name in record.finished else 0

    def _record(self, client: int) -> _Client:
        record = self._clients.get(client)
        if record is None:
            record = self._clients[client] = _Client()
        return record

    def _require_room(self, client: int, lock: _Lock | None) -> None:
        limits = self.limits
        record = self._clients.get(client)
        if record is not None and len(record.held) + len(record.waiting) >= limits.places_per_client_max:
            raise TooManyLocks(
                f"a client may hold or await {limits.places_per_client_max} locks: give some back"
            )
        if lock is None and len(self._locks) >= limits.locks_max:
            raise TooManyLocks(f"{limits.locks_max} locks are held, as many as may be: try again later")
        if lock is not None and len(lock.queue) >= limits.waiters_max:
            raise TooManyWaiters(f"{limits.waiters_max} clients wait for this lock: try again later")

    def _refuse(self, name: str) -> Released:
        raise NotHeld(
            f"the lock {_quoted(name)} is not held by this client under this number: nothing was released"
        )

    # Changes

    def _take_or_wait(self, name: str, lock: _Lock | None, waiter: Waiter) -> Acquired:
        record = self._record(waiter.client)
        record.finished.pop(name, None)
        if lock is None:
            self._locks[name] = _Lock(self._new_holder(waiter))
            self._names.add(name)
            record.held.add(name)
            return Acquired("granted", self.context.token)
        lock.queue[waiter.client] = waiter  # a client that asks again keeps its place
        record.waiting.add(name)
        # Also for a duplicate: the first revocation may have died with the primary that was to send it.
        holder = lock.holder
        self.context.notify(holder.client, Revoke(name, holder.sequence, holder.token))
        return WAITING

    def _new_holder(self, waiter: Waiter) -> Holder:
        context = self.context
        return Holder(waiter.client, waiter.sequence, context.token, waiter.label, LogTime(context.now))

    def _finish(self, client: int, name: str, sequence: int, how: Released) -> Released:
        record = self._clients[client]
        record.finished[name] = sequence, how
        if len(record.finished) > self.limits.finished_per_client_max:
            record.finished.popitem(last=False)
        if how == "withdrawn":
            record.waiting.remove(name)
            del self._locks[name].queue[client]
        else:
            record.held.remove(name)
            self._pass_on(name)
        return how

    def _pass_on(self, name: str) -> None:
        """Give the lock to the client that has waited longest; its last holder is gone."""
        lock = self._locks[name]
        if not lock.queue:
            del self._locks[name]
            self._names.remove(name)
            return
        client, waiter = lock.queue.popitem(last=False)
        holder = lock.holder = self._new_holder(waiter)
        record = self._clients[client]
        record.waiting.remove(name)
        record.held.add(name)
        self.context.notify(client, Retry(name, holder.sequence, holder.token, bool(lock.queue)))

    def _restore_lock(self, image: _LockImage) -> None:
        lock = self._locks[image.name] = _Lock(image.holder)
        self._names.add(image.name)
        self._record(image.holder.client).held.add(image.name)
        for waiter in image.queue:
            lock.queue[waiter.client] = waiter
            self._record(waiter.client).waiting.add(image.name)


def _check(name: str, label: str) -> None:
    length = len(name.encode("utf-8", "surrogatepass"))
    if not 0 < length <= NAME_BYTES_MAX:
        raise InvalidName(f"the name of a lock has from 1 to {NAME_BYTES_MAX} bytes, not {length}")
    if len(label.encode("utf-8", "surrogatepass")) > LABEL_BYTES_MAX:
        raise InvalidName(f"the label of a client has up to {LABEL_BYTES_MAX} bytes")


def _quoted(name: str) -> str:
    """Return a name as it may stand in a line of a log (docs/faults.md#b57)."""
    return ascii(name if len(name) <= 100 else name[:100] + "...")


def _shown(name: str, lock: _Lock) -> LockState:
    return LockState(name, lock.holder, len(lock.queue), list(islice(lock.queue.values(), QUEUE_SHOWN_MAX)))


def _framed(piece: _Piece) -> bytes:
    encoded = _ENCODE(piece)
    return len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded


def _pieces(snapshot: bytes) -> Iterator[_Piece]:
    body = memoryview(snapshot)
    offset = 0
    while offset < len(body):
        start = offset + _LENGTH_BYTES
        offset = start + int.from_bytes(body[offset:start], "big")
        if offset > len(body):
            raise ValueError("the snapshot of a lock service is cut short")
        yield _DECODE(body[start:offset])
