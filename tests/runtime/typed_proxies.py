"""Checked by mypy in test_proxies. An unused `type: ignore` means that a wrong call was not noticed."""

from collections.abc import Awaitable
from typing import assert_type

import viewstamp
from tests.runtime.machines import Counter


async def asynchronous() -> None:
    async with viewstamp.connect("host:1", Counter) as counter:
        assert_type(await counter.add(3), int)
        assert_type(counter.read(), Awaitable[int])
        assert_type(await viewstamp.with_options(counter, timeout_s=1.0).take(amount=1), int)
        await counter.add("three")  # type: ignore[arg-type]
        await counter.take()  # type: ignore[call-arg]
        await counter.read(1)  # type: ignore[call-arg]
        await counter.missing()  # type: ignore[attr-defined]
        await viewstamp.close(counter)
    awaited = await viewstamp.connect("host:1", Counter)
    assert_type(await awaited.add(), int)
    async with viewstamp.local_cluster(Counter) as cluster, cluster.connect() as local:
        assert_type(await local.read(), int)


def blocking() -> None:
    with viewstamp.connect_blocking("host:1", Counter) as counter:
        assert_type(counter.add(3), int)
        assert_type(viewstamp.with_options(counter, reads="stale").read(), int)
        counter.add("three")  # type: ignore[arg-type]
        counter.missing()  # type: ignore[attr-defined]
        viewstamp.with_options(counter, reads="fast")  # type: ignore[arg-type]
        viewstamp.close(counter)
    with viewstamp.local_cluster(Counter) as cluster, cluster.connect() as local:
        assert_type(local.read(), int)
