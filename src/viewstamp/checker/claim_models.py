"""Models of what is granted for a while: semaphores, read-write locks, queues whose items are leased.

`semaphore`: `acquire` [weight] -> the token of the grant, larger than all before; null: it did not fit.
`release` [token] -> true; false: nothing is held under this token. Its size is what `initial` gives, or 1.
`rwlock`: the same with `acquire` ["read"] or ["write"].
`leased-queue`: `put` [value] -> null; `take` -> [value, token], or null where no item is ready; `ack` [token]
and `give_back` [token] -> true; false: the item is not taken under this token (any longer). An item whose
lease ended is ready again, in its old place; when that happens is not recorded, so it may be at any time.
"""

from collections.abc import Hashable
from typing import Any, ClassVar, Final, TypeAlias

from viewstamp.checker.history import Operation, show
from viewstamp.checker.models import DEFAULT, ILLEGAL, KeyedModel, accepts, either

WRITER: Final = 1 << 20
"""What a writer weighs, and the size of its lock."""

Grants: TypeAlias = tuple[tuple[int, int], ...]
"""(token, weight) of what is held, sorted."""
Held: TypeAlias = tuple[Grants, tuple[int, ...], int]
"""What is held, the weights of grants whose tokens nobody knows, the last token that is known."""
Items: TypeAlias = tuple[tuple[int, Any], ...]
"""(number, value), in order."""
Taken: TypeAlias = tuple[tuple[int, int], ...]
"""(number, token) of the items that are taken, sorted; the token -1 is one that nobody knows."""
Queue: TypeAlias = tuple[Items, Taken, int, int]
"""Items, what is taken of them, the next number, the last token that is known."""

_UNKNOWN: Final = -1


class SemaphoreModel(KeyedModel):
    """A semaphore for each key, whose grants nobody loses without releasing them."""

    arguments: ClassVar = {"acquire": (1, 1), "release": (1, 1)}

    def initial(self) -> Hashable:
        """Return a semaphore of which nothing is held."""
        return (), (), -1

    def size(self) -> int:
        """Return how many permits there are."""
        return self.given if isinstance(self.given, int) else 1

    def weight(self, operation: Operation) -> int:
        """Return how many permits an acquire wants."""
        return int(operation.args[0])

    def objection(self, operation: Operation) -> str | None:
        """Say why the model cannot judge this operation at all."""
        if self.given is not DEFAULT and not isinstance(self.given, int):
            return "say how many permits the semaphore has, such as --initial 3"
        if operation.op == "acquire" and not isinstance(operation.args[0], int):
            return f"acquire takes a number of permits, not {show(operation.args[0])}"
        return super().objection(operation)

    def changes_nothing(self, operation: Operation) -> bool:
        """Return whether it was refused."""
        return operation.outcome == "ok" and (operation.result is None or operation.result is False)

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return what is held after the operation."""
        assert isinstance(state, tuple)
        if operation.op == "acquire":
            return self._acquire(state, operation)
        return _release(state, operation)

    def _acquire(self, state: Held, operation: Operation) -> Hashable:
        held, unknown, last = state
        weight = self.weight(operation)
        fits = sum(one for _, one in held) + sum(unknown) + weight <= self.size()
        if not fits:
            return state if accepts(operation, None) else ILLEGAL
        if operation.outcome == "unknown":
            return held, tuple(sorted((*unknown, weight))), last
        token = operation.result
        if operation.outcome != "ok" or not isinstance(token, int) or token <= last:
            return ILLEGAL
        return tuple(sorted((*held, (token, weight)))), unknown, token

    def describe(self, state: Hashable) -> str:
        """Return what is held."""
        assert isinstance(state, tuple)
        return f"of {self.size()} held by token: {show(dict(state[0]))}, by unknown tokens: {show(state[1])}"


def _release(state: Held, operation: Operation) -> Hashable:
    held, unknown, last = state
    token = operation.args[0]
    rest = tuple(one for one in held if one[0] != token)
    if len(rest) < len(held):
        return (rest, unknown, last) if accepts(operation, True) else ILLEGAL
    outcomes: list[Hashable] = [state] if accepts(operation, False) else []
    if accepts(operation, True):
        for place, weight in enumerate(unknown):
            if weight not in unknown[:place]:
                outcomes.append((held, unknown[:place] + unknown[place + 1 :], last))
    return either(*outcomes) if outcomes else ILLEGAL


class ReadWriteLockModel(SemaphoreModel):
    """A read-write lock for each key: any number of readers, or one writer."""

    def size(self) -> int:
        """Return what all of a lock weighs."""
        return WRITER

    def weight(self, operation: Operation) -> int:
        """Return what a reader or a writer weighs."""
        return WRITER if operation.args[0] == "write" else 1

    def objection(self, operation: Operation) -> str | None:
        """Say why the model cannot judge this operation at all."""
        if objection := _begins_empty(self):
            return objection
        if operation.op == "acquire" and operation.args not in {("read",), ("write",)}:
            return f'acquire takes "read" or "write", not {show(operation.args)}'
        return KeyedModel.objection(self, operation)


class LeasedQueueModel(KeyedModel):
    """A queue for each key whose items are taken under leases."""

    arguments: ClassVar = {"put": (1, 1), "take": (0, 0), "ack": (1, 1), "give_back": (1, 1)}
    writes: ClassVar = frozenset({"put"})

    def initial(self) -> Hashable:
        """Return an empty queue."""
        return (), (), 0, -1

    def objection(self, operation: Operation) -> str | None:
        """Say why the model cannot judge this operation at all."""
        return _begins_empty(self) or super().objection(operation)

    def changes_nothing(self, operation: Operation) -> bool:
        """Return whether nothing was taken."""
        return operation.op == "take" and operation.outcome == "ok" and operation.result is None

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return the queue after the operation."""
        assert isinstance(state, tuple)
        items, taken, number, last = state
        if operation.op == "put":
            put = (*items, (number, operation.args[0])), taken, number + 1, last
            return put if accepts(operation, None) else ILLEGAL
        if operation.op == "take":
            return _take(state, operation)
        return _settle(state, operation)

    def describe(self, state: Hashable) -> str:
        """Return the values, and which are taken."""
        assert isinstance(state, tuple)
        taken = dict(state[1])
        return show(tuple((value, taken.get(number)) for number, value in state[0]), 80)


