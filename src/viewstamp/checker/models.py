"""Sequential models: what the results of operations may be when one comes after the other.

A model is a deterministic machine whose states can be hashed. `step` says whether an operation could have
ended as it did in a given state, and what the state is then; of an operation with unknown outcome it says
what the state is if it took effect. The state must hold everything that later results depend on.
"""

from collections.abc import Hashable, Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar, Final, Protocol, TypeAlias

from viewstamp.checker.history import Operation, show


class _Illegal(Enum):
    ILLEGAL = "illegal"


ILLEGAL: Final = _Illegal.ILLEGAL
"""Returned by `Model.step`: the operation cannot have ended like this in this state."""


class Model(Protocol):
    """A sequential specification."""

    def initial_of_part(self, operations: Sequence[Operation]) -> Hashable:
        """Return the state before the first operation of a part."""
        ...

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return the state after the operation, or `ILLEGAL`. Never called for outcome `failed`."""
        ...

    def changes_nothing(self, operation: Operation) -> bool:
        """Return whether an operation that ended like this leaves every state in which it is legal as it is.

        Reads and refusals do, a write of what is there already does not: elsewhere it would change something.
        False is always right, and slower.
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


class KeyedModel:
    """What the models below share: a table of operations, and division by key."""

    arguments: ClassVar[Mapping[str, tuple[int, int]]]
    """For each operation the smallest and largest number of arguments."""
    reads: ClassVar[frozenset[str]] = frozenset({"read"})
    """Operations that never change anything."""

    def initial(self) -> Hashable:
        """Return the state of one key before the first operation."""
        return None

    def initial_of_part(self, operations: Sequence[Operation]) -> Hashable:
        """Return the state before the first operation; it is the same for all parts."""
        del operations
        return self.initial()

    def changes_nothing(self, operation: Operation) -> bool:
        """Return whether it is a read, or was refused."""
        return operation.op in self.reads or (operation.outcome == "ok" and operation.result is False)

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
        """Divide by key."""
        return parts_by_key(operations)

    def describe(self, state: Hashable) -> str:
        """Return the state as it is."""
        return show(state)


class Register(KeyedModel):
    """Registers with compare-and-set, one for each key; null until they are written.

    `read` -> value; `write` [value] -> null; `cas` [expected, value] -> true or false.
    """

    arguments: ClassVar = {"read": (0, 0), "write": (1, 1), "cas": (2, 2)}

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return the value after the operation."""
        match operation.op:
            case "read":
                return state if accepts(operation, state) else ILLEGAL
            case "write":
                return operation.args[0] if accepts(operation, None) else ILLEGAL
            case _:
                fits = state == operation.args[0]
                after = operation.args[1] if fits else state
                return after if accepts(operation, fits) else ILLEGAL


class CounterModel(KeyedModel):
    """Counters, one for each key, from 0. `add` [amount] -> the new value; `read` -> the value."""

    arguments: ClassVar = {"add": (1, 1), "read": (0, 0)}

    def initial(self) -> Hashable:
        """Return zero."""
        return 0

    def objection(self, operation: Operation) -> str | None:
        """Say why the model cannot judge this operation at all."""
        if operation.op == "add" and len(operation.args) == 1 and not isinstance(operation.args[0], int):
            return f"add takes an integer, not {show(operation.args[0])}"
        return super().objection(operation)

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return the value after the operation."""
        assert isinstance(state, int)
        after = state + operation.args[0] if operation.op == "add" else state
        return after if accepts(operation, after) else ILLEGAL


Holder: TypeAlias = int | tuple[int, ...] | None
"""The token that holds a lock; or those that do not, where no client learned which does; None: it is free."""


class LockModel(KeyedModel):
    """Locks with fencing tokens, one for each key, that no holder loses without releasing.

    `acquire` [] -> the token of the grant, larger than all tokens before; null: refused, it is held.
    `release` [token] -> true; false: this token does not hold the lock. The state is (holding token or
    None, last token). A grant whose outcome is unknown has a token that is not known: in its place stand the
    tokens that it cannot be, and a release of any other that is larger than the last known one may match.
    """

    arguments: ClassVar = {"acquire": (0, 0), "release": (1, 1)}

    def initial(self) -> Hashable:
        """Return a free lock that was never granted."""
        return (None, -1)

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return (holding token, last token) after the operation."""
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
        assert isinstance(state, tuple)
        holder, last = state
        if holder is None:
            return f"free, last token {last}"
        return (
            "held with a token that no client learned"
            if isinstance(holder, tuple)
            else f"held with token {holder}"
        )
