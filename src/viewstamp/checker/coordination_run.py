"""One operation of the coordination store, run and compared with what it returned; for `coordination_model`.

The state holds the table after each change, so that a range at a revision can be compared exactly.
"""

from collections.abc import Callable, Iterator, Mapping
from operator import eq, gt, lt, ne
from typing import Any, Final, NamedTuple, TypeAlias

from viewstamp.checker.history import Operation

Revision: TypeAlias = tuple[int, int]
"""(number, 0): it was told. (number, n): the nth after that number which nobody was told."""
Leases: TypeAlias = tuple[tuple[int, int], ...]
"""(lease, ttl_ms) of those that live, sorted."""

NEVER: Final[Revision] = (0, 0)
RANGE: Final = "kv_range"
TRANSACTION: Final = "kv_txn"
GRANT: Final = "lease_grant"
KEEP_ALIVE: Final = "lease_keep_alive"
REVOKE: Final = "lease_revoke"
ENDED: Final = "lease_ended"
_PUT, _DELETE, GET, _INNERMOST, _INNER = range(1, 6)
TAGS: Final[Mapping[str, int]] = {
    "kv_put": _PUT,
    "kv_delete": _DELETE,
    RANGE: GET,
    TRANSACTION: 0,
    GRANT: 0,
    KEEP_ALIVE: 0,
    REVOKE: 0,
    ENDED: 0,
}
"""The operations, each with the tag of its argument; 0: it has none."""
_RESULT_FIELDS: Final = {_PUT: 3, _DELETE: 4, GET: 5}
_ITEM_FIELDS: Final = 6
_EVERY_END: Final = (b"\0", "\0")
_PAGE_ITEMS_MAX: Final = 10_000
_RELATIONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {"=": eq, "!=": ne, "<": lt, ">": gt}
_TARGETS: Final = {"create": 1, "mod": 2, "version": 3, "lease": 4}


class Cell(NamedTuple):
    """A key that exists."""

    value: Any
    create: Revision
    mod: Revision
    version: int
    lease: int


Cells: TypeAlias = tuple[tuple[Any, Cell], ...]
"""All keys, sorted."""


class Past:
    """The table after each change, the newest first. Its hash is made once."""

    __slots__ = ("_hash", "before", "cells", "revision")

    def __init__(self, before: "Past | None", revision: Revision, cells: Cells) -> None:
        self.before = before
        self.revision = revision
        self.cells = cells
        self._hash = hash((before, revision, cells))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        one: Past | None = self
        while one is not other:
            if one is None or not isinstance(other, Past) or one._hash != other._hash:
                return False
            if (one.revision, one.cells) != (other.revision, other.cells):
                return False
            one, other = one.before, other.before
        return True


class State(NamedTuple):
    """The store."""

    last: Revision
    """Changes to come have larger revisions."""
    cells: Cells
    leases: Leases
    past: Past | None
    refused: int
    """Up to this revision the past was refused."""


def follows(last: Revision, revision: Revision) -> bool:
    """Return whether a change can have this revision after one that had `last`: numbers are whole."""
    return revision > last and (revision[1] > 0 or revision[0] > sum(last))


def raised_to(last: Revision, number: int) -> Revision | None:
    """Return the last revision where a result says that the store has this one; None: it has a later one."""
    if number < sum(last):
        return None
    return (number, 0) if number > last[0] else last


def revision_told(operation: Operation) -> Any:
    """Return the revision that the result names, if it names one."""
    result = operation.result
    if operation.op in {REVOKE, ENDED}:
        return result if type(result) is int else None
    place = 0 if operation.op == TRANSACTION else 1
    told = result[place] if isinstance(result, tuple) and len(result) > place else None
    return told if type(told) is int else None


def changed_by(operation: Operation) -> bool:
    """Return whether the result shows a change under the revision that it names."""
    if operation.outcome != "ok" or revision_told(operation) is None:
        return False
    if operation.op == "kv_delete":
        return len(operation.result) > 2 and bool(operation.result[2])
    return operation.op == "kv_put" or (operation.op == TRANSACTION and _branch_changed(operation))


def _branch_changed(operation: Operation) -> bool:
    """Return whether a put of the branch that was taken stands at the top: that is enough to learn from."""
    _, then, otherwise = operation.args[0]
    return any(each[0] == _PUT for each in (then if operation.result[1] else otherwise))