def _begins_empty(model: KeyedModel) -> str | None:
    return None if model.given is DEFAULT else "this model begins with nothing held: leave --initial out"


def _take(state: Queue, operation: Operation) -> Hashable:
    items, taken, number, last = state
    under = dict(taken)
    ready = next((one for one, _ in items if one not in under), number)
    if operation.outcome == "ok" and operation.result is None:
        return state if ready == number else ILLEGAL
    # What is taken may be ready again, if it stands before the first that is ready.
    candidates = [one for one, _ in items if one <= ready]
    if operation.outcome == "unknown":
        return either(state, *(_with(state, one, _UNKNOWN, last) for one in candidates))
    if operation.outcome != "ok" or not isinstance(operation.result, tuple) or len(operation.result) != 2:
        return ILLEGAL
    value, token = operation.result
    if not isinstance(token, int) or token <= last:
        return ILLEGAL
    values = dict(items)
    return either(ILLEGAL, *(_with(state, one, token, token) for one in candidates if values[one] == value))


def _with(state: Queue, taken: int, token: int, last: int) -> Hashable:
    items, before, number, _ = state
    others = (one for one in before if one[0] != taken)
    return items, tuple(sorted((*others, (taken, token)))), number, last


def _settle(state: Queue, operation: Operation) -> Hashable:
    """Return the queue after an item was done or given back, or was found to be another's."""
    items, taken, number, last = state
    token = operation.args[0]
    mine = [one for one, under in taken if under == token]
    possible = mine or [one for one, under in taken if under == _UNKNOWN]
    outcomes: list[Hashable] = []
    if accepts(operation, True):
        for one in possible:
            rest = tuple(each for each in taken if each[0] != one)
            left = tuple(item for item in items if item[0] != one) if operation.op == "ack" else items
            outcomes.append((left, rest, number, last))
    if accepts(operation, False):
        outcomes.append((items, tuple(each for each in taken if each[0] not in mine), number, last))
    return either(*outcomes) if outcomes else ILLEGAL
