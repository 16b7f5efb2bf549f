"""Without a quorum every call ends in time, says what it knows, and names who is silent."""

import asyncio
from time import monotonic

import pytest

from tests.process.conftest import MakeGroup
from viewstamp.core.errors import CallError, NotExecuted, OutcomeUnknown
from viewstamp.runtime.connecting import connect, connect_blocking
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.load import wait_for_leader

pytestmark = pytest.mark.process

DEADLINE_S = 1.0
GRACE_S = 5.0
"""How late a busy machine may make an end that is due; that it is due in time is tested in virtual time."""
CALLS = 20


async def timed(call: asyncio.Future[object]) -> tuple[Exception | None, float]:
    began = monotonic()
    try:
        await call
    except CallError as error:
        return error, monotonic() - began
    return None, monotonic() - began


async def test_calls_end_in_time_when_the_quorum_is_lost(make_group: MakeGroup) -> None:
    group = make_group(3)
    leader = await wait_for_leader(group)
    silent = [node for node in group.servers if node != leader.node]
    async with connect(group.cluster, KeyValueStore, timeout_s=DEADLINE_S) as store:
        await store.set("before", b"1")
        for node in silent:
            group.servers[node].kill()
        writes = [timed(asyncio.ensure_future(store.set(f"k{n}", b"v"))) for n in range(CALLS)]
        reads = [timed(asyncio.ensure_future(store.get("before"))) for _ in range(CALLS)]
        ended = await asyncio.gather(*writes, *reads)
    for error, elapsed_s in ended:
        assert elapsed_s <= DEADLINE_S + GRACE_S
        assert error is not None
        assert all(str(node) in str(error) for node in silent), str(error)
    assert all(isinstance(error, OutcomeUnknown) for error, _ in ended[:CALLS]), ended[0]
    assert all(isinstance(error, NotExecuted) for error, _ in ended[CALLS:]), ended[-1]


async def test_calls_are_not_executed_when_nobody_is_there(make_group: MakeGroup) -> None:
    group = make_group(3, start=False)
    async with connect(group.cluster, KeyValueStore, timeout_s=DEADLINE_S) as store:
        ended = await asyncio.gather(
            *(timed(asyncio.ensure_future(store.set("k", b"v"))) for _ in range(CALLS))
        )
    for error, elapsed_s in ended:
        assert isinstance(error, NotExecuted)
        assert "1, 2, 3" in str(error)
        assert elapsed_s <= DEADLINE_S + GRACE_S


def test_blocking_call_ends_in_time_when_nobody_is_there(make_group: MakeGroup) -> None:
    group = make_group(3, start=False)
    with connect_blocking(group.cluster, KeyValueStore, timeout_s=DEADLINE_S) as store:
        began = monotonic()
        with pytest.raises(NotExecuted, match="1, 2, 3"):
            store.set("k", b"v")
        assert monotonic() - began <= DEADLINE_S + GRACE_S
