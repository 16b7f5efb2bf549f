"""I41, the oracles of the recipes: what those that hold something saw, in the true order of time.

They stand at the clients, as that of the locks does: a task holds a claim from the moment at which its client
admitted it until it left. A client whose session or lease may be over knows that it may not be alone; those
that are certain must fit together.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from viewstamp.core.judge import InvariantViolated

NAME: Final = "I41 Claims"


class Holder(msgspec.Struct, frozen=True):
    """A task that holds a claim."""

    client: int
    claim: int
    token: int
    weight: int
    is_sure: Callable[[], bool]
    """Whether its client still counts on it."""

    def __str__(self) -> str:
        return f"claim {self.claim} of client {self.client} with token {self.token}"


class ClaimOracle:
    """One for each run: never over-granted, and the tokens of what one alone may hold grow."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._inside: dict[str, list[Holder]] = {}
        self._newest: dict[str, Holder] = {}
        """For each name the holder with the highest token that held all of it."""
        self.entries = 0
        self.unsure = 0
        """How often one was admitted while another, no longer certain, was still inside."""

    def entered(self, name: str, one: Holder) -> None:
        """A task is admitted: it fits, and nobody was granted all of it under a higher token."""
        inside = self._inside.setdefault(name, [])
        certain = [other for other in inside if other.is_sure()]
        total = one.weight + sum(other.weight for other in certain)
        if total > self._size:
            raise InvariantViolated(
                NAME, f"{one} is admitted to {name} beside {_listed(certain)}: {total} in all"
            )
        newest = self._newest.get(name)
        if newest is not None and newest.token >= one.token:
            raise InvariantViolated(
                NAME, f"{one} is admitted to {name} after {newest}, whose token is not lower"
            )
        if one.weight == self._size:
            self._newest[name] = one
        self.entries += 1
        self.unsure += len(certain) < len(inside)
        inside.append(one)

    def left(self, name: str, one: Holder) -> None:
        """It leaves, having used what it held: while it is certain, nobody was granted all of it since."""
        newest = self._newest.get(name)
        if newest is not None and newest.token > one.token and one.is_sure():
            raise InvariantViolated(NAME, f"{one} is certain of {name}, which {newest} has had since")
        self._inside[name].remove(one)


class QueueOracle:
    """One for each run: an item has one taker that is certain, is done once, and is never lost."""

    def __init__(self) -> None:
        self._inside: dict[tuple[str, int], list[Holder]] = {}
        self._tokens: dict[tuple[str, int], int] = {}
        """For each item the highest token under which it was taken."""
        self._keys: dict[tuple[str, str], set[int]] = {}
        self.put: set[tuple[str, int]] = set()
        """Items whose put was answered."""
        self.done: Counter[tuple[str, int]] = Counter()
        """How often an item's acknowledgement was answered."""
        self.perhaps: Counter[tuple[str, int]] = Counter()
        """How many acknowledgements of an item may have had an effect."""
        self.entries = 0
        self.unsure = 0

    def entered(self, name: str, number: int, one: Holder) -> None:
        """A task is given an item."""
        item = name, number
        inside = self._inside.setdefault(item, [])
        certain = [other for other in inside if other.is_sure()]
        if certain:
            raise InvariantViolated(NAME, f"{one} is given item {item} beside {_listed(certain)}")
        if self.done[item]:
            raise InvariantViolated(NAME, f"{one} is given item {item}, which is done")
        if one.token <= self._tokens.get(item, 0):
            raise InvariantViolated(NAME, f"{one} is given item {item} under a token that is not higher")
        self._tokens[item] = one.token
        self.entries += 1
        self.unsure += bool(inside)
        inside.append(one)

    def acknowledged(self, name: str, number: int, one: Holder) -> None:
        """The service has confirmed that an item is done."""
        item = name, number
        self.done[item] += 1
        if self.done[item] > 1:
            raise InvariantViolated(NAME, f"item {item} is done twice, the second time by {one}")
        if self._tokens[item] != one.token:
            raise InvariantViolated(NAME, f"item {item} is done by {one}, and was taken by another since")

    def left(self, name: str, number: int, one: Holder) -> None:
        """A task is done with an item, however."""
        self._inside[name, number].remove(one)

    def ended(self, items: set[tuple[str, int]]) -> None:
        """The run is over, and these items are still there: nothing is lost, and nothing done is back."""
        perhaps = {item for item, count in self.perhaps.items() if count}
        lost = self.put - items - perhaps
        if lost:
            raise InvariantViolated(NAME, f"lost: {sorted(lost)[:5]}")
        back = items & {item for item, count in self.done.items() if count}
        if back:
            raise InvariantViolated(NAME, f"done, and still there: {sorted(back)[:5]}")


def _listed(holders: list[Holder]) -> str:
    return ", ".join(map(str, holders)) or "nobody"
