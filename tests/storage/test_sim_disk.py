"""The simulated disk: what may happen to unsynced data does happen, what may not never does."""

import errno
from collections.abc import Callable
from random import Random

import pytest

from viewstamp.sim.world.content import SECTOR_BYTES, DiskFaults
from viewstamp.sim.world.disk import PowerFailure, SimFileSystem

TORN = DiskFaults(torn=1.0)


def _outcomes(
    prepare: Callable[[SimFileSystem], None], seeds: int = 60
) -> set[tuple[tuple[str, bytes | None], ...]]:
    """Crash after `prepare` with many seeds and return the images that came out."""
    found = set()
    for seed in range(seeds):
        files = SimFileSystem(Random(seed), faults=DiskFaults(torn=(seed % 3) / 2))
        prepare(files)
        files.crash()
        found.add(tuple(sorted(files.image().items())))
    return found


def _write(files: SimFileSystem, path: str, content: bytes, *, sync: bool) -> None:
    file = files.create(path)
    file.pwrite(content, 0)
    if sync:
        file.fdatasync()
        files.sync_directory(".")


def test_synced_content_stays_in_every_crash() -> None:
    def prepare(files: SimFileSystem) -> None:
        _write(files, "a", b"durable", sync=True)

    assert _outcomes(prepare) == {(("a", b"durable"),)}


def test_synced_content_without_its_name_may_vanish() -> None:
    def prepare(files: SimFileSystem) -> None:
        files.create("a").fdatasync()

    assert _outcomes(prepare) == {(), (("a", b""),)}


def test_name_without_its_content_may_survive() -> None:
    def prepare(files: SimFileSystem) -> None:
        _write(files, "a", b"x", sync=False)
        files.sync_directory(".")

    # The length may survive without the content as well.
    assert _outcomes(prepare) == {(("a", b""),), (("a", b"x"),), (("a", b"\0"),)}


def test_sectors_survive_each_for_itself() -> None:
    old, new = b"o" * SECTOR_BYTES * 3, b"n" * SECTOR_BYTES * 3

    def prepare(files: SimFileSystem) -> None:
        _write(files, "a", old, sync=True)
        files.open("a", writable=True).pwrite(new, 0)

    contents = {image[0][1] for image in _outcomes(prepare, 150)}
    assert len(contents) == 8
    assert old in contents
    assert new in contents


def test_sector_holds_any_of_its_former_versions_when_written_twice() -> None:
    def prepare(files: SimFileSystem) -> None:
        _write(files, "a", b"0", sync=True)
        file = files.open("a", writable=True)
        file.pwrite(b"1", 0)
        file.pwrite(b"2", 0)

    assert {image[0][1] for image in _outcomes(prepare)} == {b"0", b"1", b"2"}


def test_rename_happens_as_a_whole_or_not_at_all() -> None:
    def prepare(files: SimFileSystem) -> None:
        _write(files, "old", b"1", sync=True)
        _write(files, "new", b"2", sync=True)
        files.rename("new", "old")

    assert _outcomes(prepare) == {(("new", b"2"), ("old", b"1")), (("old", b"2"),)}


def test_deletions_survive_each_for_itself() -> None:
    def prepare(files: SimFileSystem) -> None:
        for name in ("a", "b"):
            _write(files, name, b"", sync=True)
        files.unlink("a")
        files.unlink("b")

    assert len(_outcomes(prepare)) == 4


def test_directory_that_was_not_synced_takes_its_content_with_it() -> None:
    def prepare(files: SimFileSystem) -> None:
        files.mkdir("d")
        files.create("d/a")
        files.sync_directory("d")

    assert _outcomes(prepare) == {(), (("d", None), ("d/a", b""))}


def test_sync_of_another_file_or_directory_helps_nothing() -> None:
    def prepare(files: SimFileSystem) -> None:
        files.mkdir("d")
        files.sync_directory(".")
        files.create("d/a")
        files.sync_directory(".")

    assert len(_outcomes(prepare)) == 2


def test_failed_sync_loses_its_sectors_whatever_a_later_one_says() -> None:
    files = SimFileSystem(Random(1), faults=DiskFaults(torn=0.0, kept=0.0, sync_error=1.0))
    _write(files, "a", b"lost", sync=False)
    files.sync_directory(".")
    file = files.open("a", writable=True)
    with pytest.raises(OSError, match="Input/output error"):
        file.fdatasync()
    files.faults.sync_error = 0.0
    file.fdatasync()
    assert file.pread(4, 0) == b"lost"
    files.crash()
    assert files.read("a") == b"\0\0\0\0"
    assert files.effects["sync_error"] == 1


