"""The model of `services.store`: revisions, transactions, leases, ranges now and at a revision.

Operations are methods of the store, without a key, because revisions tie all keys together. Arguments and
results are as they are on the wire (`history.freeze`), a tagged struct with its tag first:

`kv_put` [put] -> (1, revision, before); `kv_delete` [delete] -> (2, revision, count, before);
`kv_txn` [transaction] -> (revision, succeeded, results);
`kv_range` [get] -> (3, revision, items, more, count);
`lease_grant` [ttl_ms] or [ttl_ms, number] -> number; `lease_keep_alive` [lease] -> ttl_ms;
`lease_revoke` [lease] -> revision; `lease_ended` [lease] -> revision: the store ended it by itself.

The revision of a change is larger than all before it. Others may change keys that the history does not touch:
so the revision that a read tells may be larger than that of the last change, and later changes are above it.
What was refused as compacted stays refused.

What nobody was told is left open: the revision of a change with unknown outcome is any that a later result
shows, or one between them; a lease whose end is not in the history may have ended at any moment.
"""

from bisect import bisect_right
from collections.abc import Hashable, Iterator, Sequence
from math import inf
from typing import Any, Final

from viewstamp.checker.coordination_run import (
    ENDED,
    GET,
    GRANT,
    KEEP_ALIVE,
    NEVER,
    RANGE,
    TAGS,
    TRANSACTION,
    Revision,
    Running,
    State,
    changed_by,
    follows,
    revision_told,
)
from viewstamp.checker.history import Operation, show
from viewstamp.checker.models import DEFAULT, ILLEGAL, accepts, either, raises, same_call, values_in

_UNJUDGED: Final = frozenset({"InvalidKey", "ValueTooLong", "TooMany", "InvalidLease"})
"""Raised for what the model does not know the limits of; nothing has changed."""
_TRANSACTION_FIELDS: Final = 3


