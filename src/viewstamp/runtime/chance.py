"""The one place that draws from the system's randomness. Everything else is given one."""

from random import Random, SystemRandom
from typing import Final

_SYSTEM: Final = SystemRandom()


def fresh_number() -> int:
    """Return 63 random bits, such as for an incarnation or a client's number."""
    return _SYSTEM.getrandbits(63)


def fresh_rng() -> Random:
    """Return a generator for jitter and election time-outs, seeded by the system. Not for secrets."""
    return Random(_SYSTEM.getrandbits(64))  # noqa: S311  no secret depends on it