class Running:
    """One operation on a copy of the store."""

    __slots__ = ("_state", "_taken", "cells", "changed", "leases", "revision", "seen")

    def __init__(self, state: State, revision: Revision) -> None:
        self._state = state
        self.revision = revision
        self.cells = dict(state.cells)
        self.leases = state.leases
        self.changed = False
        self.seen: Revision = NEVER
        """The revision before the change, if the result tells it."""
        self._taken: dict[int, bool] = {}
        """Which way each transaction goes; all conditions are about the state before."""

    def state(self) -> State:
        """Return the store after what was run."""
        before = self._state
        if not self.changed:
            return before._replace(last=max(before.last, self.seen), leases=self.leases)
        cells = tuple(sorted(self.cells.items()))
        past = Past(before.past, self.revision, cells)
        return State(self.revision, cells, self.leases, past, before.refused)

    def refused(self, operation: Operation) -> State:
        """Return the store after it refused the operation: of one that begins later more is known."""
        if operation.op != RANGE or operation.result != "CompactedRevision":
            return self._state
        before, at = self._state, operation.args[0][4]
        last = raised_to(before.last, at + 1) or before.last
        return before._replace(last=last, refused=max(before.refused, at))

    # What refuses it

    def refusals(self, operation: Operation) -> tuple[set[str], set[str]]:
        """Return the exceptions one of which it must raise, if there are any, and those that it may raise."""
        must, may, written = set[str](), set[str](), dict[Any, bool]()
        given = operation.args[0]
        if operation.op == REVOKE:
            must |= set() if given in dict(self.leases) else {"LeaseNotFound"}
        elif operation.op == ENDED:
            must |= set() if given in dict(self.leases) else {"never"}
        for each in self._path(given) if operation.op == TRANSACTION else [given]:
            match each:
                case (1, *_):
                    must |= self._refusals_of_put(each, written)
                case (2, key, end, *_):
                    must |= self._refusals_of_delete(key, end, written)
                case (3, _, _, _, at, *_) if at:
                    may.add("CompactedRevision")
                    if at <= self._state.refused:
                        must.add("CompactedRevision")
                    if at > sum(self._state.last):
                        may.add("FutureRevision")
        return must, may

    def _path(self, txn: Any) -> Iterator[Any]:
        """Yield the plain operations that run; note which way each transaction goes."""
        when, then, otherwise = txn[-3:]
        taken = self._taken[id(txn)] = all(self._holds(*condition) for condition in when)
        for each in then if taken else otherwise:
            if each[0] in {_INNERMOST, _INNER}:
                yield from self._path(each)
            else:
                yield each

    def _holds(self, key: Any, target: str, relation: str, operand: Any, end: Any) -> bool:
        cells = dict(self._state.cells)
        found = [cells[each] for each in _within(cells, key, end)]
        return all(_related(cell, target, relation, operand) for cell in found or [None])

    def _refusals_of_put(self, put: Any, written: dict[Any, bool]) -> set[str]:
        _, key, _, lease, _, keep_value, keep_lease = put
        refusals = set[str]()
        if (keep_value or keep_lease) and key not in self.cells:
            refusals.add("NoKey")
        if lease and not keep_lease and lease not in dict(self.leases):
            refusals.add("LeaseNotFound")
        if key in written:
            refusals.add("DuplicateKey")
        written[key] = True
        return refusals

    def _refusals_of_delete(self, key: Any, end: Any, written: dict[Any, bool]) -> set[str]:
        if any(put and _covers(key, end, each) for each, put in written.items()):
            return {"DuplicateKey"}
        for each in _within(self.cells, key, end):
            written[each] = False
        return set()

    # Running it

    def run(self, operation: Operation, result: Any) -> bool:
        """Run it, and return whether it may have returned this; anything, where the outcome is unknown."""
        known = operation.outcome != "unknown"
        given = operation.args[0]
        if operation.op == TRANSACTION:
            return self._transact(given, result if known else None)
        if operation.op in {REVOKE, ENDED}:
            for key in [key for key, cell in self.cells.items() if cell.lease == given]:
                del self.cells[key]
                self.changed = True
            self.leases = tuple(each for each in self.leases if each[0] != given)
            return not known or self._tells(result)
        return self._plain(given, result if known else None, known=known)

    def _transact(self, txn: Any, result: Any) -> bool:
        """Run a transaction whose way is known."""
        taken = self._taken[id(txn)]
        branch = txn[-2] if taken else txn[-1]
        known = result is not None
        if known and not (isinstance(result, tuple) and len(result) >= 3 and len(result[-1]) == len(branch)):
            return False
        fits = True
        for place, each in enumerate(branch):
            told = result[-1][place] if known else None
            inner = each[0] in {_INNERMOST, _INNER}
            fits &= self._transact(each, told) if inner else self._plain(each, told, known=known)
        return not known or (fits and result[-2] == taken and self._tells(result[-3]))

    def _plain(self, given: Any, result: Any, *, known: bool) -> bool:
        wanted = (given[0], _RESULT_FIELDS[given[0]])
        if known and not (isinstance(result, tuple) and (*result[:1], len(result)) == wanted):
            return False
        match given[0]:
            case 1:
                return self._put(given, result, known=known)
            case 2:
                return self._delete(given, result, known=known)
            case _:
                return not known or self._found(given, result)

    def _put(self, put: Any, result: Any, *, known: bool) -> bool:
        _, key, value, lease, prev, keep_value, keep_lease = put
        before = self.cells.get(key)
        create, version = (self.revision, 0) if before is None else (before.create, before.version)
        if before is not None:
            value = before.value if keep_value else value
            lease = before.lease if keep_lease else lease
        self.cells[key] = Cell(value, create, self.revision, version + 1, lease)
        self.changed = True
        if not known:
            return True
        _, told, shown = result
        return self._tells(told) and (_shows(shown, key, before) if prev and before else shown is None)

    def _delete(self, delete: Any, result: Any, *, known: bool) -> bool:
        _, key, end, prev = delete
        gone = [(each, self.cells.pop(each)) for each in _within(self.cells, key, end)]
        self.changed = self.changed or bool(gone)
        if not known:
            return True
        _, told, count, shown = result
        fits = self._tells(told) and count == len(gone)
        return fits and _show(shown, gone if prev else [])

    def _found(self, get: Any, result: Any) -> bool:
        """Return whether a range may have been found so: now, or as it was at a revision."""
        _, key, end, limit, at, keys_only, count_only = get
        _, told, items, more, count = result
        if not self._tells(told) or at > told:
            return False
        is_now = not at or at == told
        if not is_now and at <= self._state.refused:
            return False
        cells = self.cells if is_now else dict(self._as_of(at))
        found = [(each, cells[each]) for each in _within(cells, key, end)]
        if count_only:
            return (items, more, count) == ((), False, len(found))
        page = found[: limit or _PAGE_ITEMS_MAX]
        wanted = len(found) if is_now else len(page)
        return (more, count) == (len(page) < len(found), wanted) and _show(items, page, values=not keys_only)

    def _as_of(self, at: int) -> Cells:
        past = self._state.past
        while past is not None and past.revision > (at, 0):
            past = past.before
        return () if past is None else past.cells

    def _tells(self, told: Any) -> bool:
        """Return whether a result may name this revision at this point of the operation."""
        if type(told) is not int:
            return False
        if self.changed:
            return (told, 0) == self.revision
        last = raised_to(self._state.last, told)
        if last is None or self.seen not in {NEVER, last}:
            return False
        self.seen = last
        return True


