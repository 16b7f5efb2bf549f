"""Locks for threads: the tests of the lab's lock_tester and what is particular to threads (R28, R29)."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.clients.conftest import Stock
from viewstamp.clients.lock_driver import LockTimeout
from viewstamp.clients.locks_blocking import BlockingLockClient
from viewstamp.core.errors import NotExecuted
from viewstamp.services.lock_events import Grant
from viewstamp.services.locks import InvalidName


class Table:
    """The table of lock_tester: who is inside of what, for all threads of the process."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._inside: set[str] = set()
        self.visits = 0

    def enter(self, name: str) -> None:
        with self._mutex:
            assert name not in self._inside, "granted twice"
            self._inside.add(name)
            self.visits += 1

    def leave(self, name: str) -> None:
        with self._mutex:
            self._inside.remove(name)


@pytest.mark.parametrize("clients", [1, 2, 6])
def test_one_thread_at_a_time_has_the_lock(stock: Stock, clients: int) -> None:
    table = Table()

    def work(locks: BlockingLockClient) -> None:
        for _ in range(10):
            with locks.hold("table", timeout_s=60):
                table.enter("table")
                table.leave("table")

    with ExitStack() as stack:
        opened = [stack.enter_context(BlockingLockClient(stock.config)) for _ in range(clients)]
        with ThreadPoolExecutor(6) as pool:
            for done in [pool.submit(work, opened[number % clients]) for number in range(6)]:
                done.result()
    assert table.visits == 60


def test_nothing_is_sent_when_a_thread_has_the_lock_again(stock: Stock) -> None:
    with BlockingLockClient(stock.config) as locks:
        for _ in range(50):
            with locks.hold("cached") as held:
                assert held.standing == "held"
        assert locks.messages == 1
        shown = locks.stat("cached")
        assert shown.holder is not None
        assert (shown.holder.sequence, shown.waiters) == (1, 0)
        assert [lock.name for lock in locks.held("cached").locks] == ["cached"]


def test_a_revoked_lock_goes_back_while_no_thread_does_anything(stock: Stock) -> None:
    with BlockingLockClient(stock.config) as one, BlockingLockClient(stock.config, retry_s=None) as two:
        with one.hold("idle"):
            pass
        with two.hold("idle", timeout_s=30):
            pass


def test_a_thread_gives_up_when_its_time_is_over(stock: Stock) -> None:
    with BlockingLockClient(stock.config) as one, BlockingLockClient(stock.config) as two:
        with one.hold("scarce"):
            with pytest.raises(LockTimeout):
                two.acquire("scarce", timeout_s=0.05)
            with pytest.raises(TimeoutError):
                one.acquire("scarce", timeout_s=0.05)
        two.acquire("scarce", timeout_s=30).release()


def test_the_hook_may_block_when_it_runs(stock: Stock) -> None:
    seen: list[str] = []

    with BlockingLockClient(stock.config) as helper:

        def flush(grant: Grant) -> None:
            with helper.hold("journal", timeout_s=30):
                seen.append(f"{grant.name} in {threading.current_thread() is threading.main_thread()}")

        with BlockingLockClient(stock.config, on_release=flush) as one:
            with one.hold("data"):
                pass
            with helper.hold("data", timeout_s=30):
                assert seen == ["data in False"]


def test_threads_are_refused_when_the_client_is_closed(stock: Stock) -> None:
    locks = BlockingLockClient(stock.config)
    held = locks.acquire("closing")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(locks.acquire, "closing", timeout_s=60)
        locks.close()
        with pytest.raises(NotExecuted, match="closed"):
            waiting.result()
    with pytest.raises(NotExecuted, match="closed"):
        locks.acquire("a")
    assert held.standing == "lost"
    held.release()
    locks.close()


def test_a_bad_name_is_refused_with_the_services_own_exception(stock: Stock) -> None:
    with BlockingLockClient(stock.config) as locks, pytest.raises(InvalidName):
        locks.acquire("")


def test_nothing_is_left_behind_when_no_server_answers() -> None:
    before = threading.active_count()
    with pytest.raises(NotExecuted, match="no server answered"):
        BlockingLockClient("127.0.0.1:1", timeout_s=0.1)
    assert threading.active_count() == before
