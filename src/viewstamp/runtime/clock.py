"""The one place that reads the time. Everything else takes an `Instant` as an argument."""

from collections.abc import Callable
from time import monotonic_ns
from typing import TypeAlias

from viewstamp.core.ids import Instant

Clock: TypeAlias = Callable[[], Instant]
"""Returns a moment in microseconds that never goes back. Tests pass one of their own."""


def monotonic_us() -> Instant:
    """Return this moment of the monotonic clock, in microseconds. No wall clock is read anywhere."""
    return monotonic_ns() // 1000  # type: ignore[return-value]  # a call of Instant costs as much as the clock
