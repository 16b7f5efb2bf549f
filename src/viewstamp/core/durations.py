"""Times that a caller gives in seconds, as the numbers that are sent; refused before anything is sent."""

from typing import Final

from viewstamp.core.errors import ConfigurationError

SECONDS_MAX: Final = 10 * 366 * 86_400
"""Ten years: what the services take at most."""
LEASE_MS_MIN: Final = 100
"""A shorter lease is over before its holder knows that it has one."""


def number(given: object, what: str) -> float:
    """Return what a caller gave as seconds.

    Raises:
        ConfigurationError: it is of another type. Nothing was sent.
    """
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ConfigurationError(f"{what} is {given!r}: give seconds; nothing was sent")
    return given


def milliseconds(given: object, what: str, *, least_ms: int = 0) -> int:
    """Return seconds as whole milliseconds.

    Raises:
        ConfigurationError: they are not a number between the least and ten years. Nothing was sent.
    """
    seconds = number(given, what)
    if not least_ms / 1_000 <= seconds <= SECONDS_MAX:  # this also refuses what is not a number
        allowed = f"from {least_ms / 1_000:g} to {SECONDS_MAX}"
        raise ConfigurationError(f"{what} is {seconds:g}: give seconds, {allowed}; nothing was sent")
    return round(seconds * 1_000)


def wait_s(given: object) -> float | None:
    """Return how long a caller waits, which may be less than nothing; None: as long as it takes.

    Raises:
        ConfigurationError: it is not a number of seconds. Nothing was sent.
    """
    if given is None:
        return None
    seconds = number(given, "timeout_s")
    if seconds != seconds:  # noqa: PLR0124  not a number: a wait of this length would never end
        raise ConfigurationError(
            "timeout_s is nan: give seconds, or None to wait as long as it takes; nothing was sent"
        )
    return seconds
