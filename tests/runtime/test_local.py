import asyncio
import threading
from pathlib import Path

import pytest

import viewstamp
from tests.runtime.machines import Counter
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.events import TakeSnapshot
from viewstamp.runtime.config import MIB, NodeConfig
from viewstamp.runtime.local import local_cluster
from viewstamp.runtime.server import Server
from viewstamp.storage.memory import MemoryJob, MemoryJournal

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


class Ponderous(Counter):
    """A counter whose snapshot takes far longer than an election."""

    def snapshot(self) -> bytes:
        threading.Event().wait(1.5)
        return str(self.value).encode()

    def restore(self, snapshot: bytes) -> None:
        self.value = int(snapshot)


async def test_leader_stays_when_a_snapshot_takes_longer_than_an_election() -> None:
    forking = NodeConfig(snapshot_placement="fork")
    async with (
        local_cluster(Ponderous, node_config=forking) as cluster,
        cluster.connect(timeout_s=20) as counter,
    ):
        await counter.add(1)
        leader = await cluster.leader()
        server = cluster.servers[leader]
        view = server.status().view
        taken = asyncio.create_task(server.direct(TakeSnapshot()))
        while not taken.done():
            await counter.add(1)
        assert await taken is None
        assert server.status().snapshot > 0
        assert {status.view for status in cluster.statuses().values()} == {view}


async def test_leader_stays_when_every_disk_takes_longer_than_an_election() -> None:
    async with local_cluster(Counter) as cluster, cluster.connect(timeout_s=20) as counter:
        await counter.add(1)
        await cluster.leader()
        views = {status.view for status in cluster.statuses().values()}
        for server in cluster.servers.values():
            slow_down(server)
        for expected in range(2, 5):
            assert await counter.add(1) == expected
        assert {status.view for status in cluster.statuses().values()} == views
        assert all(server.counters()["syncs_off_loop"] > 0 for server in cluster.servers.values())


class SlowJob(MemoryJob):
    """A sync that takes half a second."""

    def run(self) -> None:
        threading.Event().wait(0.5)
        super().run()


def slow_down(server: Server) -> None:
    """Let every sync of this server be slow, from the next one on, which runs beside the loop."""
    assert server._directory is not None
    assert server._driver is not None
    journal = server._directory.journal
    assert isinstance(journal, MemoryJournal)
    begin_sync = journal.begin_sync

    def begin_slow_sync() -> MemoryJob | None:
        job = begin_sync()
        if job is not None:
            journal._job = job = SlowJob(job.seq)
        return job

    journal.begin_sync = begin_slow_sync  # type: ignore[method-assign]
    server._driver._syncer._policy.off_loop = True


def test_cluster_is_refused_when_an_option_is_wrong() -> None:
    with pytest.raises(ConfigurationError, match="no 'typo'"):
        local_cluster(Counter, options={"typo": 1})
    with pytest.raises(ConfigurationError, match="1 to 31 members"):
        viewstamp.local_cluster(Counter, replicas=0)
