"""The batches that this replica proposed and that are not applied yet, so that none is decoded twice."""

from collections import deque
from typing import Final

import msgspec

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

    __slots__ = ("_offers",)

    def __init__(self) -> None:
        self._offers: deque[Offer] = deque()

    def __len__(self) -> int:
        return len(self._offers)

    def add(self, offer: Offer) -> None:
        """Remember a batch that is proposed now."""
        if len(self._offers) == OFFERS_MAX:
            self._offers.popleft()
        self._offers.append(offer)

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
