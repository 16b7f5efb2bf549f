"""Streams in object stores: S3 and what speaks its protocol, Google Cloud Storage, Azure; by `obstore`.

A stream is one object. It appears under its name when it is whole, because a store shows an upload in parts
only when it is completed. A name is reserved by a small object beside it, which is made only where there is
none: so of two writers of one name one is refused.

Access stands in the environment, under the names that each store's own tools use (`AWS_ACCESS_KEY_ID`,
`AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME`).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from viewstamp.core.errors import ConfigurationError, StorageError
from viewstamp.stream.decoder import READ_BYTES

if TYPE_CHECKING:
    from types import ModuleType

    from obstore.store import ObjectStore

SCHEMES: Final = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "file")
UPLOADED_BYTES: Final = 8 << 20
"""Of a part of an upload. S3 takes 10,000 parts of an object: 80 GB."""
UPLOADS: Final = 4
"""Parts on their way at a time: with their size the memory that an upload takes."""
_RESERVED: Final = ".writing"
_MISSING: Final = "object stores need obstore, and nothing was done: pip install 'viewstamp[objects]'"
_REASON_CHARACTERS_MAX: Final = 300


def is_object_url(target: str) -> bool:
    """Return whether a target names an object store, and not a file."""
    return target.partition("://")[0].lower() in SCHEMES and "://" in target


def split_url(url: str) -> tuple[str, str]:
    """Return the URL of the folder, and the name in it; empty: the URL is that of a folder."""
    scheme, _, path = url.partition("://")
    folder, slash, name = path.rpartition("/")
    return (url, "") if not slash else (f"{scheme}://{folder}/", name)


class ObjectFolder:
    """What stands under one prefix of a store."""

    def __init__(self, url: str, store: "ObjectStore") -> None:
        self.url = url
        self._store = store

    @staticmethod
    def open(url: str) -> "ObjectFolder":
        """Return the folder at a URL. Nothing is asked of the store yet.

        Raises:
            ConfigurationError: the URL, or what the environment says of the access, cannot be used.
        """
        library = _library()
        try:
            return ObjectFolder(url, library.store.from_url(url))
        except (library.exceptions.BaseError, OSError, ValueError) as error:
            raise ConfigurationError(f"{url}: {_reason(error)}; nothing was done") from None

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of an object.

        Raises:
            ConfigurationError: it cannot be read.
        """
        library = _library()
        try:
            for piece in library.get(self._store, name).stream(min_chunk_size=READ_BYTES):
                yield bytes(piece)
        except FileNotFoundError:
            raise ConfigurationError(f"cannot read {self.url}{name}: there is no such object") from None
        except (library.exceptions.BaseError, OSError) as error:
            raise ConfigurationError(f"cannot read {self.url}{name}: {_reason(error)}") from None

    def write_whole(self, name: str, pieces: Iterable[bytes]) -> int:
        """Write an object, which appears when it is whole; return its size in bytes.

        What `pieces` raises is raised here, and nothing is written then.

        Raises:
            ConfigurationError: the name is taken, also by somebody who writes it now.
            StorageError: the store refused. Nothing was written under that name, unless it says so.
        """
        library = _library()
        counted = _Counted(pieces)
        with self._reserved(name):
            try:
                library.put(
                    self._store,
                    name,
                    counted,
                    use_multipart=True,
                    chunk_size=UPLOADED_BYTES,
                    max_concurrency=UPLOADS,
                )
            except (library.exceptions.BaseError, OSError) as error:
                raise StorageError(
                    f"cannot write {self.url}{name}: {_reason(error)}; `viewstamp backup list` shows whether "
                    "it is there all the same"
                ) from None
        return counted.size

    def names(self) -> list[tuple[str, int]]:
        """Return the objects in this folder with their sizes, by name.

        Raises:
            ConfigurationError: the store does not tell.
        """
        library = _library()
        try:
            found = library.list_with_delimiter(self._store)["objects"]
        except (library.exceptions.BaseError, OSError) as error:
            raise ConfigurationError(f"cannot read {self.url}: {_reason(error)}") from None
        return sorted((one["path"].rpartition("/")[2], one["size"]) for one in found)

    def remove(self, name: str) -> None:
        """Remove an object.

        Raises:
            StorageError: the store refused.
        """
        library = _library()
        try:
            library.delete(self._store, name)
        except (library.exceptions.BaseError, OSError) as error:
            raise StorageError(f"cannot remove {self.url}{name}: {_reason(error)}; it stays") from None

    @contextmanager
    def _reserved(self, name: str) -> Iterator[None]:
        library = _library()
        reserved = f"{name}{_RESERVED}"
        try:
            library.put(self._store, reserved, b"being written", mode="create")
        except library.exceptions.AlreadyExistsError:
            raise ConfigurationError(
                f"{self.url}{name} is being written by another `viewstamp backup`: nothing was changed; if "
                f"there is none, because it was killed, remove {self.url}{reserved}"
            ) from None
        except (library.exceptions.BaseError, OSError) as error:
            raise StorageError(
                f"cannot write {self.url}{name}: {_reason(error)}; no backup was made"
            ) from None
        try:
            if any(name == taken for taken, _ in self.names()):
                raise ConfigurationError(
                    f"{self.url}{name} exists: a backup never overwrites anything; choose another name"
                )
            yield
        finally:
            self.remove(reserved)


class _Counted:
    """Pieces whose bytes are counted."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        self.size += len(piece)
        return piece


def _library() -> "ModuleType":
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError:
        raise ConfigurationError(_MISSING) from None
    return obstore


def _reason(error: BaseException) -> str:
    """Return why a store refused, in one line and without what a URL may carry of a signature."""
    text = " ".join(str(error).split("\n\nDebug source:")[0].split())
    return text.partition("?")[0][:_REASON_CHARACTERS_MAX]
