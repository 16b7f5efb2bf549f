"""State outside a class, in another module: the form that reading the class does not find."""

from itertools import count
from typing import Final

_COUNT: Final = count(1)


def thrown() -> int:
    """Return how often this was called in this process."""
    return next(_COUNT)
