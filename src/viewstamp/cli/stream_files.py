"""Streams in files: read piece by piece, written aside and put in place when they are whole, or grown."""

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from viewstamp.core.errors import ConfigurationError, StorageError
from viewstamp.stream.decoder import READ_BYTES, StreamDecoder
from viewstamp.stream.records import Header, StreamDamaged

SUFFIX: Final = ".vss"
"""Of a stream in a directory of backups."""
_PART: Final = ".part"


def pieces_of(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            while piece := file.read(READ_BYTES):
                yield piece
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


def nothing_executed(header: Header) -> str:
    """Return what is told where a stream had no entry to execute, so that nobody takes it for a proof."""
    if header.snapshot is None:
        return "nothing was executed: this stream has no entries after the state to begin with"
    return (
        "nothing was executed: this backup has no entries after its snapshot; take it with --log, and let it "
        "run while commands are executed"
    )


def write_whole(path: Path, pieces: Iterable[bytes]) -> int:
    """Write a stream aside, sync it, and give it its name when it is whole; return its size in bytes.

    Raises:
        ConfigurationError: the name is taken, also by a process that writes it now, or the folder cannot be
            written to.
        StorageError: the disk refused; what was written is gone.
    """
    _require_free(path)
    part = path.with_name(path.name + _PART)
    try:
        with _locked(part) as file:
            if not _is_at(file, part):
                raise ConfigurationError(f"another process has just written {path}: nothing was changed")
            try:
                _require_free(path)
                size = _write(file, pieces)
                part.rename(path)
                sync_folder(path.parent)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; no backup was made") from error
    return size


def _require_free(path: Path) -> None:
    if path.exists():
        raise ConfigurationError(f"{path} exists: a backup never overwrites anything; choose another name")


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Return whether the file has this name still: who held its lock before may have renamed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _write(file: BinaryIO, pieces: Iterable[bytes]) -> int:
    """Write these pieces and nothing else into the file, sync it, and return their size."""
    size = 0
    file.truncate(0)
    for piece in pieces:
        file.write(piece)
        size += len(piece)
    file.flush()
    os.fsync(file.fileno())
    return size


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class GrowingFile:
    """A stream that is appended to, over interruptions as well, by one process at a time."""

    def __init__(self, path: Path) -> None:
        """Read what is there, and cut off a record that was not finished. It is locked until `close`.

        Raises:
            ConfigurationError: it cannot be opened or read, another process writes it, or it is whole.
            StreamDamaged: it is not a stream.
        """
        self.path = path
        self.decoder = StreamDecoder()
        self._file = _locked(path)
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    @property
    def is_new(self) -> bool:
        """Whether it has no snapshot yet: nothing of it is of use."""
        return not self.decoder.progress.has_snapshot

    def append(self, pieces: Iterable[bytes]) -> int:
        """Append these bytes durably, and return how many they are."""
        size = 0
        try:
            for piece in pieces:
                self._file.write(piece)
                size += len(piece)
            if size:
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror}; what it holds stays") from error
        return size

    def close(self) -> None:
        """Close the file. What a full disk has refused is given up; `append` has told it."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _read(self) -> None:
        try:
            for piece in pieces_of(self.path):
                for _ in self.decoder.feed(piece):
                    pass
        except StreamDamaged as error:
            raise StreamDamaged(f"{self.path}: {error}; nothing was changed") from None
        if self.decoder.progress.whole:
            raise ConfigurationError(f"{self.path} is a whole backup: choose another name for one that grows")
        self._file.truncate(0 if self.is_new else self.decoder.progress.size_bytes)
        self._file.seek(0, os.SEEK_END)


def _locked(path: Path) -> BinaryIO:
    """Open a file that is made if it is not there, and lock it against other processes that write it."""
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}; nothing was changed") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if not isinstance(error, BlockingIOError):
            raise StorageError(f"cannot lock {path}: {error.strerror}; nothing was changed") from error
        raise ConfigurationError(
            f"{path} is being written by another `viewstamp backup`: nothing was changed; let that one go "
            "on, or choose another name"
        ) from None
    return file
