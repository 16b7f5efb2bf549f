"""Whatever a client sends is answered or refused, and never a bug of this program."""

import asyncio
import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.web.etcd.door import open_door
from viewstamp.web.etcd import keys
from viewstamp.web.etcd.gateway import HANDLERS
from viewstamp.web.etcd.messages import (
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
    WatchRequest,
    decoded,
)
from viewstamp.web.etcd.refusals import Refusal
from viewstamp.web.etcd.watches import creation_of

WORDS = (
    "key range_end rangeEnd value limit revision lease ID TTL keys sort_order sort_target result target "
    "compare success failure request_put request_range request_delete_range request_txn create_request "
    "start_revision filters fragment prev_kv ignore_value version create_revision mod_revision"
)
NAMES = st.sampled_from(WORDS.split())
ODD = ("", "YQ==", "AA==", "1", "-1", "EQUAL", "VALUE", "DESCEND", "NOPUT", "9" * 30, "\ud800")
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.sampled_from(ODD),
    st.text(max_size=4),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=20,
)
BODIES = st.dictionaries(NAMES, VALUES, max_size=8)
TRANSLATED: tuple[tuple[Any, Any], ...] = (
    (RangeRequest, keys.get_of),
    (PutRequest, keys.put_of),
    (DeleteRangeRequest, keys.delete_of),
    (TxnRequest, keys.txn_of),
    (WatchRequest, creation_of),
)


@settings(max_examples=300)
@given(BODIES, st.sampled_from(TRANSLATED))
def test_a_request_is_translated_or_refused(body: Any, how: tuple[Any, Any]) -> None:
    kind, translate = how
    with contextlib.suppress(Refusal):
        translate(decoded(json.dumps(body).encode(), kind))


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from(sorted(HANDLERS)), BODIES), max_size=8))
def test_every_path_answers(requests: list[tuple[str, Any]]) -> None:
    async def ask_all() -> None:
        async with open_door() as door:
            for path, body in requests:
                answer = await door.answer(f"/v3{path}", json.dumps(body).encode())
                assert answer.code in {200, 400, 404, 412, 429}, (path, body, answer.text)

    asyncio.run(ask_all())
