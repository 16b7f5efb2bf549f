"""A loop in a thread of its own, and what a child of `fork` has of it."""

import asyncio
import threading

import pytest

from tests.forking import in_child
from viewstamp.clients.loop_thread import LoopThread
from viewstamp.core.errors import NotExecuted


async def seven() -> int:
    return 7


def test_it_runs_until_it_is_closed() -> None:
    before = set(threading.enumerate())
    thread = LoopThread("for-a-test")
    assert thread.run(seven()) == 7
    closed: list[int] = []

    async def close() -> None:
        closed.append(await asyncio.to_thread(lambda: 1))

    thread.close(close)
    assert closed == [1]
    assert set(threading.enumerate()) == before
    with pytest.raises(NotExecuted, match="the client is closed: no call can be made"):
        thread.run(seven())


@pytest.mark.process
def test_a_child_of_fork_has_no_such_thread_and_waits_for_none() -> None:
    thread = LoopThread("for-a-test")
    closed: list[int] = []

    async def close() -> None:
        closed.append(1)

    def use() -> str:
        thread.close(close)
        try:
            return str(thread.run(seven()))
        except NotExecuted as error:
            return f"{error} {closed}"

    assert "made before fork" in in_child(use)
    assert "[]" in in_child(use)
    assert thread.run(seven()) == 7
    thread.close(close)
    assert closed == [1]
