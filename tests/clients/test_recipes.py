"""Recipes for tasks, against real clusters in this process."""

import asyncio
import math
from typing import Any

import pytest

from tests.clients.conftest import Stock
from tests.clients.test_locks import until
from tests.runtime.fakes import cluster_of
from viewstamp.clients.claim_driver import ClaimDriver
from viewstamp.clients.held_claim import ClaimLost, ClaimTimeout
from viewstamp.clients.locks import LockClient
from viewstamp.clients.queues import HeldItem
from viewstamp.clients.recipes import Recipes
from viewstamp.core.errors import ConfigurationError, InvalidCall, NotExecuted
from viewstamp.machine.state_machine import compose
from viewstamp.runtime.addresses import free_ports
from viewstamp.runtime.local import local_cluster
from viewstamp.services.locks import InvalidName
from viewstamp.services.recipes.countdowns import NoCountdown
from viewstamp.services.recipes.names import Mismatch
from viewstamp.services.recipes.queue_messages import NotTaken
from viewstamp.services.recipes.queues import QueueService
from viewstamp.services.recipes.semaphores import SemaphoreService
from viewstamp.services.stock import StockService


async def test_no_more_than_the_permits_are_out(stock: Stock) -> None:
    inside, most, tokens = 0, 0, list[int]()

    async def work(recipes: Recipes) -> None:
        nonlocal inside, most
        async with recipes.semaphore("uploads", 2, timeout_s=60) as held:
            inside += 1
            most = max(most, inside)
            tokens.append(held.token)
            assert held.certain
            await asyncio.sleep(0.002)
            inside -= 1

    async with Recipes(stock.config) as one, Recipes(stock.config) as other:
        await asyncio.gather(*(work(recipes) for recipes in (one, other) for _ in range(5)))
    assert most == 2
    assert len(set(tokens)) == 10


async def test_a_reader_waits_behind_a_writer_and_goes_on_when_that_one_reads(stock: Stock) -> None:
    async with Recipes(stock.config) as recipes:
        writer = await recipes.write("table")
        reader = asyncio.ensure_future(recipes.read("table", timeout_s=60).__aenter__())
        with pytest.raises(ClaimTimeout, match="'table' was not granted within"):
            await recipes.read("table", timeout_s=0.05)
        await writer.downgrade()
        assert writer.standing == "held"
        held = await reader
        assert held.token > writer.token
        held.release()
        await writer.given_back()
        async with recipes.write("table", timeout_s=60) as again:
            assert again.token > held.token


async def test_a_claim_that_is_given_up_is_withdrawn(stock: Stock) -> None:
    async with Recipes(stock.config) as recipes, Recipes(stock.config) as other:
        held = await recipes.semaphore("one", 1)
        waiting = asyncio.ensure_future(other.semaphore("one", 1).__aenter__())
        service = recipes.driver.proxy("semaphores", SemaphoreService)
        while (await service.stat("one")).waiting != 1:
            pass
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        while (await service.stat("one")).waiting != 0:
            pass
        await held.given_back()
        assert (await service.stat("one")).size == 0


async def test_the_next_is_elected_when_one_resigns_and_all_are_told(stock: Stock) -> None:
    async with Recipes(stock.config, label="one") as one, Recipes(stock.config, label="two") as two:
        seen: list[tuple[str, bytes]] = []

        async def watch() -> None:
            async for state in two.elected("sched"):
                leader = state.leader
                seen.append(("", b"") if leader is None else (leader.label, leader.value))

        watching = asyncio.create_task(watch())
        async with one.election("sched", value=b"first") as term:
            waiting = asyncio.ensure_future(two.election("sched", timeout_s=60).__aenter__())
            await term.proclaim(b"better")
            await until(lambda: ("one", b"better") in seen)
        second = await waiting
        assert second.token > term.token
        await until(lambda: seen[-1] == ("two", b""))
        watching.cancel()
        second.release()
        state = await one.leader("sched")
        assert state.candidates == 0


async def test_all_parties_go_on_together(stock: Stock) -> None:
    async with Recipes(stock.config) as one, Recipes(stock.config) as two:
        rounds = [
            await asyncio.gather(*(recipes.barrier("phase", 4, timeout_s=60) for recipes in (one, two) * 2))
            for _ in range(3)
        ]
        assert all(len(set(tokens)) == 1 for tokens in rounds)
        assert rounds[0][0] < rounds[1][0] < rounds[2][0]
        with pytest.raises(ClaimTimeout):
            await one.barrier("phase", 2, timeout_s=0.05)


