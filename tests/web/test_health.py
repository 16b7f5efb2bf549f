"""What `/livez` and `/readyz` depend on, and what they never depend on."""

import asyncio

import pytest

from tests.runtime.fakes import until
from tests.runtime.machines import Counter
from tests.web.asgi import app_of, ask
from viewstamp.core.ids import NodeId
from viewstamp.runtime.local import LocalCluster, local_cluster
from viewstamp.web import health


async def _codes(cluster: LocalCluster[Counter], path: str) -> dict[NodeId, int]:
    servers = {node: server for node, server in cluster.servers.items() if server.running}
    return {node: (await ask(app_of(server), path)).code for node, server in servers.items()}


def _leaders(cluster: LocalCluster[Counter]) -> set[NodeId | None]:
    return {status.leader for status in cluster.statuses().values()}


async def _all_ready(cluster: LocalCluster[Counter], count: int) -> None:
    async with asyncio.timeout(30):
        while list((await _codes(cluster, "/readyz")).values()) != [200] * count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("protocol", ["raft", "viewstamped"])
async def test_two_of_three_are_ready_and_one_alone_is_live_and_not_ready(protocol: str) -> None:
    async with local_cluster(Counter, protocol=protocol) as cluster:
        leader = await cluster.leader()
        await _all_ready(cluster, 3)
        await cluster.kill(leader)
        await until(lambda: set(cluster.statuses()) and leader not in _leaders(cluster))
        await _all_ready(cluster, 2)
        await cluster.kill(await cluster.leader())
        (last,) = (server for server in cluster.servers.values() if server.running)
        await until(lambda: last.status().leader is None or last.status().waiting_for)
        assert list((await _codes(cluster, "/readyz")).values()) == [503]
        assert list((await _codes(cluster, "/livez")).values()) == [200]


async def test_each_check_is_named_and_one_is_left_out_when_that_is_asked_for() -> None:
    async with local_cluster(Counter, replicas=2) as cluster:
        leader = await cluster.leader()
        (other,) = set(cluster.servers) - {leader}
        await cluster.kill(other)
        server = cluster.servers[leader]
        await until(lambda: server.status().leader is None)
        said = (await ask(app_of(server), "/readyz?verbose")).text
        assert "[+]turns: ok\n[+]draining: ok\n[-]leader: no leader is known\n[+]applied: ok" in said
        assert said.endswith("failed\n")
        excluded = "exclude=leader&exclude=serves"
        assert (await ask(app_of(server), f"/readyz?{excluded}")).text == "ok\n"
        said = (await ask(app_of(server), f"/readyz?{excluded}&exclude=<b>&verbose")).text
        assert "[?]<b>: there is no such check" in said


async def test_a_node_is_not_ready_while_it_stops_or_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async with local_cluster(Counter, replicas=1) as cluster:
        server = cluster.servers[await cluster.leader()]
        app = app_of(server)
        server.draining = True
        assert (await ask(app, "/readyz")).code == 503
        assert (await ask(app, "/livez")).code == 200
        server.draining = False
        assert (await ask(app, "/readyz")).code == 200
        monkeypatch.setattr(health, "LAG_ENTRIES_MAX", -1)
        assert "committed entries are not applied" in (await ask(app, "/readyz")).text
        await server.stop()
        assert (await ask(app, "/livez")).code == 503
