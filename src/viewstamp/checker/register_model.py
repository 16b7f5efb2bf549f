"""The model of registers with compare-and-set and append.

`read` -> value; `write` [value] -> null; `cas` [expected, value] -> true or false;
`append` [text] -> null: the value, a text, becomes longer. A register is null until it is written; `append`
takes null for an empty text.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

from viewstamp.checker.history import Operation, show
from viewstamp.checker.models import ANYTHING, DEFAULT, ILLEGAL, KeyedModel, accepts, same_call


class Unread(NamedTuple):
    """A register whose value no client has learned since the recording began."""

    excluded: tuple[Any, ...] = ()
    """What it cannot have been at the beginning: a compare-and-set said so. Sorted by `repr`."""
    appended: str = ""
    """What was appended since."""

    def bases_of(self, value: Any) -> list[Any]:
        """Return what the register may have held at the beginning if it holds `value` now."""
        bases = [value]
        if self.appended:
            if not isinstance(value, str) or not value.endswith(self.appended):
                return []
            base = value[: -len(self.appended)]
            bases = [base] if base else ["", None]
        return [base for base in bases if base not in self.excluded]


class Register(KeyedModel):
    """See the module."""

    arguments: ClassVar = {"read": (0, 0), "write": (1, 1), "cas": (2, 2), "append": (1, 1)}
    writes: ClassVar = frozenset({"write"})

    def __init__(self, *, initial: Any = DEFAULT) -> None:
        super().__init__(initial=initial)
        self._appends = False
        """Whether anything is appended: then a value shows in results that do not equal it."""

    def initial(self) -> Hashable:
        """Return the value before the first operation."""
        if self.given is ANYTHING:
            return Unread()
        return None if self.given is DEFAULT else self.given

    def parts(self, operations: Sequence[Operation]) -> list[tuple[str, list[Operation]]]:
        """Divide by key. Learns which values the results hold."""
        self._appends = any(operation.op == "append" for operation in operations)
        return super().parts(operations)

    def alike(self, operation: Operation) -> Hashable:
        """Return what makes the call different from others."""
        return same_call(operation) if self._appends else super().alike(operation)

    def compares_with(self, operation: Operation) -> Iterable[Any]:
        """Return what a compare-and-set expects."""
        return operation.args[:1] if operation.op == "cas" else ()

    def objection(self, operation: Operation) -> str | None:
        """Say why the model cannot judge this operation at all."""
        if operation.op == "append" and len(operation.args) == 1 and not isinstance(operation.args[0], str):
            return f"append takes a text, not {show(operation.args[0])}"
        return super().objection(operation)

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return the value after the operation."""
        if isinstance(state, Unread):
            return _first_learned(state, operation)
        match operation.op:
            case "read":
                return state if accepts(operation, state) else ILLEGAL
            case "write":
                return _written(operation)
            case "append":
                if not accepts(operation, None) or not isinstance(state, str | None):
                    return ILLEGAL
                longer: str = (state or "") + operation.args[0]
                return longer
            case _:
                fits = state == operation.args[0]
                after: Hashable = operation.args[1] if fits else state
                return after if accepts(operation, fits) else ILLEGAL

    def describe(self, state: Hashable) -> str:
        """Return the value."""
        if not isinstance(state, Unread):
            return show(state)
        return f"a value that nobody read, then {show(state.appended)}" if state.appended else "not known yet"


def _first_learned(state: Unread, operation: Operation) -> Hashable:
    """Return what a register holds after an operation that found it with a value that nobody knew."""
    match operation.op:
        case "read":
            if operation.outcome == "unknown":
                return state
            learned: Hashable = operation.result
            return learned if operation.outcome == "ok" and state.bases_of(learned) else ILLEGAL
        case "write":
            return _written(operation)
        case "append":
            if not accepts(operation, None):
                return ILLEGAL
            return state._replace(appended=state.appended + operation.args[0])
        case _:
            bases = state.bases_of(operation.args[0])
            if accepts(operation, True):
                after: Hashable = operation.args[1]
                return after if bases else ILLEGAL
            if not accepts(operation, False):
                return ILLEGAL
            return state._replace(excluded=tuple(sorted((*state.excluded, *bases), key=repr)))


def _written(operation: Operation) -> Hashable:
    value: Hashable = operation.args[0]
    return value if accepts(operation, None) else ILLEGAL