async def test_a_countdown_lets_all_through_at_zero(stock: Stock) -> None:
    async with Recipes(stock.config) as one, Recipes(stock.config) as two:
        countdown = one.countdown("ready")
        with pytest.raises(NoCountdown):
            await countdown.wait()
        state = await countdown.start(2, replace=True)
        waiting = asyncio.ensure_future(two.countdown("ready").wait(timeout_s=60))
        await countdown.arrive(generation=state.generation)
        assert (await countdown.arrive()).left == 0
        assert await waiting == await countdown.wait()
        assert (await countdown.state()).left == 0


async def test_items_are_worked_on_and_given_back_when_that_fails(stock: Stock) -> None:
    async with Recipes(stock.config) as recipes:
        queue = recipes.queue("mails")
        await queue.configure(attempts_max=2)
        for number in range(3):
            assert (await queue.put(b"%d" % number, id=f"mail {number}")).is_new
        assert not (await queue.put(b"0", id="mail 0")).is_new
        done: list[bytes] = []

        async def send(item: HeldItem) -> None:
            if item.body == b"1":
                raise ValueError("no such address")
            done.append(item.body)

        working = asyncio.create_task(queue.work(send))
        while (state := await queue.state()).dead != 1 or state.waiting or state.taken:
            pass  # an item that is done is still taken until that is acknowledged
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        (dead,) = (await queue.items()).items
        assert (dead.state, dead.reason, dead.attempts) == ("dead", "ValueError: no such address", 2)
        await queue.service.discard("mails", dead.number)
        while (await queue.state()).takers:
            pass


async def test_a_lease_is_extended_or_the_task_is_cancelled(stock: Stock) -> None:
    async with Recipes(stock.config) as recipes:
        queue = recipes.queue("short")
        await queue.put(b"x")
        with pytest.raises(ClaimLost, match="doubtful"):  # noqa: PT012
            async with queue.take(lease_s=0.3) as item:
                await item.extend()
                assert item.certain
                await asyncio.sleep(60)
        async with queue.take(timeout_s=60) as item:
            assert item.item.attempts == 2


async def test_an_item_is_done_once_under_its_token(stock: Stock) -> None:
    async with Recipes(stock.config) as recipes:
        queue = recipes.queue("once")
        await queue.put(b"x")
        item = await queue.take()
        await item.ack()
        assert item.standing == "released"
        with pytest.raises(NotTaken):
            await item.ack()
        with pytest.raises(NotExecuted):
            await item.extend()


async def test_a_rate_is_kept_and_a_counter_counts(stock: Stock) -> None:
    async with Recipes(stock.config) as recipes:
        rare = recipes.rate("rare", 20, per_s=10_000, burst=2)
        assert [await rare.try_take() for _ in range(2)] == [0, 0]
        assert 0 < await rare.try_take() <= 500
        rate = recipes.rate("api", 20, per_s=1, burst=1)
        await rate.take(timeout_s=60)
        await rate.take(timeout_s=60)
        slow = recipes.rate("slow", 1, per_s=1_000)
        await slow.take()
        with pytest.raises(ClaimTimeout):
            await slow.take(timeout_s=0.05)
        counter = recipes.counter("hits")
        before = await counter.get()
        first = await counter.add(2)
        assert (first.value, (await counter.set(5, expected=before + 2)).value) == (before + 2, 5)


async def test_instances_are_listed_while_their_blocks_run(stock: Stock) -> None:
    seen: list[list[tuple[str, bytes]]] = []
    async with Recipes(stock.config) as one, Recipes(stock.config) as two:

        async def watch() -> None:
            async for state in two.changes("web"):
                seen.append([(each.instance, each.value) for each in state.found])  # noqa: PERF401

        watching = asyncio.create_task(watch())
        async with one.registered("web", "a", b"10.0.0.1:80", ttl_s=30) as mine:
            await until(lambda: bool(seen) and seen[-1] == [("a", b"10.0.0.1:80")])
            await mine.publish(b"10.0.0.2:80")
            await until(lambda: seen[-1] == [("a", b"10.0.0.2:80")])
        await until(lambda: seen[-1] == [])
        watching.cancel()
        assert (await one.instances("web")).found == []


async def test_the_lock_is_that_of_the_lock_client(stock: Stock) -> None:
    async with Recipes(stock.config) as recipes, LockClient(stock.config) as locks:
        async with locks.hold("shared") as held:
            with pytest.raises(ClaimTimeout):
                await recipes.lock("shared", timeout_s=0.05)
            waiting = asyncio.ensure_future(recipes.lock("shared", timeout_s=60).__aenter__())
            await asyncio.sleep(0)
        ours = await waiting
        assert ours.token > held.token
        second = asyncio.ensure_future(recipes.lock("shared").__aenter__())
        await asyncio.sleep(0)
        assert not second.done(), "the tasks of one process stand in line as well"
        ours.release()
        (await second).release()


