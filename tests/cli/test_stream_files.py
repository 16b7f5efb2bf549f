"""Streams in files: one writer at a time, and nothing half-written under a name."""

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from viewstamp.cli import stream_files
from viewstamp.cli.stream_files import GrowingFile, write_whole
from viewstamp.core.errors import ConfigurationError, StorageError


def test_backup_when_another_process_writes_the_same_name_is_refused_and_stays(tmp_path: Path) -> None:
    path, part = tmp_path / "one.vss", tmp_path / "one.vss.part"
    part.write_bytes(b"left by a process that was killed, and longer")

    def pieces() -> Iterator[bytes]:
        yield b"first, "
        with pytest.raises(ConfigurationError, match="another `viewstamp backup`"):
            write_whole(path, [b"second"])
        assert part.exists()
        yield b"whole"

    assert write_whole(path, pieces()) == 12
    assert path.read_bytes() == b"first, whole"
    assert [one.name for one in tmp_path.iterdir()] == ["one.vss"]


def test_backup_when_the_other_process_has_just_renamed_its_file_does_not_touch_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, part = tmp_path / "one.vss", tmp_path / "one.vss.part"
    locked = stream_files._locked

    def late(name: Path) -> BinaryIO:
        file = locked(name)
        file.write(b"whole")
        file.flush()
        part.rename(path)  # as the holder of the lock does between our opening and our locking
        return file

    monkeypatch.setattr(stream_files, "_locked", late)
    with pytest.raises(ConfigurationError, match="has just written"):
        write_whole(path, [b"second"])
    assert path.read_bytes() == b"whole"


def test_backup_when_the_disk_refuses_is_told_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    grown = GrowingFile(tmp_path / "grown.vss")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, hard))
    try:
        with pytest.raises(StorageError, match="no backup was made"):
            write_whole(tmp_path / "one.vss", [b"x" * 3_000] * 3)
        with pytest.raises(StorageError, match="what it holds stays"):
            grown.append([b"x" * 3_000] * 3)
        grown.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [one.name for one in tmp_path.iterdir()] == ["grown.vss"]
