"""Which ranges hold a key: looked up without looking at each range.

Nearly all ranges are one key, or all keys that begin with something: those are found by the key itself, and
by its beginnings, as many as there are different lengths. Other ranges are looked at one by one.
"""

from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

Range: TypeAlias = tuple[bytes, bytes | None]
"""The first key, and the one that is behind the last; None: the range has no end."""
_FULL: Final = b"\xff"


def prefix_end(prefix: bytes) -> bytes | None:
    """Return the first key after all that begin with `prefix`; None: there is none."""
    shorter = prefix.rstrip(_FULL)
    return shorter[:-1] + bytes((shorter[-1] + 1,)) if shorter else None


class KeySpans:
    """Ranges, each with the numbers of those that gave it."""

    __slots__ = ("_exact", "_others", "_prefixes")

    def __init__(self) -> None:
        self._exact: dict[bytes, set[int]] = {}
        self._prefixes: dict[int, dict[bytes, set[int]]] = {}
        """By length, then by prefix. Nothing here is empty."""
        self._others: dict[Range, set[int]] = {}

    def __iter__(self) -> Iterator[int]:
        """Iterate over all numbers."""
        tables = (self._exact, self._others, *self._prefixes.values())
        for table in tables:
            for numbers in table.values():  # type: ignore[attr-defined]
                yield from numbers

    def add(self, span: Range, number: int) -> None:
        """Remember that a number gave a range."""
        first, end = span
        if end == first + b"\0":
            self._exact.setdefault(first, set()).add(number)
        elif first and end == prefix_end(first):
            self._prefixes.setdefault(len(first), {}).setdefault(first, set()).add(number)
        else:
            self._others.setdefault(span, set()).add(number)

    def remove(self, span: Range, number: int) -> None:
        """Forget what `add` remembered."""
        first, end = span
        if end == first + b"\0":
            _discard(self._exact, first, number)
        elif first and end == prefix_end(first):
            table = self._prefixes[len(first)]
            _discard(table, first, number)
            if not table:
                del self._prefixes[len(first)]
        else:
            _discard(self._others, span, number)

    def covering(self, keys: Iterable[bytes]) -> set[int]:
        """Return the numbers of all ranges that hold one of these keys."""
        found: set[int] = set()
        for key in set(keys):
            found |= self._exact.get(key, _NONE)
            for length, table in self._prefixes.items():
                found |= table.get(key[:length], _NONE) if len(key) >= length else _NONE
            for (first, end), numbers in self._others.items():
                if key >= first and (end is None or key < end):
                    found |= numbers
        return found


_NONE: Final[frozenset[int]] = frozenset()


def _discard(table: dict[bytes, set[int]] | dict[Range, set[int]], key: bytes | Range, number: int) -> None:
    numbers = table[key]  # type: ignore[index]
    numbers.remove(number)
    if not numbers:
        del table[key]  # type: ignore[arg-type]
