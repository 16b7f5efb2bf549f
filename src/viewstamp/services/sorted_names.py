"""Keys in order, of which a part can be read without looking at the others.

They stand in blocks, in order, so that adding one among a million moves a thousand.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, Generic, TypeVar

BLOCK_NAMES_MAX: Final = 1_024
_MANY_PER_BLOCK: Final = BLOCK_NAMES_MAX // 16
"""If more than this is added at once, for each block that is here, all of it is sorted again."""

K = TypeVar("K", str, bytes)


class SortedKeys(Generic[K]):
    """A sorted set of keys."""

    __slots__ = ("_blocks", "_firsts")

    def __init__(self, keys: Iterable[K] = ()) -> None:
        self._blocks: list[list[K]] = []
        """None of them is empty, or longer than `BLOCK_NAMES_MAX`."""
        self._firsts: list[K] = []
        """The first key of each."""
        self._cut(sorted(keys))

    def add(self, key: K) -> None:
        """Add a key that is not here."""
        if not self._blocks:
            self._blocks.append([key])
            self._firsts.append(key)
            return
        place = max(bisect_right(self._firsts, key) - 1, 0)
        block = self._blocks[place]
        insort(block, key)
        self._firsts[place] = block[0]
        if len(block) > BLOCK_NAMES_MAX:
            half = len(block) // 2
            self._blocks[place : place + 1] = block[:half], block[half:]
            self._firsts.insert(place + 1, block[half])

    def update(self, keys: Sequence[K]) -> None:
        """Add keys that are not here, each of them once."""
        if len(keys) > _MANY_PER_BLOCK * len(self._blocks):
            ordered: list[K] = [key for block in self._blocks for key in block]
            ordered.extend(keys)
            ordered.sort()
            self._cut(ordered)
            return
        for key in keys:
            self.add(key)

    def _cut(self, ordered: list[K]) -> None:
        """Hold these, which are sorted, and nothing else."""
        half = BLOCK_NAMES_MAX // 2
        self._blocks = [ordered[at : at + half] for at in range(0, len(ordered), half)]
        self._firsts = [block[0] for block in self._blocks]

    def remove(self, key: K) -> None:
        """Remove a key that is here."""
        place = bisect_right(self._firsts, key) - 1
        block = self._blocks[place]
        del block[bisect_left(block, key)]
        if block:
            self._firsts[place] = block[0]
        else:
            del self._blocks[place], self._firsts[place]

    def within(self, start: K, end: K | None) -> Iterator[K]:
        """Yield the keys from `start` on that come before `end`, in order; None: all that follow."""
        place = max(bisect_right(self._firsts, start) - 1, 0)
        for block in islice(self._blocks, place, None):
            if end is not None and block[-1] >= end:
                yield from islice(block, bisect_left(block, start), bisect_left(block, end))
                return
            yield from islice(block, bisect_left(block, start), None)

    def count(self, start: K, end: K | None) -> int:
        """Return how many keys `within` yields, without looking at each."""
        upto = self._before(end) if end is not None else sum(map(len, self._blocks))
        return max(0, upto - self._before(start))

    def _before(self, key: K) -> int:
        place = max(bisect_right(self._firsts, key) - 1, 0)
        whole = sum(map(len, islice(self._blocks, place)))
        return whole + (bisect_left(self._blocks[place], key) if self._blocks else 0)


class SortedNames(SortedKeys[str]):
    """A sorted set of names."""

    __slots__ = ()

    def page(self, prefix: str, after: str, limit: int) -> list[str]:
        """Return up to `limit` names, in order, that begin with `prefix` and follow `after`."""
        names: list[str] = []
        for name in islice(self.since(prefix, after), limit):
            if not name.startswith(prefix):
                break
            names.append(name)
        return names

    def since(self, prefix: str, after: str) -> Iterator[str]:
        """Yield the names in order, from the first that neither precedes `prefix` nor is up to `after`."""
        return self.within(prefix if prefix > after else f"{after}\0", None)  # the first text that follows it
