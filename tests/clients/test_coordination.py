"""The client of the coordination store, against real clusters in this process."""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

import viewstamp
from tests.runtime.fakes import cluster_of, until
from viewstamp.clients.conditions import delete, exists, get, missing, modified, put, txn, value, version
from viewstamp.clients.coordination import Conflict, Coordination
from viewstamp.core.errors import ConfigurationError, InvalidCall, NotExecuted, PermissionDenied
from viewstamp.core.ids import NodeId
from viewstamp.machine.state_machine import StateMachine
from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.replica.authorization import Grant
from viewstamp.runtime.addresses import LOOPBACK, free_ports
from viewstamp.runtime.config import ClusterConfig, Member
from viewstamp.runtime.local import LocalCluster, local_cluster
from viewstamp.runtime.server import Server
from viewstamp.services.stock import StockService
from viewstamp.services.store import watching
from viewstamp.services.store.types import (
    CompactedRevision,
    Found,
    InnermostDone,
    InvalidLease,
    LeaseNotFound,
    PutDone,
)
from viewstamp.services.store.watching import Changes, Progress, Resync, Told

Cluster = LocalCluster[StateMachine]


async def take(stream: AsyncGenerator[Told, None], count: int) -> list[tuple[int, str, bytes | None]]:
    """Return the next `count` events of a watch: (revision, key, value); skip progress."""
    taken: list[tuple[int, str, bytes | None]] = []
    async with asyncio.timeout(60):
        while len(taken) < count:
            told = await anext(stream)
            if isinstance(told, Changes):
                taken += (
                    (told.revision, e.name, None if e.item is None else e.item.value) for e in told.events
                )
            else:
                assert isinstance(told, Progress)
    return taken


def _is_whole(cluster: Cluster) -> bool:
    """Return whether every member may be lost: viewstamped needs all of them in its view."""
    statuses = cluster.statuses().values()
    return (
        all(len(each.members) == 3 and not each.waiting_for for each in statuses)
        and len({each.applied for each in statuses}) == 1
    )


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with local_cluster(StockService) as running:
        yield running


async def test_keys_transactions_and_conditions(cluster: Cluster) -> None:
    async with viewstamp.coordination(cluster.config) as c:
        kv = c.kv
        first = await kv.put("svc/a", b"1")
        second = await kv.put("svc/b", b"2")
        assert second > first
        item = await kv.get("svc/a")
        assert item is not None
        assert (item.name, item.value, item.create, item.mod, item.version) == (
            "svc/a",
            b"1",
            first,
            first,
            1,
        )
        assert await kv.get("none") is None
        assert [each.name for each in (await kv.range(prefix="svc/")).items] == ["svc/a", "svc/b"]
        assert [each.name for each in (await kv.range("svc/a", end="svc/b")).items] == ["svc/a"]
        done = await kv.txn(
            when=[version("svc/a") == 1, missing("c"), exists("svc/b"), value("svc/b") == b"2"],
            then=[
                put("c", b"x"),
                txn([modified("c") < 1], [delete("svc/b")], [put("never", b"")]),
                get(prefix="svc/"),
            ],
            otherwise=[get("svc/a")],
        )
        assert done.succeeded
        assert done.results[0] == PutDone(done.revision)
        assert isinstance(done.results[1], InnermostDone)
        assert isinstance(done.results[2], Found)
        assert [each.name for each in done.results[2].items] == ["svc/a"]
        past = await kv.range(prefix="", revision=second)
        assert [each.name for each in past.items] == ["svc/a", "svc/b"]
        assert await kv.delete(prefix="svc/") == 1
        told = await kv.history("svc/a")
        assert [(each.revision, each.events[0].item is None) for each in told][:1] == [(first, False)]
        assert told[-1].events[0].item is None
        with pytest.raises(ConfigurationError):
            await kv.range()
        with pytest.raises(ConfigurationError):
            _ = version("a") == b"1"


async def test_a_transaction_happens_as_a_whole_or_not_at_all(cluster: Cluster) -> None:
    async with viewstamp.coordination(cluster.config) as c:
        await c.kv.put("n", b"1")
        async with c.kv.transaction() as t:
            t.put("n", (await t.get("n") or b"") + b"!")
            assert await t.get("n") == b"1!"
            assert await t.get("other") is None
            t.put("other", b"x")
            t.delete("nothing")
        assert t.revision
        for disturb in ("n", "other", "svc/new"):
            t = c.kv.begin()
            before = await t.get("n")
            assert [each.value for each in await t.range(prefix="svc/")] == []
            await t.get("other")
            await c.kv.put(disturb, b"changed")
            assert await t.get("n") == before, "all reads are of one state"
            t.put("written", b"")
            with pytest.raises(Conflict):
                await t.commit()
            await c.kv.delete("svc/new")
        t = c.kv.begin()
        await t.range(prefix="n")
        await c.kv.delete("n")
        t.put("written", b"")
        with pytest.raises(Conflict):
            await t.commit()
        assert await c.kv.get("written") is None
        async with c.kv.transaction() as t:
            await t.get("n")
        assert t.revision == 0


