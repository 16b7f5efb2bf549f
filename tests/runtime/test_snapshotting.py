import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import pytest

from tests.runtime.fakes import until
from viewstamp.core.errors import StorageError
from viewstamp.core.events import Captured, SnapshotToken, Staged
from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.core.snapshots import read_whole
from viewstamp.replica.events import Save
from viewstamp.runtime.config import SnapshotPlacement
from viewstamp.runtime.metrics import Metrics
from viewstamp.runtime.snapshotting import Snapshotter, fork_and_stream
from viewstamp.storage.directory import DataDirectory, open_data_directory
from viewstamp.storage.files import OsFileSystem

AT = Viewstamp(View(1), Seqno(9))


class Bench:
    def __init__(self, path: Path, placement: SnapshotPlacement, inline_bytes_max: int = 1000) -> None:
        self.directory = open(path)
        self.fed: list[Captured | Staged] = []
        self.failures: list[BaseException] = []
        self.metrics = Metrics()
        self.executor = ThreadPoolExecutor(1)
        self.snapshotter = Snapshotter(
            self.directory.snapshots,
            placement=placement,
            inline_bytes_max=inline_bytes_max,
            executor=self.executor,
            metrics=self.metrics,
            feed=self.fed.append,
            failed=self.failures.append,
        )

    async def save(self, parts: Iterator[bytes], token: int = 1) -> Captured:
        count = len(self.fed)
        self.snapshotter.save(Save(SnapshotToken(token), AT, b"header", parts))
        await until(lambda: len(self.fed) > count or self.failures)
        assert self.failures == []
        captured = self.fed[-1]
        assert isinstance(captured, Captured)
        return captured

    def close(self) -> None:
        self.executor.shutdown()
        self.directory.close()


def open(path: Path) -> DataDirectory:  # noqa: A001  reads well in this file
    return open_data_directory(
        OsFileSystem(), str(path), cluster_id="c", node=NodeId(1), incarnation=Incarnation(1)
    )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "data", "auto")
    yield made
    made.close()


@pytest.mark.parametrize("placement", ["inline", "fork"])
async def test_snapshot_holds_the_state_of_its_moment_when_the_machine_changes_after(
    tmp_path: Path, placement: SnapshotPlacement
) -> None:
    bench = Bench(tmp_path / "data", placement)
    state = {"value": b"before"}

    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield state["value"]

    bench.snapshotter.save(Save(SnapshotToken(1), AT, b"header", parts()))
    state["value"] = b"after!"
    await until(lambda: bench.fed)
    (captured,) = bench.fed
    assert captured.snapshot is not None
    assert read_whole(captured.snapshot) == b"before" * 100
    assert captured.snapshot.meta.viewstamp == AT
    assert captured.snapshot.meta.header == b"header"
    assert bench.metrics.snapshots_forked == (placement == "fork")
    bench.close()


async def test_saving_forks_when_the_size_is_not_known_and_not_when_it_was_small(bench: Bench) -> None:
    await bench.save(iter([b"small"]))
    assert bench.metrics.snapshots_forked == 1
    await bench.save(iter([b"x" * 2000]))
    assert bench.metrics.snapshots_forked == 1
    await bench.save(iter([b"x" * 2000]))
    assert bench.metrics.snapshots_forked == 2
    assert bench.metrics.snapshots == 3


async def test_big_state_comes_through_when_it_is_forked(bench: Bench) -> None:
    captured = await bench.save(bytes([n % 251]) * 300_000 for n in range(20))
    assert captured.snapshot is not None
    assert read_whole(captured.snapshot) == b"".join(bytes([n % 251]) * 300_000 for n in range(20))


async def test_empty_pieces_are_allowed_when_the_state_is_forked(bench: Bench) -> None:
    captured = await bench.save(iter([b"", b"a", b"", b"b"]))
    assert captured.snapshot is not None
    assert read_whole(captured.snapshot) == b"ab"


async def test_capture_fails_and_nothing_is_left_when_the_child_ends_early(bench: Bench) -> None:
    def parts() -> Iterator[bytes]:
        yield b"some"
        raise ValueError("the machine cannot be encoded")

    captured = await bench.save(parts())
    assert captured.snapshot is None
    assert bench.metrics.snapshots_failed == 1
    assert bench.directory.snapshots.newest is None
    assert (await bench.save(iter([b"fine"]), token=2)).snapshot is not None


async def test_snapshot_is_given_up_when_the_node_stops_while_it_is_encoded(bench: Bench) -> None:
    bench.snapshotter.save(Save(SnapshotToken(1), AT, b"header", repeat(b"")))
    bench.snapshotter.abandon()
    await until(lambda: bench.fed)
    assert bench.fed == [Captured(SnapshotToken(1), None)]
    bench.snapshotter.abandon()  # nothing is encoded now
    assert (await bench.save(iter([b"fine"]), token=2)).snapshot is not None


@pytest.mark.parametrize("placement", ["inline", "fork"])
async def test_log_is_kept_and_the_reason_told_when_the_state_cannot_be_encoded(
    tmp_path: Path, placement: SnapshotPlacement, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path / "data", placement)

    def parts() -> Iterator[bytes]:
        yield b"begun"
        raise TypeError("objects of type function are unsupported")

    assert (await bench.save(parts())).snapshot is None
    assert bench.failures == []
    assert bench.metrics.snapshots_failed == 1
    assert "the machine's state cannot be encoded: TypeError: objects of type function" in caplog.text
    bench.close()


def test_child_holds_no_descriptor_of_the_parent_when_it_runs() -> None:
    read_end, write_end = os.pipe()

    def parts() -> Iterator[bytes]:
        try:
            os.fstat(write_end)
            yield b"still open"
        except OSError:
            yield b"closed"

    received = list(fork_and_stream(parts()))
    os.close(read_end)
    os.close(write_end)
    assert received == [b"closed"]


def test_child_gives_way_to_the_work() -> None:
    def parts() -> Iterator[bytes]:
        yield str(os.nice(0)).encode()

    (niceness,) = fork_and_stream(parts())
    assert int(niceness) == min(19, os.nice(0) + 5)


def test_child_is_reaped_when_its_parts_were_consumed(monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[int] = []
    fork = os.fork

    def remembered() -> int:
        children.append(fork())
        return children[-1]

    monkeypatch.setattr(os, "fork", remembered)
    assert list(fork_and_stream(iter([b"x"]))) == [b"x"]
    # Ask for this child alone: other tests of the process may have children of their own.
    with pytest.raises(ChildProcessError):
        os.waitpid(children[0], os.WNOHANG)


async def test_node_fails_when_the_store_breaks_in_another_way(bench: Bench) -> None:
    def broken(*_arguments: object) -> None:
        raise StorageError("the disk is gone")

    bench.directory.snapshots.save = broken  # type: ignore[method-assign,assignment]
    bench.snapshotter.save(Save(SnapshotToken(1), AT, b"", iter([b"x"])))
    await until(lambda: bench.failures)
    assert bench.fed == []
