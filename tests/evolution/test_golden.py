"""What was written at each level, from this one on, is read by later code and means the same."""

import msgspec
import pytest

from tests.evolution.group import Group
from tests.evolution.make_golden import FOLDER, Golden, written
from tests.evolution.shops import first, second
from viewstamp.core.effects import Apply, Entry
from viewstamp.core.ids import LEVEL, Seqno, View, Viewstamp
from viewstamp.core.snapshots import BytesSnapshot, Versions

LEVELS = sorted(FOLDER.glob("level-*.msgpack"))


def golden(path_name: str) -> Golden:
    return msgspec.msgpack.decode((FOLDER / path_name).read_bytes(), type=Golden)


@pytest.mark.parametrize("name", [path.name for path in LEVELS])
@pytest.mark.parametrize("from_snapshot", [False, True])
def test_the_log_of_a_level_is_executed_with_the_same_results(name: str, from_snapshot: bool) -> None:
    found = golden(name)
    cls = first() if found.machine == 1 else second()
    group = Group(cls)
    at = Viewstamp(View(found.snapshot_at[0]), Seqno(found.snapshot_at[1]))
    snapshot = BytesSnapshot(at, b"header", found.snapshot, Versions(found.level, 1))
    group.restart(1, cls, snapshot if from_snapshot else None)
    bench = group.benches[min(group.benches)]
    for number, data in enumerate(found.entries, start=1):
        if not from_snapshot or number > at.seqno:
            bench.feed(Apply(Entry(Viewstamp(View(1), Seqno(number)), data)))
    assert bench.replica.digest == found.digest
    assert bench.replica.state.versions == Versions(found.level, found.machine)
    assert not group.waiting


def test_this_level_is_written_as_it_always_was() -> None:
    assert written() == golden(f"level-{LEVEL}.msgpack"), "the format changed: that takes a new level"
