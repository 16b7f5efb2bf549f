"""Locks for tasks, against real clusters in this process (docs/requirements.md#r28 to #r30, #r48;
docs/faults.md#k03)."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from tests.clients.conftest import Stock
from viewstamp.clients.lock_driver import HeldLock, LockTimeout
from viewstamp.clients.locks import LockClient
from viewstamp.core.errors import NotExecuted
from viewstamp.core.messages import (
    CloseSession,
    Identify,
    KeepAlive,
    OpenSession,
    Results,
    SessionOpened,
    client_number,
)
from viewstamp.machine.state_machine import StateMachine
from viewstamp.runtime import client_base
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.local import LocalCluster, local_cluster
from viewstamp.services.lock_events import Grant
from viewstamp.services.locks import InvalidName, LockService
from viewstamp.services.stock import StockService
from viewstamp.testkit.hostile_wire import Attacker


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.01)


def end_session(address: Address, secret: bytes) -> None:
    """End a client's session over another connection than the client's."""
    number = client_number(secret)
    with Attacker(address) as other:
        other.say(Identify(number, secret), OpenSession(number))
        opened = other.receive(SessionOpened)
        assert opened is not None
        other.say(CloseSession(number, opened.session), KeepAlive(number, opened.session))
        assert other.receive(Results) is not None


class Watch:
    """Sees to it that one task at a time is inside, and that tokens grow from client to client."""

    def __init__(self) -> None:
        self.inside = 0
        self.last = (0, "")
        self.times: Counter[str] = Counter()

    async def visit(self, held: HeldLock, who: str) -> None:
        self.inside += 1
        assert self.inside == 1, "two at once"
        token, before = self.last
        assert held.token > token or (held.token == token and who == before)
        self.last = held.token, who
        self.times[who] += 1
        await asyncio.sleep(0)
        assert held.standing == "held"
        self.inside -= 1


async def test_nothing_is_sent_when_a_lock_is_acquired_again(stock: Stock) -> None:
    async with LockClient(stock.config) as locks:
        async with locks.hold("again") as held:
            first = held.token
        assert locks.messages == 1
        for _ in range(50):
            async with locks.hold("again") as held:
                assert held.token == first
        assert locks.messages == 1


async def test_one_task_at_a_time_has_the_lock_when_many_of_several_clients_want_it(stock: Stock) -> None:
    watch = Watch()

    async def work(locks: LockClient, who: str) -> None:
        for _ in range(5):
            async with locks.hold("busy", timeout_s=60) as held:
                await watch.visit(held, who)

    async with (
        LockClient(stock.config) as one,
        LockClient(stock.config) as two,
        LockClient(stock.config) as six,
        asyncio.TaskGroup() as tasks,
    ):
        for locks, who in ((one, "one"), (two, "two"), (six, "six")):
            for _ in range(3):
                tasks.create_task(work(locks, who))
    assert watch.times == {"one": 15, "two": 15, "six": 15}


async def test_tasks_are_served_in_the_order_of_asking(stock: Stock) -> None:
    order: list[int] = []

    async def work(locks: LockClient, number: int) -> None:
        async with locks.hold("order"):
            order.append(number)
            await asyncio.sleep(0)

    async with LockClient(stock.config) as locks, asyncio.TaskGroup() as tasks:
        for number in range(10):
            tasks.create_task(work(locks, number))
    assert order == list(range(10))


async def test_a_client_gives_up_waiting_when_its_time_is_over(stock: Stock) -> None:
    async with LockClient(stock.config, label="greedy") as one, LockClient(stock.config) as two:
        async with one.hold("scarce") as held:
            with pytest.raises(LockTimeout, match=r"'scarce' was not acquired within 0\.1 s"):
                await two.acquire("scarce", timeout_s=0.1)
            shown = await two.service.stat("scarce")
            while shown.waiters:
                shown = await two.service.stat("scarce")
            assert shown.holder is not None
            assert (shown.holder.label, shown.holder.token) == ("greedy", held.token)
        async with two.hold("scarce", timeout_s=30):
            assert held.standing == "released"
            held.release()


async def test_the_lock_goes_on_when_a_waiting_task_is_cancelled(stock: Stock) -> None:
    async with LockClient(stock.config) as locks:
        async with locks.hold("cancelled"):
            waiting = asyncio.create_task(locks.acquire("cancelled"))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        async with locks.hold("cancelled", timeout_s=30):
            pass


async def test_the_hook_runs_when_another_client_wants_the_lock(stock: Stock) -> None:
    flushed: list[str] = []

    async def flush(grant: Grant) -> None:
        await asyncio.sleep(0)
        flushed.append(grant.name)

    async with LockClient(stock.config, on_release=flush) as one, LockClient(stock.config) as two:
        for _ in range(3):
            async with one.hold("hooked"):
                pass
        assert flushed == []
        async with two.hold("hooked"):
            assert flushed == ["hooked"]
        async with one.hold("closed"):
            pass
    assert flushed == ["hooked", "closed"]


async def test_the_lock_goes_back_when_its_hook_fails(stock: Stock, caplog: pytest.LogCaptureFixture) -> None:
    def fail(grant: Grant) -> None:
        raise ValueError(grant.name)

    with caplog.at_level(logging.ERROR):
        async with LockClient(stock.config, on_release=fail) as one, LockClient(stock.config) as two:
            async with one.hold("broken hook"):
                pass
            async with two.hold("broken hook", timeout_s=30):
                pass
    assert "the hook before the release of the lock 'broken hook' failed" in caplog.text


async def test_a_bad_name_is_refused_and_the_client_goes_on(stock: Stock) -> None:
    async with LockClient(stock.config) as locks:
        with pytest.raises(InvalidName, match="from 1 to 1024 bytes, not 2000"):
            await locks.acquire("x" * 2_000)
        with pytest.raises(InvalidName, match="lone surrogate"):
            await locks.acquire("\ud800")
        async with locks.hold("fine"):
            pass


async def test_a_client_says_so_when_the_cluster_has_no_locks_of_this_name(stock: Stock) -> None:
    async with LockClient(stock.config, part="bolts") as locks:
        with pytest.raises(NotExecuted, match=r"no command is called 'bolts\.acquire'"):
            await locks.acquire("a")


async def test_acquiring_fails_when_the_client_is_not_open(stock: Stock) -> None:
    locks = LockClient(stock.config)
    with pytest.raises(NotExecuted, match="not started"):
        await locks.acquire("a")
    await locks.start()
    held = await locks.acquire("closing")
    waiting = asyncio.create_task(locks.acquire("closing"))
    await asyncio.sleep(0)
    await locks.close()
    with pytest.raises(NotExecuted, match="closed"):
        await waiting
    with pytest.raises(NotExecuted, match="closed"):
        await locks.acquire("a")
    assert held.standing == "lost"
    held.release()
    await locks.close()
    async with LockClient(stock.config) as other, other.hold("closing", timeout_s=30):
        pass


async def test_the_holder_is_told_when_its_session_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"sessions": {"time_to_live_ms": 900}}
    async with local_cluster(StockService, replicas=1, replica=limits) as cluster:
        await cluster.leader()
        secret = b"known to another"
        monkeypatch.setattr(client_base, "fresh_secret", lambda: secret)
        async with LockClient(cluster.config) as one, one.hold("mine") as mine:
            monkeypatch.undo()
            assert mine.standing == "held"
            (address,) = cluster.config.addresses.values()
            await asyncio.to_thread(end_session, address, secret)
            async with LockClient(cluster.config) as two, two.hold("mine", timeout_s=30) as theirs:
                assert theirs.token > mine.token
                await until(lambda: mine.standing == "lost")


async def test_no_lock_is_lost_when_there_are_too_many_sessions() -> None:
    limits = {"sessions": {"time_to_live_ms": 60_000, "sessions_max": 1}}
    async with local_cluster(StockService, replicas=1, replica=limits) as cluster:
        await cluster.leader()
        async with LockClient(cluster.config) as one, one.hold("mine") as mine:
            async with LockClient(cluster.config) as two:
                with pytest.raises(NotExecuted, match="keeps 1 sessions already"):
                    await two.acquire("other", timeout_s=300)
            assert mine.standing == "held"
        async with LockClient(cluster.config) as two, two.hold("mine", timeout_s=30):
            pass


async def test_a_lock_is_in_doubt_while_nobody_confirms_the_session_and_held_again_afterwards() -> None:
    limits = {"sessions": {"time_to_live_ms": 900}}
    async with local_cluster(StockService, replica=limits) as cluster:
        leader = await cluster.leader()
        async with LockClient(cluster.config) as locks, locks.hold("mine") as mine:
            (other,) = [node for node in cluster.statuses() if node != leader][:1]
            await cluster.kill(leader)
            await cluster.kill(other)
            await until(lambda: mine.standing == "doubtful")
            await cluster.restart(leader)
            await cluster.restart(other)
            await until(lambda: mine.standing != "doubtful")
            assert mine.standing == "held", "time stood still while nobody led"


@pytest.mark.slow
async def test_waiting_clients_get_the_lock_when_the_primary_dies_and_nobody_asks_again() -> None:
    """docs/faults.md#k03: what a new primary has to say comes out of the replicated state."""
    async with local_cluster(LockService) as cluster:
        leader = await cluster.leader()
        one = LockClient(cluster.config, part="", retry_s=None)
        two = LockClient(cluster.config, part="", retry_s=None)
        async with one, two:
            held = await one.acquire("a")
            waiting = [asyncio.create_task(two.acquire("a", timeout_s=60)) for _ in range(3)]
            while not (await one.service.stat("a")).waiters:
                pass
            await cluster.kill(leader)
            held.release()
            for task in waiting:
                (await task).release()
            assert two.messages <= 2, "asked once, and perhaps gave back"


