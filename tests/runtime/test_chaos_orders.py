"""Orders of `viewstamp chaos` to one server: obeyed, and over by themselves."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.chaos_orders import Orders, obeying, write_orders


def fake_server(*, chaos: bool = True) -> Any:
    seen: list[tuple[tuple[int, ...], float, float]] = []

    def disturb(cut: Any = (), delay_s: float = 0.0, disk_s: float = 0.0) -> None:
        seen.append((tuple(cut), delay_s, disk_s))

    return SimpleNamespace(cluster=SimpleNamespace(chaos=chaos), running=True, disturb=disturb, seen=seen)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.01)


async def test_order_is_obeyed_once_and_ends_by_itself_when_nobody_heals(tmp_path: Path) -> None:
    server, path = fake_server(), tmp_path / "orders.json"
    async with obeying(server, path):
        write_orders(path, Orders(1, 0.1, cut=(2,), disk_s=0.5))
        await until(lambda: len(server.seen) == 2)
        assert server.seen == [((2,), 0.0, 0.5), ((), 0.0, 0.0)]
        path.write_text("{")
        write_orders(path, Orders(2, 60.0, delay_s=0.1))
        await until(lambda: len(server.seen) == 3)
    assert server.seen[2:] == [((), 0.1, 0.0)]


async def test_server_does_not_start_when_its_cluster_allows_no_chaos(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="chaos = true"):
        async with obeying(fake_server(chaos=False), tmp_path / "orders.json"):
            pass