async def test_a_transaction_is_committed_once(cluster: Cluster) -> None:
    async with viewstamp.coordination(cluster.config) as c:
        begun = c.kv.begin()
        begun.put("once", b"1")
        await begun.commit()
        again = "the transaction was committed: begin another; nothing was written now"
        with pytest.raises(InvalidCall, match=again):
            await begun.commit()
        with pytest.raises(InvalidCall, match=again):
            begun.put("late", b"2")
        with pytest.raises(InvalidCall, match=again):
            begun.delete("once")
        found = await c.kv.get("once")
        assert found is not None
        assert found.version == 1

        async def within() -> None:
            async with c.kv.transaction() as t:
                t.put("within", b"1")
                await t.commit()

        with pytest.raises(InvalidCall, match=again):
            await within()
        found = await c.kv.get("within")
        assert found is not None
        assert found.version == 1


@pytest.mark.parametrize("key", [None, 1, True, ["a"], ("a",), 1.5])
async def test_what_cannot_be_a_key_is_refused_before_it_is_sent(key: Any) -> None:
    async with viewstamp.coordination(cluster_of(*free_ports(1))) as c:
        for call in (c.kv.put(key, b""), c.kv.get(key), c.kv.history(key)):
            with pytest.raises(ConfigurationError, match="is neither text nor bytes: nothing was sent"):
                await call


async def test_times_and_limits_are_looked_at_before_they_are_sent(cluster: Cluster) -> None:
    async with viewstamp.coordination(cluster.config) as c:
        for wrong in (math.nan, math.inf, "5", None, True):
            with pytest.raises(ConfigurationError, match=r"ttl_s is .*: give seconds; nothing was sent"):
                await c.lease(ttl_s=wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidLease):
            await c.lease(ttl_s=1e18)
        with pytest.raises(ConfigurationError, match="limit is -1"):
            await c.kv.range(prefix="", limit=-1)
        await c.kv.put(bytearray(b"b"), b"1")
        assert (await c.kv.txn(then=[get(memoryview(b"b"))])).succeeded
        lease = await c.lease(ttl_s=60)
        await c.kv.txn(then=[put("leased", b"", lease=lease)])
        found = await c.kv.get("leased")
        assert found is not None
        assert found.lease == lease.number


async def test_a_lease_of_a_caller_that_was_cancelled_is_revoked() -> None:
    granted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    revoked: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    class Store:
        def lease_grant(self, milliseconds: int, number: int) -> asyncio.Future[int]:
            return granted

        async def lease_revoke(self, number: int) -> int:
            revoked.set_result(number)
            return 1

    c = Coordination(cluster_of(*free_ports(1)))
    c.store = Store()  # type: ignore[assignment]
    granting = asyncio.ensure_future(c.lease(ttl_s=600))
    await asyncio.sleep(0)
    granting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await granting
    assert not revoked.done()
    granted.set_result(7)  # the answer comes when nobody waits for it
    async with asyncio.timeout(60):
        assert await revoked == 7


@pytest.mark.parametrize("protocol", PROTOCOL_NAMES)
async def test_a_watch_goes_on_through_the_loss_of_every_server(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "HOLD_S", 0.3)
    monkeypatch.setattr(watching, "ANSWER_S", 0.5)
    async with (
        local_cluster(StockService, protocol=protocol) as cluster,
        viewstamp.coordination(cluster.config, timeout_s=30) as c,
    ):
        leader = await cluster.leader()
        stream = c.kv.watch("w/", after=0)
        written = [await c.kv.put(f"w/{number}", b"") for number in range(3)]
        assert [each for each, _, _ in await take(stream, 3)] == written
        # Of primary_backup another member leads only when an operator says so.
        nodes = [node for node in (0, 1, 2) if protocol != "primary_backup" or node != leader]
        for node in nodes:
            await until(lambda: _is_whole(cluster))
            await cluster.kill(node)
            taking = asyncio.create_task(take(stream, 2))
            before = await c.kv.put("w/x", b"%d" % node)
            await c.kv.put("other", b"")
            after = await c.kv.delete("w/x")
            assert after == 1
            taken = await taking
            assert [(name, data) for _, name, data in taken] == [("w/x", b"%d" % node), ("w/x", None)]
            assert taken[0][0] == before
            await cluster.restart(node)
            await cluster.leader(timeout_s=30)
        # One that begins long ago at another server is told the same.
        everything = await take(c.kv.watch("w/", after=0), 3 + 2 * len(nodes))
        assert [name for _, name, _ in everything] == ["w/0", "w/1", "w/2", *["w/x"] * 2 * len(nodes)]


