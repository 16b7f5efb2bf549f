"""Recipes for threads, against a real cluster in this process."""

import threading
from collections.abc import Iterator

import pytest

from tests.forking import in_child
from viewstamp.clients.held_claim import ClaimLost, ClaimTimeout, HeldClaim
from viewstamp.clients.lock_driver import HeldLock
from viewstamp.clients.locks_blocking import BlockingLockClient
from viewstamp.clients.recipes_blocking import BlockingHeld, BlockingRecipes
from viewstamp.core.errors import NotExecuted
from viewstamp.machine.state_machine import StateMachine
from viewstamp.runtime.local import BlockingLocalCluster, local_cluster
from viewstamp.services.recipes.countdowns import NoCountdown
from viewstamp.services.recipes.queue_messages import NotTaken
from viewstamp.services.stock import StockService

Stock = BlockingLocalCluster[StateMachine]


@pytest.fixture(scope="module")
def stock() -> Iterator[Stock]:
    with local_cluster(StockService, replicas=1) as running:
        running.leader()
        yield running


@pytest.fixture(scope="module")
def recipes(stock: Stock) -> Iterator[BlockingRecipes]:
    with BlockingRecipes(stock.config, label="threads") as recipes:
        yield recipes


def test_threads_share_permits_and_locks(recipes: BlockingRecipes) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with recipes.lock("l", timeout_s=60), recipes.semaphore("s", 1, timeout_s=60) as held:
            inside.append(held.token)
            most.append(len(inside))
            held.raise_if_lost()
            inside.clear()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_readers_and_a_writer(recipes: BlockingRecipes) -> None:
    with recipes.write("t") as writer:
        with pytest.raises(ClaimTimeout), recipes.read("t", timeout_s=0.05):
            pass
        writer.downgrade()
        with recipes.read("t", timeout_s=60) as reader:
            assert (reader.name, reader.standing) == ("t", "held")


def test_the_elected_publishes_and_others_see_it(recipes: BlockingRecipes) -> None:
    with recipes.election("e", value=b"one", priority=1) as term:
        seen = recipes.elected("e")
        first = next(seen).leader
        assert first is not None
        assert (first.value, first.token, first.label) == (b"one", term.token, "threads")
        term.proclaim(b"two")
        second = next(seen).leader
        assert second is not None
        assert second.value == b"two"
        seen.close()
    assert recipes.leader("e").leader is None


def test_rounds_and_numbers(recipes: BlockingRecipes) -> None:
    assert recipes.barrier("b", 1, timeout_s=60) < recipes.barrier("b", 1)
    with pytest.raises(NoCountdown):
        recipes.wait_for_zero("c")
    recipes.start_countdown("c", 1)
    assert recipes.arrive("c").left == 0
    recipes.wait_for_zero("c", timeout_s=60)
    recipes.resize("kept", 3)
    assert recipes.add("n", 2, at_most=5).value == recipes.count("n")
    assert recipes.try_take("r", 1, per_s=1_000) == 0.0
    assert recipes.try_take("r", 1, per_s=1_000) > 0


def test_items_are_acknowledged_at_the_end_of_their_blocks(recipes: BlockingRecipes) -> None:
    queue = recipes.queue("q")
    queue.configure(attempts_max=2)
    for body in (b"one", b"two"):
        queue.put(body)
    with queue.take(timeout_s=60) as item:
        assert (item.body, item.item.attempts) == (b"one", 1)
        item.extend()
    for _ in range(2):
        with pytest.raises(RuntimeError), queue.take(timeout_s=60) as item:
            raise RuntimeError("no luck")
    assert (queue.state().dead, queue.items().items[0].reason) == (1, "RuntimeError: no luck")
    queue.put(b"three")
    with queue.take(timeout_s=60) as item:
        assert item.fail("by hand", bury=True)
    queue.put(b"four")
    with pytest.raises(KeyboardInterrupt), queue.take(timeout_s=60) as item:
        raise KeyboardInterrupt
    with pytest.raises(NotTaken), queue.take(timeout_s=60) as item:  # noqa: PT012
        item.ack()
        item.held.release()
        item.ack()


def test_instances_are_listed(recipes: BlockingRecipes) -> None:
    with recipes.registered("web", "a", b"1"):
        assert [one.instance for one in recipes.instances("web").found] == ["a"]
    assert recipes.instances("web").found == []


def test_instances_are_told_as_they_change(recipes: BlockingRecipes) -> None:
    changes = recipes.changes("db")
    assert next(changes).found == []
    with recipes.registered("db", "a", b"1"):
        assert [one.instance for one in next(changes).found] == ["a"]
    assert next(changes).found == []
    changes.close()


@pytest.mark.process
def test_a_child_of_fork_claims_nothing_and_gives_nothing_back(
    stock: Stock, recipes: BlockingRecipes
) -> None:
    def use(held: BlockingHeld[HeldClaim]) -> str:
        held.release()
        recipes.close()
        with pytest.raises(NotExecuted, match="made before fork"), recipes.lock("other"):
            pass
        return held.standing

    def use_lock(locks: BlockingLockClient, held: HeldLock) -> str:
        held.release()
        locks.close()
        with pytest.raises(NotExecuted, match="made before fork"):
            locks.acquire("other")
        return held.standing

    with recipes.lock("forked") as held:
        assert in_child(lambda: use(held)) == "'lost'"
        assert held.standing == "held"
    with BlockingLockClient(stock.config) as locks, locks.hold("forked too") as lock:
        assert in_child(lambda: use_lock(locks, lock)) == "'released'"
        assert lock.standing == "held"


def test_a_block_that_lost_what_it_held_ends_in_an_error(stock: Stock) -> None:
    recipes = BlockingRecipes(stock.config)
    with pytest.raises(ClaimLost, match="is lost"), recipes.semaphore("x", 1) as held:  # noqa: PT012
        recipes.close()
        assert held.lost.wait(60)
    with pytest.raises(NotExecuted, match="closed"), recipes.semaphore("x", 1):
        pass
    with pytest.raises(NotExecuted):
        BlockingRecipes("127.0.0.1:1", timeout_s=0.05)
