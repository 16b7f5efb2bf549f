"""etcd's KV service: range, put, deleterange, txn, compaction."""

from typing import Final

import msgspec

from viewstamp.services.store.types import Found, FutureRevision, Get, KeyValue
from viewstamp.web.etcd import keys
from viewstamp.web.etcd.answers import Answer, message
from viewstamp.web.etcd.call import Call
from viewstamp.web.etcd.messages import (
    CompactionRequest,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)
from viewstamp.web.etcd.refusals import COMPACTED, OUT_OF_RANGE, RESOURCE_EXHAUSTED, Refusal

FIRST_REVISION: Final = 1
"""Of an empty store, as with etcd: clients take it for granted that a header has a revision."""
RANGE_BYTES_MAX: Final = 16 << 20
"""Keys and values of one answer. A client reads more in parts, by `limit`."""


async def range_(call: Call, request: RangeRequest) -> Answer:
    """Read a key or a range, all of it as it is at one revision."""
    get = keys.get_of(request)
    found = await _whole(call, get)
    return keys.range_answer(request, found, call.header(found.revision))


async def _whole(call: Call, get: Get) -> Found:
    """Return everything that a range holds, up to its limit, page by page.

    Raises:
        Refusal: it is more than one answer may hold. Nothing was changed.
    """
    try:
        first = page = await call.store.kv_range(get)
    except FutureRevision:
        if get.revision > FIRST_REVISION:
            raise
        return Found(FIRST_REVISION, [], more=False, count=0)  # nothing was ever written
    items: list[KeyValue] = list(first.items)
    size = _size(items)
    revision = get.revision or first.revision
    while page.more and (not get.limit or len(items) < get.limit):
        if size > RANGE_BYTES_MAX:
            raise Refusal(
                RESOURCE_EXHAUSTED,
                f"etcdserver: the range has more than {RANGE_BYTES_MAX} bytes: read it in parts, by limit",
            )
        after = msgspec.structs.replace(
            get,
            key=items[-1].key + b"\0",
            limit=get.limit - len(items) if get.limit else 0,
            revision=revision,
        )
        page = await call.store.kv_range(after)
        items += page.items
        size += _size(page.items)
    count = first.count
    if get.revision and first.more:  # of the past only what was looked at is counted
        counting = msgspec.structs.replace(get, limit=0, count_only=True)
        count = (await call.store.kv_range(counting)).count
    return Found(first.revision, items, page.more, count)


def _size(items: list[KeyValue]) -> int:
    return sum(len(item.key) + len(item.value) for item in items)


async def put(call: Call, request: PutRequest) -> Answer:
    """Write a key."""
    done = await call.store.kv_put(keys.put_of(request))
    return keys.put_answer(done, call.header(done.revision))


async def delete_range(call: Call, request: DeleteRangeRequest) -> Answer:
    """Delete a key or a range."""
    done = await call.store.kv_delete(keys.delete_of(request))
    return keys.delete_answer(done, call.header(done.revision))


async def txn(call: Call, request: TxnRequest) -> Answer:
    """Run a transaction."""
    done = await call.store.kv_txn(keys.txn_of(request))
    return keys.txn_answer(request, done, call.header(done.revision))


async def compact(call: Call, request: CompactionRequest) -> Answer:
    """Forget the history before a revision."""
    oldest = await call.store.kv_compact(request.revision)
    if oldest > request.revision:
        raise Refusal(OUT_OF_RANGE, COMPACTED, reason=f"the history begins after {oldest} already")
    return message(header=call.header())
