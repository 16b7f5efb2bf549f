"""Data directories: forgotten, full, damaged, shared, not ours."""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process.conftest import MakeGroup
from viewstamp.cli import failures
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.testkit.load import (
    Load,
    accounts,
    read_all,
    wait_for_account,
    wait_for_leader,
    wait_for_level,
    wait_until,
)
from viewstamp.testkit.processes import ServerDied, ServerGroup, ServerProcess

pytestmark = pytest.mark.process

WRITES = 300
LOG_BYTES_MAX = 256 << 10
SEGMENT_BYTES = 128 << 10
TMPFS_BYTES = 2 << 20


def refused(server: ServerProcess, code: int) -> str:
    """Start a server that must refuse to run, and return its one line."""
    server.start()
    with pytest.raises(ServerDied):
        server.wait_ready()
    assert server.wait() == code
    text = server.log.read_text()
    assert "Traceback" not in text
    (line,) = (line for line in text.splitlines() if line.startswith("viewstamp: "))
    return line


async def write_some(group: ServerGroup) -> Load:
    await wait_for_leader(group)
    async with Load(group) as load:
        await load.more(WRITES)
    return load


async def test_wiped_node_neither_votes_nor_counts_until_it_was_let_back_in(make_group: MakeGroup) -> None:
    group = make_group(3)
    load = await write_some(group)
    await wait_for_level(group)
    keeper, other, wiped = group.servers.values()
    other.kill()
    wiped.kill()
    shutil.rmtree(wiped.data)
    wiped.start()
    wiped.wait_ready()

    # One that remembers and one that forgot are not a majority, however long they talk to each other.
    await wait_for_account(group, wiped.node, lambda status: status.waiting_for != "")
    keeper.kill()
    keeper.start()
    keeper.wait_ready()
    with pytest.raises(AssertionError, match="no leader"):
        await wait_for_leader(group, within_s=2.0)

    other.start()
    other.wait_ready()
    await wait_for_leader(group)
    await wait_for_level(group)
    await wait_for_account(group, wiped.node, lambda status: status.waiting_for == "")
    keeper.kill()
    assert load.ledger.audit(await read_all(group)) == []


async def test_log_stays_below_its_limit_when_writes_do_not_end(make_group: MakeGroup) -> None:
    options = {"log_bytes_max": LOG_BYTES_MAX}
    group = make_group(3, options=options, settings=f"segment_bytes = {SEGMENT_BYTES}\n")
    await wait_for_leader(group)
    highest = 0
    async with Load(group) as load:
        for _ in range(10):
            await load.more(1_500)
            found = (await accounts(group)).values()
            highest = max(highest, *(status.log_bytes for status in found if isinstance(status, Status)))
    assert 0 < highest <= LOG_BYTES_MAX
    await wait_for_level(group)
    for account in (await accounts(group)).values():
        assert isinstance(account, Status)
        assert account.snapshot > 0
    group.kill_all()
    group.start()
    assert load.ledger.audit(await read_all(group)) == []
    for server in group.servers.values():
        segments = list((server.data / "journal").iterdir())
        assert sum(path.stat().st_size for path in segments) <= LOG_BYTES_MAX + 4 * SEGMENT_BYTES


async def test_flipped_byte_is_refused_and_the_others_go_on(make_group: MakeGroup) -> None:
    group = make_group(3)
    load = await write_some(group)
    victim = group.servers[NodeId(2)]
    victim.kill()
    segment = min((victim.data / "journal").iterdir())
    damaged = bytearray(segment.read_bytes())
    damaged[5_000] ^= 0x10
    segment.write_bytes(damaged)
    line = refused(victim, failures.STORAGE)
    assert f"{segment} is damaged at byte" in line
    assert segment.read_bytes() == damaged
    assert load.ledger.audit(await read_all(group)) == []


