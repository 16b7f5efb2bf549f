"""Ranges, writes and transactions: etcd's requests as the store's, and its results as etcd's.

Rules of this file:

- a transaction is nested three deep at most, as in the store;
- what the store does not do by itself, to sort and to filter by revision, is done to the whole range, and the
  limit is applied behind it, as etcd does.
"""

from collections.abc import Callable
from typing import Any, Final

from viewstamp.services.store import types as store
from viewstamp.services.store.types import Deleted, Found, KeyValue, PutDone
from viewstamp.web.etcd.answers import Answer, key_value, message
from viewstamp.web.etcd.messages import (
    RESULTS,
    SORT_ORDERS,
    SORT_TARGETS,
    TARGETS,
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
    member,
)
from viewstamp.web.etcd.refusals import INVALID_ARGUMENT, KEY_MISSING, Refusal

_OPERATORS: Final[dict[str, store.Operator]] = {"EQUAL": "=", "GREATER": ">", "LESS": "<", "NOT_EQUAL": "!="}
_OPERANDS: Final[dict[str, tuple[store.Target, str]]] = {
    "VERSION": ("version", "version"),
    "CREATE": ("create", "create_revision"),
    "MOD": ("mod", "mod_revision"),
    "VALUE": ("value", "value"),
    "LEASE": ("lease", "lease"),
}
"""By target: how the store calls it, and the field of the request that has the operand."""
_SORT_KEYS: Final[dict[str, Callable[[KeyValue], Any]]] = {
    "KEY": lambda item: item.key,
    "VERSION": lambda item: item.version,
    "CREATE": lambda item: item.create,
    "MOD": lambda item: item.mod,
    "VALUE": lambda item: item.value,
}
_LEVELS: Final = (store.Txn, store.Inner, store.Innermost)
TOO_DEEP: Final = f"transactions are nested {len(_LEVELS)} deep at most"


def get_of(request: RangeRequest) -> store.Get:
    """Return what to ask the store.

    Raises:
        Refusal: the request is not a range. Nothing was read.
    """
    _require_key(request.key)
    selects = _selects(request)
    return store.Get(
        request.key,
        request.range_end,
        limit=0 if selects else max(0, request.limit),
        revision=max(0, request.revision),
        keys_only=request.keys_only and member(request.sort_target, SORT_TARGETS) != "VALUE",
        count_only=request.count_only,
    )


def range_answer(request: RangeRequest, found: Found, header: Answer) -> Answer:
    """Return what a range holds: filtered, then sorted, then cut."""
    items, more = found.items, found.more
    if _selects(request):
        items = [item for item in items if _within(request, item)]
        _sort(request, items)
        if 0 < request.limit < len(items):
            items, more = items[: request.limit], True
    kvs = [key_value(item, keys_only=request.keys_only) for item in items]
    return message(header=header, kvs=kvs, more=more, count=found.count)


def _selects(request: RangeRequest) -> bool:
    """Return whether the whole range is needed before the limit can be applied."""
    order, target = member(request.sort_order, SORT_ORDERS), member(request.sort_target, SORT_TARGETS)
    bounds = (
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    )
    return order == "DESCEND" or target != "KEY" or any(bounds)


def _within(request: RangeRequest, item: KeyValue) -> bool:
    return (
        item.mod >= request.min_mod_revision
        and (not request.max_mod_revision or item.mod <= request.max_mod_revision)
        and item.create >= request.min_create_revision
        and (not request.max_create_revision or item.create <= request.max_create_revision)
    )


def _sort(request: RangeRequest, items: list[KeyValue]) -> None:
    """Sort; by another field than the key without an order means ascending, as with etcd."""
    descends = member(request.sort_order, SORT_ORDERS) == "DESCEND"
    items.sort(key=_SORT_KEYS[member(request.sort_target, SORT_TARGETS)], reverse=descends)


def put_of(request: PutRequest) -> store.Put:
    """Return what to tell the store.

    Raises:
        Refusal: the request is not a write. Nothing was written.
    """
    _require_key(request.key)
    if request.ignore_value and request.value:
        raise Refusal(INVALID_ARGUMENT, "etcdserver: value is provided")
    if request.ignore_lease and request.lease:
        raise Refusal(INVALID_ARGUMENT, "etcdserver: lease is provided")
    return store.Put(
        request.key,
        request.value,
        request.lease,
        prev=request.prev_kv,
        keep_value=request.ignore_value,
        keep_lease=request.ignore_lease,
    )


def put_answer(done: PutDone, header: Answer) -> Answer:
    """Return that a key was written."""
    return message(header=header) | ({} if done.prev is None else {"prev_kv": key_value(done.prev)})


def delete_of(request: DeleteRangeRequest) -> store.Delete:
    """Return what to tell the store; `Refusal`: that is not a deletion."""
    _require_key(request.key)
    return store.Delete(request.key, request.range_end, request.prev_kv)


def delete_answer(done: Deleted, header: Answer) -> Answer:
    """Return how many keys were deleted."""
    return message(header=header, deleted=done.count, prev_kvs=[key_value(item) for item in done.prevs])


def txn_of(request: TxnRequest) -> store.Txn:
    """Return what to tell the store.

    Raises:
        Refusal: the request is not a transaction, or nested too deep. Nothing was changed.
    """
    txn = _txn_of(request, 0)
    assert isinstance(txn, store.Txn)
    return txn


def _txn_of(request: TxnRequest, level: int) -> Any:
    if level >= len(_LEVELS):
        raise Refusal(INVALID_ARGUMENT, TOO_DEEP)
    return _LEVELS[level](
        [_condition_of(each) for each in request.compare],
        [_operation_of(each, level) for each in request.success],
        [_operation_of(each, level) for each in request.failure],
    )


def _condition_of(compare: Compare) -> store.Compare:
    _require_key(compare.key)
    target, field = _OPERANDS[member(compare.target, TARGETS)]
    op = _OPERATORS[member(compare.result, RESULTS)]
    return store.Compare(compare.key, target, op, getattr(compare, field), compare.range_end)


def _operation_of(op: RequestOp, level: int) -> Any:
    given = [name for name in op.__struct_fields__ if getattr(op, name) is not None]
    if len(given) != 1:
        raise Refusal(INVALID_ARGUMENT, f"an operation of a transaction is one request, not {len(given)}")
    if op.request_range is not None:
        return get_of(op.request_range)
    if op.request_put is not None:
        return put_of(op.request_put)
    if op.request_delete_range is not None:
        return delete_of(op.request_delete_range)
    assert op.request_txn is not None
    return _txn_of(op.request_txn, level + 1)


def txn_answer(request: TxnRequest, done: Any, header: Answer) -> Answer:
    """Return how a transaction ended, with an answer for each operation of the branch that was taken."""
    branch = request.success if done.succeeded else request.failure
    responses = [_response(op, result) for op, result in zip(branch, done.results, strict=True)]
    return message(header=header, succeeded=done.succeeded, responses=responses)


def _response(op: RequestOp, result: Any) -> Answer:
    header = message(revision=result.revision)
    match result:
        case PutDone():
            return {"response_put": put_answer(result, header)}
        case Deleted():
            return {"response_delete_range": delete_answer(result, header)}
        case Found():
            assert op.request_range is not None
            return {"response_range": range_answer(op.request_range, result, header)}
    assert op.request_txn is not None
    return {"response_txn": txn_answer(op.request_txn, result, {})}


def _require_key(key: bytes) -> None:
    if not key:
        raise Refusal(INVALID_ARGUMENT, KEY_MISSING)
