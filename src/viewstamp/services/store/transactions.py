"""Transactions: conditions, two branches, one revision.

In order: all conditions, also those of inner transactions, are judged by the state before the first change,
so that what will run is known; that is checked as a whole; then it runs, and nothing in it can fail.

Source: etcd, `server/etcdserver/txn/txn.go` (`compareToPath`, `checkTxn`, `executeTxn`).
"""

from collections.abc import Callable, Iterator, Mapping
from operator import eq, gt, lt, ne
from typing import Any, Final, TypeAlias

from viewstamp.services.kv import NoKey
from viewstamp.services.store.history import Record
from viewstamp.services.store.leases import require_room
from viewstamp.services.store.table import Table, check_key, check_value, shown, shown_or_none
from viewstamp.services.store.types import (
    ANSWER_BYTES_MAX,
    ITEM_BYTES,
    KEYS_PER_COMMAND_MAX,
    OPERATIONS_MAX,
    AnyTxn,
    Compare,
    Delete,
    Deleted,
    DuplicateKey,
    Found,
    Get,
    Inner,
    InnerDone,
    Innermost,
    InnermostDone,
    KeyValue,
    Plain,
    Put,
    PutDone,
    TooMany,
    Txn,
    TxnDone,
)

Relation: TypeAlias = Callable[[Any, Any], bool]
_RELATIONS: Final[Mapping[str, Relation]] = {"=": eq, "!=": ne, "<": lt, ">": gt}
_NOTHING: Final = Record(b"", 0, 0, 0, 0, 0)
"""A key that does not exist, in a condition."""
_DONE: Final[Mapping[type[AnyTxn], type[Any]]] = {Txn: TxnDone, Inner: InnerDone, Innermost: InnermostDone}


