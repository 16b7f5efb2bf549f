"""What a gateway tells of the cluster: numbers that are never 0, and where the other gateways are."""

import msgspec

from tests.web.etcd.door import Door
from viewstamp.core.ids import NodeId
from viewstamp.runtime.config import ClusterConfig, Member
from viewstamp.runtime.local import local_cluster
from viewstamp.services.stock import StockService
from viewstamp.web.etcd.cluster import cluster_number, member_number
from viewstamp.web.etcd.gateway import Gateway


async def test_members_are_told_with_their_gateways() -> None:
    async with local_cluster(StockService, replicas=3) as cluster:
        server = cluster.servers[await cluster.leader()]
        known = server.cluster
        told = {each.id: f"127.0.0.1:{9_000 + each.id}" for each in known.members if each.id != server.node}
        members = tuple(msgspec.structs.replace(each, etcd=told.get(each.id)) for each in known.members)
        server.cluster = msgspec.structs.replace(known, members=members)
        gateway = Gateway(server, listens_at=("127.0.0.1", 2379))
        said = await Door(gateway).post("/cluster/member/list")
        clients = {each["name"]: each["clientURLs"] for each in said["members"]}
        assert clients == {
            f"node-{each.id}": [f"http://{told.get(each.id, '127.0.0.1:2379')}"] for each in members
        }
        status = await Door(gateway).post("/maintenance/status")
        assert status["leader"] == status["header"]["member_id"] == str(member_number(server.node))
        assert (status["version"], status["raftTerm"]) == ("3.4.0", status["header"]["raft_term"])
        await gateway.close()


async def test_headers_name_the_cluster_and_a_term_that_never_goes_down() -> None:
    async with local_cluster(StockService, replicas=3) as cluster:
        leader = await cluster.leader()
        other = next(server for node, server in cluster.servers.items() if node != leader)
        gateway = Gateway(other)
        door = Door(gateway)
        before = (await door.post("/maintenance/status"))["header"]
        await cluster.kill(leader)
        await door.put("a", "1")
        after = (await door.post("/maintenance/status"))["header"]
        assert before["cluster_id"] == after["cluster_id"] == str(cluster_number(other))
        assert int(after["raft_term"]) > int(before["raft_term"]) > 0
        await gateway.close()


async def test_the_version_says_under_which_path_clients_go_on(door: Door) -> None:
    from tests.web.asgi import ask

    said = (await ask(door.gateway.app, "/version")).json
    assert said == {"etcdserver": "3.4.0", "etcdcluster": "3.4.0"}
    health = await ask(door.gateway.app, "/health")
    assert (health.code, health.json) == (200, {"health": "true"})


def test_numbers_are_never_zero_and_fit_into_64_bits() -> None:
    assert member_number(NodeId(0)) == 1
    for name in ("a", "b", "viewstamp"):
        cluster = ClusterConfig(cluster_id=name, members=(Member(1, "127.0.0.1", 1),))

        class Known:
            def __init__(self, config: ClusterConfig) -> None:
                self.cluster = config

        assert 0 < cluster_number(Known(cluster)) < 1 << 63  # type: ignore[arg-type]
