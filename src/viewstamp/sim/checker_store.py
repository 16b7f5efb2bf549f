"""The model of the versioned key/value store: all the rules of 6.5840's laboratory 2.

`get` -> [value, version]; raised NoKey.
`put` [value, version] -> the new version; raised NoKey, VersionMismatch, or Maybe (done or VersionMismatch,
the client cannot tell). A put of version 0 creates a missing key.
`set` [value] -> the new version. `delete` -> true if there was such a key.
`range` [first, end], without key -> [[key, value, version], ...] of first <= key < end, ascending.

A new version that was returned as null is not compared. The course's own checker compares the values of gets
only; this one compares versions and errors as well.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from viewstamp.sim.history import Operation, show
from viewstamp.sim.models import ILLEGAL, KeyedModel, accepts, parts_by_key, raises


class Cell(NamedTuple):
    """One key."""

    value: Any
    version: int
    """Of a key that was deleted, the version that it had last; 0 where it never existed."""
    exists: bool


MISSING: Final = Cell(None, 0, exists=False)
Cells = tuple[tuple[Any, Cell], ...]
"""All keys that were ever written, sorted: the state of a part that contains ranges."""


def _accepts_version(operation: Operation, version: int) -> bool:
    return accepts(operation, version) or accepts(operation, None)


class VersionedStore(KeyedModel):
    """See the module. Versions of a key grow over its deletion, unless `versions_restart`."""

    arguments: ClassVar[Mapping[str, tuple[int, int]]] = {
        "get": (0, 0),
        "put": (2, 2),
        "set": (1, 1),
        "delete": (0, 0),
        "range": (2, 2),
    }

    def __init__(self, *, versions_restart: bool = False) -> None:
        self._versions_restart = versions_restart

    def initial(self) -> Hashable:
        """Return the state of a key that never existed."""
        return MISSING

    def initial_of_part(self, operations: Sequence[Operation]) -> Hashable:
        """Return the empty store for a part with ranges, otherwise a missing key."""
        return () if any(operation.key is None for operation in operations) else MISSING

    def objection(self, operation: Operation) -> str | None:
        """Say why the model cannot judge this operation at all."""
        objection = super().objection(operation)
        if objection is not None:
            return objection
        if (operation.key is None) != (operation.op == "range"):
            return f"{operation.op} must have {'no' if operation.op == 'range' else 'a'} `key`"
        if operation.op == "put" and not isinstance(operation.args[1], int):
            return f"put takes [value, version], and the version is an integer, not {show(operation.args[1])}"
        if operation.op == "range" and not all(isinstance(bound, str) for bound in operation.args):
            return "range takes two strings"
        return None

    def parts(self, operations: Sequence[Operation]) -> list[tuple[str, list[Operation]]]:
        """Divide by key; a range ties all keys together."""
        return parts_by_key(operations)

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return the state after the operation."""
        if isinstance(state, Cell):
            return self._step_cell(state, operation)
        assert isinstance(state, tuple)
        cells = dict(state)
        if operation.op == "range":
            return state if accepts(operation, _found(state, *operation.args)) else ILLEGAL
        after = self._step_cell(cells.get(operation.key, MISSING), operation)
        if not isinstance(after, Cell):
            return after
        cells[operation.key] = after
        return tuple(
            sorted((pair for pair in cells.items() if pair[1] != MISSING), key=lambda pair: str(pair[0]))
        )

    def describe(self, state: Hashable) -> str:
        """Return value and version of the key, or of the whole store."""
        if isinstance(state, Cell):
            return f"{show(state.value)} at version {state.version}" if state.exists else "no such key"
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
                kept = 0 if self._versions_restart else cell.version
                gone = Cell(None, kept, exists=False) if cell.exists else cell
                return gone if accepts(operation, cell.exists) or accepts(operation, None) else ILLEGAL

    def _put(self, cell: Cell, operation: Operation) -> Hashable:
        version = operation.args[1]
        if version == (cell.version if cell.exists else 0):
            return self._written(cell, operation)
        if not cell.exists:
            return cell if raises(operation, "NoKey") else ILLEGAL
        mismatched = raises(operation, "VersionMismatch") or raises(operation, "Maybe")
        return cell if mismatched else ILLEGAL

    def _written(self, cell: Cell, operation: Operation) -> Hashable:
        """Return the cell with the new value. `Maybe` is how a put ends whose first attempt succeeded."""
        after = Cell(operation.args[0], cell.version + 1, exists=True)
        maybe = operation.op == "put" and raises(operation, "Maybe")
        return after if maybe or _accepts_version(operation, after.version) else ILLEGAL


def _get(cell: Cell, operation: Operation) -> Hashable:
    legal = accepts(operation, (cell.value, cell.version)) if cell.exists else raises(operation, "NoKey")
    return cell if legal else ILLEGAL


def _found(cells: Cells, first: str, end: str) -> tuple[tuple[Any, Any, int], ...]:
    return tuple(
        (key, cell.value, cell.version) for key, cell in cells if cell.exists and first <= str(key) < end
    )
