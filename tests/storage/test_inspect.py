"""Looking into a data directory without changing it."""

from random import Random

import pytest

from tests.storage.beds import PATH, open_on
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import PersistSeq, Seqno, View, Viewstamp
from viewstamp.sim.world.disk import SimFileSystem
from viewstamp.storage.inspect import (
    FrameSeen,
    ProblemSeen,
    Seen,
    SegmentSeen,
    SnapshotSeen,
    inspect_identity,
    inspect_journal,
    inspect_snapshots,
)


def _files(groups: int = 12) -> SimFileSystem:
    files = SimFileSystem(Random(1))
    directory = open_on(files)
    for seq in range(1, groups + 1):
        directory.journal.append(PersistSeq(seq), (b"%d" % seq, b"x" * 700))
        directory.journal.sync()
    directory.snapshots.save(Viewstamp(View(2), Seqno(5)), b"members", [b"state"])
    return files


def _look(files: SimFileSystem) -> list[Seen]:
    before, operations = files.image(), files.operations
    identity = inspect_identity(files, PATH).identity
    seen = [*inspect_journal(files, PATH, identity), *inspect_snapshots(files, PATH, identity)]
    assert (files.image(), files.operations) == (before, operations), "looking changed something"
    return seen


def test_everything_is_shown_while_a_server_uses_it() -> None:
    files = _files()
    seen = _look(files)
    assert [type(found) for found in seen].count(SegmentSeen) == 3
    frames = [found for found in seen if isinstance(found, FrameSeen)]
    assert [frame.first_seq for frame in frames] == list(range(1, 13))
    assert frames[4].writes == ((b"5", b"x" * 700),)
    snapshot = seen[-1]
    assert isinstance(snapshot, SnapshotSeen)
    assert snapshot.meta.header == b"members"
    assert not any(isinstance(found, ProblemSeen) for found in seen)


def test_damage_is_shown_with_its_place_and_what_follows_is_shown_too() -> None:
    files = _files()
    path = f"{PATH}/journal/0000000000000002.wal"
    content = bytearray(files.read(path))
    content[512 + 100] ^= 4
    files.overwrite(path, bytes(content))
    seen = _look(files)
    problems = [found for found in seen if isinstance(found, ProblemSeen)]
    assert problems == [ProblemSeen(path, 512, "damaged", "a frame's content is damaged")]
    assert any(isinstance(found, FrameSeen) and found.first_seq == 12 for found in seen)


def test_unfinished_tail_is_shown_as_torn() -> None:
    files = _files(1)
    path = f"{PATH}/journal/0000000000000001.wal"
    content = files.read(path)
    files.overwrite(path, content[:1024] + bytes(512) + content[1536:])
    problems = [found for found in _look(files) if isinstance(found, ProblemSeen)]
    assert problems == [ProblemSeen(path, 512, "torn", "a write was not finished")]


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_missing_or_short_segment_is_shown(missing: int) -> None:
    files = _files()
    path = f"{PATH}/journal/{missing:016x}.wal"
    files.overwrite(path, files.read(path)[:100])
    assert [type(found) for found in _look(files)].count(ProblemSeen) == 1
    files.unlink(path)
    problems = [found for found in _look(files) if isinstance(found, ProblemSeen)]
    assert problems == ([ProblemSeen(path, 0, "damaged", "it is missing")] if missing == 2 else [])


def test_damaged_snapshot_is_shown() -> None:
    files = _files()
    (path,) = (path for path in files.paths() if path.endswith(".snap"))
    files.overwrite(path, files.read(path)[:-1])
    assert _look(files)[-1] == ProblemSeen(path, 0, "damaged", "its length is not what its header says")


def test_refused_when_it_is_no_data_directory() -> None:
    files = SimFileSystem(Random(1))
    with pytest.raises(ConfigurationError, match="is not a data directory"):
        inspect_identity(files, PATH)
    files.mkdir(PATH)
    with pytest.raises(ConfigurationError, match="is not a data directory"):
        inspect_identity(files, PATH)
