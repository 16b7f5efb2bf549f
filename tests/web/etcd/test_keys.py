"""Requests of etcd as those of the store, and back."""

import msgspec
import pytest

from viewstamp.services.store import types as store
from viewstamp.services.store.types import Deleted, Found, InnerDone, KeyValue, PutDone, TxnDone
from viewstamp.web.etcd import keys
from viewstamp.web.etcd.messages import (
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from viewstamp.web.etcd.refusals import Refusal

A, B, C = (
    KeyValue(b"a", b"3", 10, 30, 1),
    KeyValue(b"b", b"1", 20, 20, 3),
    KeyValue(b"c", b"2", 5, 40, 2),
)


def names(request: RangeRequest, **found: object) -> tuple[list[str], bool]:
    said = keys.range_answer(request, Found(40, [A, B, C], False, 3), {})
    return [each["key"] for each in said.get("kvs", [])], said.get("more", False)


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({"sort_target": "VALUE"}, "bca"),
        ({"sort_target": "VALUE", "sort_order": "DESCEND"}, "acb"),
        ({"sort_target": 1}, "acb"),
        ({"sort_target": "CREATE", "sort_order": 1}, "cab"),
        ({"sort_target": "MOD"}, "bac"),
        ({"sort_order": "DESCEND"}, "cba"),
        ({"min_mod_revision": 30}, "ac"),
        ({"max_mod_revision": 30}, "ab"),
        ({"min_create_revision": 10, "max_create_revision": 10}, "a"),
        ({"sort_target": "MOD", "limit": 2}, "ba"),
    ],
)
def test_what_the_store_does_not_sort_and_filter_is_done_to_the_whole_range(
    how: dict[str, int | str], wanted: str
) -> None:
    request = RangeRequest(b"a", b"z", **how)  # type: ignore[arg-type]
    assert keys.get_of(request).limit == 0
    found, more = names(request)
    assert found == [{"a": "YQ==", "b": "Yg==", "c": "Yw=="}[each] for each in wanted]
    assert more is ("limit" in how)


def test_a_plain_range_leaves_the_limit_to_the_store() -> None:
    get = keys.get_of(RangeRequest(b"a", b"\0", limit=5, revision=7, keys_only=True, count_only=True))
    assert get == store.Get(b"a", b"\0", 5, 7, keys_only=True, count_only=True)
    assert keys.get_of(RangeRequest(b"a", limit=-1, revision=-1)) == store.Get(b"a")


def test_values_are_read_to_be_sorted_by_and_not_told() -> None:
    request = RangeRequest(b"a", b"z", keys_only=True, sort_target="VALUE")
    assert not keys.get_of(request).keys_only
    said = keys.range_answer(request, Found(40, [A, B], False, 2), {})
    assert [sorted(each) for each in said["kvs"]] == [
        ["create_revision", "key", "mod_revision", "version"]
    ] * 2


def test_a_put_keeps_what_it_is_told_to() -> None:
    assert keys.put_of(PutRequest(b"a", b"x", 5, prev_kv=True)) == store.Put(b"a", b"x", 5, prev=True)
    kept = keys.put_of(PutRequest(b"a", ignore_value=True, ignore_lease=True))
    assert kept == store.Put(b"a", keep_value=True, keep_lease=True)
    for wrong in (PutRequest(b"a", b"x", ignore_value=True), PutRequest(b"a", lease=1, ignore_lease=True)):
        with pytest.raises(Refusal, match="is provided"):
            keys.put_of(wrong)


def test_no_request_is_without_a_key() -> None:
    for make in (
        lambda: keys.get_of(RangeRequest(b"", b"\0")),
        lambda: keys.put_of(PutRequest()),
        lambda: keys.delete_of(DeleteRangeRequest()),
        lambda: keys.txn_of(TxnRequest([Compare()])),
    ):
        with pytest.raises(Refusal, match="etcdserver: key is not provided"):
            make()


def test_conditions_have_the_operand_of_their_target() -> None:
    compare = Compare(key=b"k", version=1, create_revision=2, mod_revision=3, value=b"4", lease=5)
    wanted = [("version", 1), ("create", 2), ("mod", 3), ("value", b"4"), ("lease", 5)]
    for number, (target, operand) in enumerate(wanted):
        for result, op in enumerate("=><"):
            made = keys.txn_of(TxnRequest([msgspec.structs.replace(compare, target=number, result=result)]))
            assert made.when == [store.Compare(b"k", target, op, operand)]  # type: ignore[arg-type]
    unequal = keys.txn_of(TxnRequest([Compare(key=b"k", result="NOT_EQUAL", range_end=b"z")]))
    assert unequal.when == [store.Compare(b"k", "version", "!=", 0, b"z")]


def nested(depth: int) -> TxnRequest:
    inner = [RequestOp(request_txn=nested(depth - 1))] if depth > 1 else []
    return TxnRequest(success=[*inner, RequestOp(request_put=PutRequest(b"%d" % depth))])


def test_transactions_are_nested_three_deep_at_most() -> None:
    txn = keys.txn_of(nested(3))
    assert txn.then == [
        store.Inner(then=[store.Innermost(then=[store.Put(b"1")]), store.Put(b"2")]),
        store.Put(b"3"),
    ]
    with pytest.raises(Refusal, match="nested 3 deep at most"):
        keys.txn_of(nested(4))


@pytest.mark.parametrize(
    "op", [RequestOp(), RequestOp(request_put=PutRequest(b"a"), request_range=RangeRequest(b"a"))]
)
def test_an_operation_is_one_request(op: RequestOp) -> None:
    with pytest.raises(Refusal, match="is one request, not"):
        keys.txn_of(TxnRequest(success=[op]))


def test_answers_stand_in_the_order_of_the_branch_that_was_taken() -> None:
    request = TxnRequest(
        failure=[
            RequestOp(request_put=PutRequest(b"a")),
            RequestOp(request_delete_range=DeleteRangeRequest(b"b")),
            RequestOp(request_range=RangeRequest(b"a", b"z", sort_order="DESCEND")),
            RequestOp(request_txn=TxnRequest()),
        ]
    )
    done = TxnDone(
        9, False, [PutDone(9, A), Deleted(9, 1, [B]), Found(9, [A, B], False, 2), InnerDone(9, True, [])]
    )
    said = keys.txn_answer(request, done, {"revision": "9"})
    put, deleted, found, inner = said["responses"]
    assert "succeeded" not in said
    assert put["response_put"]["prev_kv"]["key"] == "YQ=="
    assert deleted["response_delete_range"]["deleted"] == "1"
    assert [each["key"] for each in found["response_range"]["kvs"]] == ["Yg==", "YQ=="]
    assert inner == {"response_txn": {"header": {}, "succeeded": True}}
