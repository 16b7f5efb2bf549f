"""The model of `services.kv`: the rules of 6.5840's laboratory 2, with writes, deletion and ranges.

`get` -> [value, version]; raised NoKey.
`put` [value, version] -> the new version; raised NoKey, VersionMismatch, or Maybe (done or VersionMismatch,
the client cannot know). A put of version 0 creates a missing key.
`set` [value] -> the new version. `delete` [] or [version] -> true if there was such a key; raised
VersionMismatch. `range` [prefix, after, limit], without key -> [[[key, value, version], ...], more].

A new version that was returned as null is not compared. The course's own checker compares the values of gets
only; this one compares versions and errors as well. A key is created with version 1; where anything was ever
deleted, with any version above the last that the key had, for the store goes on above all deleted ones. What
was deleted before the recording began is not in it: so the first version may be any, unless the caller says
that the store is `NEW`.
"""

from collections.abc import Hashable, Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar, Final, NamedTuple

from viewstamp.checker.history import Operation, show
from viewstamp.checker.models import ANYTHING, DEFAULT, ILLEGAL, Either, KeyedModel, accepts, either, raises

_REFUSALS: Final = frozenset({"InvalidKey", "ValueTooLong"})
"""Raised for what the model does not know the limits of; nothing has changed."""
_LIMIT: Final = 100


class Cell(NamedTuple):
    """One key."""

    value: Any
    version: int
    """Of a key that was deleted, the version that it had last; 0 where it never existed."""
    exists: bool
    exact: bool = True
    """False: no client has learned the version yet, it is at least this."""


class Unlearned(Enum):
    """What no client has learned since the recording began."""

    VALUE = "value"
    KEY = "key"


MISSING: Final = Cell(None, 0, exists=False)
NEW: Final = "new"
"""As `initial`: nothing was ever in the store, so that nothing was deleted before the recording began."""
_DELETED: Final = Cell(None, 0, exists=False, exact=False)
_UNSEEN: Final = Cell(Unlearned.VALUE, 1, exists=True, exact=False)
Cells = tuple[tuple[Any, Hashable], ...]
"""All keys that were ever seen, sorted: the state of a part that contains ranges."""


