"""Real mounts of real servers (docs/requirements.md#r17); conftest.py may leave them out."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from time import monotonic

import pytest

from viewstamp.core.events import TransferLeadership
from viewstamp.filesystem import device
from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.runtime.operator import cluster_status, direct
from viewstamp.testkit.load import wait_for_leader
from viewstamp.testkit.processes import ServerGroup
from viewstamp_labs.lab6824 import fs_tests
from viewstamp_labs.lab6824.waiting import pause

pytestmark = pytest.mark.process

MACHINE = "viewstamp.services.extents:FileService"
Mount = Callable[..., "Mounted"]


class Mounted:
    """A mount as a process of its own."""

    def __init__(self, cluster: Path, folder: Path, *arguments: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.log = folder.with_suffix(".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "viewstamp",
                    "fs",
                    "mount",
                    str(folder),
                    "--cluster",
                    str(cluster),
                    *arguments,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(b"mounted on"), self.log.read_text()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
        device.unmount(self.folder)  # of a mount whose process was killed, too
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    mounted: list[Mounted] = []

    def make(group: ServerGroup, *arguments: str) -> Mounted:
        mounted.append(Mounted(group.cluster_file, tmp_path / f"m{len(mounted)}", *arguments))
        return mounted[-1]

    yield make
    for one in mounted:
        one.end()


def serve(make_group: Callable[..., ServerGroup], size: int, protocol: str = "raft") -> ServerGroup:
    group = make_group(size, protocol=protocol, arguments=[MACHINE])
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "viewstamp",
            "fs",
            "mkfs",
            "--mode",
            "777",
            "--cluster",
            str(group.cluster_file),
        ],
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return group


def until(what: str, condition: Callable[[], bool], within_s: float = 60) -> None:
    end = monotonic() + within_s
    while not condition():
        assert monotonic() < end, what
        pause(0.05)


def is_whole(group: ServerGroup) -> bool:
    said = cluster_status(group.cluster).values()
    return all(not isinstance(one, str) and len(one.members) == 3 and not one.waiting_for for one in said)


@pytest.mark.parametrize("protocol", PROTOCOL_NAMES)
def test_two_mounts_are_one_file_system_before_and_after_the_leader_dies(
    make_group: Callable[..., ServerGroup],
    mount: Mount,
    protocol: str,
) -> None:
    group = serve(make_group, 3, protocol)
    one, two = mount(group), mount(group)
    fs_tests.test_2_b(one.folder, two.folder, Random(1))
    with (one.folder / "open").open("w+") as file:
        file.write("kept")
        file.flush()
        asyncio.run(wait_for_leader(group, members_min=3))
        until("all three take part", lambda: is_whole(group))
        leader = asyncio.run(wait_for_leader(group)).node
        group.servers[leader].kill()
        if protocol == "primary_backup":
            other = next(node for node in group.servers if node != leader)
            until("promoted", lambda: direct(group.cluster, other, TransferLeadership(other)) is None)
        assert (two.folder / "open").read_text() == "kept"
    fs_tests.test_3_b(one.folder, two.folder, Random(1))
    done = subprocess.run(
        [sys.executable, "-m", "viewstamp", "fs", "fsck", "--cluster", str(group.cluster_file)],
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout


def test_a_stopped_mount_writes_nothing_and_says_so_once(
    make_group: Callable[..., ServerGroup],
    mount: Mount,
) -> None:
    group = serve(make_group, 1)
    one, two = mount(group, "--session", "2"), mount(group)
    stale = os.open(one.folder / "f", os.O_RDWR | os.O_CREAT)
    os.write(stale, b"first")
    os.fsync(stale)
    os.write(stale, b"LOST!")
    one.process.send_signal(signal.SIGSTOP)
    assert (two.folder / "f").read_bytes() == b"first"
    (two.folder / "f").write_bytes(b"second")
    one.process.send_signal(signal.SIGCONT)
    with pytest.raises(OSError, match="Input/output") as failure:
        os.write(stale, b"LATE!")
    assert failure.value.errno == errno.EIO
    os.fsync(stale)
    os.close(stale)
    assert (one.folder / "f").read_bytes() == (two.folder / "f").read_bytes() == b"second"
    assert one.log.read_text().count("was lost") == 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, None])
def test_a_mount_that_is_told_to_end_flushes_and_unmounts(
    make_group: Callable[..., ServerGroup],
    mount: Mount,
    how: signal.Signals | None,
) -> None:
    group = serve(make_group, 1)
    one, two = mount(group), mount(group)
    descriptor = os.open(one.folder / "f", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"not flushed")
    if how is None:
        device.unmount(one.folder)
        os.close(descriptor)  # until then it is only out of sight
    else:
        one.process.send_signal(how)
    assert one.process.wait(30) == 0
    assert not os.path.ismount(one.folder)
    if how is not None:
        with pytest.raises(OSError, match="not connected"):
            os.close(descriptor)
    assert (two.folder / "f").read_bytes() == b"not flushed"
