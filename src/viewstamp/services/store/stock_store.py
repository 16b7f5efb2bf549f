"""The store under the methods of `services.kv` as well: one set of keys, and clients of both see each other.

What `KeyValueStore` promises holds: keys are texts, versions count from 1 and are never used twice for a key,
also where it was deleted in between. A key that is not UTF-8 is not seen by these methods. A write by them
takes a key's lease away, as a `kv_put` without one does.
"""

from typing import ClassVar

from viewstamp.machine.state_machine import command, query
from viewstamp.services import kv
from viewstamp.services.sorted_names import SortedKeys
from viewstamp.services.store.history import Record
from viewstamp.services.store.machine import CoordinationStore
from viewstamp.services.store.types import EVERY_END


class StockStore(CoordinationStore):
    """The keys of the stock server."""

    raises: ClassVar[tuple[type[Exception], ...]] = (*CoordinationStore.raises, kv.VersionMismatch)
    """What clients get as these very exceptions."""

    @query(keys=("key",))
    def get(self, key: str) -> tuple[bytes, int]:
        """Return the value and its version.

        Raises:
            NoKey: it does not exist.
        """
        found = self._table.records.get(key.encode())
        if found is None:
            raise kv.NoKey(f"there is no key {kv.shown(key)}")
        return found.value, _version(found)

    @command(keys=("key",))
    def put(self, key: str, value: bytes, version: int) -> int:
        """Write if the key has this version (0: if it does not exist) and return the new version.

        Raises:
            NoKey: it does not exist, and `version` is not 0.
            VersionMismatch: it exists with another version.
            InvalidKey, ValueTooLong: see the limits.
        """
        kv.check(key, value)
        encoded = key.encode()
        found = self._table.records.get(encoded)
        if found is None and version != kv.NEW:
            raise kv.NoKey(f"there is no key {kv.shown(key)}: create it with version 0")
        if found is not None:
            _require_version(key, found, version)
        return self._write(encoded, value)

    @command(keys=("key",))
    def set(self, key: str, value: bytes) -> int:
        """Write, whatever is there, and return the new version.

        Raises:
            InvalidKey, ValueTooLong: see the limits.
        """
        kv.check(key, value)
        return self._write(key.encode(), value)

    @command(keys=("key",), frees=True)
    def delete(self, key: str, version: int | None = None) -> bool:
        """Delete, with `version` only if the key has it; return whether there was such a key.

        Raises:
            VersionMismatch: it exists with another version.
        """
        encoded = key.encode()
        found = self._table.records.get(encoded)
        if found is None:
            return False
        if version is not None:
            _require_version(key, found, version)
        context = self.context
        revision = context.token
        self._table.delete(encoded, revision, context.now)
        self._finish(revision)
        return True

    @query(prefixes=("prefix",))
    def range(self, prefix: str = "", after: str = "", limit: int = 100) -> kv.Page:
        """Return up to `limit` items (10,000 at most) whose keys begin with `prefix` and follow `after`."""
        items: list[kv.Item] = []
        size, start = 0, max(prefix.encode(), after.encode() + b"\0" if after else b"")
        begin = prefix.encode()
        for key in self._table.within(start, EVERY_END):
            if not key.startswith(begin):
                break
            if len(items) >= min(limit, kv.PAGE_ITEMS_MAX) or size >= kv.PAGE_BYTES_MAX:
                return kv.Page(items, more=True)
            record = self._table.records[key]
            try:
                items.append(kv.Item(key.decode(), record.value, _version(record)))
            except UnicodeDecodeError:
                continue  # of a client whose keys are bytes
            size += len(key) + len(record.value)
        return kv.Page(items, more=False)

    def restore(self, snapshot: bytes) -> None:
        """Set the state of a fresh store, also from a snapshot that a `KeyValueStore` made."""
        if snapshot.startswith(b"\0"):  # its floor comes first, which is less than 2**56
            self._take_over(*kv.read_snapshot(snapshot))
        else:
            super().restore(snapshot)

    def _take_over(self, floor: int, values: dict[str, tuple[bytes, int]]) -> None:
        """Begin with the keys of another store, all of them under the first revision, and no history."""
        table = self._table
        table.floor, table.revision = floor, 1
        for key, (value, version) in values.items():
            table.records[key.encode()] = Record(value, 1, 1, 1, 0, version - 1)
        table.keys = SortedKeys(table.records)
        table.history.compact(1)

    def _write(self, key: bytes, value: bytes) -> int:
        context = self.context
        revision, table = context.token, self._table
        table.put(key, value, 0, revision, context.now)
        self._finish(revision)
        return _version(table.records[key])


def _version(record: Record) -> int:
    return record.base + record.version


def _require_version(key: str, found: Record, version: int) -> None:
    if _version(found) != version:
        raise kv.VersionMismatch(f"{kv.shown(key)} has version {_version(found)}, not {version}")
