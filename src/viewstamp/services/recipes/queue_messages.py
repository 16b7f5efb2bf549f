"""What a queue service says: its answers, its refusals and its limits."""

import msgspec

from viewstamp.services.recipes.queue_state import QueueSettings


class QueueFull(Exception):
    """The queue, or the service, holds as much as it may. Nothing was put."""


class NotTaken(Exception):
    """The item is not taken under this token, or not any longer: another may have it. Nothing was changed."""


class QueueLimits(msgspec.Struct, frozen=True):
    """What one service bears. Equal on all members: a refusal is a result like any other."""

    queues_max: int = 100_000
    bytes_max: int = 256 << 20
    """Of all items together."""
    claims_per_client_max: int = 10_000
    waiting_max: int = 10_000
    """Takers that wait at one queue."""
    done_max: int = 100_000
    """Ids of done items that one queue remembers."""


class Put(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a `put` was answered."""

    number: int
    """The item's number, which no other item ever has; 0: it was put before, and is done."""
    is_new: bool
    """False: an item of this id was put before, and nothing was put now."""


class TakenItem(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An item as its taker gets it."""

    number: int
    id: str
    key: str
    body: bytes
    attempts: int
    """How many times it was taken, this time included."""
    put_at: int
    """Log time, in microseconds."""


class TakeAnswer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a `take` was answered."""

    state: str
    """granted, or waiting."""
    token: int
    """Fencing token of the grant; 0 while it waits."""
    item: TakenItem | None = None


class ItemState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An item as it is listed."""

    number: int
    id: str
    key: str
    bytes: int
    attempts: int
    state: str
    """waiting, taken or dead."""
    taker: str
    reason: str


class ItemPage(msgspec.Struct, frozen=True, array_like=True):
    """Part of a queue, in the order in which the items were put."""

    items: list[ItemState]
    more: bool
    """There is more: ask again with `after` set to the last number of this page."""


class QueueState(msgspec.Struct, frozen=True, array_like=True):
    """A queue as it is now."""

    name: str
    waiting: int
    """Items that can be taken, or wait for another of their key."""
    delayed: int
    taken: int
    dead: int
    takers: int
    """Those that wait for an item."""
    settings: QueueSettings