class Running:
    """One command that changes a table: its revision, its time, its principal."""

    __slots__ = ("_leased", "_room", "_written", "principal", "revision", "table", "time")

    def __init__(self, table: Table, revision: int, time: int, principal: str) -> None:
        self.table = table
        self.revision = revision
        self.time = time
        self.principal = principal
        self._written: dict[bytes, Put | None] = {}
        """What the checked operations change so far: the put, or None for a deletion."""
        self._leased: dict[int, int] = {}
        """By lease: how many keys are put with it."""
        self._room = ANSWER_BYTES_MAX
        """Left for the results."""

    # What a single operation is: a transaction of one

    def put(self, put: Put) -> PutDone:
        """Check and run a put."""
        self.check(put)
        return self._put(put)

    def delete(self, delete: Delete) -> Deleted:
        """Check and run a deletion."""
        self.check(delete)
        return self._delete(delete)

    def transact(self, txn: Txn) -> TxnDone:
        """Check and run a transaction."""
        if size_of(txn) > OPERATIONS_MAX:
            raise TooMany(f"a transaction has up to {OPERATIONS_MAX} parts: nothing was changed")
        branches: dict[int, bool] = {}
        for operation in self._path(txn, branches):
            self.check(operation)
        done = self._run(txn, branches)
        assert isinstance(done, TxnDone)
        return done

    # Before anything is changed

    def _path(self, txn: AnyTxn, branches: dict[int, bool]) -> Iterator[Plain]:
        """Yield the operations that will run; write into `branches` which way each transaction goes."""
        # viewstamp: allow VS004 the key lives as long as the call, and nothing shows it
        taken = branches[id(txn)] = all(holds(self.table, compare) for compare in txn.when)
        for operation in txn.then if taken else txn.otherwise:
            if isinstance(operation, Inner | Innermost):
                yield from self._path(operation, branches)
            else:
                yield operation

    def check(self, operation: Plain) -> None:
        """Raise what would make an operation fail, behind those that were checked before it."""
        check_key(operation.key)
        match operation:
            case Put():
                self._check_put(operation)
            case Delete():
                self._check_delete(operation)
            case Get(revision=revision) if revision and revision != self.table.revision:
                self.table.require_known(revision)

    def _check_put(self, put: Put) -> None:
        check_value(put.value)
        before = self.table.records.get(put.key)
        if before is None and (put.keep_value or put.keep_lease):
            raise NoKey(f"there is no key {put.key!a} to keep the rest of: nothing was changed")
        if put.lease and not put.keep_lease:
            lease = self.table.leases.of(put.lease, self.principal)
            self._leased[put.lease] = self._leased.get(put.lease, 0) + 1
            require_room(lease, self._leased[put.lease])
        self._write(put.key, put)
        if put.prev and before is not None:
            self._require_room(len(before.value))

    def _check_delete(self, delete: Delete) -> None:
        keys = self.table.require_few(delete.key, delete.end, "this deletes")
        for key in keys:
            self._write(key, None)
        if delete.prev:
            records = self.table.records
            self._require_room(sum(len(key) + len(records[key].value) + ITEM_BYTES for key in keys))
        overlapping = next((key for key, put in self._written.items() if put and _covers(delete, key)), None)
        if overlapping is not None:
            self._refuse_twice(overlapping)

    def _write(self, key: bytes, put: Put | None) -> None:
        if key in self._written and not (put is None and self._written[key] is None):
            self._refuse_twice(key)
        self._written[key] = put
        if len(self._written) > KEYS_PER_COMMAND_MAX:
            raise TooMany(f"one command changes up to {KEYS_PER_COMMAND_MAX} keys: nothing was changed")

    def _refuse_twice(self, key: bytes) -> None:
        raise DuplicateKey(f"the transaction changes {key!a} twice: nothing was changed")

    def _require_room(self, length: int) -> None:
        self._room -= length
        if self._room < 0:
            raise TooMany(
                f"it would return more than {ANSWER_BYTES_MAX} bytes: ask for less; nothing was changed"
            )

    # Running

    def _run(self, txn: AnyTxn, branches: dict[int, bool]) -> Any:
        # viewstamp: allow VS004 the key lives as long as the call, and nothing shows it
        taken = branches[id(txn)]
        results = [
            self._run(each, branches) if isinstance(each, Inner | Innermost) else self._run_plain(each)
            for each in (txn.then if taken else txn.otherwise)
        ]
        return _DONE[type(txn)](self.table.revision, taken, results)

    def _run_plain(self, operation: Plain) -> PutDone | Deleted | Found:
        match operation:
            case Put():
                return self._put(operation)
            case Delete():
                return self._delete(operation)
            case Get():
                found = self.table.read(operation, max(0, self._room))
                self._room -= sum(len(item.key) + len(item.value) + ITEM_BYTES for item in found.items)
                return found

    def _put(self, put: Put) -> PutDone:
        table, before = self.table, self.table.records.get(put.key)
        value, lease = put.value, put.lease
        if before is not None:
            value = before.value if put.keep_value else value
            lease = before.lease if put.keep_lease else lease
        table.put(put.key, value, lease, self.revision, self.time)
        return PutDone(self.revision, shown_or_none(put.key, before) if put.prev else None)

    def _delete(self, delete: Delete) -> Deleted:
        table = self.table
        keys = list(table.within(delete.key, delete.end))
        prevs: list[KeyValue] = []
        for key in keys:
            before = table.delete(key, self.revision, self.time)
            if delete.prev:
                prevs.append(shown(key, before))
        return Deleted(table.revision, len(keys), prevs)


def holds(table: Table, compare: Compare) -> bool:
    """Return whether a condition holds.

    Raises:
        InvalidKey, TooMany: it cannot be judged.
    """
    check_key(compare.key)
    keys = table.require_few(compare.key, compare.end, "a condition looks at")
    records = [table.records[key] for key in keys]
    return all(_related(compare, record) for record in records or [_NOTHING])


def _related(compare: Compare, record: Record) -> bool:
    if compare.target == "value" and record is _NOTHING:
        return False
    found = getattr(record, compare.target)
    if isinstance(found, bytes) is not isinstance(compare.operand, bytes):
        return False
    return _RELATIONS[compare.op](found, compare.operand)


def size_of(txn: AnyTxn) -> int:
    """Return how many conditions and operations a transaction has, with those of inner ones."""
    operations = (*txn.then, *txn.otherwise)
    inner = sum(size_of(each) for each in operations if isinstance(each, Inner | Innermost))
    return len(txn.when) + len(operations) + inner


def _covers(delete: Delete, key: bytes) -> bool:
    if not delete.end:
        return key == delete.key
    return key >= delete.key and (delete.end == b"\0" or key < delete.end)
