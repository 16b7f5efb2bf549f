"""Waiting for a condition, with a bound; and watching that something does not happen."""

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")
_POLL_S: Final = 0.02
_NEVER: Final = threading.Event()


class Failed(Exception):
    """What a test waited for did not come, or something came that must not."""


def pause(seconds: float) -> None:
    """Let time pass: only where the scenario itself says so."""
    _NEVER.wait(seconds)


def wait_until(what: str, condition: Callable[[], T], within_s: float) -> T:
    """Return the first true value of a condition.

    Raises:
        Failed: there is none in time.
    """
    until = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise Failed(f"not within {within_s:g} s: {what}")
        pause(_POLL_S)


def watch(what: str, condition: Callable[[], object], for_s: float) -> None:
    """See that a condition holds for this time.

    Raises:
        Failed: it did not.
    """
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        if not condition():
            raise Failed(f"did not stay so for {for_s:g} s: {what}")
        pause(_POLL_S)
