from pathlib import Path

import pytest

import viewstamp
from tests.runtime.machines import Counter
from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.config import MIB, NodeConfig
from viewstamp.runtime.local import local_cluster

SMALL = NodeConfig(segment_bytes=MIB, snapshot_placement="inline")


@pytest.mark.parametrize("replicas", [1, 3, 5])
async def test_cluster_serves_when_it_has_any_size(replicas: int) -> None:
    async with local_cluster(Counter, replicas=replicas) as cluster, cluster.connect() as counter:
        assert await counter.add(1) == 1
        assert len(cluster.statuses()) == replicas


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
async def test_everything_is_served_again_when_all_were_killed(tmp_path: Path, on_disk: bool) -> None:
    directory = tmp_path if on_disk else None
    async with (
        local_cluster(Counter, directory=directory, node_config=SMALL) as cluster,
        cluster.connect(timeout_s=20) as counter,
    ):
        for _ in range(20):
            await counter.add(1)
        for node in cluster.config.node_ids:
            await cluster.kill(node)
        for node in cluster.config.node_ids:
            await cluster.restart(node)
        assert await counter.read() == 20
        assert await counter.add(1) == 21


async def test_data_is_found_again_when_a_cluster_is_made_on_its_directory(tmp_path: Path) -> None:
    for expected in (1, 2):
        async with (
            local_cluster(Counter, directory=tmp_path, node_config=SMALL) as cluster,
            cluster.connect() as counter,
        ):
            assert await counter.add(1) == expected


async def test_log_stays_short_when_writes_go_on(tmp_path: Path) -> None:
    options = {"log_bytes_max": 20_000}
    async with local_cluster(Counter, directory=tmp_path, options=options, node_config=SMALL) as cluster:
        async with cluster.connect(timeout_s=20) as counter:
            for _ in range(600):
                await counter.add(1)
        leader = await cluster.leader()
        status = cluster.statuses()[leader]
        assert status.snapshot > 0
        assert status.log_bytes < 100_000
        await cluster.kill(leader)
        await cluster.restart(leader)
        async with cluster.connect(timeout_s=20) as counter:
            assert await counter.read() == 600


def test_cluster_is_refused_when_an_option_is_wrong() -> None:
    with pytest.raises(ConfigurationError, match="no 'typo'"):
        local_cluster(Counter, options={"typo": 1})
    with pytest.raises(ConfigurationError, match="1 to 31 members"):
        viewstamp.local_cluster(Counter, replicas=0)
