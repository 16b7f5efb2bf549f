"""A key/value store with versions: that of MIT 6.5840, with unconditional writes, deletion and ranges.

Rules of this file:

- a value's version is 1 when its key is created first, and one more after each write;
- a version of a key is never used twice, also when the key was deleted in between: a key created again begins
  above every version that was ever deleted, so that a put with an old version cannot succeed by accident;
- an operation that raises has changed nothing.
"""

from collections.abc import Iterator
from itertools import islice
from typing import ClassVar, Final

import msgspec

from viewstamp.machine.state_machine import StateMachine, command, query
from viewstamp.services.sorted_names import SortedNames

KEY_BYTES_MAX: Final = 4_096
VALUE_BYTES_MAX: Final = 1_000_000
"""Less than what one command may hold (`ReplicaOptions.command_bytes_max`)."""
PAGE_ITEMS_MAX: Final = 10_000
PAGE_BYTES_MAX: Final = 1 << 20
"""A page ends after the item with which it passes this many bytes."""
NEW: Final = 0
"""The version to put with where the key must not exist yet."""

_ITEMS_PER_PIECE: Final = 512
_UNSORTED_MAX: Final = 1_024
"""New keys that wait to be put in order: to do that for more would hold up the others."""
_LENGTH_BYTES: Final = 4


class NoKey(Exception):
    """There is no such key. Nothing was changed."""


class VersionMismatch(Exception):
    """The key has another version than the caller expects. Nothing was changed."""


class InvalidKey(Exception):
    """The key is empty or too long. Nothing was changed."""


class ValueTooLong(Exception):
    """The value is longer than the store takes. Nothing was changed."""


class Item(msgspec.Struct, frozen=True, array_like=True):
    """A key with its value and version."""

    key: str
    value: bytes
    version: int


class Page(msgspec.Struct, frozen=True, array_like=True):
    """Part of a range, in the order of the keys."""

    items: list[Item]
    more: bool
    """There is more: ask again with `after` set to the last key of this page."""


_PIECE_ENCODER: Final = msgspec.msgpack.Encoder()
_PIECE: Final[msgspec.msgpack.Decoder[list[tuple[str, bytes, int]]]] = msgspec.msgpack.Decoder(
    list[tuple[str, bytes, int]]
)


