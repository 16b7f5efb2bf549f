"""Little room on the disk: what is refused, what is not, and how it ends (`runtime.space`)."""

from pathlib import Path

import pytest

import viewstamp
from tests.runtime.fakes import until
from viewstamp.core.errors import Overloaded
from viewstamp.core.ids import NodeId
from viewstamp.runtime import space
from viewstamp.runtime.config import MIB, NodeConfig
from viewstamp.runtime.local import local_cluster
from viewstamp.runtime.space import BALLAST, SpaceWatch
from viewstamp.services.kv import KeyValueStore, NoKey


class Bench:
    def __init__(self, path: Path, *, ballast: int = 0, mark: int = 8 * MIB) -> None:
        self.free = 100 * MIB
        config = NodeConfig(data=str(path), space_low_bytes=mark, ballast_bytes=ballast)
        self.watch = SpaceWatch(NodeId(1), config, free=lambda _: self.free)

    def look(self, free: int) -> bool:
        self.free = free
        return self.watch.look()


def test_room_is_low_below_the_mark_and_until_there_is_a_quarter_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert [bench.look(free * MIB) for free in (100, 8, 7, 8, 9, 10, 9)] == [
        False, False, True, True, True, False, False,
    ]  # fmt: skip
    assert bench.watch.free_bytes == 9 * MIB


def test_the_ballast_is_there_while_there_is_room_and_goes_when_the_last_is_needed(tmp_path: Path) -> None:
    bench, ballast = Bench(tmp_path, ballast=MIB), tmp_path / BALLAST
    bench.look(18 * MIB)
    assert not ballast.exists(), "there is not room for it twice over"
    bench.look(19 * MIB)
    assert ballast.stat().st_size == MIB
    bench.look(2 * MIB)
    assert ballast.exists()
    bench.look(2 * MIB - 1)
    assert not ballast.exists()


def test_nothing_is_refused_when_the_disk_cannot_be_looked_at(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "missing")
    watch = SpaceWatch(NodeId(1), NodeConfig(data=str(tmp_path / "missing")))
    assert not watch.look()
    assert not Bench(tmp_path, mark=0).look(0)
    assert bench.watch.is_needed


async def test_only_commands_that_free_something_are_taken_while_room_is_low(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = {"bytes": 1 << 40}
    monkeypatch.setattr(space, "LOOK_S", 0.01)
    monkeypatch.setattr(SpaceWatch.__init__, "__kwdefaults__", {"free": lambda _: left["bytes"]})
    async with local_cluster(KeyValueStore, replicas=1, directory=tmp_path) as cluster:
        server = cluster.servers[await cluster.leader()]
        async with cluster.connect() as store:
            await store.set("a", b"1")
            left["bytes"] = 1
            await until(lambda: server.counters()["disk_is_low"])
            with pytest.raises(Overloaded) as refused:
                await store.set("b", b"2")
            assert (refused.value.what, refused.value.executed, refused.value.retry) == ("disk", False, True)
            assert await store.get("a") is not None
            with pytest.raises(NoKey):
                await store.get("b")
            assert await store.delete("a")
            assert await server.direct(viewstamp.core.events.TakeSnapshot()) is None
            left["bytes"] = 1 << 40
            await until(lambda: not server.counters()["disk_is_low"])
            await store.set("b", b"2")
            assert await store.get("b") is not None
