"""Queues: items are taken under a lease, acknowledged with its token, tried again, and set aside when dead.

Rules of this file:

- an item that is taken has one taker, and the token of that grant; what is done to it under another token is
  refused. It comes back when its taker returns it, or its lease or its session ends;
- an attempt is counted when an item is taken, and taken back when it is returned on purpose;
- what became due is moved by the next command on the queue, or by an alarm, up to a hundred at once;
- a claim whose lease ended is kept until its client asks or lets go: it must not be given another item;
- ids are remembered while their items are here, and for `dedupe_ms` after they were done.
"""

from collections.abc import Collection, Iterable, Iterator
from heapq import heappop
from itertools import islice
from typing import Any, ClassVar, Final

from viewstamp.machine.state_machine import command, query
from viewstamp.services.locks import InvalidName, NoSession
from viewstamp.services.recipes.alarm_heap import Alarms
from viewstamp.services.recipes.names import (
    PAGE_MAX,
    Ask,
    Key,
    Released,
    TooLarge,
    TooMany,
    check,
    check_sequence,
    no_session,
    quoted,
)
from viewstamp.services.recipes.queue_messages import (
    ItemPage,
    ItemState,
    NotTaken,
    Put,
    QueueFull,
    QueueLimits,
    QueueState,
    TakeAnswer,
    TakenItem,
)
from viewstamp.services.recipes.queue_state import Item, Queue, QueueSettings, Take, cost_of

BODY_BYTES_MAX: Final = 262_144
ID_BYTES_MAX: Final = 256
REASON_CHARACTERS_MAX: Final = 500
ITEMS_MAX: Final = 10_000_000
ATTEMPTS_MAX: Final = 1_000_000
MS_MAX: Final = 10 * 366 * 86_400_000
PAGE_BYTES_MAX: Final = 1 << 20
"""A page ends after the item with which it passes this many bytes."""
_LOST: Final = -1
"""Token of a claim whose lease ended."""


