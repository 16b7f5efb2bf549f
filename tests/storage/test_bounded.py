"""Files that people name, and files in a data directory: regular, bounded, never waited for."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.storage.beds import CLUSTER, NODE, SEGMENT_BYTES
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.storage.calls import OWN_CALLS
from viewstamp.storage.directory import open_data_directory
from viewstamp.storage.files import OsFileSystem, open_named, read_named

BYTES_MAX = 100
FILES = OsFileSystem()


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * BYTES_MAX)
    assert read_named(path, bytes_max=BYTES_MAX) == b"x" * BYTES_MAX
    path.write_bytes(b"x" * (BYTES_MAX + 1))
    with pytest.raises(ConfigurationError, match=r"cannot read .*file: it is too long"):
        read_named(path, bytes_max=BYTES_MAX)


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def link_to_device(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


def directory(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "make", [fifo, link_to_device, directory, lambda _: Path("/dev/zero"), lambda _: Path("a\0b")]
)
def test_refused_at_once_when_it_is_not_a_regular_file(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "named")
    with pytest.raises(ConfigurationError, match="cannot read") as refused:
        open_named(path)
    assert "\n" not in str(refused.value)


def open_directory(path: Path) -> None:
    open_data_directory(
        FILES,
        str(path),
        cluster_id=CLUSTER,
        node=NodeId(NODE),
        incarnation=Incarnation(7),
        segment_bytes=SEGMENT_BYTES,
    ).close()


SEGMENT = "journal/0000000000000001.wal"
NAMES = ["identity", "lock", SEGMENT, "snapshots/0000000000000001-0000000000000001.snap", "journal/spare.tmp"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", NAMES)
def test_start_is_refused_when_a_fifo_stands_in_the_data_directory(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data"
    open_directory(path)
    (path / name).unlink(missing_ok=True)
    os.mkfifo(path / name)
    (path / name).chmod(0o600)
    with pytest.raises(ConfigurationError, match=f"{name} is neither a file nor a directory: a file must"):
        open_directory(path)
    assert (path / name).is_fifo()


@pytest.mark.parametrize("name", ["journal", "snapshots", *NAMES[:3]])
def test_start_is_refused_when_others_may_write_inside(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data"
    open_directory(path)
    (path / name).chmod(0o777)
    with pytest.raises(ConfigurationError, match=f"{name} can be written by other users: run chmod go-w"):
        open_directory(path)
    (path / name).chmod(0o700)
    open_directory(path)


@pytest.mark.parametrize("name", ["journal", "identity"])
def test_start_is_refused_when_a_link_stands_in_the_data_directory(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data"
    open_directory(path)
    (path / name).rename(tmp_path / "elsewhere")
    (path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match=f"{name} is a link: a"):
        open_directory(path)


def test_start_is_refused_when_something_inside_is_another_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    open_directory(path)
    original = os.lstat

    def lstat(name: str) -> os.stat_result:
        found = original(name)
        fields = list(found)
        if name.endswith(".wal"):
            fields[4] = os.geteuid() + 1
        return os.stat_result(fields)

    monkeypatch.setattr(OWN_CALLS, "lstat", lstat)
    with pytest.raises(ConfigurationError, match=r"\.wal belongs to another user"):
        open_directory(path)
