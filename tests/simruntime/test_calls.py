"""The simulated calls of the system, and what is durable after them (`simruntime.calls`)."""

import contextlib
import os
from random import Random

import pytest

from viewstamp.sim.world.content import Content, DiskFaults
from viewstamp.sim.world.disk import SimFileSystem
from viewstamp.sim.world.options import DiskOptions
from viewstamp.sim.world.world import World
from viewstamp.simruntime.calls import Disk, SimCalls
from viewstamp.simruntime.fibers import Ended
from viewstamp.simruntime.host import Host
from viewstamp.simruntime.options import CallOptions
from viewstamp.storage.direct import TailFile, tail_of
from viewstamp.storage.files import OsFileSystem, fill_with_zeros, write_all

NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL


class Bench:
    def __init__(self, calls: CallOptions | None = None) -> None:
        self.host = Host("127.0.0.1", World(), Random(1))
        self.host.begin()
        files = SimFileSystem(Random(2), faults=DiskFaults(torn=0.0, kept=0.0))
        self.disk = Disk(files, Random(3), DiskOptions(sync_min_us=1_000), calls or CallOptions())
        self.calls = SimCalls(self.host, self.disk)
        self.files = OsFileSystem(self.calls)

    def in_thread(self, *steps: tuple[int, object]) -> None:
        """Let each step begin in a thread of its own at its moment."""
        for at_us, step in steps:
            self.host.spawn(step, at_us)  # type: ignore[arg-type]
        self.host.world.run_until(1_000_000)


def test_a_sync_saves_nothing_that_was_written_while_it_ran() -> None:
    bench = Bench()
    file = bench.calls.open("f", NEW)
    bench.calls.pwrite(file, b"old", 0)
    bench.calls.fsync(bench.calls.open(".", os.O_RDONLY | os.O_DIRECTORY))
    bench.in_thread(
        (10, lambda: bench.calls.fdatasync(file)), (300, lambda: bench.calls.pwrite(file, b"new", 0))
    )
    assert bench.disk.files.read("f") == b"new"
    bench.disk.files.crash()
    assert bench.disk.files.read("f") == b"old"


def test_a_directory_sync_saves_no_name_that_was_made_while_it_ran() -> None:
    bench = Bench()
    directory = bench.calls.open(".", os.O_RDONLY | os.O_DIRECTORY)
    bench.calls.open("before", NEW)
    bench.in_thread(
        (10, lambda: bench.calls.fsync(directory)), (300, lambda: bench.calls.open("during", NEW))
    )
    bench.disk.files.crash()
    assert bench.disk.files.paths() == ["before"]


def test_a_sector_is_settled_where_all_its_versions_agree() -> None:
    content = Content()
    content.write(b"first", 0)
    content.sync()
    content.write(b"second", 100)
    assert content.is_durable(0, 5)
    assert not content.is_durable(0, 101)
    content.sync()
    assert content.is_durable(0, 106)
    content.write(b"FIRST", 0)
    content.drop()
    assert not content.is_durable(0, 5)
    content.write(b"FIRST", 0)
    content.finish_sync(content.begin_sync())
    assert content.is_durable(0, 106)


def test_the_process_ends_before_the_call_at_which_it_is_to_crash() -> None:
    bench = Bench()
    bench.disk.on_crash = bench.host.end
    bench.disk.crash_at = bench.disk.made + 2
    file = bench.calls.open("f", NEW)
    with pytest.raises(Ended):
        bench.calls.pwrite(file, b"never", 0)
    assert bench.disk.files.read("f") == b""
    with pytest.raises(Ended):
        bench.calls.unlink("f")
    assert bench.disk.counts["crash at a call"] == 1


def test_a_write_may_be_refused_where_the_room_was_reserved() -> None:
    bench = Bench(CallOptions(write_error=1.0))
    file = bench.calls.open("f", NEW)
    refused: set[int | None] = set()
    for _ in range(20):
        with contextlib.suppress(OSError):
            bench.calls.pwrite(file, b"x", 0)
            refused.add(None)
    assert not refused
    assert bench.disk.files.read("f") == b""


@pytest.mark.parametrize("refused", [0.0, 0.5, 1.0])
def test_the_end_of_a_segment_is_written_directly_and_otherwise_where_that_is_refused(refused: float) -> None:
    bench = Bench(CallOptions(direct_refused=refused))
    file = bench.files.create("f")
    fill_with_zeros(file, 1 << 16)
    tail, content = tail_of(file), b""
    assert isinstance(tail, TailFile)
    for length in (100, 5_000, 64, 70_00):
        write_all(tail, bytes([length % 251]) * length, len(content))
        content += bytes([length % 251]) * length
    assert bench.disk.files.read("f") == content.ljust(1 << 16, b"\0")
    assert bool(bench.disk.counts["direct write refused"]) == bool(refused)


def test_a_lock_is_held_until_it_is_closed_or_the_process_ends() -> None:
    bench = Bench()
    held = bench.files.lock("lock")
    with pytest.raises(Exception, match="4242"):
        bench.files.lock("lock")
    held.close()
    bench.files.lock("lock")
    bench.disk.files.kill()
    assert not bench.disk.files.locked
