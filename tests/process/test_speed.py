"""Speed4B and Speed4C of 6.5840 with real processes and fsync: a thousand puts one after the other."""

import asyncio
from functools import partial
from time import monotonic

import pytest

from tests.process.conftest import MakeGroup
from viewstamp.clients.clerk import Clerk
from viewstamp.runtime.client import AsyncClient
from viewstamp.testkit.load import wait_for_leader

pytestmark = pytest.mark.process

PUTS = 1_000
LIMIT_S = 100.0
"""The kit's is 33.3 s, three operations in the time of a heartbeat; here others compute meanwhile."""


@pytest.mark.parametrize("log_bytes_max", [None, 1_000], ids=["speed4b", "speed4c"])
async def test_a_thousand_puts_are_made_in_time_when_one_clerk_makes_them(
    make_group: MakeGroup, log_bytes_max: int | None
) -> None:
    group = make_group(3, options={} if log_bytes_max is None else {"log_bytes_max": log_bytes_max})
    await wait_for_leader(group)
    client = AsyncClient(group.cluster, exactly_once=False)
    await client.start()
    try:
        clerk = Clerk(partial(attempt, client))
        began = monotonic()
        for version in range(PUTS):
            await clerk.put("x", b"value", version)  # `Maybe` and a mismatch are errors
        assert (await clerk.get("x"))[1] == PUTS
        assert monotonic() - began <= LIMIT_S
    finally:
        await client.close()


def attempt(client: AsyncClient, kind: str, payload: bytes) -> asyncio.Future[bytes]:
    return client.invoke(kind, payload, timeout_s=5.0)  # type: ignore[arg-type]