async def test_refusals_are_errors_of_their_own(stock: Stock) -> None:
    async with Recipes(stock.config) as recipes:
        with pytest.raises(InvalidName):
            await recipes.semaphore("", 1)
        with pytest.raises(Mismatch):
            await recipes.semaphore("unknown")
        with pytest.raises(InvalidCall):
            await recipes.semaphore("\udcff", 1)
        with pytest.raises(ConfigurationError, match="parts names 'wrong'"):
            Recipes(stock.config, parts={"wrong": "x"})
    with pytest.raises(NotExecuted, match="closed"):
        await recipes.semaphore("x", 1)


@pytest.mark.parametrize("seconds", [0, -1, 0.05, math.nan, math.inf, 1e300, "1"])
async def test_a_lease_that_cannot_be_held_takes_nothing(seconds: Any) -> None:
    recipes = Recipes(cluster_of(*free_ports(1)))
    with pytest.raises(ConfigurationError, match=r"lease_s is .*: give seconds.*; nothing was sent"):
        recipes.queue("q").take(lease_s=seconds)
    with pytest.raises(ConfigurationError, match=r"ttl_s is .*: give seconds.*; nothing was sent"):
        recipes.registered("s", "i", ttl_s=seconds)


async def test_a_registration_serves_one_block_at_a_time(stock: Stock) -> None:
    async with Recipes(stock.config) as recipes:
        mine = recipes.registered("twice", "a", b"1")
        async with mine:
            with pytest.raises(InvalidCall, match="in use: make one for each block; nothing was claimed"):
                await mine.__aenter__()
            assert len((await recipes.instances("twice")).found) == 1
        async with mine:
            assert len((await recipes.instances("twice")).found) == 1


@pytest.mark.parametrize("limit", [0, -1])
async def test_pages_that_would_never_end_are_refused(limit: int) -> None:
    queue = Recipes(cluster_of(*free_ports(1))).queue("q")
    with pytest.raises(ConfigurationError, match="give 1 or more; nothing was sent"):
        await queue.items(limit=limit)


async def test_a_wait_that_cannot_be_measured_is_refused(stock: Stock) -> None:
    async with Recipes(stock.config) as recipes, LockClient(stock.config) as locks:
        for wrong in (math.nan, "1", True):
            for wanted in (
                recipes.lock("w", timeout_s=wrong),  # type: ignore[arg-type]
                recipes.semaphore("w", 1, timeout_s=wrong),  # type: ignore[arg-type]
                locks.acquire("w", timeout_s=wrong),  # type: ignore[arg-type]
                recipes.rate("w", 1).take(timeout_s=wrong),  # type: ignore[arg-type]
            ):
                with pytest.raises(ConfigurationError, match=r"timeout_s is .*; nothing was sent"):
                    await wanted
        with pytest.raises(InvalidCall, match="is not text: nothing was sent"):
            await locks.acquire(None)  # type: ignore[arg-type]


async def test_recipes_stand_beside_a_class_of_ones_own_under_other_names() -> None:
    both = compose(jobs=QueueService, semaphores=SemaphoreService)
    async with (
        local_cluster(both, replicas=1) as running,
        Recipes(running.config, parts={"queues": "jobs"}) as recipes,
    ):
        await recipes.queue("q").put(b"x")
        async with recipes.queue("q").take(timeout_s=60) as item, recipes.semaphore("s", 1):
            assert item.body == b"x"
        with pytest.raises(InvalidCall, match="no command is called"):
            await recipes.write("x")


async def test_the_guarded_task_is_cancelled_when_nobody_confirms_and_goes_on_where_it_asked_to() -> None:
    async with local_cluster(StockService, replicas=1) as running:
        leader = await running.leader()
        async with Recipes(running.config, session_s=1) as recipes:
            ignoring = await recipes.semaphore("b", 1, on_loss="ignore")
            with pytest.raises(ClaimLost) as caught:  # noqa: PT012
                async with recipes.semaphore("a", 1) as held:
                    await running.kill(leader)
                    await asyncio.sleep(60)
            assert (caught.value.name, caught.value.token) == ("a", held.token)
            assert caught.value.standing == "doubtful"
            assert await ignoring.until("doubtful", "lost") == "doubtful"
            with pytest.raises(ClaimLost):
                ignoring.raise_if_lost()
            await running.restart(leader)
            assert await asyncio.wait_for(ignoring.until("held", "lost"), 60) in {"held", "lost"}


async def test_a_task_that_is_cancelled_by_another_stays_cancelled() -> None:
    async with local_cluster(StockService, replicas=1) as running, Recipes(running.config) as recipes:
        started = asyncio.Event()

        async def work() -> None:
            async with recipes.semaphore("a", 1):
                started.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with recipes.semaphore("a", 1, timeout_s=60):
            pass


def test_a_driver_needs_sensible_settings(stock: Stock) -> None:
    with pytest.raises(ConfigurationError, match="retry_s"):
        ClaimDriver(stock.config, parts=None, retry_s=0, timeout_s=1)