def is_whole(cluster: LocalCluster[StateMachine]) -> bool:
    """Return whether all three take part, so that any one of them may go."""
    found = cluster.statuses().values()
    return all(len(status.members) == 3 and not status.waiting_for for status in found)


class Deaf:
    """Drops what the service says to a client by itself, while told to."""

    def __init__(self, locks: LockClient) -> None:
        client = locks._driver.client
        self._heard = client._notified
        client._notified = self.hear
        self.missed = 0
        self.deaf = True

    def hear(self, payload: bytes) -> None:
        if self.deaf:
            self.missed += 1
        elif self._heard is not None:
            self._heard(payload)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["raft", "viewstamped"])
async def test_what_was_lost_is_said_again_by_the_next_primary(protocol: str) -> None:
    """docs/faults.md#k03, #k09: first a revocation is lost, then a grant; nobody ever asks again."""
    async with local_cluster(StockService, protocol=protocol) as cluster:
        one, two = LockClient(cluster.config, retry_s=None), LockClient(cluster.config, retry_s=None)
        async with one, two:
            (await one.acquire("a")).release()
            ear = Deaf(one)
            await until(partial(is_whole, cluster))
            waiting = asyncio.create_task(two.acquire("a", timeout_s=60))
            await until(lambda: ear.missed > 0)  # more than once, if the primary changes meanwhile
            ear.deaf = False
            first = await cluster.leader()
            await cluster.kill(first)
            held = await waiting
            await cluster.restart(first)
            back = asyncio.create_task(one.acquire("a", timeout_s=60))
            while not (await two.service.stat("a")).waiters:
                pass
            ear.deaf, missed = True, ear.missed
            held.release()
            await until(lambda: ear.missed > missed)
            ear.deaf = False
            await until(partial(is_whole, cluster))
            await cluster.kill(await cluster.leader())
            assert (await back).token > held.token
            assert (one.messages, two.messages) == (3, 2), "nobody asked again"


@pytest.mark.slow
async def test_locks_pass_on_through_changes_of_primary() -> None:
    watch = Watch()
    async with local_cluster(StockService) as cluster:
        one, two = LockClient(cluster.config, retry_s=None), LockClient(cluster.config, retry_s=None)

        over = False

        async def work(locks: LockClient, who: str) -> None:
            while not over:
                async with locks.hold("busy", timeout_s=60) as held:
                    await watch.visit(held, who)

        def both_had_it(before: Counter[str]) -> bool:
            return all(watch.times[who] >= before[who] + 10 for who in ("one", "two"))

        async with one, two, asyncio.TaskGroup() as tasks:
            for locks, who in ((one, "one"), (two, "two")):
                tasks.create_task(work(locks, who))
            for _ in range(2):
                await until(partial(both_had_it, Counter()))
                leader = await cluster.leader()
                await cluster.kill(leader)
                await until(partial(both_had_it, watch.times.copy()))
                await cluster.restart(leader)
            over = True