class VersionedStore(KeyedModel):
    """See the module."""

    arguments: ClassVar[Mapping[str, tuple[int, int]]] = {
        "get": (0, 0),
        "put": (2, 2),
        "set": (1, 1),
        "delete": (0, 1),
        "range": (0, 3),
    }

    reads: ClassVar[frozenset[str]] = frozenset({"get", "range"})
    writes: ClassVar[frozenset[str]] = frozenset({"put", "set"})

    def __init__(self, *, initial: Any = DEFAULT) -> None:
        """Begin with an empty store, with a `NEW` one, or, for `ANYTHING`, with keys that nobody knows."""
        super().__init__(initial=initial)
        self._deletes = initial != NEW
        """Whether anything was ever deleted: then keys may begin with higher versions than 1."""
        self._absent: Hashable = Unlearned.KEY if initial is ANYTHING else MISSING

    def initial_of_part(self, operations: Sequence[Operation]) -> Hashable:
        """Return the empty store for a part with ranges, otherwise a missing key."""
        return () if any(operation.key is None for operation in operations) else self._absent

    def objection(self, operation: Operation) -> str | None:
        """Say why the model cannot judge this operation at all."""
        objection = super().objection(operation)
        if objection is not None:
            return objection
        if (operation.key is None) != (operation.op == "range"):
            return f"{operation.op} must have {'no' if operation.op == 'range' else 'a'} `key`"
        if operation.op == "put" and not isinstance(operation.args[1], int):
            return f"put takes [value, version], and the version is an integer, not {show(operation.args[1])}"
        if operation.op == "delete" and not all(isinstance(version, int) for version in operation.args):
            return f"delete takes [version], an integer, not {show(operation.args[0])}"
        if operation.op == "range" and not _is_range(operation.args):
            return "range takes [prefix, after, limit]: the first two are strings, the last is an integer"
        return None

    def changes_nothing(self, operation: Operation) -> bool:
        """Return whether it reads, or was refused. A put that ends in `Maybe` may have been done."""
        refused = operation.outcome == "raised" and operation.result != "Maybe"
        return refused or super().changes_nothing(operation)

    def parts(self, operations: Sequence[Operation]) -> list[tuple[str, list[Operation]]]:
        """Divide by key; a range ties all keys together."""
        self._deletes = self.given != NEW or any(operation.op == "delete" for operation in operations)
        return super().parts(operations)

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return the state after the operation."""
        if operation.outcome == "raised" and operation.result in _REFUSALS:
            return state
        if isinstance(state, Cell) or state is Unlearned.KEY:
            return self._step_key(state, operation)
        assert isinstance(state, tuple)
        if operation.op == "range":
            return _range(state, operation, all_known=self._absent is MISSING)
        cells = dict(state)
        after = self._step_key(cells.get(operation.key, self._absent), operation)
        if after is ILLEGAL:
            return ILLEGAL
        ends = after.states if isinstance(after, Either) else (after,)
        return either(*(self._with(cells, operation.key, cell) for cell in ends))

    def _with(self, cells: Mapping[Any, Hashable], key: Any, cell: Hashable) -> Hashable:
        changed = {**cells, key: cell}
        return tuple(sorted((pair for pair in changed.items() if pair[1] != self._absent), key=_key_of))

    def _step_key(self, state: Hashable, operation: Operation) -> Hashable:
        if isinstance(state, Cell):
            return self._step_cell(state, operation)
        return either(self._step_cell(_DELETED, operation), self._step_cell(_UNSEEN, operation))

    def describe(self, state: Hashable) -> str:
        """Return value and version of the key, or of the whole store."""
        if state is Unlearned.KEY:
            return "not known yet"
        if isinstance(state, Cell):
            version = f"{'' if state.exact else 'some version from '}{state.version}"
            value = "a value that nobody read" if state.value is Unlearned.VALUE else show(state.value)
            return f"{value} at version {version}" if state.exists else "no such key"
        assert isinstance(state, tuple)
        return "; ".join(f"{show(key)}: {self.describe(cell)}" for key, cell in state) or "an empty store"

    def _step_cell(self, cell: Cell, operation: Operation) -> Hashable:
        match operation.op:
            case "get":
                return _get(cell, operation)
            case "put":
                return self._put(cell, operation)
            case "set":
                return self._written(cell, operation)
            case _:
                return _delete(cell, operation)

    def _put(self, cell: Cell, operation: Operation) -> Hashable:
        version = operation.args[1]
        if not cell.exists:
            if version == 0:
                return self._written(cell, operation)
            return cell if raises(operation, "NoKey") else ILLEGAL
        fits = _may_be(cell, version)
        after = self._written(cell._replace(version=version, exact=True), operation) if fits else ILLEGAL
        if fits and cell.exact:
            return after
        mismatched = raises(operation, "VersionMismatch") or raises(operation, "Maybe")
        return either(after, cell if mismatched else ILLEGAL)

    def _written(self, cell: Cell, operation: Operation) -> Hashable:
        """Return the cell with the new value. `Maybe` is how a put ends whose first attempt succeeded."""
        value, told = operation.args[0], operation.result
        exact = cell.exact and (cell.exists or not self._deletes)
        after = Cell(value, cell.version + 1, exists=True, exact=exact)
        if accepts(operation, None) or (operation.op == "put" and raises(operation, "Maybe")):
            return after
        if operation.outcome != "ok" or not isinstance(told, int) or not _may_be(after, told):
            return ILLEGAL
        return after._replace(version=told, exact=True)


def _is_pair(result: Any) -> bool:
    return isinstance(result, tuple) and len(result) == len(("value", "version"))


def _is_range(args: tuple[Any, ...]) -> bool:
    return all(isinstance(given, wanted) for given, wanted in zip(args, (str, str, int), strict=False))


def _is_page(result: Any) -> bool:
    """Return whether a range can have returned this at all."""
    return (
        _is_pair(result)
        and isinstance(result[0], tuple)
        and all(
            isinstance(item, tuple) and len(item) == len(("key", "value", "version")) for item in result[0]
        )
    )


def _may_be(cell: Cell, version: Any) -> bool:
    return version == cell.version or (not cell.exact and isinstance(version, int) and version > cell.version)


def _get(cell: Cell, operation: Operation) -> Hashable:
    if not cell.exists:
        return cell if raises(operation, "NoKey") else ILLEGAL
    if operation.outcome == "unknown":
        return cell
    if operation.outcome != "ok" or not _is_pair(operation.result):
        return ILLEGAL
    value, version = operation.result
    legal = cell.value in (value, Unlearned.VALUE) and _may_be(cell, version)
    return Cell(value, version, exists=True) if legal else ILLEGAL


def _delete(cell: Cell, operation: Operation) -> Hashable:
    wanted = operation.args[0] if operation.args else None
    if cell.exists and wanted is not None:
        if not _may_be(cell, wanted) or (not cell.exact and operation.outcome == "raised"):
            return cell if raises(operation, "VersionMismatch") else ILLEGAL
        cell = cell._replace(version=wanted, exact=True)
    gone = Cell(None, cell.version, exists=False, exact=cell.exact) if cell.exists else cell
    return gone if accepts(operation, cell.exists) or accepts(operation, None) else ILLEGAL


def _range(cells: Cells, operation: Operation, *, all_known: bool) -> Hashable:
    """Judge a page: the first keys of the range. A page may end early and say that there is more.

    Without `all_known` a page may show keys that nobody has seen before.
    """
    defaults: tuple[Any, ...] = ("", "", _LIMIT)
    prefix, after, limit = operation.args + defaults[len(operation.args) :]
    if operation.outcome == "unknown":
        return cells
    if operation.outcome != "ok" or not _is_page(operation.result):
        return ILLEGAL
    items, more = operation.result
    seen = dict(cells)
    shown = [str(item[0]) for item in items]
    found = [
        key for key, cell in cells if isinstance(cell, Cell) and cell.exists and _is_in(key, prefix, after)
    ]
    if all_known:
        unseen_more = False
    else:
        unseen_more = bool(more)
        strangers = [key for key in shown if key not in seen and _is_in(key, prefix, after)]
        seen.update(dict.fromkeys(strangers, _UNSEEN))
        found = sorted([*found, *strangers], key=str)
    if len(items) > limit or bool(more) != (len(items) < len(found) or unseen_more):
        return ILLEGAL
    for key, item in zip(found, items, strict=False):
        cell = seen[key]
        assert isinstance(cell, Cell), "`found` holds keys that are there"
        if key != item[0] or cell.value not in (item[1], Unlearned.VALUE) or not _may_be(cell, item[2]):
            return ILLEGAL
        seen[key] = Cell(item[1], item[2], exists=True)
    return tuple(sorted(seen.items(), key=_key_of))


def _is_in(key: Any, prefix: str, after: str) -> bool:
    return str(key).startswith(prefix) and str(key) > after


def _key_of(pair: tuple[Any, Hashable]) -> str:
    return str(pair[0])
