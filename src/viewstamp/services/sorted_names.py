"""Names in order, of which a page can be read without looking at the others.

They stand in blocks, in order, so that adding one among a million moves a thousand.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import islice
from typing import Final

BLOCK_NAMES_MAX: Final = 1_024


class SortedNames:
    """A sorted set of names."""

    __slots__ = ("_blocks", "_firsts")

    def __init__(self) -> None:
        self._blocks: list[list[str]] = []
        """None of them is empty, or longer than `BLOCK_NAMES_MAX`."""
        self._firsts: list[str] = []
        """The first name of each."""

    def add(self, name: str) -> None:
        """Add a name that is not here."""
        if not self._blocks:
            self._blocks.append([name])
            self._firsts.append(name)
            return
        place = max(bisect_right(self._firsts, name) - 1, 0)
        block = self._blocks[place]
        insort(block, name)
        self._firsts[place] = block[0]
        if len(block) > BLOCK_NAMES_MAX:
            half = len(block) // 2
            self._blocks[place : place + 1] = block[:half], block[half:]
            self._firsts.insert(place + 1, block[half])

    def remove(self, name: str) -> None:
        """Remove a name that is here."""
        place = bisect_right(self._firsts, name) - 1
        block = self._blocks[place]
        del block[bisect_left(block, name)]
        if block:
            self._firsts[place] = block[0]
        else:
            del self._blocks[place], self._firsts[place]

    def page(self, prefix: str, after: str, limit: int) -> list[str]:
        """Return up to `limit` names, in order, that begin with `prefix` and follow `after`."""
        names: list[str] = []
        for name in islice(self._since(prefix, after), limit):
            if not name.startswith(prefix):
                break
            names.append(name)
        return names

    def _since(self, prefix: str, after: str) -> Iterator[str]:
        place = max(bisect_right(self._firsts, max(prefix, after)) - 1, 0)
        for block in islice(self._blocks, place, None):
            yield from islice(block, max(bisect_left(block, prefix), bisect_right(block, after)), None)
