"""Snapshots on a disk beyond the common promises: full disks, pruning, what is not trusted."""

from collections.abc import Iterator
from random import Random

import pytest

from tests.storage.beds import PATH, open_on
from viewstamp.core.events import SnapshotToken
from viewstamp.core.ids import Seqno, View, Viewstamp
from viewstamp.core.snapshots import BytesSnapshot, read_whole
from viewstamp.sim.world.content import DiskFaults
from viewstamp.sim.world.disk import SimFileSystem
from viewstamp.storage import snapshots as store
from viewstamp.storage.snapshots import FileSnapshotStore, SnapshotNotSaved

SNAPSHOTS = f"{PATH}/snapshots"


def _at(seqno: int) -> Viewstamp:
    return Viewstamp(View(1), Seqno(seqno))


def _names(files: SimFileSystem) -> list[str]:
    return files.listdir(SNAPSHOTS)


def test_two_are_kept_when_more_were_saved() -> None:
    files = SimFileSystem(Random(1))
    snapshots = open_on(files).snapshots
    for seqno in range(1, 6):
        snapshots.save(_at(seqno), b"", [b"state"])
    assert _names(files) == [f"{1:016x}-{seqno:016x}.snap" for seqno in (4, 5)]


@pytest.mark.parametrize("fault", ["full", "full at once", "sync"])
def test_nothing_is_left_when_the_disk_refuses(fault: str) -> None:
    files = SimFileSystem(Random(1))
    snapshots = open_on(files).snapshots
    snapshots.save(_at(1), b"", [b"state"])
    if fault == "sync":
        files.faults.sync_error = 1.0
    else:
        files.capacity_bytes = 6000 if fault == "full" else 0
    with pytest.raises(SnapshotNotSaved, match="cannot save a snapshot in /data/snapshots"):
        snapshots.save(_at(2), b"", [b"x" * 500] * 20)
    assert len(_names(files)) == 1
    assert snapshots.newest is not None
    assert read_whole(snapshots.newest) == b"state"
    files.faults.sync_error, files.capacity_bytes = 0.0, None
    snapshots.save(_at(3), b"", [b"more"])
    assert len(_names(files)) == 2


def test_staging_starts_over_when_the_disk_was_full() -> None:
    files = SimFileSystem(Random(1))
    snapshots = open_on(files).snapshots
    whole = BytesSnapshot(_at(4), b"", b"y" * 5000)
    assert snapshots.stage(SnapshotToken(1), whole.meta, 0, whole.body[:1000]) is None
    files.capacity_bytes = 6000
    with pytest.raises(SnapshotNotSaved, match="the disk is full"):
        snapshots.stage(SnapshotToken(1), whole.meta, 1000, whole.body[1000:])
    assert not _names(files)
    late = snapshots.stage(SnapshotToken(1), whole.meta, 1000, whole.body[1000:])
    assert late is None, "a piece that was on its way when the disk refused the one before it"
    files.capacity_bytes = None
    staged = snapshots.stage(SnapshotToken(2), whole.meta, 0, whole.body)
    assert staged is not None
    assert staged.snapshot is not None


def test_pieces_out_of_order_are_the_callers_mistake() -> None:
    snapshots = open_on(SimFileSystem(Random(1))).snapshots
    whole = BytesSnapshot(_at(4), b"", b"y" * 5000)
    assert snapshots.stage(SnapshotToken(1), whole.meta, 0, whole.body[:1000]) is None
    for offset in (500, 1001, 2000):
        with pytest.raises(AssertionError):
            snapshots.stage(SnapshotToken(1), whole.meta, offset, b"y")


def test_memory_stays_bounded_when_a_large_snapshot_is_saved() -> None:
    files = SimFileSystem(Random(1))
    snapshots = open_on(files).snapshots
    alive = 0

    class Piece(bytes):
        def __init__(self, _: bytes) -> None:
            nonlocal alive
            alive += 1
            assert alive < 4, "the parts are gathered"

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    saved = snapshots.save(_at(1), b"", (Piece(b"p" * 100) for _ in range(50)))
    assert saved.meta.size_bytes == 5000


def test_newest_valid_falls_back_and_names_the_damaged() -> None:
    files = SimFileSystem(Random(1))
    directory = open_on(files)
    for seqno in (1, 2):
        directory.snapshots.save(_at(seqno), b"", [b"state %d" % seqno])
    path = f"{SNAPSHOTS}/{_names(files)[-1]}"
    files.overwrite(path, files.read(path)[:-1] + b"X")
    newest, damaged = FileSnapshotStore(files, SNAPSHOTS, directory.identity.seed).newest_valid()
    assert newest is not None
    assert read_whole(newest) == b"state 1"
    assert [(found.path, found.reason) for found in damaged] == [(path, "its content is damaged")]


def test_refused_when_a_snapshot_stands_under_another_name() -> None:
    files = SimFileSystem(Random(1))
    directory = open_on(files)
    directory.snapshots.save(_at(1), b"", [b"state"])
    (name,) = _names(files)
    files.rename(f"{SNAPSHOTS}/{name}", f"{SNAPSHOTS}/{2:016x}-{9:016x}.snap")
    newest, damaged = FileSnapshotStore(files, SNAPSHOTS, directory.identity.seed).newest_valid()
    assert newest is None
    assert damaged[0].reason == "it is the snapshot at 1.1 under another name"


def test_snapshot_of_another_node_is_refused() -> None:
    files = SimFileSystem(Random(1))
    directory = open_on(files)
    directory.snapshots.save(_at(1), b"", [b"state"])
    newest, damaged = FileSnapshotStore(files, SNAPSHOTS, directory.identity.seed + 1).newest_valid()
    assert newest is None
    assert damaged[0].reason == "its header is damaged"


def test_snapshot_is_durable_when_its_process_was_killed_before_the_directory_was_synced() -> None:
    """What a recovery has seen, a power failure must not take away: the journal is released by it."""
    for operation in range(1, 12):
        files = SimFileSystem(Random(1), faults=DiskFaults(torn=0.0, kept=0.0))
        directory = open_on(files)
        files.fail_at = files.operations + operation
        try:
            directory.snapshots.save(_at(1), b"", [b"state"])
        except BaseException:  # noqa: BLE001  the power failure of the simulator
            files.kill()
        seen = open_on(files) if not files.locked else directory
        files.crash()
        assert (open_on(files).recovered.snapshot is None) == (seen.snapshots.newest is None)


def test_large_snapshot_is_synced_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_UNSYNCED_BYTES_MAX", 1_000)
    files = SimFileSystem(Random(1))
    snapshots = open_on(files).snapshots
    files.faults.sync_error = 1.0
    taken = []

    def parts() -> Iterator[bytes]:
        for number in range(10):
            taken.append(number)
            yield b"x" * 400

    with pytest.raises(SnapshotNotSaved):
        snapshots.save(_at(1), b"", parts())
    assert taken == [0, 1, 2]
