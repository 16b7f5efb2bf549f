"""Sequential models: what the results of operations may be when one comes after the other.

A model is a deterministic machine whose states can be hashed. `step` says whether an operation could have
ended as it did in a given state, and what the state is then; of an operation with unknown outcome it says
what the state is if it took effect. The state must hold everything that later results depend on.

A recording may begin in the middle of a service's life. With `initial=ANYTHING` a model takes the first
results for what they show of the state, and claims a contradiction only between results.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TypeAlias

import msgspec

from viewstamp.checker.history import Operation, show


class _Illegal(Enum):
    ILLEGAL = "illegal"


ILLEGAL: Final = _Illegal.ILLEGAL
"""Returned by `Model.step`: the operation cannot have ended like this in this state."""


class _Start(Enum):
    DEFAULT = "default"
    ANYTHING = "anything"


DEFAULT: Final = _Start.DEFAULT
"""As `initial`: what a new object of this kind holds."""
ANYTHING: Final = _Start.ANYTHING
"""As `initial`: nobody knows what the object held when the recording began."""


class Either(msgspec.Struct, frozen=True):
    """Returned by `Model.step`: the operation may have led to any of these states."""

    states: tuple[Hashable, ...]
    """One or more, all different."""


class Model(Protocol):
    """A sequential specification."""

    def initial_of_part(self, operations: Sequence[Operation]) -> Hashable:
        """Return the state before the first operation of a part."""
        ...

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return the state after the operation, `Either` of several, or `ILLEGAL`.

        Never called for outcome `failed`.
        """
        ...

    def changes_nothing(self, operation: Operation) -> bool:
        """Return whether an operation that ended like this leaves every state in which it is legal as it is.

        Reads and refusals do, a write of what is there already does not: elsewhere it would change something.
        False is always right, and slower.
        """
        ...

    def alike(self, operation: Operation) -> Hashable:
        """Return what makes an operation with unknown outcome different from others of its part.

        Two that are alike may change places in any order, and no result of the part tells it. `same_call`
        is always right.
        """
        ...

    def objection(self, operation: Operation) -> str | None:
        """Say why the model cannot judge this operation at all (an unknown name, wrong arguments)."""
        ...

    def parts(self, operations: Sequence[Operation]) -> list[tuple[str, list[Operation]]]:
        """Divide a history into parts that can be judged apart, each with a name for people.

        Called once for each history, before `initial_of_part` and `step`.
        """
        ...

    def describe(self, state: Hashable) -> str:
        """Return the state as a short text for people."""
        ...


def either(*states: Hashable) -> Hashable:
    """Return `Either` of the states that are legal, the one that is, or `ILLEGAL`."""
    found: dict[Hashable, None] = {}
    for state in states:
        if state is not ILLEGAL:
            found.update(dict.fromkeys(state.states if isinstance(state, Either) else (state,)))
    legal = tuple(found)
    return Either(legal) if len(legal) > 1 else legal[0] if legal else ILLEGAL


def same_call(operation: Operation) -> Hashable:
    """Return the call itself: name, key, arguments, context."""
    return operation.op, operation.key, operation.args, operation.context


def parts_by_key(operations: Sequence[Operation]) -> list[tuple[str, list[Operation]]]:
    """Divide by key. One operation without a key ties all together, as it may touch every key."""
    if any(operation.key is None for operation in operations):
        return [("the whole object", list(operations))]
    parts: dict[Hashable, list[Operation]] = {}
    for operation in operations:
        parts.setdefault(operation.key, []).append(operation)
    return [(f"key {show(key)}", part) for key, part in parts.items()]


def accepts(operation: Operation, result: Any) -> bool:
    """Return whether the operation may have returned `result`: what is unknown may always."""
    return operation.outcome == "unknown" or (operation.outcome == "ok" and operation.result == result)


def raises(operation: Operation, kind: str) -> bool:
    """Return whether the operation may have raised the exception of this name."""
    return operation.outcome == "unknown" or (operation.outcome == "raised" and operation.result == kind)


def values_in(value: Any) -> Iterator[Hashable]:
    """Yield a frozen value and all that it holds."""
    yield value
    if isinstance(value, tuple):
        for item in value:
            yield from values_in(item)


class KeyedModel:
    """What the models below share: a table of operations, and division by key."""

    arguments: ClassVar[Mapping[str, tuple[int, int]]]
    """For each operation the smallest and largest number of arguments."""
    reads: ClassVar[frozenset[str]] = frozenset({"read"})
    """Operations that never change anything."""
    writes: ClassVar[frozenset[str]] = frozenset()
    """Operations whose first argument becomes the value, and is compared with results alone."""

    def __init__(self, *, initial: Any = DEFAULT) -> None:
        """Begin each key with this value; `DEFAULT`: as a new one; `ANYTHING`: nobody knows."""
        self.given = initial
        self._told: frozenset[Hashable] = frozenset()
        """The values that results of the history hold, and those that calls compare with."""

    def initial(self) -> Hashable:
        """Return the state of one key before the first operation."""
        return None if self.given is DEFAULT else self.given

    def initial_of_part(self, operations: Sequence[Operation]) -> Hashable:
        """Return the state before the first operation; it is the same for all parts."""
        del operations
        return self.initial()

    def changes_nothing(self, operation: Operation) -> bool:
        """Return whether it is a read, or was refused."""
        return operation.op in self.reads or (operation.outcome == "ok" and operation.result is False)

    def alike(self, operation: Operation) -> Hashable:
        """Return the call; a value that no result tells stands for all such values."""
        if operation.op in self.writes and operation.args[0] not in self._told:
            return operation.op, operation.key, operation.args[1:]
        return same_call(operation)

    def compares_with(self, operation: Operation) -> Iterable[Any]:
        """Return the values which this call compares the state with."""
        del operation
        return ()

    def objection(self, operation: Operation) -> str | None:
        """Say why the model cannot judge this operation at all."""
        if operation.op not in self.arguments:
            known = ", ".join(self.arguments)
            return f"this model has no operation {show(operation.op)}: it knows {known}"
        least, most = self.arguments[operation.op]
        if not least <= len(operation.args) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            return f"{operation.op} takes {wanted} arguments in `args`, not {len(operation.args)}"
        return None

    def parts(self, operations: Sequence[Operation]) -> list[tuple[str, list[Operation]]]:
        """Divide by key. Learns which values the results hold."""
        if any(operation.outcome == "unknown" for operation in operations):
            compared = ((operation.result, *self.compares_with(operation)) for operation in operations)
            self._told = frozenset(value for values in compared for value in values_in(values))
        return parts_by_key(operations)

    def describe(self, state: Hashable) -> str:
        """Return the state as it is."""
        return show(state)


