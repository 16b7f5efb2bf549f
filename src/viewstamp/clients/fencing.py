"""Guards for what a grant protects: writes that refuse a token older than one that was seen.

A token helps where the resource compares it. These are the smallest forms for an SQL database, an object
store with conditional writes, an HTTP service and a file; each refuses a *lower* token and takes an equal
one, which belongs to the same grant.
"""

import fcntl
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec

from viewstamp.core.errors import ConfigurationError, ViewstampError

HEADER: Final = "Viewstamp-Fencing-Token"
"""The HTTP header that carries a token, as a decimal number."""
TOKEN_MAX: Final = (1 << 63) - 1
METADATA: Final = "viewstamp-fencing-token"
"""The metadata of an object that holds the token under which it was written."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACES: Final = {"qmark": "?", "format": "%s"}
_ATTEMPTS_MAX: Final = 20


class Fenced(ViewstampError):
    """The resource has seen a higher token: a newer holder has written. Nothing was written."""

    def __init__(self, what: str, token: int, highest: int | None = None) -> None:
        seen = "a higher one" if highest is None else str(highest)
        super().__init__(f"{what} has seen {seen}, above the token {token}: nothing was written")
        self.token = token
        self.highest = highest


class Connection(Protocol):
    """A connection of the Python database API (PEP 249)."""

    def cursor(self) -> Any:
        """Return a cursor."""
        ...


class FencedStore:
    """Rows of an SQL table, each written under a token that its column `fence` keeps.

    The table has a key, the column `fence` (a 64-bit integer) and columns of its own:
    `CREATE TABLE jobs (name TEXT PRIMARY KEY, fence BIGINT NOT NULL, state TEXT)`. One statement compares and
    writes, so it is safe beside any others; commit it with whatever else belongs to it.
    """

    def __init__(
        self, table: str, key: str, *, fence: str = "fence", style: Literal["qmark", "format"] = "qmark"
    ) -> None:
        """`style` is the driver's `paramstyle`: qmark for sqlite3, format for psycopg and MySQL drivers.

        Raises:
            ConfigurationError: a name is not a plain identifier, or the key is the fence.
        """
        for name in (table, key, fence):
            _require_name(name)
        if key.lower() == fence.lower():
            raise ConfigurationError(f"{key!r} cannot be the key and the fence of {table}")
        self._table = table
        self._key = key
        self._fence = fence
        self._place = _PLACES[style]

    def write(self, connection: Connection, key: object, token: int, values: Mapping[str, object]) -> None:
        """Insert or update a row, as the holder of this token. The caller commits.

        Raises:
            Fenced: the row was written under a higher token.
            ConfigurationError: this cannot be a token, or `values` has a bad name, or that of the key or of
                the fence. Nothing was written.
        """
        self._require_own(values)
        columns = [self._key, self._fence, *values]
        places = ", ".join([self._place] * len(columns))
        updates = ", ".join(f"{name} = excluded.{name}" for name in (self._fence, *values))
        statement = (  # every name in it is a plain identifier
            f"INSERT INTO {self._table} ({', '.join(columns)}) VALUES ({places}) "  # noqa: S608
            f"ON CONFLICT ({self._key}) DO UPDATE SET {updates} "
            f"WHERE {self._table}.{self._fence} <= excluded.{self._fence}"
        )
        cursor = connection.cursor()
        cursor.execute(statement, (key, _checked(token), *values.values()))
        if cursor.rowcount != 1:
            raise Fenced(f"{self._table} {key!r}", token)

    def update(self, connection: Connection, key: object, token: int, values: Mapping[str, object]) -> bool:
        """Update a row that exists; return False where there is none. The caller commits.

        Raises:
            Fenced: the row was written under a higher token.
            ConfigurationError: as for `write`. Nothing was written.
        """
        self._require_own(values)
        sets = ", ".join(f"{name} = {self._place}" for name in (self._fence, *values))
        statement = (
            f"UPDATE {self._table} SET {sets} "  # noqa: S608
            f"WHERE {self._key} = {self._place} AND {self._fence} <= {self._place}"
        )
        cursor = connection.cursor()
        cursor.execute(statement, (_checked(token), *values.values(), key, token))
        if cursor.rowcount == 1:
            return True
        query = f"SELECT {self._fence} FROM {self._table} WHERE {self._key} = {self._place}"  # noqa: S608
        cursor.execute(query, (key,))
        row = cursor.fetchone()
        if row is not None:
            raise Fenced(f"{self._table} {key!r}", token, row[0])
        return False

    def _require_own(self, values: Mapping[str, object]) -> None:
        """Refuse what would write over the fence or the key: a lower token would pass afterwards."""
        for name in values:
            _require_name(name)
            if name.lower() in {self._fence.lower(), self._key.lower()}:  # SQL compares names like that
                raise ConfigurationError(
                    f"{name!r} is the key or the fence of {self._table}, and not a value: nothing was written"
                )


class StoredObject(msgspec.Struct, frozen=True):
    """What an object store says of an object."""

    etag: str
    metadata: Mapping[str, str]


class ObjectStore(Protocol):
    """What a store must offer; of S3 `head_object`, and `put_object` with If-Match and If-None-Match."""

    def head(self, name: str) -> StoredObject | None:
        """Return an object's tag and metadata; None: there is none."""
        ...

    def put(self, name: str, body: bytes, metadata: Mapping[str, str], if_match: str | None) -> bool:
        """Write if the object still has this tag (None: if there is none); return whether it was written."""
        ...


