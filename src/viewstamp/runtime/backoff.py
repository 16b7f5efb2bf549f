"""How long to wait before trying again."""

from random import Random


class Backoff:
    """Waiting times that double, with jitter: half of each is certain, half is drawn."""

    __slots__ = ("_max_s", "_min_s", "_next_s", "_rng")

    def __init__(self, min_ms: int, max_ms: int, rng: Random) -> None:
        self._min_s = min_ms / 1000
        self._max_s = max_ms / 1000
        self._next_s = self._min_s
        """_min_s <= _next_s <= _max_s."""
        self._rng = rng

    def reset(self) -> None:
        """Begin again with the shortest wait."""
        self._next_s = self._min_s

    def exhaust(self) -> None:
        """Go to the longest wait at once: trying soon cannot help."""
        self._next_s = self._max_s

    def draw_s(self) -> float:
        """Return the next wait in seconds, and double the one after it."""
        wait_s = self._next_s
        self._next_s = min(2 * wait_s, self._max_s)
        return wait_s * (0.5 + self._rng.random() / 2)