def test_failed_sync_is_made_good_when_the_sectors_are_written_again() -> None:
    files = SimFileSystem(Random(1), faults=DiskFaults(torn=0.0, kept=0.0, sync_error=1.0))
    _write(files, "a", b"kept", sync=False)
    files.sync_directory(".")
    file = files.open("a", writable=True)
    with pytest.raises(OSError, match="Input/output error"):
        file.fdatasync()
    files.faults.sync_error = 0.0
    file.pwrite(b"kept", 0)
    file.fdatasync()
    files.crash()
    assert files.read("a") == b"kept"


def test_the_next_sync_fails_once_when_that_is_asked_for() -> None:
    files = SimFileSystem(Random(1))
    file = files.create("a")
    file.pwrite(b"x", 0)
    files.next_effect = "sync_error"
    file.pwrite(b"y", 1)
    with pytest.raises(OSError, match="Input/output error"):
        file.fdatasync()
    file.fdatasync()
    assert files.effects == {"sync_error": 1}


def test_killed_process_loses_nothing_but_its_files_and_locks() -> None:
    files = SimFileSystem(Random(1))
    file = files.create("a")
    file.pwrite(b"x", 0)
    files.lock("lock")
    files.kill()
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        file.pread(1, 0)
    assert caught.value.errno == errno.EBADF
    assert files.read("a") == b"x"
    files.lock("lock").close()


def test_short_writes_stop_at_a_sector() -> None:
    files = SimFileSystem(Random(1), faults=DiskFaults(short_write=1.0))
    file = files.create("a")
    lengths = {file.pwrite(b"x" * 3000, 100) for _ in range(40)}
    assert lengths == {412 + number * SECTOR_BYTES for number in range(6)}
    assert files.effects["short_write"] == 40


def test_negative_places_and_lengths_are_refused_as_by_the_system() -> None:
    file = SimFileSystem(Random(1)).create("a")
    for refused in (lambda: file.pread(-1, 0), lambda: file.pread(1, -1), lambda: file.pwrite(b"x", -1)):
        with pytest.raises(OSError, match="Invalid argument"):
            refused()


def test_full_disk_refuses_growth_only() -> None:
    files = SimFileSystem(Random(1))
    file = files.create("a")
    file.pwrite(b"x" * 100, 0)
    files.capacity_bytes = 100
    file.pwrite(b"y" * 100, 0)
    with pytest.raises(OSError, match="No space left"):
        file.pwrite(b"z", 100)
    assert file.size() == 100
    assert files.effects["disk_full"] == 1


def test_rot_flips_one_bit_and_says_where() -> None:
    files = SimFileSystem(Random(1))
    _write(files, "a", b"\x55" * 100 + bytes(400), sync=True)
    damage = files.rot()
    assert damage is not None
    assert damage.path == "a"
    assert damage.offset < 100
    assert (files.read("a")[damage.offset] ^ 0x55).bit_count() == 1
    assert files.rotten == [damage]
    assert files.rot("elsewhere") is None


def test_misdirected_write_goes_astray_once() -> None:
    files = SimFileSystem(Random(1))
    file = files.create("a")
    files.displace_next_bytes = 512
    file.pwrite(b"astray", 0)
    file.pwrite(b"home", 0)
    assert file.pread(4, 0) == b"home"
    assert file.pread(6, 512) == b"astray"
    assert files.rotten
    assert files.effects["misdirected_write"] == 1


def test_power_fails_before_the_operation_asked_for() -> None:
    files = SimFileSystem(Random(1))
    files.fail_at = 2
    file = files.create("a")
    with pytest.raises(PowerFailure, match="before operation 2: pwrite a"):
        file.pwrite(b"x", 0)
    assert files.read("a") == b""


def test_same_seed_gives_the_same_crash() -> None:
    images = []
    for _ in range(2):
        files = SimFileSystem(Random(5), faults=TORN)
        for number in range(20):
            _write(files, f"f{number}", b"x" * number * 100, sync=number % 3 == 0)
        files.crash()
        images.append(files.image())
    assert images[0] == images[1]
