"""The batches that this replica proposed and that are not applied yet; and when it may propose the next.

While one of them is under way, what comes in waits until it is applied, or for `entry_gap_us` at the most.
Clients that are answered together ask again together: without the wait their requests, which arrive one
after the other, would each become an entry of its own, and every entry costs all members a message, a record
and an answer. Whoever is alone waits for nothing. Where a commitment takes long (a slow disk, a far network),
the gap is what bounds the wait, and entries follow one another without waiting for answers.
"""

from collections import deque
from typing import Final

import msgspec

from viewstamp.core.ids import Instant
from viewstamp.replica.batching import Batch, Prepared

OFFERS_MAX: Final = 1_024
"""Own batches kept decoded until they are applied; no core has so many under way."""


class Offer(msgspec.Struct, frozen=True, gc=False):
    """A batch as it was proposed, decoded already."""

    data: bytes
    batch: Batch
    messages: list[Prepared]


class Offers:
    """Own batches in the order proposed, since the last redirect."""

    __slots__ = ("_gap_us", "_next_at", "_offers")

    def __init__(self, entry_gap_us: int) -> None:
        self._gap_us = entry_gap_us
        self._offers: deque[Offer] = deque()
        self._next_at = Instant(0)
        """When the next batch may follow though one is under way."""

    def __len__(self) -> int:
        return len(self._offers)

    def add(self, offer: Offer, now: Instant) -> None:
        """Remember a batch that is proposed now."""
        if len(self._offers) == OFFERS_MAX:
            self._offers.popleft()
        self._offers.append(offer)
        self._next_at = Instant(now + self._gap_us)

    def next_at(self, now: Instant) -> Instant:
        """Return when the next batch may be proposed; `now` where nothing is under way."""
        return self._next_at if self._offers else now

    def find(self, data: bytes) -> Offer | None:
        """Return the batch of an entry that is applied, if it is one of these; those before it are over.

        They have lost their places to another leader's.
        """
        offers = self._offers
        for place, offer in enumerate(offers):
            if offer.data == data:
                for _ in range(place + 1):
                    offers.popleft()
                return offer
        return None

    def take_all(self) -> list[Offer]:
        """Return all of them, and forget them: another leader decides what becomes of them."""
        taken = list(self._offers)
        self._offers.clear()
        return taken
