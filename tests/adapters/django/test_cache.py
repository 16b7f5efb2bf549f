"""Django's cache interface, for threads and for tasks, against a real cluster."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache.backends.base import CacheKeyWarning, InvalidCacheBackendError, InvalidCacheKey
from django.test import override_settings

from tests.adapters.conftest import Stock
from viewstamp.adapters.django import ViewstampCache
from viewstamp.adapters.django.client import SHARE, Leases
from viewstamp.clients.coordination_blocking import BlockingCoordination
from viewstamp.clients.held_claim import ClaimTimeout
from viewstamp.core.errors import NotExecuted
from viewstamp.runtime.addresses import free_ports


@pytest.fixture
def cache(stock: Stock, store: BlockingCoordination) -> Iterator[ViewstampCache]:
    made = ViewstampCache(stock.config, {"OPTIONS": {"timeout_s": 30}})
    yield made
    made.disconnect()


def other(stock: Stock, **params: Any) -> ViewstampCache:
    return ViewstampCache(stock.config, {"OPTIONS": {"timeout_s": 30}, **params})


def test_values_of_all_kinds_come_back(cache: ViewstampCache) -> None:
    values = {"text": "ü", "int": -5, "big": 1 << 90, "yes": True, "none": None, "list": [1, ("a", {2})]}
    assert cache.set_many(values) == []
    assert cache.get_many([*values, "other"]) == values
    assert cache.get("yes") is True
    assert cache.get("other", "default") == "default"
    assert cache.has_key("none")
    assert "other" not in cache
    cache.delete_many(["int", "big", "other"])
    assert cache.get_many(["int", "big"]) == {}
    assert cache.delete("text")
    assert not cache.delete("text")


def test_add_touch_and_get_or_set(cache: ViewstampCache) -> None:
    assert cache.add("a", 1)
    assert not cache.add("a", 2)
    assert cache.get_or_set("a", 3) == 1
    assert cache.get_or_set("b", lambda: 4) == 4
    assert cache.touch("a", 60)
    assert cache.touch("a", None)
    assert cache.get("a") == 1
    assert not cache.touch("other")
    assert cache.touch("a", 0)
    assert cache.get("a") is None
    cache.set("c", 1, timeout=0)
    assert cache.get("c") is None
    assert cache.add("c", 1, timeout=-1)
    assert cache.get("c") is None


def test_versions_and_prefixes_are_apart(cache: ViewstampCache, stock: Stock) -> None:
    cache.set("a", "one")
    cache.set("a", "two", version=2)
    assert (cache.get("a"), cache.get("a", version=2)) == ("one", "two")
    assert cache.incr_version("a", version=2) == 3
    assert cache.get("a", version=2) is None
    assert cache.decr_version("a", version=3) == 2
    assert cache.get("a", version=2) == "two"
    with pytest.raises(ValueError, match="not found"):
        cache.incr_version("other")
    shop = other(stock, KEY_PREFIX="shop")
    shop.set("a", "shop's")
    cache.clear()
    assert (cache.get("a"), shop.get("a")) == (None, "shop's")
    shop.clear()
    assert shop.get("a") is None


def test_incr_is_atomic_and_leaves_the_time(cache: ViewstampCache, store: BlockingCoordination) -> None:
    cache.set("n", 0, timeout=600)
    lease = store.kv.range(prefix="django/").items[0].lease

    def count() -> None:
        for _ in range(20):
            cache.incr("n")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert cache.decr("n", 30) == 50
    assert store.kv.range(prefix="django/").items[0].lease == lease
    assert cache.incr("n", 1 << 70) == 50 + (1 << 70)
    with pytest.raises(ValueError, match="Key ':1:other' not found"):
        cache.incr("other")


async def test_tasks_have_the_same(cache: ViewstampCache) -> None:
    assert await cache.aadd("n", 1)
    assert not await cache.aadd("n", 2)
    await cache.aset("a", "x")
    assert await cache.aget("a") == "x"
    assert sum(await asyncio.gather(*(cache.aincr("n") for _ in range(10)))) == sum(range(2, 12))
    assert await cache.adecr("n") == 10
    assert await cache.aset_many({"b": 1, "c": 2}) == []
    assert await cache.aget_many(["b", "c", "d"]) == {"b": 1, "c": 2}
    assert await cache.ahas_key("b")
    assert await cache.atouch("b", 5)
    await cache.adelete_many(["b"])
    assert await cache.aget_or_set("b", 7) == 7
    assert await cache.adelete("b")
    assert await cache.aincr_version("a") == 2
    assert await cache.adecr_version("a", version=2) == 1
    await cache.aclear()
    assert await cache.aget("a") is None


def test_a_key_ends_with_a_lease_of_its_time(cache: ViewstampCache, store: BlockingCoordination) -> None:
    cache.set_many({"a": 1, "b": 1}, timeout=64)
    cache.set("c", 1, timeout=None)
    leases = {item.name: item.lease for item in store.kv.range(prefix="django/").items}
    assert leases["django/:1:a"] == leases["django/:1:b"]
    assert leases["django/:1:c"] == 0
    assert store.time_to_live(leases["django/:1:a"]).ttl_ms == 64_000 + 64_000 // SHARE
    store.revoke(leases["django/:1:a"])
    assert cache.get_many(["a", "b", "c"]) == {"c": 1}
    cache.set("a", 2, timeout=64)  # the lease that it remembers is gone
    assert cache.get("a") == 2


async def test_a_lease_is_used_for_a_part_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    granted: list[int] = []

    class Store:
        async def lease_grant(self, ttl_ms: int) -> int:
            granted.append(ttl_ms)
            return len(granted)

    now = [0]
    monkeypatch.setattr("viewstamp.adapters.django.client.boottime_us", lambda: now[0])
    leases = Leases(Store())  # type: ignore[arg-type]
    found = []
    for ms in (0, 999, 1_000, 1_999, 2_000):
        now[0] = ms * 1000
        found.append(await leases.lease_for(32))
    assert found == [1, 1, 2, 2, 3]
    assert granted == [33_000] * 3
    assert await leases.lease_for(0.001) == 4
    assert granted[-1] == 100 + 100 // SHARE


def test_what_was_not_signed_for_this_key_is_missing(
    cache: ViewstampCache, store: BlockingCoordination
) -> None:
    cache.set("a", ["secret"])
    with override_settings(SECRET_KEY="the one before"):
        cache.set("old", ["old"])
    item = store.kv.get("django/:1:a")
    assert item is not None
    forged = item.value[:-1] + bytes([item.value[-1] ^ 1])
    for name, data in (
        ("b", item.value),
        ("moved", item.value),
        ("forged", forged),
        ("raw", item.value[33:]),
        ("empty", b""),
    ):
        store.kv.put(f"django/:1:{name}", data)
    assert cache.get_many(["a", "old", "b", "moved", "forged", "raw", "empty"]) == {
        "a": ["secret"],
        "old": ["old"],
    }
    with pytest.raises(ValueError, match="not found"):
        cache.incr("forged")
    with override_settings(SECRET_KEY="another project's", SECRET_KEY_FALLBACKS=[]):
        assert cache.get("a") is None


class Asking:
    """A value whose pickling is done in some thread."""

    thread: Any = None

    def __reduce__(self) -> Any:
        Asking.thread = threading.current_thread()
        return (Asking, ())


def test_a_value_is_pickled_in_the_thread_that_sets_it(cache: ViewstampCache) -> None:
    cache.set("a", Asking())
    assert Asking.thread is threading.current_thread()
    assert isinstance(cache.get("a"), Asking)


def test_keys_that_cannot_be_are_refused(cache: ViewstampCache) -> None:
    with pytest.raises(InvalidCacheKey):
        cache.set("\ud800", 1)
    with pytest.raises(InvalidCacheKey), pytest.warns(CacheKeyWarning):
        cache.set("x" * 5_000, 1)


def test_locks_are_granted_one_at_a_time(cache: ViewstampCache) -> None:
    with cache.lock("import", timeout_s=30) as held:
        assert held.token > 0
        with pytest.raises(ClaimTimeout), cache.lock("import", timeout_s=0.05):
            pass
    with cache.lock("import", timeout_s=30) as again:
        assert again.token > held.token


@pytest.mark.parametrize("location", ["", None, "no-port", "none.toml"])
def test_a_location_that_makes_no_sense_is_an_error_of_the_backend(location: Any) -> None:
    with pytest.raises(InvalidCacheBackendError):
        ViewstampCache(location, {}).get("a")


def test_an_option_that_nobody_knows_is_an_error_of_the_backend(stock: Stock) -> None:
    with pytest.raises(InvalidCacheBackendError):
        ViewstampCache(stock.config, {"OPTIONS": {"colour": 1}}).get("a")
    ViewstampCache(stock.config, {"OPTIONS": {"MAX_ENTRIES": 5}})


def test_a_cluster_that_does_not_answer_is_told_as_it_is() -> None:
    cache = ViewstampCache(f"127.0.0.1:{free_ports(1)[0]}", {"OPTIONS": {"timeout_s": 0.2}})
    with pytest.raises(NotExecuted):
        cache.get("a")
