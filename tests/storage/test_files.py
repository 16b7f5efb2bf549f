"""Short writes and reads, errors as one line, and the real file system against the simulated one."""

import errno
from pathlib import Path
from random import Random

import pytest

from viewstamp.core.errors import StorageError
from viewstamp.sim.world.disk import SimFileSystem
from viewstamp.storage.files import (
    AlreadyLocked,
    FileSystem,
    OsFileSystem,
    explain,
    fill_with_zeros,
    read_all,
    replace_file,
    write_all,
)


class _Dribble:
    """A file that takes and gives a few bytes at a time."""

    def __init__(self) -> None:
        self.data = bytearray()

    def pwrite(self, data: bytes, offset: int) -> int:
        assert offset == len(self.data)
        self.data += data[:7]
        return len(data[:7])

    def pread(self, length: int, offset: int) -> bytes:
        return bytes(self.data[offset : offset + min(length, 5)])

    def fdatasync(self) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def size(self) -> int:
        return len(self.data)

    def close(self) -> None:
        """Do nothing."""


def test_everything_is_written_and_read_when_the_system_takes_little_at_a_time() -> None:
    file = _Dribble()
    content = bytes(range(100))
    write_all(file, content, 0)
    assert file.data == content
    assert read_all(file, 100, 0) == content
    assert read_all(file, 1000, 10) == content[10:]
    assert read_all(file, 10, 100) == b""


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "cannot write to /x: the disk is full; free some space and start again"),
        (errno.EIO, "cannot write to /x: Input/output error"),
    ],
)
def test_error_is_one_line_when_the_system_refuses(number: int, message: str) -> None:
    error = OSError(number, "Input/output error" if number == errno.EIO else "No space left on device")
    assert str(explain(error, "write to", "/x")) == message


@pytest.fixture(params=["real", "sim"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FileSystem, str]:
    if request.param == "real":
        return OsFileSystem(), str(tmp_path)
    files = SimFileSystem(Random(1))
    files.mkdir("/top")
    return files, "/top"


def test_both_systems_agree_on_everything_storage_asks(system: tuple[FileSystem, str]) -> None:
    files, top = system
    assert files.status(f"{top}/a") is None
    file = files.create(f"{top}/a")
    assert file.pwrite(b"hello", 3) == 5
    assert file.size() == 8
    assert file.pread(100, 0) == b"\0\0\0hello"
    assert file.pread(10, 8) == b""
    file.fdatasync()
    file.close()
    file.close()
    with pytest.raises(FileExistsError):
        files.create(f"{top}/a")
    files.rename(f"{top}/a", f"{top}/b")
    files.mkdir(f"{top}/c")
    with pytest.raises(FileExistsError):
        files.mkdir(f"{top}/c")
    files.sync_directory(top)
    assert files.listdir(top) == ["b", "c"]
    status = files.status(f"{top}/b")
    assert status is not None
    assert (status.kind, status.mode, status.owned, status.size_bytes) == ("file", 0o600, True, 8)
    directory = files.status(f"{top}/c")
    assert directory is not None
    assert (directory.kind, directory.mode) == ("directory", 0o700)


def test_both_systems_keep_the_content_of_an_open_file_when_its_name_goes(
    system: tuple[FileSystem, str],
) -> None:
    files, top = system
    file = files.create(f"{top}/a")
    file.pwrite(b"content", 0)
    replacement = files.create(f"{top}/b")
    replacement.pwrite(b"other", 0)
    files.rename(f"{top}/b", f"{top}/a")
    assert file.pread(7, 0) == b"content"
    files.unlink(f"{top}/a")
    assert replacement.pread(5, 0) == b"other"
    for missing in (lambda: files.unlink(f"{top}/a"), lambda: files.open(f"{top}/a", writable=False)):
        with pytest.raises(FileNotFoundError):
            missing()
    for missing_directory in (files.listdir, files.sync_directory):
        with pytest.raises(FileNotFoundError):
            missing_directory(f"{top}/missing")
    file.close()
    replacement.close()


def test_both_systems_lock_once(system: tuple[FileSystem, str]) -> None:
    files, top = system
    lock = files.lock(f"{top}/lock")
    with pytest.raises(AlreadyLocked):
        files.lock(f"{top}/lock")
    lock.close()
    files.lock(f"{top}/lock").close()


def test_both_systems_replace_a_small_file(system: tuple[FileSystem, str]) -> None:
    files, top = system
    for content in (b"one", b"two"):
        replace_file(files, top, "name", content)
        file = files.open(f"{top}/name", writable=False)
        assert file.pread(100, 0) == content
        file.close()
        assert files.listdir(top) == ["name"]
    with pytest.raises(StorageError, match=f"cannot write {top}/missing/name: No such file"):
        replace_file(files, f"{top}/missing", "name", b"")


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 512])
def test_zeros_fill_exactly_what_was_asked(size: int) -> None:
    files = SimFileSystem(Random(1))
    file = files.create("zeros")
    fill_with_zeros(file, size)
    assert file.size() == size


def test_links_are_seen_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"x")
    (tmp_path / "link").symlink_to("target")
    status = OsFileSystem().status(str(tmp_path / "link"))
    assert status is not None
    assert status.kind == "link"
    with pytest.raises(OSError, match="symbolic"):
        OsFileSystem().open(str(tmp_path / "link"), writable=False)
