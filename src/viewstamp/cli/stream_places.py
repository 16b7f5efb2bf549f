"""Where streams are kept: files, directories and object stores, as they are or encrypted for recipients."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec
from cyclopts import Parameter

from viewstamp.cli.encryption import MAGIC, decrypted, encrypted
from viewstamp.cli.encryption import SUFFIX as ENCRYPTED
from viewstamp.cli.object_stores import ObjectFolder, is_object_url, split_url
from viewstamp.cli.stream_files import SUFFIX, pieces_of, write_whole
from viewstamp.core.errors import ConfigurationError
from viewstamp.stream.decoder import read_records
from viewstamp.stream.records import Header, Record, StreamDamaged

KeyFile: TypeAlias = Annotated[
    Path | None, Parameter(name="--identity", help="Private keys to decrypt with, as age-keygen makes them.")
]
SUFFIXES: Final = (SUFFIX, f"{SUFFIX}{ENCRYPTED}")
"""How the names of streams end."""


class Source(msgspec.Struct, frozen=True):
    """A stream that is to be read."""

    target: str
    """A file, or the URL of an object."""
    identity: Path | None = None
    """The private keys, where it is encrypted."""

    def __str__(self) -> str:
        """Return its name."""
        return self.target

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes of the stream, decrypted if it is encrypted.

        Raises:
            ConfigurationError: it cannot be read, or is encrypted and no key was given.
            StreamDamaged: it cannot be decrypted.
        """
        pieces = self._stored()
        first = b""
        while len(first) < len(MAGIC) and (piece := next(pieces, b"")):
            first += piece
        whole = chain([first] if first else [], pieces)
        if not first.startswith(MAGIC):
            yield from whole
        elif self.identity is None:
            raise ConfigurationError(
                f"{self} is encrypted: give the file with your private key to --identity"
            )
        else:
            yield from decrypted(whole, self.identity)

    def _stored(self) -> Iterator[bytes]:
        if not is_object_url(self.target):
            return pieces_of(Path(self.target))
        url, name = split_url(self.target)
        return ObjectFolder.open(url).pieces(name)


def source_of(source: Source | Path | str) -> Source:
    """Return the source with this name."""
    return source if isinstance(source, Source) else Source(str(source))


def records_of(source: Source | Path | str, *, growing: bool = False) -> Iterator[Record]:
    """Yield the records of a stream; what is wrong with it is told with its name.

    Raises:
        ConfigurationError: it cannot be read.
        StreamDamaged: it is not what was written, or the snapshot is not complete; without `growing` also:
            it is not whole.
    """
    try:
        yield from read_records(source_of(source).pieces(), growing=growing)
    except StreamDamaged as error:
        raise StreamDamaged(f"{source}: {error}; nothing was changed") from None


def header_of(source: Source | Path | str) -> Header:
    """Return the header of a stream.

    Raises:
        ConfigurationError: it cannot be read.
        StreamDamaged: it has none.
    """
    for record in records_of(source, growing=True):
        if isinstance(record, Header):
            return record
    raise StreamDamaged(f"{source}: the stream has no header; nothing was changed")


def is_folder(target: str) -> bool:
    """Return whether a backup gets a name of its own there."""
    return not split_url(target)[1] if is_object_url(target) else Path(target).is_dir()


def make_folder(target: str, *, several: bool) -> None:
    """Make the directory that is meant, where it is missing: `backups/`, or a place for several streams.

    Raises:
        ConfigurationError: it cannot be made, or is one file, and several are to come. Nothing was taken.
    """
    if is_object_url(target):
        return
    place = Path(target)
    if (several or target.endswith("/")) and not place.exists():
        try:
            place.mkdir(mode=0o700)  # a backup holds the whole state
        except OSError as error:
            raise ConfigurationError(
                f"cannot make {target}: {error.strerror}; no backup was taken"
            ) from error
    if several and not place.is_dir():
        raise ConfigurationError(f"--every needs a directory, and {target} is a file: no backup was taken")


def within(folder: str, name: str) -> str:
    """Return the target with this name in a folder."""
    return f"{folder.removesuffix('/')}/{name}" if is_object_url(folder) else str(Path(folder) / name)


def keep(target: str, pieces: Iterable[bytes], recipients: Sequence[str] = ()) -> int:
    """Write a stream under a name that nothing has, encrypted for these recipients; return its size in bytes.

    It appears when it is whole. What `pieces` raises is raised here, and nothing is written then.

    Raises:
        ConfigurationError: the name is taken, also by a process that writes it now, or cannot be used.
        StorageError: the disk or the store refused; nothing was written, unless it says so.
    """
    made = encrypted(pieces, recipients) if recipients else pieces
    if not is_object_url(target):
        return write_whole(Path(target), made)
    url, name = split_url(target)
    return ObjectFolder.open(url).write_whole(name, made)


def streams_in(target: str) -> list[tuple[str, int]]:
    """Return the streams in a folder, or the one with this name, each with its size in bytes.

    Raises:
        ConfigurationError: the folder cannot be read.
    """
    if is_object_url(target):
        url, name = split_url(target)
        found = ObjectFolder.open(url).names()
        return [
            (within(url, one), size)
            for one, size in found
            if (one == name if name else one.endswith(SUFFIXES))
        ] or ([(target, 0)] if name else [])
    path = Path(target)
    if not path.is_dir():
        return [(target, path.stat().st_size if path.exists() else 0)]
    paths = sorted(each for each in path.iterdir() if each.name.endswith(SUFFIXES))
    return [(str(each), each.stat().st_size) for each in paths]


def remove(target: str) -> None:
    """Remove a stream.

    Raises:
        StorageError, OSError: it stays.
    """
    if is_object_url(target):
        url, name = split_url(target)
        ObjectFolder.open(url).remove(name)
    else:
        Path(target).unlink()
