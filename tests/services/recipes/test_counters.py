"""Counters and rate limits as ordinary objects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.services.recipes.desk import ANNE, Desk
from viewstamp.services.locks import InvalidName
from viewstamp.services.recipes import counters, rates
from viewstamp.services.recipes.counters import NUMBER_MAX, Count, CounterService, OutOfBounds
from viewstamp.services.recipes.names import TooLarge, TooMany
from viewstamp.services.recipes.rates import RateService, Taken


def test_a_counter_stays_within_the_bounds_of_the_call() -> None:
    at = Desk(CounterService())
    with at.by(ANNE) as service:
        assert service.add("c", 3) == Count(3, at.token)
        assert service.add("c", -3, at_least=0).value == 0
        for least, most, amount in ((0, None, -1), (None, 7, 8)):
            with pytest.raises(OutOfBounds):
                service.add("c", amount, least, most)
        with pytest.raises(OutOfBounds):
            service.set("c", 1, expected=5)
        service.set("c", 1)
        with pytest.raises(OutOfBounds):
            service.add("c", NUMBER_MAX)
        assert service.set("c", 9, expected=1).value == 9
        assert (service.get("c"), service.forget("c"), service.forget("c"), service.get("c")) == (
            9,
            True,
            False,
            0,
        )


def test_counters_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "COUNTERS_MAX", 1)
    at = Desk(CounterService())
    with at.by(ANNE) as service:
        service.add("c")
        service.add("c")
        with pytest.raises(TooMany):
            service.add("d")
        with pytest.raises(InvalidName):
            service.add("")


def take(at: Desk[RateService], now: int, cost: int = 1, name: str = "r") -> Taken:
    at.now = now
    with at.by(ANNE) as service:
        return service.try_take(name, cost, rate=2, period_ms=1_000, burst=3)


def test_a_burst_is_taken_at_once_and_then_as_fast_as_the_rate() -> None:
    at = Desk(RateService())
    assert take(at, 0, 2) == Taken(0, at.token)
    assert take(at, 0).wait_us == 0
    assert take(at, 0) == Taken(500_000, 0)
    assert take(at, 100_000, 2) == Taken(900_000, 0), "what was refused was not taken"
    assert take(at, 499_999) == Taken(1, 0)
    assert take(at, 500_000).wait_us == 0
    with at.by(ANNE, reading=True) as service:
        assert service.used("r") == 1_500_000


def test_what_is_at_rest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "LIMITS_MAX", 2)
    at = Desk(RateService())
    take(at, 0, name="a")
    take(at, 0, name="b")
    with pytest.raises(TooMany):
        take(at, 0, name="c")
    assert take(at, 600_000, name="c").wait_us == 0
    assert set(at.service.used_up_to) == {"c"}
    with at.by(ANNE) as service:
        assert service.forget("c")


def test_numbers_out_of_range_are_refused() -> None:
    at = Desk(RateService())
    for cost, rate, period_ms, burst in (
        (0, 1, 1, 1),
        (2, 1, 1, 1),
        (1, 0, 1, 1),
        (1, 1, 0, 1),
        (1, 1, 1, 0),
        (1, 1, 366 * 86_400_000, 1_000_000_000),
    ):
        with pytest.raises(TooLarge), at.by(ANNE) as service:
            service.try_take("r", cost, rate, period_ms, burst)


@given(st.lists(st.tuples(st.integers(0, 400_000), st.integers(1, 3)), max_size=60))
def test_no_window_allows_more_than_the_rate_and_the_burst(steps: list[tuple[int, int]]) -> None:
    at = Desk(RateService())
    now, taken = 0, []
    for pause, cost in steps:
        now += pause
        if take(at, now, cost).wait_us == 0:
            taken.append((now, cost))
    for place, (begin, _) in enumerate(taken):
        total = 0
        for end, cost in taken[place:]:
            total += cost
            assert total <= 3 + 2 * (end - begin) / 1e6