class KeyValueStore(StateMachine):
    """Strings to bytes, each value with a version."""

    raises: ClassVar[tuple[type[Exception], ...]] = (NoKey, VersionMismatch, InvalidKey, ValueTooLong)
    """What clients get as these very exceptions."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[bytes, int]] = {}
        self._floor = 0
        """Highest version that any deleted key had."""
        self._sorted = SortedNames()
        """Keys in order; together with `_unsorted` exactly those of `_values`. Derived: not in snapshots."""
        self._unsorted: list[str] = []
        """Those that were created last."""

    def __len__(self) -> int:
        return len(self._values)

    @query(keys=("key",))
    def get(self, key: str) -> tuple[bytes, int]:
        """Return the value and its version.

        Raises:
            NoKey: it does not exist.
        """
        found = self._values.get(key)
        if found is None:
            raise NoKey(f"there is no key {shown(key)}")
        return found

    @command(keys=("key",))
    def put(self, key: str, value: bytes, version: int) -> int:
        """Write if the key has this version (0: if it does not exist) and return the new version.

        Raises:
            NoKey: it does not exist, and `version` is not 0.
            VersionMismatch: it exists with another version.
            InvalidKey, ValueTooLong: see the limits.
        """
        check(key, value)
        found = self._values.get(key)
        if found is None:
            if version != NEW:
                raise NoKey(f"there is no key {shown(key)}: create it with version 0")
            return self._create(key, value)
        if found[1] != version:
            raise VersionMismatch(f"{shown(key)} has version {found[1]}, not {version}")
        return self._replace(key, value, version)

    @command(keys=("key",))
    def set(self, key: str, value: bytes) -> int:
        """Write, whatever is there, and return the new version.

        Raises:
            InvalidKey, ValueTooLong: see the limits.
        """
        found = self._values.get(key)
        if found is None or len(value) > VALUE_BYTES_MAX:
            check(key, value)  # a key that exists was checked when it was created
        if found is None:
            return self._create(key, value)
        version = found[1] + 1
        self._values[key] = value, version
        return version

    @command(keys=("key",), frees=True)
    def delete(self, key: str, version: int | None = None) -> bool:
        """Delete, with `version` only if the key has it; return whether there was such a key.

        Raises:
            VersionMismatch: it exists with another version.
        """
        found = self._values.get(key)
        if found is None:
            return False
        if version is not None and found[1] != version:
            raise VersionMismatch(f"{shown(key)} has version {found[1]}, not {version}")
        del self._values[key]
        self._floor = max(self._floor, found[1])
        self._keys().remove(key)
        return True

    @query(prefixes=("prefix",))
    def range(self, prefix: str = "", after: str = "", limit: int = 100) -> Page:
        """Return up to `limit` items (10,000 at most) whose keys begin with `prefix` and follow `after`."""
        keys = self._keys()  # viewstamp: allow VS005 the same keys in another form: no answer depends on it
        items: list[Item] = []
        size = 0
        for key in keys.since(prefix, after):
            if not key.startswith(prefix):
                break
            if len(items) >= min(limit, PAGE_ITEMS_MAX) or size >= PAGE_BYTES_MAX:
                return Page(items, more=True)
            value, version = self._values[key]
            items.append(Item(key, value, version))
            size += len(key) + len(value)
        return Page(items, more=False)

    # viewstamp: allow VS016 the sorted names are made again of the values
    def snapshot(self) -> Iterator[bytes]:
        """Yield the floor, then pieces of the values, each behind its length."""
        yield self._floor.to_bytes(8, "big")
        items = ((key, value, version) for key, (value, version) in self._values.items())
        while piece := list(islice(items, _ITEMS_PER_PIECE)):
            encoded = _PIECE_ENCODER.encode(piece)
            yield len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded

    def restore(self, snapshot: bytes) -> None:
        """Set the state of a fresh store; raise ValueError where the bytes are not a snapshot of one."""
        self._floor, self._values = read_snapshot(snapshot)
        self._sorted.update(list(self._values))

    def _create(self, key: str, value: bytes) -> int:
        version = self._floor + 1
        self._values[key] = value, version
        self._unsorted.append(key)
        if len(self._unsorted) > _UNSORTED_MAX:
            self._keys()
        return version

    def _replace(self, key: str, value: bytes, version: int) -> int:
        self._values[key] = value, version + 1
        return version + 1

    def _keys(self) -> SortedNames:
        """Return all keys in order; what was added since the last call is merged in."""
        if self._unsorted:
            self._sorted.update(self._unsorted)
            self._unsorted = []
        return self._sorted


def read_snapshot(snapshot: bytes) -> tuple[int, dict[str, tuple[bytes, int]]]:
    """Return the floor and the values of a snapshot; raise ValueError where the bytes are none."""
    values: dict[str, tuple[bytes, int]] = {}
    body = memoryview(snapshot)
    offset = 8
    while offset < len(body):
        start = offset + _LENGTH_BYTES
        offset = start + int.from_bytes(body[offset:start], "big")
        if offset > len(body):
            raise ValueError("the snapshot of a store is cut short")
        for key, value, version in _PIECE.decode(body[start:offset]):
            values[key] = value, version
    return int.from_bytes(snapshot[:8], "big"), values


def check(key: str, value: bytes) -> None:
    """Raise `InvalidKey` or `ValueTooLong` for what no store takes."""
    # Short keys, which are nearly all, need not be encoded to be measured: a character is at most 4 bytes.
    length = len(key) if 4 * len(key) <= KEY_BYTES_MAX else len(key.encode())
    if not 0 < length <= KEY_BYTES_MAX:
        raise InvalidKey(f"a key has from 1 to {KEY_BYTES_MAX} bytes, not {length}")
    if len(value) > VALUE_BYTES_MAX:
        raise ValueTooLong(f"a value has up to {VALUE_BYTES_MAX} bytes, not {len(value)}")


def shown(key: str) -> str:
    """Return a key as it may stand in a line of a log (docs/faults.md#b57)."""
    return ascii(key if len(key) <= 100 else key[:100] + "...")