def put_fenced(store: ObjectStore, name: str, body: bytes, token: int) -> None:
    """Write an object as the holder of this token, by conditional writes.

    Raises:
        Fenced: the object was written under a higher token.
        OSError: others wrote it again and again meanwhile; nothing was written.
    """
    metadata = {METADATA: str(_checked(token))}
    for _ in range(_ATTEMPTS_MAX):
        known = store.head(name)
        highest = -1 if known is None else read_token(known.metadata.get(METADATA, "0"))
        if highest > token:
            raise Fenced(f"the object {name!r}", token, highest)
        if store.put(name, body, metadata, None if known is None else known.etag):
            return
    raise OSError(f"the object {name!r} was changed by others {_ATTEMPTS_MAX} times: nothing was written")


def headers(token: int) -> dict[str, str]:
    """Return the HTTP headers that carry a token."""
    return {HEADER: str(_checked(token))}


def read_token(text: str) -> int:
    """Return the token in a header or in metadata.

    Raises:
        ConfigurationError: it is not a token.
    """
    if not text.isascii() or not text.isdecimal() or len(text) > 19 or int(text) > TOKEN_MAX:
        raise ConfigurationError(f"not a fencing token: {text[:40]!a}")
    return int(text)


def require_token(
    given: Mapping[str, str], highest: Callable[[], int], keep: Callable[[int], None], what: str
) -> int:
    """For an HTTP service: take a request's token if it is not lower than the highest seen, and keep it.

    Call it inside the transaction of the write; `highest` and `keep` read and write where the service keeps
    its own data. Answer `Fenced` with status 409 (or 412), a missing header with 428.

    Raises:
        Fenced: a higher token was seen.
        ConfigurationError: the header is missing, or holds no token.
    """
    found = next((value for name, value in given.items() if name.lower() == HEADER.lower()), "")
    token = read_token(found)
    seen = highest()
    if token < seen:
        raise Fenced(what, token, seen)
    if token > seen:
        keep(token)
    return token


class FencedFile:
    """A file that is replaced as a whole, with its highest token beside it. For processes of one machine."""

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self._path = path
        self._fence = path.with_name(path.name + ".fence")
        self._lock = path.with_name(path.name + ".lock")

    def write(self, body: bytes, token: int) -> None:
        """Replace the file, as the holder of this token.

        Raises:
            Fenced: a higher token was seen.
            ConfigurationError: this cannot be a token, or the file of the highest token holds none.
                Nothing was written.
            OSError: it could not be written.
        """
        _checked(token)
        with self._lock.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            highest = self._highest()
            if token < highest:
                raise Fenced(str(self._path), token, highest)
            if token > highest:  # before the file: after a crash in between, older holders are refused
                _replace(self._fence, b"%d" % token)
            _replace(self._path, body)

    def _highest(self) -> int:
        if not self._fence.exists():
            return 0
        try:
            return read_token(self._fence.read_text("latin-1").strip())
        except ConfigurationError:
            raise ConfigurationError(
                f"{self._fence} holds no token: nothing was written; write the highest one into it by hand"
            ) from None


def _replace(path: Path, body: bytes) -> None:
    """Replace a file so that a crash leaves the old one or the new one."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _checked(token: int) -> int:
    if type(token) is not int or not 0 < token <= TOKEN_MAX:
        raise ConfigurationError(f"{token!r} is not a fencing token: nothing was written")
    return token


def _require_name(name: str) -> None:
    if type(name) is not str or not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} is not a plain name of a table or column")


__all__: Sequence[str] = (
    "HEADER",
    "Fenced",
    "FencedFile",
    "FencedStore",
    "headers",
    "put_fenced",
    "read_token",
    "require_token",
)
