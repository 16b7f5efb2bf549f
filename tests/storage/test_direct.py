"""Direct writes leave in the file what ordinary ones would, whatever is asked of them in whatever order."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from viewstamp.sim.world.content import DiskFaults
from viewstamp.sim.world.disk import SimFileSystem
from viewstamp.storage.calls import OWN_CALLS
from viewstamp.storage.direct import BLOCK_BYTES, BUFFER_BYTES, TailFile, tail_of
from viewstamp.storage.files import File, OsFile, OsFileSystem, fill_with_zeros, read_all, write_all

SIZE_BYTES = 64 * BLOCK_BYTES
Pwrite = Callable[[int, bytes, int], int]


def zeroed(path: Path) -> File:
    """Return a file of zeros, as a segment is."""
    file = OsFileSystem().create(str(path))
    fill_with_zeros(file, SIZE_BYTES)
    return file


def as_if_direct(path: Path) -> tuple[TailFile, int]:
    """Return a file whose second descriptor takes any write, for file systems that have no direct ones."""
    file = zeroed(path)
    assert isinstance(file, OsFile)
    second = os.open(path, os.O_RDWR)
    return TailFile(file, second), second


def fill(file: File, lengths: list[int]) -> bytes:
    """Write frames of these lengths one behind the other, and return them joined."""
    content = b""
    for number, length in enumerate(lengths, start=1):
        frame = bytes([number % 255 + 1]) * length
        write_all(file, frame, len(content))
        file.fdatasync()
        content += frame
    return content


@pytest.mark.parametrize("seed", range(8))
def test_content_is_that_of_ordinary_writes_when_frames_have_any_length(tmp_path: Path, seed: int) -> None:
    rng = Random(seed)
    lengths = [rng.choice((64, 192, 320, 4_096, 4_160, BUFFER_BYTES, BUFFER_BYTES + 64)) for _ in range(40)]
    while sum(lengths) > SIZE_BYTES:
        lengths.pop()
    for name, file in (
        ("real", tail_of(zeroed(tmp_path / "real"))),
        ("pretended", as_if_direct(tmp_path / "pretended")[0]),
    ):
        content = fill(file, lengths)
        assert read_all(file, SIZE_BYTES, 0) == content.ljust(SIZE_BYTES, b"\0")
        file.close()
        assert (tmp_path / name).read_bytes() == content.ljust(SIZE_BYTES, b"\0")


def test_what_stands_before_is_kept_when_the_file_was_opened_in_the_middle_of_a_block(tmp_path: Path) -> None:
    file, _ = as_if_direct(tmp_path / "f")
    content = fill(file, [100, 4_000, 500])
    file.close()
    reopened = OsFileSystem().open(str(tmp_path / "f"), writable=True)
    assert isinstance(reopened, OsFile)
    assert isinstance(reopened, OsFile)
    tail = TailFile(reopened, os.open(tmp_path / "f", os.O_RDWR))
    write_all(tail, b"more", len(content))
    tail.close()
    assert (tmp_path / "f").read_bytes() == (content + b"more").ljust(SIZE_BYTES, b"\0")


def test_file_keeps_its_length_when_the_last_block_is_not_a_whole_one(tmp_path: Path) -> None:
    file = OsFileSystem().create(str(tmp_path / "f"))
    fill_with_zeros(file, BLOCK_BYTES + 64)
    tail = tail_of(file)
    write_all(tail, b"a" * 4_000, 0)
    write_all(tail, b"b" * 160, 4_000)
    tail.close()
    assert (tmp_path / "f").read_bytes() == b"a" * 4_000 + b"b" * 160


def test_rest_is_written_when_the_system_takes_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, second = as_if_direct(tmp_path / "f")
    real: Pwrite = os.pwrite

    def dribble(descriptor: int, data: bytes, offset: int) -> int:
        return real(descriptor, bytes(data[:110]) if descriptor == second else data, offset)

    monkeypatch.setattr(OWN_CALLS, "pwrite", dribble)
    content = fill(file, [100, 300, 20])
    file.close()
    assert (tmp_path / "f").read_bytes() == content.ljust(SIZE_BYTES, b"\0")


def test_everything_is_written_the_usual_way_when_direct_writes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, second = as_if_direct(tmp_path / "f")
    real: Pwrite = os.pwrite
    refused: list[int] = []

    def refuse(descriptor: int, data: bytes, offset: int) -> int:
        if descriptor == second:
            refused.append(offset)
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(descriptor, data, offset)

    monkeypatch.setattr(OWN_CALLS, "pwrite", refuse)
    content = fill(file, [100, 300])
    file.close()
    assert refused == [0]
    assert (tmp_path / "f").read_bytes() == content.ljust(SIZE_BYTES, b"\0")


def test_error_is_raised_when_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, second = as_if_direct(tmp_path / "f")
    real: Pwrite = os.pwrite

    def fail(descriptor: int, data: bytes, offset: int) -> int:
        if descriptor == second:
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, data, offset)

    monkeypatch.setattr(OWN_CALLS, "pwrite", fail)
    with pytest.raises(OSError, match="Input/output error"):
        file.pwrite(b"frame", 0)
    file.close()


def test_file_stays_as_it_is_when_it_is_not_one_of_the_operating_system() -> None:
    file = SimFileSystem(Random(1), faults=DiskFaults()).create("f")
    assert tail_of(file) is file
