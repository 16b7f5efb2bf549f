"""The one place that reads the time. Everything else takes an `Instant` as an argument."""

from collections.abc import Callable
from time import monotonic_ns
from typing import Final, TypeAlias

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import Instant

TIMEOUT_S_MAX: Final = 1e9
"""Thirty years. Calls end; who wants to wait without end calls again."""

Clock: TypeAlias = Callable[[], Instant]
"""Returns a moment in microseconds that never goes back. Tests pass one of their own."""


def monotonic_us() -> Instant:
    """Return this moment of the monotonic clock, in microseconds. No wall clock is read anywhere."""
    return monotonic_ns() // 1000  # type: ignore[return-value]  # a call of Instant costs as much as the clock


def check_timeout_s(timeout_s: float) -> float:
    """Return the seconds; `ConfigurationError` unless they are more than none and at most `TIMEOUT_S_MAX`."""
    if not 0 < timeout_s <= TIMEOUT_S_MAX:
        raise ConfigurationError(f"timeout_s is {timeout_s}: it must be more than 0, and not for ever")
    return timeout_s