class CoordinationModel:
    """See the module."""

    def __init__(self, *, initial: Any = DEFAULT) -> None:
        """Begin with an empty store, the only beginning that it knows."""
        self.given = initial
        self._told: list[int] = []
        """Every number in the history that may be a revision, ascending."""
        self._owned: list[int] = []
        """Those that a change was told to be its own, ascending."""
        self._looked_at: list[int] = []
        """The revisions at which operations read, ascending."""

    def initial_of_part(self, operations: Sequence[Operation]) -> Hashable:
        """Return an empty store."""
        del operations
        return State(NEVER, (), (), None, 0)

    def objection(self, operation: Operation) -> str | None:
        """Say why the model cannot judge this operation at all."""
        if self.given is not DEFAULT:
            return "this model begins with an empty store: leave --initial out"
        if operation.op not in TAGS:
            return f"this model has no operation {show(operation.op)}: it knows {', '.join(TAGS)}"
        if operation.key is not None:
            return f"{operation.op} has no `key` here: revisions tie all keys together"
        most = 2 if operation.op == GRANT else 1
        if not 1 <= len(operation.args) <= most:
            return f"{operation.op} takes up to {most} arguments in `args`, not {len(operation.args)}"
        tag, given = TAGS[operation.op], operation.args[0]
        if tag and not (isinstance(given, tuple) and given[:1] == (tag,)):
            return f"{operation.op} takes a list that begins with {tag}, not {show(given)}"
        if operation.op == TRANSACTION and not (
            isinstance(given, tuple) and len(given) == _TRANSACTION_FIELDS
        ):
            return f"kv_txn takes [when, then, otherwise], not {show(given)}"
        return None

    def changes_nothing(self, operation: Operation) -> bool:
        """Return whether it was refused; a read tells a revision, and later changes are above that."""
        return operation.outcome == "raised" and operation.result not in {
            "CompactedRevision",
            "FutureRevision",
        }

    def alike(self, operation: Operation) -> Hashable:
        """Return the call itself."""
        return same_call(operation)

    def parts(self, operations: Sequence[Operation]) -> list[tuple[str, list[Operation]]]:
        """Return one part, and in it an end for each lease whose end is not in the history."""
        self._learn(operations)
        ended = {each.args[0] for each in operations if each.op == ENDED}
        granted = [
            (each.call, each.result if each.outcome == "ok" else _number_wanted(each))
            for each in operations
            if each.op == GRANT and each.outcome != "raised"
        ]
        ends = [
            Operation("the store", call, None, ENDED, None, (lease,), "unknown")
            for call, lease in granted
            if lease and lease not in ended
        ]
        return [("the store", [*operations, *ends])]

    def _learn(self, operations: Sequence[Operation]) -> None:
        told, owned = set[int](), set[int]()
        for each in operations:
            if each.op == GRANT:
                continue
            told.update(value for value in values_in((each.args, each.result)) if type(value) is int)
            if changed_by(each):
                owned.add(revision_told(each))
        self._told, self._owned = sorted(told - {0}), sorted(owned)
        readers = (each.args[0] for each in operations if each.op in {RANGE, TRANSACTION})
        self._looked_at = sorted({at for given in readers for at in _looks_at(given)})

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return the store after the operation."""
        assert isinstance(state, State)
        if operation.outcome == "raised" and operation.result in _UNJUDGED:
            return state
        match operation.op:
            case str(op) if op == GRANT:
                return _grant(state, operation)
            case str(op) if op == KEEP_ALIVE:
                ttl_ms = dict(state.leases).get(operation.args[0])
                legal = raises(operation, "LeaseNotFound") if ttl_ms is None else accepts(operation, ttl_ms)
                return state if legal else ILLEGAL
            case _:
                return self._run(state, operation)

    def _run(self, state: State, operation: Operation) -> Hashable:
        """Run what may change keys; where nobody was told its revision, under each that it may have."""
        if operation.outcome == "unknown":
            if operation.op == RANGE:
                return state
            return either(*(_try(state, operation, each) for each in self._candidates(state.last, operation)))
        told = revision_told(operation) if operation.outcome == "ok" else None
        if told is not None:
            following = self._next_owned(state.last)
            if following < told or (following == told and not changed_by(operation)):
                return ILLEGAL  # another change must come before: no need to find that out later
        return _try(state, operation, NEVER if told is None else (told, 0))

    def _next_owned(self, last: Revision) -> float:
        place = bisect_right(self._owned, last[0])
        return self._owned[place] if place < len(self._owned) else inf

    def _candidates(self, last: Revision, operation: Operation) -> Iterator[Revision]:
        """Yield which revision a change may have that nobody was told: numbers that are seen, and between."""
        number, unseen = last
        yield number, unseen + 1
        before = self._next_owned(last)
        if operation.op == ENDED:  # no item shows it: of those between two reads the first leaves most open
            seen = (at for at in self._looked_at if number + unseen < at < before)
            yield from ((at, 1) for at in seen)
            return
        for told in self._told[bisect_right(self._told, number) :]:
            if told >= before:
                return
            yield told, 0
            yield told, 1

    def describe(self, state: Hashable) -> str:
        """Return the keys, the leases and the last revision."""
        assert isinstance(state, State)
        keys = {key: cell.value for key, cell in state.cells}
        return f"{show(keys, 80)} at revision {state.last[0]}, leases {show(dict(state.leases))}"


def _try(state: State, operation: Operation, revision: Revision) -> Hashable:
    """Return the store after the operation if it ended as it did under this revision."""
    running = Running(state, revision)
    must, may = running.refusals(operation)
    if operation.outcome == "raised":
        return running.refused(operation) if operation.result in must | may else ILLEGAL
    if must:
        return state if operation.outcome == "unknown" else ILLEGAL
    if not running.run(operation, operation.result):
        return ILLEGAL
    if running.changed:
        return running.state() if follows(state.last, revision) and running.seen < revision else ILLEGAL
    return running.state()


def _looks_at(given: tuple[Any, ...]) -> Iterator[int]:
    """Yield the revisions at which a range, or those of a transaction, are read."""
    if given[0] == GET:
        yield from [given[4]] if given[4] else []
        return
    branches = [branch for branch in given[-2:] if isinstance(branch, tuple)]  # none in a put or a deletion
    for branch in branches:
        for each in branch:
            yield from _looks_at(each)


def _number_wanted(operation: Operation) -> int:
    """Return the number that a lease is to have; 0: the store chooses."""
    return int(operation.args[1]) if len(operation.args) > 1 else 0


def _grant(state: State, operation: Operation) -> Hashable:
    ttl_ms, wanted = operation.args[0], _number_wanted(operation)
    living = dict(state.leases)
    if wanted and wanted in living:
        return state if raises(operation, "LeaseExists") else ILLEGAL
    if operation.outcome == "unknown":
        number = wanted
    elif operation.outcome == "ok" and operation.result and wanted in {0, operation.result}:
        number = operation.result
    else:
        return ILLEGAL
    if not number:
        return state  # a lease whose number nobody was told can do nothing
    if number in living:
        return ILLEGAL
    return state._replace(leases=tuple(sorted((*state.leases, (number, ttl_ms)))))
