"""Opening data directories on the real file system: whose they are, who may use them, what is refused."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.storage.beds import CLUSTER, NODE, SEGMENT_BYTES, open_on
from viewstamp.core.errors import ConfigurationError, JournalCorrupt, StorageError
from viewstamp.core.ids import Incarnation, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.storage.directory import DataDirectory, open_data_directory
from viewstamp.storage.files import OsFileSystem, PathStatus

FILES = OsFileSystem()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data"


def _open(path: Path, *, cluster_id: str = CLUSTER, node: int = NODE) -> DataDirectory:
    return open_data_directory(
        FILES,
        str(path),
        cluster_id=cluster_id,
        node=NodeId(node),
        incarnation=Incarnation(7),
        segment_bytes=SEGMENT_BYTES,
    )


def _make(path: Path, writes: int = 1) -> None:
    directory = _open(path)
    for seq in range(1, writes + 1):
        directory.journal.append(PersistSeq(seq), (b"%d" % seq,))
    directory.journal.sync()
    directory.close()


def test_made_for_its_owner_alone_when_it_is_new(path: Path) -> None:
    _make(path)
    assert path.stat().st_mode & 0o777 == 0o700
    assert sorted(entry.name for entry in path.iterdir()) == ["identity", "journal", "lock", "snapshots"]
    for file in path.rglob("*"):
        assert not file.stat().st_mode & 0o077, file


def test_incarnation_stays_when_opened_again_and_changes_when_made_again(path: Path) -> None:
    _make(path)
    again = open_on(FILES, str(path), incarnation=8)
    assert again.identity.incarnation == 7
    again.close()
    path.rename(path.with_name("moved"))
    fresh = open_on(FILES, str(path), incarnation=8)
    assert fresh.identity.incarnation == 8
    fresh.close()


@pytest.mark.parametrize(
    ("cluster_id", "node", "message"),
    [
        ("other", NODE, "belongs to cluster 'tests', not to 'other'"),
        (CLUSTER, 4, "belongs to node 3, not to node 4"),
    ],
)
def test_refused_when_it_is_anothers(path: Path, cluster_id: str, node: int, message: str) -> None:
    _make(path)
    with pytest.raises(ConfigurationError, match=message):
        _open(path, cluster_id=cluster_id, node=node)
    _open(path).close()


@pytest.mark.parametrize("cluster_id", ["", "x" * 64])
def test_refused_when_the_cluster_id_does_not_fit(path: Path, cluster_id: str) -> None:
    with pytest.raises(ConfigurationError, match="1 to 63 bytes"):
        _open(path, cluster_id=cluster_id)
    assert not path.exists()


def test_refused_when_in_use_by_this_process(path: Path) -> None:
    first = _open(path)
    with pytest.raises(ConfigurationError, match=f"in use by process {os.getpid()}: stop it"):
        _open(path)
    first.journal.append(PersistSeq(1), (b"undisturbed",))
    first.journal.sync()
    first.close()
    _open(path).close()


def test_refused_when_in_use_by_another_process(path: Path) -> None:
    script = (
        "import sys\n"
        "from tests.storage.beds import open_on\n"
        "from viewstamp.storage.files import OsFileSystem\n"
        "directory = open_on(OsFileSystem(), sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(ConfigurationError, match=f"in use by process {other.pid}"):
            _open(path)
        other.kill()
        other.wait()
    _open(path).close()


def test_refused_when_a_newer_program_wrote_it(path: Path) -> None:
    _make(path)
    identity = path / "identity"
    identity.write_bytes(
        re.sub(rb'"format_version":1', rb'"format_version":2,"novelty":[]', identity.read_bytes())
    )
    with pytest.raises(ConfigurationError, match="has format 2, this program reads 1"):
        _open(path)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[" * 100_000, b'{"format_version":1}', b"\xff\xfe", b"null"]
)
def test_refused_when_the_identity_is_damaged(path: Path, content: bytes) -> None:
    _make(path)
    (path / "identity").write_bytes(content)
    with pytest.raises(JournalCorrupt, match="identity is damaged"):
        _open(path)


def test_refused_when_the_identity_is_gone_and_data_is_there(path: Path) -> None:
    _make(path)
    (path / "identity").unlink()
    with pytest.raises(JournalCorrupt, match="identity is missing, but there is data; nothing was changed"):
        _open(path)
    directory = _open(path.with_name("other"))
    directory.snapshots.save(Viewstamp(View(1), Seqno(1)), b"", [b"state"])
    directory.close()
    (path.with_name("other") / "identity").unlink()
    with pytest.raises(JournalCorrupt, match="identity is missing"):
        _open(path.with_name("other"))


def test_refused_when_the_directory_holds_something_else(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigurationError, match=r"not empty and not a data directory: it holds thesis\.tex"):
        _open(path)


def test_refused_when_it_is_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="is not a directory but a link"):
        _open(path)


def test_refused_when_it_is_a_file(path: Path) -> None:
    path.write_text("")
    with pytest.raises(ConfigurationError, match="is not a directory but a file"):
        _open(path)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_refused_when_others_may_write(path: Path, mode: int) -> None:
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"can be written by other users: run chmod 700 {path}"):
        _open(path)


def test_used_when_it_was_made_by_hand(path: Path) -> None:
    path.mkdir(mode=0o755)
    _make(path)


class _Strangers(OsFileSystem):
    def status(self, path: str) -> PathStatus | None:
        return PathStatus("directory", 0o700, owned=False, size_bytes=0)


def test_refused_when_it_is_another_users(path: Path) -> None:
    path.mkdir()
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        open_on(_Strangers(), str(path))


class _ReadOnly(OsFileSystem):
    def mkdir(self, path: str) -> None:
        raise PermissionError(13, "Permission denied", path)


def test_refused_when_it_cannot_be_made(path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot make the data directory .*: Permission denied"):
        open_on(_ReadOnly(), str(path))
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        _open(path / "far" / "away")


def test_refused_when_the_lock_cannot_be_written(path: Path) -> None:
    (path / "lock").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="lock is a directory: a file must stand there"):
        _open(path)


def test_refused_when_a_segment_is_another_nodes(path: Path, tmp_path: Path) -> None:
    _make(path)
    stranger = open_data_directory(
        FILES,
        str(tmp_path / "stranger"),
        cluster_id=CLUSTER,
        node=NodeId(9),
        incarnation=Incarnation(1),
        segment_bytes=SEGMENT_BYTES,
    )
    stranger.close()
    name = "journal/0000000000000001.wal"
    (path / name).write_bytes((tmp_path / "stranger" / name).read_bytes())
    with pytest.raises(JournalCorrupt, match="belongs to node 9 of cluster 'tests'"):
        _open(path)


@pytest.mark.parametrize("content", [b"", b"VSSNAPS\n", b"\xff" * 48, b"VSSNAPS\n" + b"\xff" * 4000])
def test_refused_when_the_newest_snapshot_is_damaged(path: Path, content: bytes) -> None:
    directory = _open(path)
    directory.snapshots.save(Viewstamp(View(1), Seqno(1)), b"", [b"older"])
    directory.close()
    newest = path / "snapshots" / f"{2:016x}-{5:016x}.snap"
    newest.write_bytes(content)
    with pytest.raises(JournalCorrupt, match=f"{newest} is damaged"):
        _open(path)


def test_remains_are_removed_when_opened(path: Path) -> None:
    _make(path)
    for name in ("journal/spare.tmp", "snapshots/save-3.tmp", "snapshots/stage.tmp"):
        (path / name).write_bytes(b"half")
    _open(path).close()
    assert not list(path.rglob("*.tmp"))


def test_lock_is_given_back_when_opening_failed(path: Path) -> None:
    _make(path)
    segment = path / "journal" / "0000000000000001.wal"
    content = segment.read_bytes()
    segment.write_bytes(content[:-1])
    with pytest.raises(JournalCorrupt):
        _open(path)
    segment.write_bytes(content)
    _open(path).close()


def test_no_file_stays_open_when_closed(path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    directory = _open(path)
    for seqno in range(1, 6):
        directory.snapshots.save(Viewstamp(View(1), Seqno(seqno)), b"", [b"state"])
    directory.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with pytest.raises(StorageError):
        directory.journal.sync()


def test_trailing_slash_means_nothing(path: Path) -> None:
    _make(path)
    directory = open_on(FILES, f"{path}/")
    assert directory.recovered.written == 1
    directory.close()
