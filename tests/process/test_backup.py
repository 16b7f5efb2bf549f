"""A backup under load and kills, and a cluster of real processes that goes on from it."""

import asyncio
from pathlib import Path

import pytest

from tests.process.conftest import MakeGroup
from viewstamp.backup.seeding import ADVANCE
from viewstamp.cli.app import run
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.connecting import connect
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.load import Load, read_all, wait_for_account, wait_for_leader
from viewstamp.testkit.processes import ServerGroup

pytestmark = pytest.mark.process

STOCK = "viewstamp.services.stock:StockService"
WRITES = 200


def command(*words: object) -> None:
    assert run([str(word) for word in words]) == 0, words


def restored_group(make_group: MakeGroup, backup: Path) -> ServerGroup:
    """Return a group of another cluster whose directories were made of the backup; it is not started."""
    group = make_group(3, name="restored", start=False)
    text = group.cluster_file.read_text().replace('"processes"', '"restored"')
    group.cluster_file.write_text(text)
    group.cluster = ClusterConfig.load(group.cluster_file)
    for node, server in group.servers.items():
        command(
            *("restore", backup, STOCK, "--cluster", group.cluster_file, "--data", server.data),
            *("--node", node, "--life", 4711),
        )
    return group


async def test_backup_under_load_and_kills_is_restored_with_all_that_was_acknowledged(
    make_group: MakeGroup, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group = make_group(3)
    await wait_for_leader(group)
    before: set[str] = set()
    async with Load(group) as load:
        for number in range(3):
            await load.more(WRITES)
            before = set(load.ledger.acknowledged)
            leader = (await wait_for_leader(group)).node
            reader = next(node for node in group.servers if node != leader)
            backup = tmp_path / f"{number}.vss"
            taking = asyncio.create_task(
                asyncio.to_thread(
                    command, "backup", backup, "--cluster", group.cluster_file, "--from", reader
                )
            )
            if number % 2:
                group.servers[leader].kill()
            await taking
            await asyncio.to_thread(command, "backup", "verify", backup, STOCK)
            group.start()
    found = await read_all(group)
    assert load.ledger.audit(found) == []
    assert await restored_keys(make_group, tmp_path / "2.vss") >= before


async def restored_keys(make_group: MakeGroup, backup: Path) -> set[str]:
    """Start the restored cluster, look whether it serves, and return the keys that it holds."""
    group = restored_group(make_group, backup)
    group.start()
    await wait_for_leader(group)
    keys = await read_all(group)
    assert all(value == key.encode() and version == 1 for key, (value, version) in keys.items())
    async with connect(group.cluster, KeyValueStore) as store:
        assert await store.set("after", b"after") == 1
    for node in group.servers:
        await wait_for_account(group, node, lambda status: status.applied > ADVANCE)
    return set(keys)
