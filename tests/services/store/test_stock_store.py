"""One set of keys under two sets of methods."""

from random import Random
from typing import Any

import pytest

from tests.services.store.model import Store
from viewstamp.machine.state_machine import running_at
from viewstamp.services.kv import InvalidKey, KeyValueStore, NoKey, ValueTooLong, VersionMismatch
from viewstamp.services.store.stock_store import StockStore
from viewstamp.services.store.types import Delete, Get, Put, Watch


def outcome(machine: Any, method: str, *args: Any, seqno: int) -> Any:
    """Return what a call returns or raises."""
    with running_at(machine, seqno=seqno):
        try:
            return getattr(machine, method)(*args)
        except (NoKey, VersionMismatch, InvalidKey, ValueTooLong) as error:
            return type(error), str(error)


@pytest.mark.parametrize("seed", range(5))
def test_its_old_methods_do_what_those_of_the_old_store_do(seed: int) -> None:
    rng = Random(seed)
    old, new = KeyValueStore(), StockStore()
    keys = ["a", "a/1", "a/2", "b", "é", "", "k" * 5_000]
    for number in range(1, 400):
        key, value = rng.choice(keys), rng.randbytes(3)
        calls: list[tuple[Any, ...]] = [
            ("get", key),
            ("set", key, value),
            ("put", key, value, rng.randrange(6)),
            ("delete", key),
            ("delete", key, rng.randrange(6)),
            ("range", rng.choice(["", "a", "a/"]), rng.choice(["", "a/1", "b"]), rng.randrange(4)),
        ]
        method, *args = rng.choice(calls)
        assert outcome(old, method, *args, seqno=number) == outcome(new, method, *args, seqno=number)
        if number == 200:
            data, fresh = b"".join(old.snapshot()), StockStore()
            fresh.restore(data)
            again = Store(new).restored().machine
            assert isinstance(again, StockStore)
            new = fresh if rng.random() < 0.5 else again


def test_each_sees_what_the_other_writes() -> None:
    store = Store(StockStore())
    store.do("set", "a", b"1")
    (item,) = store.ask("kv_range", Get(b"a")).items
    assert (item.value, item.create) == (b"1", store.token())
    store.do("kv_put", Put(b"a", b"2"))
    assert store.ask("get", "a") == (b"2", 2)
    store.do("kv_delete", Delete(b"a"))
    store.do("kv_put", Put(b"a", b"3"))
    assert store.ask("get", "a") == (b"3", 3), "a version is never used twice"
    store.do("kv_put", Put(b"\xff", b""))
    assert [item.key for item in store.ask("range").items] == ["a"]
    changed = store.ask("kv_changes", Watch(b"a")).changes
    assert [change.events[0].item and change.events[0].item.value for change in changed] == [
        b"1",
        b"2",
        None,
        b"3",
    ]


def test_a_write_by_the_old_methods_takes_the_lease_away() -> None:
    store = Store(StockStore())
    lease = store.do("lease_grant", 1_000)
    store.do("kv_put", Put(b"a", b"1", lease))
    store.do("set", "a", b"2")
    store.now = 2_000_000
    assert store.ring()
    assert store.ask("get", "a") == (b"2", 2)


def test_a_snapshot_of_the_old_store_begins_without_history() -> None:
    old = KeyValueStore()
    for number in range(3):
        old.set("a", b"%d" % number)
    old.set("b", b"x")
    old.delete("b")
    store = Store(StockStore())
    store.machine.restore(b"".join(old.snapshot()))
    store.seqno = 10
    assert store.ask("get", "a") == (b"2", 3)
    assert [item.key for item in store.ask("range").items] == ["a"]
    store.do("set", "b", b"y")
    assert store.ask("get", "b") == (b"y", 2)
    assert store.do("put", "a", b"3", 3) == 4
    assert store.restored().ask("get", "a") == (b"3", 4)
