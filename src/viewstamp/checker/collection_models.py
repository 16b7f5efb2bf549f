"""Models of queues and sets.

`queue`: first in, first out. `enqueue` [value] -> null; `dequeue` -> the oldest value, null where it is
empty; `peek` -> the same without taking it; `size` -> how many there are.
`set`: `add` [value] -> whether it was new; `remove` [value] -> whether it was there; `contains` [value] ->
true or false; `size`; `read` -> all values as a list in any order. A result of null from `add` or `remove` is
not compared.
"""

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

from viewstamp.checker.history import HistoryError, Operation, show
from viewstamp.checker.models import ANYTHING, DEFAULT, ILLEGAL, KeyedModel, accepts, either

_SIZED = "size"


class QueueModel(KeyedModel):
    """A queue for each key. What it held at the beginning must be given: results do not show it."""

    arguments: ClassVar = {"enqueue": (1, 1), "dequeue": (0, 0), "peek": (0, 0), "size": (0, 0)}
    reads: ClassVar = frozenset({"peek", "size"})
    writes: ClassVar = frozenset({"enqueue"})

    def initial(self) -> Hashable:
        """Return the values, the oldest first."""
        return () if self.given is DEFAULT else self.given

    def parts(self, operations: Sequence[Operation]) -> list[tuple[str, list[Operation]]]:
        """Divide by key.

        Raises:
            HistoryError: the values at the beginning are not given as a list.
        """
        if not isinstance(self.initial(), tuple):
            raise HistoryError("a queue begins with a list of values: give it, or begin with an empty queue")
        return super().parts(operations)

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return the values after the operation, the oldest first."""
        assert isinstance(state, tuple)
        if operation.op == "enqueue":
            return (*state, operation.args[0]) if accepts(operation, None) else ILLEGAL
        if operation.op == _SIZED:
            return state if accepts(operation, len(state)) else ILLEGAL
        if not accepts(operation, state[0] if state else None):
            return ILLEGAL
        return tuple(state[1:]) if operation.op == "dequeue" else state

    def describe(self, state: Hashable) -> str:
        """Return the values, the oldest first."""
        return "an empty queue" if state == () else show(state, 80)


class SetModel(KeyedModel):
    """A set for each key; where nobody asks for all of it, each value is judged apart."""

    arguments: ClassVar = {
        "add": (1, 1),
        "remove": (1, 1),
        "contains": (1, 1),
        "read": (0, 0),
        "size": (0, 0),
    }
    reads: ClassVar = frozenset({"contains", "read", "size"})

    def initial_of_part(self, operations: Sequence[Operation]) -> Hashable:
        """Return the values before the first operation."""
        if self.given is ANYTHING:
            nobody_knows: Hashable = ANYTHING
            return nobody_knows
        given: frozenset[Any] = frozenset(() if self.given is DEFAULT else self.given)
        if _whole(operations):
            return given
        return frozenset(operation.args[0] for operation in operations if operation.args[0] in given)

    def parts(self, operations: Sequence[Operation]) -> list[tuple[str, list[Operation]]]:
        """Divide by key, and by value where no call of the key asks for the whole set.

        Raises:
            HistoryError: a call asks for the whole set, and what it held at the beginning is not given.
        """
        if not isinstance(self.given, tuple) and self.given is not DEFAULT and _whole(operations):
            raise HistoryError("`read` and `size` of a set need the values at the beginning, as a list")
        divided = []
        for name, part in super().parts(operations):
            if _whole(part):
                divided.append((name, part))
                continue
            by_value: dict[Hashable, list[Operation]] = {}
            for operation in part:
                by_value.setdefault(operation.args[0], []).append(operation)
            divided += [(f"{name}, value {show(value)}", some) for value, some in by_value.items()]
        return divided

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return the values after the operation."""
        if state is ANYTHING:
            absent, present = frozenset[Any](), frozenset(operation.args[:1])
            return either(self.step(absent, operation), self.step(present, operation))
        assert isinstance(state, frozenset)
        if operation.op == "read":
            return state if _lists(operation, state) else ILLEGAL
        if operation.op == _SIZED:
            return state if accepts(operation, len(state)) else ILLEGAL
        value = operation.args[0]
        there = value in state
        if operation.op == "contains":
            return state if accepts(operation, there) else ILLEGAL
        told = not there if operation.op == "add" else there
        after: frozenset[Any] = state | {value} if operation.op == "add" else state - {value}
        return after if accepts(operation, told) or accepts(operation, None) else ILLEGAL

    def describe(self, state: Hashable) -> str:
        """Return the values."""
        if state is ANYTHING:
            return "not known yet"
        assert isinstance(state, frozenset)
        return show(tuple(sorted(state, key=repr)), 80) if state else "an empty set"


def _whole(operations: Sequence[Operation]) -> bool:
    return any(operation.op in {"read", _SIZED} for operation in operations)


def _lists(operation: Operation, state: frozenset[Any]) -> bool:
    if operation.outcome == "unknown":
        return True
    told = operation.result
    return (
        operation.outcome == "ok"
        and isinstance(told, tuple)
        and len(told) == len(state)
        and frozenset(told) == state
    )