class CounterModel(KeyedModel):
    """Counters, one for each key, from 0. `add` [amount] -> the new value; `read` -> the value."""

    arguments: ClassVar = {"add": (1, 1), "read": (0, 0)}

    def initial(self) -> Hashable:
        """Return zero unless told otherwise."""
        if self.given is ANYTHING:
            return Shifted(0)
        return 0 if self.given is DEFAULT else self.given

    def objection(self, operation: Operation) -> str | None:
        """Say why the model cannot judge this operation at all."""
        if operation.op == "add" and len(operation.args) == 1 and not isinstance(operation.args[0], int):
            return f"add takes an integer, not {show(operation.args[0])}"
        return super().objection(operation)

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return the value after the operation."""
        amount = operation.args[0] if operation.op == "add" else 0
        if isinstance(state, Shifted):
            if operation.outcome == "unknown":
                return Shifted(state.by + amount)
            return operation.result if accepts(operation, operation.result) else ILLEGAL
        assert isinstance(state, int)
        after = state + amount
        return after if accepts(operation, after) else ILLEGAL

    def describe(self, state: Hashable) -> str:
        """Return the value."""
        return f"{state.by} more than at the beginning" if isinstance(state, Shifted) else show(state)


class Shifted(NamedTuple):
    """A counter of which no client has learned the value since the recording began."""

    by: int
    """What was added since."""


Holder: TypeAlias = int | tuple[int, ...] | None
"""The token that holds a lock; or those that do not, where no client learned which does; None: it is free."""


_FREE: Final = (None, -1)
_HELD_BY_ANY: Final = ((), -1)
_ANY_LOCK: Final = "any"


class LockModel(KeyedModel):
    """Locks with fencing tokens, one for each key, that no holder loses without releasing.

    `acquire` [] -> the token of the grant, larger than all tokens before; null: refused, it is held.
    `release` [token] -> true; false: this token does not hold the lock. The state is (holding token or
    None, last token). A grant whose outcome is unknown has a token that is not known: in its place stand the
    tokens that it cannot be, and a release of any other that is larger than the last known one may match.
    """

    arguments: ClassVar = {"acquire": (0, 0), "release": (1, 1)}

    def initial(self) -> Hashable:
        """Return a free lock that was never granted, unless told otherwise."""
        if self.given is ANYTHING:
            return _ANY_LOCK
        return (None, -1) if self.given is DEFAULT else (self.given, self.given)

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return (holding token, last token) after the operation."""
        if state == _ANY_LOCK:
            held, free = ((self.step(one, operation)) for one in (_HELD_BY_ANY, _FREE))
            return either(held, free)
        assert isinstance(state, tuple)
        holder, last = state
        if operation.op == "acquire":
            return self._acquire(holder, last, operation)
        return self._release(holder, last, operation)

    def changes_nothing(self, operation: Operation) -> bool:
        """Return whether it was refused."""
        return operation.outcome == "ok" and (operation.result is None or operation.result is False)

    def _acquire(self, holder: Holder, last: int, operation: Operation) -> Hashable:
        if holder is not None:
            return (holder, last) if accepts(operation, None) else ILLEGAL
        if operation.outcome == "unknown":
            return ((), last)
        token = operation.result
        granted = operation.outcome == "ok" and isinstance(token, int) and token > last
        return (token, token) if granted else ILLEGAL

    def _release(self, holder: Holder, last: int, operation: Operation) -> Hashable:
        token = operation.args[0]
        if not isinstance(holder, tuple):
            holds = holder is not None and holder == token
            if not accepts(operation, holds):
                return ILLEGAL
            return (None, last) if holds else (holder, last)
        if not isinstance(token, int) or token <= last or token in holder:
            return (holder, last) if accepts(operation, False) else ILLEGAL
        if accepts(operation, True):
            return (None, token)
        return (tuple(sorted((*holder, token))), last) if accepts(operation, False) else ILLEGAL

    def describe(self, state: Hashable) -> str:
        """Return the holder of the lock."""
        if state == _ANY_LOCK:
            return "held or free, nobody knows"
        assert isinstance(state, tuple)
        holder, last = state
        if holder is None:
            return f"free, last token {last}"
        return (
            "held with a token that no client learned"
            if isinstance(holder, tuple)
            else f"held with token {holder}"
        )