async def test_a_watch_behind_the_history_lists_the_range_and_goes_on(cluster: Cluster) -> None:
    async with viewstamp.coordination(cluster.config) as c:
        at = [await c.kv.put(f"w/{number}", b"") for number in range(3)][-1]
        await c.store.kv_compact(at)
        await until(lambda: _is_whole(cluster))  # else a server that is behind still tells them
        stream = c.kv.watch("w/", after=1)
        told = await anext(stream)
        assert isinstance(told, Resync)
        assert [item.name for item in told.items] == ["w/0", "w/1", "w/2"]
        assert told.revision >= at
        later = await c.kv.put("w/3", b"")
        assert await take(stream, 1) == [(later, "w/3", b"")]
        with pytest.raises(CompactedRevision):
            await c.kv.get("w/0", revision=1)


async def test_a_quiet_watch_is_told_the_progress(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "HOLD_S", 0.05)
    async with viewstamp.coordination(cluster.config) as c:
        stream = c.kv.watch("quiet/", after=0)
        at = await c.kv.put("loud", b"")
        async with asyncio.timeout(30):
            while True:
                told = await anext(stream)
                assert isinstance(told, Progress)
                if told.revision >= at:
                    break


async def test_a_lease_that_nobody_keeps_alive_deletes_its_keys_and_a_kept_one_does_not(
    cluster: Cluster,
) -> None:
    async with viewstamp.coordination(cluster.config) as c, Coordination(cluster.config) as other:
        lease, kept = await c.lease(ttl_s=0.4), await c.lease(ttl_s=0.5)
        await c.kv.put("l/1", b"", lease=lease)
        await c.kv.put("l/2", b"", lease=lease)
        await c.kv.put("l/kept", b"", lease=kept)
        stream = other.kv.watch("l/")
        begun = asyncio.create_task(take(stream, 2))
        await asyncio.sleep(0)
        assert lease.standing == "held"
        lease.abandon()
        taken = await begun
        assert [(name, data) for _, name, data in taken] == [("l/1", None), ("l/2", None)]
        assert taken[0][0] == taken[1][0], "one revision"
        with pytest.raises(LeaseNotFound):
            await c.store.lease_keep_alive(lease.number)
        assert (lease.standing, kept.standing) == ("doubtful", "held")
        assert 0 < kept.certain_s <= 0.45
        assert (await c.store.lease_time_to_live(kept.number)).left_ms > 0
        await other.store.lease_revoke(kept.number)
        async with asyncio.timeout(30):
            await kept.lost.wait()
        assert str(kept.standing) == "lost"
        assert await c.kv.get("l/kept") is None


async def test_a_watch_ends_with_its_client() -> None:
    async with local_cluster(StockService, replicas=1) as cluster:
        with pytest.raises(NotExecuted):
            await anext(Coordination(cluster.config).kv.watch("a/"))
        c = Coordination(cluster.config)
        await c.start()
        stream = c.kv.watch("a/", after=0)
        at = await c.kv.put("a/1", b"")
        assert await take(stream, 1) == [(at, "a/1", b"")]
        waiting = asyncio.create_task(take(stream, 1))
        await asyncio.sleep(0)
        await c.close()
        with pytest.raises(NotExecuted):
            await waiting


async def test_a_watch_needs_a_grant_for_its_range() -> None:
    granted = ClusterConfig(
        cluster_id="granted",
        members=(Member(NodeId(1), LOOPBACK, free_ports(1)[0]),),
        grants=(Grant(principal="anonymous", methods=("kv_*",), prefixes=("a/",)),),
    )
    server = Server(granted, NodeId(1), StockService)
    await server.start()
    async with Coordination(granted) as c:
        at = await c.kv.put("a/1", b"")
        assert await take(c.kv.watch("a/", after=0), 1) == [(at, "a/1", b"")]
        for prefix in ("b/", "a", ""):
            with pytest.raises(PermissionDenied):
                await anext(c.kv.watch(prefix, after=0))
        with pytest.raises(PermissionDenied):
            await c.kv.txn([missing("b/1")], [put("a/1", b"")])
    await server.stop()


async def test_threads_have_the_same_store(cluster: Cluster) -> None:
    def use() -> None:
        with viewstamp.coordination_blocking(cluster.config) as c:
            stream = c.kv.watch("t/", after=0)
            at = c.kv.put("t/1", b"x")
            told = next(stream)
            assert isinstance(told, Changes)
            assert told.revision == at
            with c.kv.transaction() as t:
                t.put("t/1", (t.get("t/1") or b"") + b"!")
            assert t.revision
            item = c.kv.get("t/1")
            assert item is not None
            assert item.value == b"x!"
            lease = c.lease(5)
            c.kv.put("t/2", b"", lease=lease)
            assert lease.standing == "held"
            assert lease.revoke() > t.revision
            assert [each.name for each in c.kv.range(prefix="t/").items] == ["t/1"]
            assert c.kv.txn([missing("t/2")], [put("t/3", b"")]).succeeded
            assert len(c.kv.history("t/1")) == 2
            assert c.kv.delete(prefix="t/") == 2
        with pytest.raises(NotExecuted):
            c.kv.get("t/1")
        with pytest.raises(NotExecuted):
            next(stream)

    await asyncio.to_thread(use)
