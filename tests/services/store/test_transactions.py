"""Transactions: etcd's conditions, one revision, all or nothing."""

from typing import Any

import pytest

from tests.services.store.model import Store
from viewstamp.services.kv import VALUE_BYTES_MAX, InvalidKey, NoKey, ValueTooLong
from viewstamp.services.store import transactions
from viewstamp.services.store.types import (
    CompactedRevision,
    Compare,
    Delete,
    Deleted,
    DuplicateKey,
    Found,
    Get,
    Inner,
    InnerDone,
    Innermost,
    InnermostDone,
    KeyValue,
    LeaseNotFound,
    Put,
    PutDone,
    TooMany,
    Txn,
)


def holds(store: Store, *conditions: Compare) -> bool:
    """Return whether conditions hold, as a transaction says."""
    done = store.do("kv_txn", Txn(list(conditions)))
    assert done.results == []
    return bool(done.succeeded)


def test_conditions_are_those_of_etcd() -> None:
    store = Store()
    store.do("kv_put", Put(b"a", b"1"))
    store.do("kv_put", Put(b"a", b"2"))
    create, mod = store.token(1), store.token(2)
    true = [
        Compare(b"a", "version", "=", 2),
        Compare(b"a", "version", ">", 1),
        Compare(b"a", "create", "=", create),
        Compare(b"a", "mod", "=", mod),
        Compare(b"a", "mod", "<", mod + 1),
        Compare(b"a", "value", "=", b"2"),
        Compare(b"a", "value", "!=", b"1"),
        Compare(b"a", "value", ">", b"1"),
        Compare(b"a", "lease", "=", 0),
        Compare(b"none", "version", "=", 0),
        Compare(b"none", "mod", "<", 1),
        Compare(b"none", "lease", "=", 0),
        Compare(b"a", "version", "=", 2, b"b"),
        Compare(b"x", "create", "=", 0, b"y"),
    ]
    false = [
        Compare(b"a", "version", "!=", 2),
        Compare(b"a", "create", "=", 0),
        Compare(b"a", "value", "=", b"1"),
        Compare(b"none", "version", "=", 1),
        # Neither equal nor different: a value that does not exist is compared with nothing.
        Compare(b"none", "value", "=", b""),
        Compare(b"none", "value", "!=", b"1"),
        Compare(b"a", "value", "=", 2),
        Compare(b"a", "version", "=", b"2"),
    ]
    for condition in true:
        assert holds(store, condition), condition
    for condition in false:
        assert not holds(store, condition), condition
    assert not holds(store, true[0], false[0])
    store.do("kv_put", Put(b"aa", b"2"))
    assert not holds(store, Compare(b"a", "version", "=", 2, b"b")), "every key of the range"


def test_all_changes_have_one_revision_and_reads_see_those_before_them() -> None:
    store = Store()
    store.do("kv_put", Put(b"old", b"o"))
    done = store.do(
        "kv_txn",
        Txn(
            [Compare(b"old", "version", "=", 1)],
            [Get(b"new"), Put(b"new", b"n"), Get(b"new"), Delete(b"old", prev=True), Get(b"old")],
            [Put(b"never")],
        ),
    )
    at = store.token()
    new = KeyValue(b"new", b"n", at, at, 1)
    old = KeyValue(b"old", b"o", store.token(1), store.token(1), 1)
    assert done.succeeded
    assert done.revision == at
    assert done.results == [
        Found(store.token(1), [], False, 0),
        PutDone(at),
        Found(at, [new], False, 1),
        Deleted(at, 1, [old]),
        Found(at, [], False, 0),
    ]
    assert store.touched == [b"new", b"old"]


def test_inner_transactions_are_judged_by_the_state_before_the_first_change() -> None:
    store = Store()
    missing = Compare(b"a", "version", "=", 0)
    inner = Inner([missing], [Put(b"b"), Innermost([missing], [Put(b"c")], [Put(b"never")])], [Put(b"never")])
    done = store.do("kv_txn", Txn([missing], [Put(b"a"), inner]))
    at = store.token()
    assert done.results == [
        PutDone(at),
        InnerDone(at, True, [PutDone(at), InnermostDone(at, True, [PutDone(at)])]),
    ]
    assert [item.key for item in store.ask("kv_range", Get(b"a", b"\0")).items] == [b"a", b"b", b"c"]