def test_second_server_is_refused_when_the_directory_is_in_use(make_group: MakeGroup, tmp_path: Path) -> None:
    group = make_group(1)
    first = group.servers[NodeId(1)]
    second = ServerProcess(tmp_path / "group", NodeId(1))
    line = refused(second, failures.CONFIGURATION)
    assert f"{first.data} is in use by process {first.pid}" in line
    assert first.running


def test_directory_is_refused_when_it_is_another_nodes(make_group: MakeGroup) -> None:
    group = make_group(3)
    group.kill_all()
    one, two = group.servers[NodeId(1)], group.servers[NodeId(2)]
    shutil.rmtree(two.data)
    one.data.rename(two.data)
    line = refused(two, failures.CONFIGURATION)
    assert "belongs to node 1, not to node 2" in line


def test_directory_is_refused_when_it_cannot_be_made(make_group: MakeGroup) -> None:
    group = make_group(1, start=False)
    server = group.servers[NodeId(1)]
    server.data.write_text("a file stands where the directory should")
    assert "is not a directory but a file" in refused(server, failures.CONFIGURATION)


def test_directory_is_refused_when_others_may_write_to_it(make_group: MakeGroup) -> None:
    group = make_group(1, start=False)
    server = group.servers[NodeId(1)]
    server.data.mkdir()
    server.data.chmod(0o777)
    assert "chmod 700" in refused(server, failures.CONFIGURATION)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Make a file system of two megabytes there; false where this machine does not let us."""
    folder.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES},mode=700", "viewstamp-test", str(folder)]
    mounted = shutil.which("mount") is not None and subprocess.run(mount, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            # Lazily: where the test failed, its server may still have files open there.
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave so little room there that a few writes take it up, however slow the machine."""
    room = shutil.disk_usage(folder).free - SEGMENT_BYTES // 2
    with (folder / "filler").open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, max(room, 1))


@pytest.mark.parametrize("by", ["file system", "limit of the process"])
async def test_node_stops_and_the_others_go_on_when_its_disk_is_full(make_group: MakeGroup, by: str) -> None:
    # Without the limits that make a node refuse writes before its disk is full.
    settings = f"segment_bytes = {SEGMENT_BYTES}\nspace_low_bytes = 0\nballast_bytes = 0\n"
    group = make_group(3, start=False, settings=settings)
    victim = group.servers[NodeId(2)]
    with small_disk(victim.data) as mounted:
        group.start()
        await wait_for_leader(group)
        async with Load(group) as load:
            await load.more(WRITES)
            if by == "file system" and mounted:
                fill(victim.data)
            else:
                resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, (SEGMENT_BYTES // 2, SEGMENT_BYTES // 2))
            await wait_until(lambda: not victim.running, 30.0, "the full disk stops its node")
            await load.more(WRITES)
        assert victim.wait() == failures.STORAGE
        assert "acknowledged is lost" in victim.last_line()
        assert load.ledger.audit(await read_all(group)) == []


def test_directory_is_refused_when_another_class_ran_on_it(make_group: MakeGroup, tmp_path: Path) -> None:
    group = make_group(1)
    group.kill_all()
    settings = ["--settings", str(tmp_path / "group" / "settings.toml")]
    other = ServerProcess(tmp_path / "group", NodeId(1), ["viewstamp.services.kv:KeyValueStore", *settings])
    line = refused(other, failures.CONFIGURATION)
    assert "was written with the class" in line
    assert "and the class is KeyValueStore: nothing was changed" in line
    assert "--accept-class" in line
    group.start()


def test_directory_is_refused_when_another_protocol_ran_on_it(make_group: MakeGroup) -> None:
    group = make_group(1)
    group.kill_all()
    text = group.cluster_file.read_text()
    group.cluster_file.write_text(text.replace('protocol = "raft"', 'protocol = "primary_backup"'))
    line = refused(group.servers[NodeId(1)], failures.CONFIGURATION)
    assert "by the protocol raft, the cluster file says primary_backup: nothing was changed" in line
    group.cluster_file.write_text(text)
    group.start()
