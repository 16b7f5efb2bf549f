"""Answers that a lock cache must not believe: they are of a session that is gone."""

from viewstamp.core.ids import Instant
from viewstamp.services.lock_cache import LockCache
from viewstamp.services.lock_events import Answered, Ask, CacheOptions, Observed, Ticket, Wanted
from viewstamp.services.locks import Acquired


def test_an_answer_that_outlived_its_session_is_asked_for_again() -> None:
    cache = LockCache(CacheOptions(retry_us=None))
    cache.step(Observed(1, Instant(60_000_000)), Instant(0))
    (asked,) = cache.step(Wanted(Ticket(1), "a"), Instant(0))
    assert isinstance(asked, Ask)
    cache.step(Observed(None, None), Instant(1))
    (again,) = cache.step(Answered(asked.ask, Acquired("waiting")), Instant(1))
    assert isinstance(again, Ask)
    assert (again.method, again.name, again.sequence) == ("acquire", "a", asked.sequence)
    assert cache.step(Answered(again.ask, Acquired("waiting")), Instant(2)) == []
