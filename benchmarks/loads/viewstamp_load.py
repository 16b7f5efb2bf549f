"""Load for viewstamp: clients share sessions of one process, at most 16.

python -m benchmarks.loads.viewstamp_load cluster.toml
"""

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.loads.lines import CONNECTIONS_MAX, KEYS, STRIDE, Plan, answer, figures
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.connecting import connect
from viewstamp.runtime.system import loop_factory
from viewstamp.services.kv import KeyValueStore

Store = type[KeyValueStore]


async def connect_all(cluster: ClusterConfig, stack: AsyncExitStack) -> list[Store]:
    """Open the sessions and make the keys."""
    stores = [
        await stack.enter_async_context(connect(cluster, KeyValueStore, timeout_s=30.0))
        for _ in range(CONNECTIONS_MAX)
    ]
    await asyncio.gather(*(stores[0].set(f"key{number}", b"") for number in range(KEYS)))
    return stores


async def run(plan: Plan, stores: list[Store]) -> dict[str, Any]:
    """Let the clients loose and return the figures."""
    latencies: list[float] = []
    value = b"x" * plan.value_bytes
    counted = perf_counter() + plan.warm_s
    end = counted + plan.seconds

    async def client(number: int) -> None:
        store = stores[number % plan.connections]
        place = number * STRIDE
        while (began := perf_counter()) < end:
            key = f"key{place % KEYS}"
            await (store.set(key, value) if plan.writes_at(place) else store.get(key))
            place += 1
            if began >= counted:
                latencies.append(perf_counter() - began)

    await asyncio.gather(*(client(number) for number in range(plan.clients)))
    return figures(latencies, perf_counter() - counted)


async def serve(cluster: ClusterConfig) -> None:
    """Carry out plan after plan. In between the loop runs on, so that no session expires."""
    async with AsyncExitStack() as stack:
        stores = await connect_all(cluster, stack)
        while line := await asyncio.to_thread(sys.stdin.readline):
            answer(await run(Plan.parse(line), stores))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        runner.run(serve(ClusterConfig.load(Path(sys.argv[1]))))
