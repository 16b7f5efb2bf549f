"""A queue with leases as a value: which items are ready, delayed, taken or dead, and how they move.

An item is in exactly one place: `ready`, `delayed`, behind another of its key in `keys`, `taken`, or `dead`.

A key is *engaged* from the moment at which one of its items is ready until that item is done or dead: the
others wait in `keys`, so that items of one key are worked on one after the other, in order. Items without a
key do not wait for each other.
"""

from heapq import heapify, heappop, heappush
from typing import Final

import msgspec

from viewstamp.services.recipes.names import Key

MOVED_MAX: Final = 100
"""Items that one command moves because their time has come; the next command goes on."""
_STALE_MAX: Final = 64
_ITEM_BYTES: Final = 100
"""What an item takes beside its body, id and key, roughly."""


class QueueSettings(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What may be set of one queue."""

    attempts_max: int = 5
    """An item that was taken this often and never done is a dead letter; 0: never."""
    backoff_ms: int = 0
    """Log time until an item that failed may be taken again."""
    items_max: int = 100_000
    """Items in the queue, dead letters included."""
    dedupe_ms: int = 3_600_000
    """Log time for which the id of a done item is remembered."""


class Item(msgspec.Struct):
    """An item as the queue keeps it."""

    id: str
    key: str
    body: bytes
    put_at: int
    attempts: int = 0
    engages: bool = False
    """Its key waits for it."""
    taker: Key = (0, 0)
    """The claim that has taken it; (0, 0): none."""
    reason: str = ""
    """Why the last attempt failed; of a dead letter why it is one."""

    @property
    def cost(self) -> int:
        """What it takes of the room for items."""
        return cost_of(self.body, self.id, self.key)


def cost_of(body: bytes, ident: str, key: str) -> int:
    """Return what an item takes of the room for items, in bytes, roughly."""
    return _ITEM_BYTES + len(body) + len(ident) + len(key)


class Take(msgspec.Struct):
    """The claim of one who takes an item."""

    label: str
    lease_ms: int
    number: int = 0
    """The item; 0: it waits, or has lost it."""
    token: int = 0
    """Of the grant; 0: it waits."""
    until: int = 0
    """End of the lease in log time; 0: that of the session."""
    timed: bool = False
    """It has an entry in `leases`, perhaps one that is too early."""


class Queue(msgspec.Struct):
    """One queue."""

    settings: QueueSettings = QueueSettings()
    kept: bool = False
    """It was configured, and stays when it is empty."""
    items: dict[int, Item] = {}
    ready: list[int] = []
    """A heap: the item that was put first is taken first."""
    delayed: list[tuple[int, int]] = []
    """A heap of (when, item)."""
    keys: dict[str, list[int]] = {}
    """Of each engaged key a heap of the items that wait behind."""
    leases: list[tuple[int, Key, int]] = []
    """A heap of (end, claim, token), one for each lease: too early where it was renewed; some are of claims
    that are gone."""
    claims: dict[Key, Take] = {}
    line: dict[Key, None] = {}
    """Claims that wait, first come first."""
    dead: dict[int, None] = {}
    ids: dict[str, int] = {}
    """Of each id in the queue its item."""
    done: dict[str, int] = {}
    """Of each id that was done when it is forgotten, in the order of that."""

    def offer(self, number: int) -> None:
        """Let an item be taken, behind those of its key."""
        item = self.items[number]
        if item.key and not item.engages:
            if item.key in self.keys:
                heappush(self.keys[item.key], number)
                return
            self.keys[item.key] = []
            item.engages = True
        heappush(self.ready, number)

    def delay(self, number: int, until: int) -> None:
        """Let an item be taken later. One that its key waits for goes on holding it up."""
        heappush(self.delayed, (until, number))

    def disengage(self, item: Item) -> None:
        """Its key waits for this item no more: the next one may be taken."""
        if not item.engages:
            return
        item.engages = False
        behind = self.keys.pop(item.key)
        if behind:
            number = heappop(behind)
            self.keys[item.key] = behind
            self.items[number].engages = True
            heappush(self.ready, number)

    def remove(self, number: int) -> Item:
        """Take an item out that is done."""
        item = self.items.pop(number)
        self.disengage(item)
        if item.id:
            del self.ids[item.id]
        return item

    def bury(self, number: int, reason: str) -> None:
        """Make an item a dead letter."""
        item = self.items[number]
        item.reason = reason
        item.taker = 0, 0
        self.dead[number] = None
        self.disengage(item)

    def bring_forward(self, now: int) -> None:
        """Offer the delayed items whose time has come."""
        for _ in range(MOVED_MAX):
            if not self.delayed or self.delayed[0][0] > now:
                return
            _, number = heappop(self.delayed)
            self.offer(number)

    def lease(self, key: Key, now: int) -> None:
        """Begin or renew the lease of what a claim has taken."""
        take = self.claims[key]
        take.until = now + take.lease_ms * 1_000 if take.lease_ms else 0
        if take.until and not take.timed:
            take.timed = True
            heappush(self.leases, (take.until, key, take.token))
        if len(self.leases) > 2 * len(self.claims) + _STALE_MAX:
            self.leases = [entry for entry in self.leases if self._is_timed(entry)]
            heapify(self.leases)

    def _is_timed(self, entry: tuple[int, Key, int]) -> bool:
        take = self.claims.get(entry[1])
        return take is not None and take.token == entry[2]

    def ended_lease(self, now: int) -> Key | None:
        """Return a claim whose lease is over."""
        for _ in range(MOVED_MAX):
            if not self.leases or self.leases[0][0] > now:
                return None
            entry = heappop(self.leases)
            if not self._is_timed(entry):
                continue
            _, key, token = entry
            take = self.claims[key]
            if 0 < take.until <= now:
                take.timed = False
                return key
            take.timed = take.until > 0
            if take.timed:
                heappush(self.leases, (take.until, key, token))
        return None

    def forget_done(self, now: int, most: int) -> None:
        """Forget ids whose time is up, and the oldest where they are too many."""
        for _ in range(MOVED_MAX):
            first = next(iter(self.done), None)
            if first is None or (self.done[first] > now and len(self.done) <= most):
                return
            del self.done[first]

    @property
    def due(self) -> int | None:
        """When a delayed item or the end of a lease is to be looked at; None: there is neither."""
        first = [heap[0][0] for heap in (self.delayed, self.leases) if heap]
        return min(first, default=None)

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost with it."""
        return not (self.items or self.claims or self.done or self.kept)