class QueueService(Alarms):
    """Named queues. The items that a session has taken come back when it ends."""

    raises: ClassVar[tuple[type[Exception], ...]] = (
        InvalidName,
        NoSession,
        TooMany,
        TooLarge,
        QueueFull,
        NotTaken,
    )
    limits: ClassVar[QueueLimits] = QueueLimits()
    recipe: ClassVar[str] = "queue"
    queues: dict[str, Queue] = {}  # noqa: RUF012  StateMachine copies the default for each instance
    clients: dict[int, dict[tuple[str, int], None]] = {}  # noqa: RUF012
    size: int = 0
    """What all items take, in bytes."""
    last: int = 0
    """The last number of an item: numbers are of all queues, as a queue that is empty is forgotten."""

    @command(keys=("name",))
    def put(self, name: str, body: bytes, id: str = "", key: str = "", delay_ms: int = 0) -> Put:  # noqa: A002
        """Put an item at the end; with an id only if none of this id is here or was done lately.

        Items of one key are worked on one after the other. With `delay_ms` it can be taken after that much
        log time.

        Raises:
            QueueFull: there is no room.
            InvalidName, TooLarge, TooMany: see there.
        """
        check(name)
        _check_item(body, id, key, delay_ms)
        now = int(self.context.now)
        queue = self.queues.get(name)
        if queue is not None and id and (id in queue.ids or queue.done.get(id, 0) > now):
            return Put(queue.ids.get(id, 0), is_new=False)
        cost = cost_of(body, id, key)
        queue = self._with_room(name, queue, cost)
        number = self._next_number()
        queue.items[number] = Item(id, key, body, now)
        self.size += cost
        if id:
            queue.ids[id] = number
        if delay_ms:
            queue.delay(number, now + delay_ms * 1_000)
        else:
            queue.offer(number)
        self._settle(name, queue)
        return Put(number, is_new=True)

    @command(keys=("name",))
    def take(self, name: str, sequence: int, lease_ms: int = 0, label: str = "") -> TakeAnswer:
        """Ask for the next item under a number of the caller's choosing, new for each claim.

        The same number again asks how things stand, and renews the lease of what is taken. With `lease_ms`
        the item comes back after that much log time; with 0 only when the session ends.

        Raises:
            NotTaken: the lease of this claim ended.
            InvalidName, NoSession, TooMany, TooLarge: see there.
        """
        key = self._caller(sequence)
        check(name, label)
        if not 0 <= lease_ms <= MS_MAX:
            raise TooLarge(f"a lease is from 0 to {MS_MAX} ms: nothing was changed")
        queue = self._queue(name)
        self._settle(name, queue)
        take = queue.claims.get(key)
        if take is None:
            self._require_place(key[0], queue)
            self.queues[name] = queue
            take = queue.claims[key] = Take(label, lease_ms)
            queue.line[key] = None
            self.clients.setdefault(key[0], {})[name, sequence] = None
            self._assign(name, queue, but=key)
        elif take.token == _LOST:
            self._let_go(name, queue, key)
            # viewstamp: allow VS013 the claim is over, and its client is told so
            raise NotTaken(f"the lease of an item of {quoted(name)} ended, and it may be taken again")
        else:
            take.lease_ms = lease_ms
        if not take.token:
            return TakeAnswer("waiting", 0)
        queue.lease(key, int(self.context.now))
        self.set_alarm(name, queue.due)
        return TakeAnswer("granted", take.token, _taken(take.number, queue.items[take.number]))

    @command(keys=("name",), frees=True)
    def ack(self, name: str, sequence: int, token: int) -> None:
        """Remove an item that is done, as the one that took it under this token.

        Raises:
            NotTaken: it is not taken under this token now.
        """
        queue, key, take = self._held(name, sequence, token)
        item = queue.remove(take.number)
        self.size -= item.cost
        if item.id and queue.settings.dedupe_ms:
            queue.done[item.id] = int(self.context.now) + queue.settings.dedupe_ms * 1_000
        take.number = 0
        self._let_go(name, queue, key)

    @command(keys=("name",), frees=True)
    def fail(
        self,
        name: str,
        sequence: int,
        token: int,
        reason: str = "",
        delay_ms: int | None = None,
        bury: bool = False,  # noqa: FBT001, FBT002
    ) -> bool:
        """Give an item back that could not be done; return whether it is a dead letter now.

        It can be taken again after `delay_ms`, or after the queue's `backoff_ms`. It is dead after the last
        attempt, and at once where `bury` says so.

        Raises:
            NotTaken: it is not taken under this token now.
            TooLarge: the delay is out of range.
        """
        if delay_ms is not None and not 0 <= delay_ms <= MS_MAX:
            raise TooLarge(f"a delay is from 0 to {MS_MAX} ms: nothing was changed")
        queue, key, take = self._held(name, sequence, token)
        number, take.number = take.number, 0
        reason = reason[:REASON_CHARACTERS_MAX]
        delay_ms = queue.settings.backoff_ms if delay_ms is None else delay_ms
        is_dead = self._come_back(queue, number, reason, delay_ms, bury=bury)
        self._let_go(name, queue, key)
        return is_dead

    @command(keys=("name",), frees=True)
    def release(self, name: str, sequence: int, attempted: bool = False) -> Released:  # noqa: FBT001, FBT002
        """Return an item as if it had not been taken, or wait for none any longer. May be repeated.

        With `attempted` the attempt counts, as it does where the taker's session ends.
        """
        key = self._caller(sequence)
        queue = self.queues.get(name)
        take = None if queue is None else queue.claims.get(key)
        if queue is None or take is None:
            return "unknown"
        number, take.number = take.number, 0
        if number and attempted:
            self._come_back(queue, number, "its taker lost it", 0)
        elif number:
            item = queue.items[number]
            item.attempts -= 1
            item.taker = 0, 0
            queue.offer(number)
        self._let_go(name, queue, key)
        return "released" if number else "withdrawn"

    @command(keys=("name",))
    def configure(
        self,
        name: str,
        attempts_max: int = 5,
        backoff_ms: int = 0,
        items_max: int = 100_000,
        dedupe_ms: int = 3_600_000,
    ) -> QueueState:
        """Set what holds for this queue, which is kept from then on also when it is empty.

        Raises:
            TooLarge: a number is out of range.
            InvalidName, TooMany: see there.
        """
        check(name)
        if not 0 <= attempts_max <= ATTEMPTS_MAX or not 0 < items_max <= ITEMS_MAX:
            raise TooLarge(f"attempts are from 0 to {ATTEMPTS_MAX}, items from 1 to {ITEMS_MAX}")
        if not (0 <= backoff_ms <= MS_MAX and 0 <= dedupe_ms <= MS_MAX):
            raise TooLarge(f"times are from 0 to {MS_MAX} ms: nothing was changed")
        queue = self._queue(name)
        queue.settings, queue.kept = QueueSettings(attempts_max, backoff_ms, items_max, dedupe_ms), True
        self._settle(name, queue)
        return self.stat(name)

    @command(keys=("name",))
    def revive(self, name: str, number: int) -> int:
        """Put a dead letter at the end again, with no attempts; return its new number.

        Raises:
            NotTaken: it is not a dead letter.
        """
        queue, item = self._bury_less(name, number)
        revived = self._next_number()
        queue.items[revived] = Item(item.id, item.key, item.body, int(self.context.now))
        if item.id:
            queue.ids[item.id] = revived
        queue.offer(revived)
        self._settle(name, queue)
        return revived

    @command(keys=("name",), frees=True)
    def discard(self, name: str, number: int) -> None:
        """Remove a dead letter.

        Raises:
            NotTaken: it is not a dead letter.
        """
        queue, item = self._bury_less(name, number)
        self.size -= item.cost
        self._settle(name, queue)

    @query(keys=("name",))
    def stat(self, name: str) -> QueueState:
        """Return how many items are where."""
        queue = self.queues.get(name) or Queue()
        taken = sum(1 for take in queue.claims.values() if take.number)
        dead, delayed = len(queue.dead), len(queue.delayed)
        waiting = len(queue.items) - taken - dead - delayed
        return QueueState(name, waiting, delayed, taken, dead, len(queue.line), queue.settings)

    @query(keys=("name",))
    def items(self, name: str, after: int = 0, limit: int = 100) -> ItemPage:
        """Return up to `limit` items (1,000 at most) with numbers above `after`, without their bodies."""
        queue = self.queues.get(name) or Queue()
        limit = max(0, min(limit, PAGE_MAX))
        numbers = [*islice((number for number in queue.items if number > after), limit + 1)]
        return ItemPage([_listed(queue, number) for number in numbers[:limit]], more=len(numbers) > limit)

    @query(keys=("name",))
    def peek(self, name: str, number: int) -> TakenItem | None:
        """Return an item without taking it; None: there is none of this number."""
        item = self.queues[name].items.get(number) if name in self.queues else None
        return None if item is None else _taken(number, item)

    def session_ended(self, client: int) -> None:
        """Let what this client has taken be taken by others, and let it wait no more."""
        mine = self.clients.pop(client, {})
        takes = [(name, self.queues[name].claims.pop((client, sequence))) for name, sequence in mine]
        for name, sequence in mine:
            self.queues[name].line.pop((client, sequence), None)
        for name, take in takes:
            if take.number:
                self._come_back(self.queues[name], take.number, "the session of its taker ended", 0)
        for name in dict(takes):
            self._settle(name, self.queues[name])

    def pending_notifications(self) -> Iterable[tuple[int, Any]]:
        """Return a notice for every claim: each client asks again what it may have missed."""
        return self.pending_notifications_for(self.clients)

    def pending_notifications_for(self, clients: Collection[int]) -> Iterator[tuple[int, Any]]:
        """Return a notice for every claim of these clients."""
        for client in sorted(clients):
            for name, sequence in self.clients.get(client, ()):
                yield client, Ask(self.recipe, name, sequence)

    # Who asks, and for what

    def _caller(self, sequence: int) -> Key:
        if not self.context.session:
            raise no_session()
        check_sequence(sequence)
        return self.context.client, sequence

    def _queue(self, name: str) -> Queue:
        queue = self.queues.get(name)
        if queue is None:
            if len(self.queues) >= self.limits.queues_max:
                raise TooMany(f"there are {self.limits.queues_max} queues, as many as may be")
            queue = self.queues[name] = Queue()
        return queue

    def _next_number(self) -> int:
        self.last += 1
        return self.last

    def _with_room(self, name: str, queue: Queue | None, size: int) -> Queue:
        most = (queue or Queue()).settings.items_max
        if queue is not None and len(queue.items) >= most:
            raise QueueFull(f"{quoted(name)} holds {most} items, as many as it may: try again later")
        if self.size + size > self.limits.bytes_max:
            raise QueueFull(f"all queues hold {self.limits.bytes_max} bytes, as many as they may")
        return self._queue(name)

    def _require_place(self, client: int, queue: Queue) -> None:
        limits = self.limits
        if len(self.clients.get(client, ())) >= limits.claims_per_client_max:
            raise TooMany(f"a client may have {limits.claims_per_client_max} claims: give some back")
        if len(queue.line) >= limits.waiting_max:
            raise TooMany(f"{limits.waiting_max} takers wait here, as many as may be: try again later")

    def _held(self, name: str, sequence: int, token: int) -> tuple[Queue, Key, Take]:
        """Return the claim that has taken an item under this token.

        Raises:
            NotTaken: there is none (any longer).
        """
        key = self._caller(sequence)
        queue = self.queues.get(name)
        if queue is not None:
            self._settle(name, queue)
            take = queue.claims.get(key)
            if take is not None and take.number and take.token == token:
                return queue, key, take
        # viewstamp: allow VS013 what was due has moved; that is true for all
        raise NotTaken(f"no item of {quoted(name)} is taken under this token now: another may have it")

    def _bury_less(self, name: str, number: int) -> tuple[Queue, Item]:
        """Take a dead letter out."""
        queue = self.queues.get(name)
        if queue is None or number not in queue.dead:
            raise NotTaken(f"{quoted(name)} has no dead letter {number}: nothing was changed")
        del queue.dead[number]
        return queue, queue.remove(number)

    # Changes

    def _settle(self, name: str, queue: Queue) -> None:
        """Move what has become due, hand out what is ready, and forget a queue that is empty."""
        now = int(self.context.now)
        queue.bring_forward(now)
        while (key := queue.ended_lease(now)) is not None:
            take = queue.claims[key]
            number, take.number, take.token = take.number, 0, _LOST
            self._come_back(queue, number, "its lease ended", 0)
            self.context.notify(key[0], Ask(self.recipe, name, key[1]))
        queue.forget_done(now, self.limits.done_max)
        self._assign(name, queue)
        self.set_alarm(name, queue.due)
        if queue.is_idle:
            self.queues.pop(name, None)
            self.set_alarm(name, None)

    def look_at_due(self, name: str) -> None:
        """Move what is due in a queue."""
        self._settle(name, self.queues[name])

    def _assign(self, name: str, queue: Queue, but: Key | None = None) -> None:
        """Let those that wait longest take what is ready. Tell each client, `but` the one that asks now."""
        while queue.line and queue.ready:
            key = next(iter(queue.line))
            del queue.line[key]
            number = heappop(queue.ready)
            take, item = queue.claims[key], queue.items[number]
            item.attempts += 1
            item.taker = key
            take.number, take.token = number, self.context.token
            queue.lease(key, int(self.context.now))
            if key != but:
                self.context.notify(key[0], Ask(self.recipe, name, key[1]))

    def _come_back(
        self, queue: Queue, number: int, reason: str, delay_ms: int, *, bury: bool = False
    ) -> bool:
        """Let an item be taken again, or make it a dead letter; return whether it is one."""
        item = queue.items[number]
        item.taker, item.reason = (0, 0), reason
        most = queue.settings.attempts_max
        if bury or (most and item.attempts >= most):
            queue.bury(number, reason or "it failed as often as it may")
            return True
        if delay_ms:
            queue.delay(number, int(self.context.now) + delay_ms * 1_000)
        else:
            queue.offer(number)
        return False

    def _let_go(self, name: str, queue: Queue, key: Key) -> None:
        """Take a claim out that has no item."""
        del queue.claims[key]
        queue.line.pop(key, None)
        mine = self.clients[key[0]]
        del mine[name, key[1]]
        if not mine:
            del self.clients[key[0]]
        self._settle(name, queue)


def _check_item(body: bytes, ident: str, key: str, delay_ms: int) -> None:
    if len(body) > BODY_BYTES_MAX:
        raise TooLarge(f"an item has up to {BODY_BYTES_MAX} bytes, not {len(body)}: nothing was put")
    if (
        max(len(ident.encode("utf-8", "surrogatepass")), len(key.encode("utf-8", "surrogatepass")))
        > ID_BYTES_MAX
    ):
        raise TooLarge(f"an id and a key have up to {ID_BYTES_MAX} bytes: nothing was put")
    if not 0 <= delay_ms <= MS_MAX:
        raise TooLarge(f"a delay is from 0 to {MS_MAX} ms: nothing was put")


def _taken(number: int, item: Item) -> TakenItem:
    return TakenItem(number, item.id, item.key, item.body, item.attempts, item.put_at)


def _listed(queue: Queue, number: int) -> ItemState:
    item = queue.items[number]
    is_taken = item.taker != (0, 0)
    label = queue.claims[item.taker].label if is_taken else ""
    state = "dead" if number in queue.dead else "taken" if is_taken else "waiting"
    return ItemState(number, item.id, item.key, len(item.body), item.attempts, state, label, item.reason)
