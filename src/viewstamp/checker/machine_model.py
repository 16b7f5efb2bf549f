"""A model made of a user's own machine: what it would answer is what the service must have answered.

The state is the machine's snapshot. A step restores a fresh instance, calls the method, compares its result,
and takes a snapshot again; each pair of state and call is worked out once. The class is trusted with nothing
but being deterministic: results that depend on `self.context` (log time, client, random numbers) cannot be
checked like this, as a history does not hold them.
"""

import inspect
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Final, get_type_hints

import msgspec
import msgspec.inspect

from viewstamp.checker.history import HistoryError, Operation, freeze, show
from viewstamp.checker.models import ILLEGAL, parts_by_key
from viewstamp.machine.state_machine import Command, Query, StateMachine, running_at

_REMEMBERED_MAX: Final = 200_000
_CONTAINERS: Final = (
    msgspec.inspect.DictType,
    msgspec.inspect.DataclassType,
    msgspec.inspect.TypedDictType,
    msgspec.inspect.StructType,
    msgspec.inspect.CollectionType,
    msgspec.inspect.TupleType,
)


class MachineModel:
    """The model of a `StateMachine` class. Its `op`s are the names of commands and queries.

    A `key` that is not null is the first argument. With `independent_keys` the caller promises that calls
    with different keys do not influence each other's results, and each key is judged apart, which is much
    faster.
    """

    def __init__(self, machine: type[StateMachine], *, independent_keys: bool = False) -> None:
        self._class = machine
        self._independent_keys = independent_keys
        self._methods: dict[str, Command[Any, Any] | Query[Any, Any]] = {
            name: method
            for name, method in inspect.getmembers_static(machine)
            if isinstance(method, Command | Query)
        }
        self._hints = {name: _argument_types(method) for name, method in self._methods.items()}
        self._worked_out: dict[Hashable, tuple[bytes, str, Any]] = {}
        self._initial = _snapshot(machine())

    def initial_of_part(self, operations: Sequence[Operation]) -> Hashable:
        """Return the snapshot of a fresh machine."""
        del operations
        return self._initial

    def parts(self, operations: Sequence[Operation]) -> list[tuple[str, list[Operation]]]:
        """Divide by key where the keys are independent."""
        if self._independent_keys:
            return parts_by_key(operations)
        return [("the machine", list(operations))] if operations else []

    def changes_nothing(self, operation: Operation) -> bool:
        """Return whether it is a query."""
        return isinstance(self._methods[operation.op], Query)

    def objection(self, operation: Operation) -> str | None:
        """Say why the machine does not take this call."""
        if operation.op not in self._methods:
            known = ", ".join(self._methods) or "none"
            return f"{self._class.__name__} has no method {show(operation.op)}: its methods are {known}"
        try:
            self._arguments(operation)
        except (TypeError, ValueError, msgspec.ValidationError) as error:
            return f"{operation.op} does not take these arguments: {error}"
        return None

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return the snapshot after the call, or `ILLEGAL`."""
        assert isinstance(state, bytes)
        call = (state, operation.op, operation.key, operation.args)
        answer = self._worked_out.get(call)
        if answer is None:
            answer = self._run(state, operation)
            if len(self._worked_out) >= _REMEMBERED_MAX:
                self._worked_out.clear()
            self._worked_out[call] = answer
        after, outcome, result = answer
        fits = operation.outcome == outcome and operation.result == result
        return after if fits or operation.outcome == "unknown" else ILLEGAL

    def describe(self, state: Hashable) -> str:
        """Return the attributes of a machine in this state."""
        assert isinstance(state, bytes)
        machine = self._class()
        machine.restore(state)
        return show({name: value for name, value in vars(machine).items() if not name.startswith("_")}, 80)

    def _run(self, state: bytes, operation: Operation) -> tuple[bytes, str, Any]:
        """Return (snapshot after, outcome, result). A query's changes, which it may not make, are dropped."""
        method = self._methods[operation.op]
        machine = self._class()
        machine.restore(state)
        with running_at(machine):
            try:
                outcome, result = "ok", freeze(method.function(machine, *self._arguments(operation)))
            except Exception as error:  # noqa: BLE001  what the machine raises is its result
                outcome, result = "raised", type(error).__name__
        return (state if isinstance(method, Query) else self._after(machine, operation)), outcome, result

    def _after(self, machine: StateMachine, operation: Operation) -> bytes:
        try:
            return _snapshot(machine)
        except Exception as error:
            what = f"{self._class.__name__} has no snapshot after {operation}"
            raise HistoryError(f"{what}: {type(error).__name__}: {error}") from error

    def _arguments(self, operation: Operation) -> list[Any]:
        given = [] if operation.key is None else [operation.key]
        given += operation.args
        bound = inspect.signature(self._methods[operation.op].function).bind(None, *given)
        assert not bound.kwargs
        types = self._hints[operation.op]
        return [_thaw(value, wanted) for value, wanted in zip(given, types, strict=False)]


def _argument_types(method: Command[Any, Any] | Query[Any, Any]) -> list[Any]:
    hints = get_type_hints(method.function)
    names = list(inspect.signature(method.function).parameters)[1:]
    return [hints.get(name, Any) for name in names]


def _thaw(value: Any, wanted: Any) -> Any:
    """Return a frozen value as the type that the method takes."""
    return msgspec.convert(_unfrozen(value, msgspec.inspect.type_info(wanted)), wanted)


def _unfrozen(value: Any, wanted: msgspec.inspect.Type) -> Any:
    """Return what became a tuple of pairs as a mapping again, wherever the type wants one."""
    if not isinstance(value, tuple):
        return value
    match wanted:
        case msgspec.inspect.DictType():
            return {key: _unfrozen(item, wanted.value_type) for key, item in value}
        case msgspec.inspect.DataclassType() | msgspec.inspect.TypedDictType():
            return _with_fields(value, wanted.fields)
        case msgspec.inspect.StructType(array_like=False):
            return _with_fields(value, wanted.fields)
        case msgspec.inspect.CollectionType():
            return tuple(_unfrozen(item, wanted.item_type) for item in value)
        case msgspec.inspect.TupleType() if len(value) == len(wanted.item_types):
            return tuple(map(_unfrozen, value, wanted.item_types))
        case msgspec.inspect.UnionType():
            containers = [kind for kind in wanted.types if isinstance(kind, _CONTAINERS)]
            return _unfrozen(value, containers[0]) if containers else value
        case _:
            return value


def _with_fields(pairs: tuple[Any, ...], fields: Iterable[msgspec.inspect.Field]) -> dict[Any, Any]:
    types = {field.encode_name: field.type for field in fields}
    return {name: _unfrozen(item, types[name]) if name in types else item for name, item in pairs}


def _snapshot(machine: StateMachine) -> bytes:
    pieces = machine.snapshot()
    return pieces if isinstance(pieces, bytes) else b"".join(pieces)