def _within(cells: Mapping[Any, Cell], key: Any, end: Any) -> list[Any]:
    return sorted(each for each in cells if _covers(key, end, each))


def _covers(key: Any, end: Any, each: Any) -> bool:
    if not end:
        return bool(each == key)
    return bool(each >= key and (end in _EVERY_END or each < end))


def _related(cell: Cell | None, target: str, relation: str, operand: Any) -> bool:
    if target == "value":
        if cell is None or isinstance(operand, int):
            return False
        return _RELATIONS[relation](cell.value, operand)
    if not isinstance(operand, int):
        return False
    found: Any = 0 if cell is None else cell[_TARGETS[target]]
    if isinstance(found, int):
        return _RELATIONS[relation](found, operand)
    return _RELATIONS[relation](found, (operand, 0))


def _show(items: Any, wanted: list[tuple[Any, Cell]], *, values: bool = True) -> bool:
    return (
        isinstance(items, tuple)
        and len(items) == len(wanted)
        and all(
            _shows(item, key, cell, values=values) for item, (key, cell) in zip(items, wanted, strict=True)
        )
    )


def _shows(item: Any, key: Any, cell: Cell, *, values: bool = True) -> bool:
    """Return whether this is how a key is told."""
    if not isinstance(item, tuple) or len(item) != _ITEM_FIELDS:
        return False
    name, value, create, mod, version, lease = item
    return bool(
        name == key
        and (value == cell.value if values else not value)
        and ((create, 0), (mod, 0)) == (cell.create, cell.mod)
        and (version, lease) == (cell.version, cell.lease)
    )
