"""One seed, many streams: a draw added in one place does not shift the draws of another.

A stream is a `random.Random` seeded by the run's seed and the stream's name. Seeding by text goes through
SHA-512, so it depends neither on the platform nor on PYTHONHASHSEED.
"""

from random import Random


class RandomTree:
    """Hands out the random streams of one run. Asking twice for one name starts the same stream again."""

    __slots__ = ("seed",)

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def stream(self, *name: str | int) -> Random:
        """Return a fresh stream for this purpose, named by words and numbers."""
        return Random("/".join([str(self.seed), *map(str, name)]))  # noqa: S311  reproducible on purpose


def log_uniform(rng: Random, low: float, high: float) -> float:
    """Draw so that each order of magnitude between `low` and `high` (both above 0) is equally likely."""
    return float(low * (high / low) ** rng.random())