def test_a_transaction_without_a_change_has_the_revision_before_it() -> None:
    store = Store()
    store.do("kv_put", Put(b"a"))
    before = store.token()
    done = store.do("kv_txn", Txn([Compare(b"a", "version", "=", 9)], [Put(b"a")], [Delete(b"none")]))
    assert (done.succeeded, done.revision, done.results) == (False, before, [Deleted(before, 0)])
    assert store.touched == []


@pytest.mark.parametrize(
    ("operations", "error"),
    [
        ([Put(b"")], InvalidKey),
        ([Put(b"k" * 4_097)], InvalidKey),
        ([Delete(b"")], InvalidKey),
        ([Get(b"")], InvalidKey),
        ([Put(b"k", b"v" * (VALUE_BYTES_MAX + 1))], ValueTooLong),
        ([Put(b"none", keep_value=True)], NoKey),
        ([Put(b"none", keep_lease=True)], NoKey),
        ([Put(b"k", lease=7)], LeaseNotFound),
        ([Put(b"k"), Put(b"k")], DuplicateKey),
        ([Put(b"k"), Inner([], [Put(b"k")])], DuplicateKey),
        ([Put(b"k"), Delete(b"j", b"l")], DuplicateKey),
        ([Put(b"here"), Delete(b"here")], DuplicateKey),
        ([Delete(b"a", b"z"), Put(b"here")], DuplicateKey),
        ([Get(b"here", revision=1)], CompactedRevision),
        ([Get(b"k")] * 1_025, TooMany),
        ([Inner([], [Get(b"k")] * 1_024)], TooMany),
    ],
)
def test_what_is_refused_changes_nothing(operations: list[Any], error: type[Exception]) -> None:
    store = Store()
    store.do("kv_put", Put(b"here", b"h"))
    store.do("kv_compact", store.token())
    before = b"".join(store.machine.snapshot())
    with pytest.raises(error):
        store.do("kv_txn", Txn([], [Put(b"first", b"1"), *operations]))
    assert b"".join(store.machine.snapshot()) == before


def test_a_range_may_be_deleted_twice_and_what_is_kept_is_kept() -> None:
    store = Store()
    lease = store.do("lease_grant", 1_000)
    store.do("kv_put", Put(b"a", b"1", lease))
    store.do("kv_put", Put(b"a", b"2", keep_lease=True))
    store.do("kv_put", Put(b"a", prev=True, keep_value=True))
    (item,) = store.ask("kv_range", Get(b"a")).items
    assert (item.value, item.lease, item.version) == (b"2", 0, 3)
    done = store.do("kv_txn", Txn([], [Delete(b"a", b"b"), Delete(b"a")]))
    assert [each.count for each in done.results] == [1, 0]


def test_answers_and_keys_of_one_command_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    for number in range(5):
        store.do("kv_put", Put(b"k%d" % number, b"v" * 100))
    monkeypatch.setattr(transactions, "ANSWER_BYTES_MAX", 400)
    with pytest.raises(TooMany, match="would return more"):
        store.do("kv_delete", Delete(b"k", b"l", prev=True))
    done = store.do("kv_txn", Txn([], [Get(b"k", b"l"), Get(b"k", b"l")]))
    assert [(len(each.items), each.more, each.count) for each in done.results] == [(3, True, 5), (0, True, 5)]
    monkeypatch.setattr("viewstamp.services.store.table.KEYS_PER_COMMAND_MAX", 4)
    for command, argument in (
        ("kv_delete", Delete(b"k", b"l")),
        ("kv_txn", Txn([Compare(b"k", "mod", ">", 0, b"l")])),
    ):
        with pytest.raises(TooMany, match="more than 4 keys"):
            store.do(command, argument)
    assert len(store.machine) == 5
