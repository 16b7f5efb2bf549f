"""Times in seconds, before they are sent."""

import math
from decimal import Decimal
from typing import Any

import pytest

from viewstamp.core.durations import LEASE_MS_MIN, SECONDS_MAX, milliseconds, number, wait_s
from viewstamp.core.errors import ConfigurationError


@pytest.mark.parametrize("given", ["5", None, True, [1], b"1", 1j, Decimal(1)])
def test_what_is_not_a_number_is_refused_by_name(given: Any) -> None:
    for read in (number, milliseconds):
        with pytest.raises(ConfigurationError, match=r"^lease_s is .*: give seconds.*; nothing was sent$"):
            read(given, "lease_s")
    if given is not None:
        with pytest.raises(ConfigurationError, match="timeout_s"):
            wait_s(given)


@pytest.mark.parametrize(
    "given", [math.nan, math.inf, -math.inf, -1, -0.001, 1e300, SECONDS_MAX + 1, 1 << 64]
)
def test_what_no_service_takes_is_refused(given: float) -> None:
    with pytest.raises(ConfigurationError, match=f"give seconds, from 0 to {SECONDS_MAX}; nothing was sent"):
        milliseconds(given, "delay_s")


def test_the_least_and_the_most_are_taken() -> None:
    assert milliseconds(0, "delay_s") == 0
    assert milliseconds(0.0015, "delay_s") == 2
    assert milliseconds(SECONDS_MAX, "delay_s") == SECONDS_MAX * 1_000
    assert milliseconds(0.1, "lease_s", least_ms=LEASE_MS_MIN) == 100
    with pytest.raises(ConfigurationError, match=r"from 0\.1 to"):
        milliseconds(0.09, "lease_s", least_ms=LEASE_MS_MIN)


def test_a_wait_is_a_number_or_none() -> None:
    assert wait_s(None) is None
    assert wait_s(-1) == -1
    assert wait_s(math.inf) == math.inf
    with pytest.raises(ConfigurationError, match="nan"):
        wait_s(math.nan)
