"""An entry that no member can execute, with real processes: the message, the way past it, what is kept."""

import subprocess
import sys

import pytest

from tests.poison import plant
from tests.process.conftest import MakeGroup
from viewstamp.cli import failures
from viewstamp.runtime.connecting import connect
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.load import Load, read_all, wait_for_leader, wait_for_level, wait_until
from viewstamp.testkit.processes import ServerGroup, ServerProcess

pytestmark = pytest.mark.process

WRITES = 200
AFTER = 5
VICTIM = "the-victim"


async def dead_of_poison(group: ServerGroup) -> list[ServerProcess]:
    """Start all, and return those that end by themselves, once one has."""
    for server in group.servers.values():
        server.start()
    await wait_until(
        lambda: not all(server.running for server in group.servers.values()), 30.0, "the poison stops a node"
    )
    return [server for server in group.servers.values() if not server.running]


def skip(group: ServerGroup, *arguments: str) -> subprocess.CompletedProcess[str]:
    directories = [str(server.data) for server in group.servers.values()]
    command = [sys.executable, "-m", "viewstamp", "journal", "skip", *directories, *arguments]
    return subprocess.run(
        [*command, "--cluster", str(group.cluster_file)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("protocol", ["raft", "viewstamped", "primary_backup"])
async def test_a_cluster_goes_on_when_the_entry_that_stops_it_is_skipped(
    make_group: MakeGroup, protocol: str
) -> None:
    group = make_group(3, protocol=protocol)
    await wait_for_leader(group)
    async with Load(group) as load:
        await load.more(WRITES)
    async with connect(group.cluster, KeyValueStore) as store:
        await store.set(VICTIM, b"lost")
        for number in range(AFTER):
            await store.set(f"behind-{number}", b"kept")
    await wait_for_level(group)
    group.kill_all()
    directories = [server.data for server in group.servers.values()]
    viewstamp = str(plant(directories, protocol, VICTIM.encode()))

    dead = await dead_of_poison(group)
    for server in dead:
        assert server.wait() == failures.NOT_EXECUTABLE
        assert f"node {server.node} cannot execute the committed entry {viewstamp}" in server.last_line()
        assert f"viewstamp journal skip DIR... --at {viewstamp}" in server.last_line()
    if len(dead) < len(directories):
        assert skip(group, "--at", viewstamp, "--yes").returncode == failures.CONFIGURATION, "one still runs"
    group.kill_all()

    assert skip(group, "--at", viewstamp).returncode == failures.REFUSED, "without --yes"
    done = skip(group, "--at", viewstamp, "--yes")
    assert done.returncode == failures.DONE, done.stderr
    group.start()
    await wait_for_leader(group)
    async with connect(group.cluster, KeyValueStore) as store:
        assert await store.set(VICTIM, b"again") == 1
        found = await read_all(group)
    assert found.pop(VICTIM) == (b"again", 1)
    for number in range(AFTER):
        assert found.pop(f"behind-{number}") == (b"kept", 1)
    assert load.ledger.audit(found) == []
    await wait_for_level(group)
    assert all(server.running for server in group.servers.values())
