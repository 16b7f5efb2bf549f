"""The cache on real clusters in this process, on each protocol (docs/requirements.md#r59)."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from viewstamp.cli import fs
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.events import TransferLeadership
from viewstamp.filesystem.checking import check
from viewstamp.filesystem.driver import FileDriver
from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.runtime.local import BlockingLocalCluster, LocalCluster, local_cluster
from viewstamp.services.extents import ExtentService, FileService
from viewstamp.services.extents.model import ROOT, Birth
from viewstamp.services.extents.operations import Create, FileFailure, Lookup, Open, Opened, Read, Sync, Write
from viewstamp.services.locks import LockService

FILE = Birth("file", 0o644, 0, 0, 1)
DIRECTORY = Birth("directory", 0o755, 0, 0, 1)


async def content(driver: FileDriver, name: bytes) -> Any:
    found: Any = await driver.do(Lookup(ROOT, name), 1)
    opened: Any = await driver.do(Open(found.inode), 1)
    return await driver.do(Read(opened.handle, 0, 100), 1)


async def whole(cluster: LocalCluster[Any]) -> None:
    """Wait until one of three may be killed."""
    async with asyncio.timeout(30):
        while not all(len(one.members) == 3 and not one.waiting_for for one in cluster.statuses().values()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def promote(cluster: LocalCluster[Any]) -> None:
    """Do by hand what an operator does: this protocol elects nobody."""
    node, server = next(iter(cluster.servers.items()))
    async with asyncio.timeout(30):
        while await server.direct(TransferLeadership(node)) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("protocol", PROTOCOL_NAMES)
async def test_two_clients_see_one_file_system_while_the_leader_is_killed(protocol: str) -> None:
    async with local_cluster(FileService, protocol=protocol) as cluster:
        assert isinstance(cluster, LocalCluster)
        await whole(cluster)
        leader = await cluster.leader()
        one, two = FileDriver(cluster.config), FileDriver(cluster.config)
        await one.start()
        await two.start()
        async with cluster.connect() as files:
            await files.make(DIRECTORY)
        opened = await one.do(Create(ROOT, b"f", FILE, opening=True), 1)
        assert isinstance(opened, Opened)
        await one.do(Write(opened.handle, 0, b"before"), 1)
        await cluster.kill(leader)
        if protocol == "primary_backup":
            await promote(cluster)
        async with asyncio.timeout(60):
            assert await content(two, b"f") == b"before"
            await one.do(Write(opened.handle, 6, b" and after"), 1)
            await one.do(Sync(opened.handle), 1)
            assert await content(two, b"f") == b"before and after"
        await one.close()
        await two.close()


async def test_mount_that_ends_while_nobody_serves_names_what_may_be_lost_and_nothing_else() -> None:
    async with local_cluster(FileService) as cluster:
        assert isinstance(cluster, LocalCluster)
        clean, dirty = FileDriver(cluster.config), FileDriver(cluster.config)
        await clean.start()
        await dirty.start()
        async with cluster.connect() as files:
            await files.make(DIRECTORY)
        flushed: Any = await clean.do(Create(ROOT, b"a", FILE, opening=True), 1)
        await clean.do(Write(flushed.handle, 0, b"content"), 1)
        await clean.do(Sync(flushed.handle), 1)
        opened: Any = await dirty.do(Create(ROOT, b"b", FILE, opening=True), 1)
        await dirty.do(Write(opened.handle, 0, b"content"), 1)
        for node in list(cluster.servers):
            await cluster.kill(node)
        assert await clean.close(0.2) == ()
        assert await dirty.close(0.2) == (opened.attributes.inode,)


async def test_files_and_locks_may_be_two_clusters() -> None:
    async with local_cluster(ExtentService, 1) as extents, local_cluster(LockService, 1) as locks:
        async with extents.connect() as files:
            await files.make(DIRECTORY)
        one = FileDriver(extents.config, locks=locks.config)
        two = FileDriver(extents.config, locks=locks.config)
        await one.start()
        await two.start()
        opened = await one.do(Create(ROOT, b"f", FILE, opening=True), 1)
        assert isinstance(opened, Opened)
        await one.do(Write(opened.handle, 0, b"hello"), 1)
        assert await content(two, b"f") == b"hello"
        await one.close()
        await two.close()


@pytest.fixture(scope="module")
def served() -> Iterator[BlockingLocalCluster[FileService]]:
    with local_cluster(FileService, 1) as running:
        running.leader()
        yield running


def test_a_file_system_is_made_once_measured_and_checked(
    served: BlockingLocalCluster[FileService], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cluster.toml"
    served.config.save(path)
    with pytest.raises(ConfigurationError, match="viewstamp fs mkfs"):
        fs.stat(cluster=path)
    with pytest.raises(ConfigurationError, match="viewstamp fs mkfs"):
        fs.fsck(cluster=path)
    with pytest.raises(ConfigurationError, match="octal"):
        fs.mkfs(mode="999", cluster=path)
    assert fs.mkfs(cluster=path) == 0
    assert fs.mkfs(cluster=path) == 1

    async def fill() -> None:
        driver = FileDriver(served.config)
        await driver.start()
        sub: Any = await driver.do(Create(ROOT, b"sub", DIRECTORY), 1)
        await driver.do(Create(sub.inode, b"f", FILE), 1)
        with pytest.raises(FileFailure):
            await driver.do(Lookup(sub.inode, b"g"), 1)
        await driver.close()

    asyncio.run(fill())
    capsys.readouterr()
    assert fs.fsck(cluster=path) == 0
    assert capsys.readouterr().out == "2 directories, 1 files, 2 names, 0 orphans: no problems\n"
    assert fs.stat(cluster=path, json=True) == 0
    assert '"inodes":3,' in capsys.readouterr().out


class Fake:
    """A service that answers out of a machine, which the test has damaged."""

    def __init__(self) -> None:
        self.machine = FileService()
        tree = self.tree = self.machine._tree
        tree.make_root(DIRECTORY)
        tree.create(ROOT, b"sub", DIRECTORY)
        tree.create(ROOT, b"f", FILE)

    async def look(self, inode: int) -> Any:
        return self.machine.look(inode)

    async def listing(self, parent: int, after: bytes, limit: int) -> Any:
        return self.machine.listing(parent, after, limit)

    async def totals(self) -> Any:
        return self.machine.totals()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda tree: None, ""),
        (lambda tree: setattr(tree.inodes[3], "links", 2), "inode 3 has 2 links and 1 names"),
        (lambda tree: setattr(tree.inodes[1], "links", 2), "directory 1 has 2 links and 1 directories"),
        (
            lambda tree: tree.inodes[1].sorted.remove("f"),
            "of 3 inodes 2 have names, and 0 are open without one",
        ),
        (lambda tree: tree._enter(tree.inodes[2], "again", 2, 1), "directory 2 has 2 names"),
    ],
)
async def test_a_check_finds_what_does_not_fit(damage: Any, problem: str) -> None:
    fake: Any = Fake()
    damage(fake.tree)
    report = await check(fake)
    assert (problem in report.problems) == bool(problem), report.problems
    assert bool(report.found) == bool(problem)
