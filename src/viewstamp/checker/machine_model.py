"""A model made of a user's own machine: what it would answer is what the service must have answered.

The state is a place in the log and the machine's snapshot. A step restores a fresh instance, calls the
method, compares its result, and takes a snapshot again; each pair of state and call is worked out once. The
class is trusted with nothing but being deterministic.

Where a history holds contexts (`history.RecordedContext`) each call runs under its own, sessions end where
the log says so, and the order of the commands is that of the log: `token` and `now` would fit no other. Where
it holds none, the place stays 0, any order will do, and a class that reads `self.context` cannot be judged.
Notifications are not part of a history.
"""

import inspect
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from operator import itemgetter
from typing import Any, Final, get_type_hints

import msgspec
import msgspec.inspect

from viewstamp.checker.history import HistoryError, Operation, RecordedContext, freeze, show
from viewstamp.checker.models import ILLEGAL, parts_by_key, same_call
from viewstamp.core.ids import COMMANDS_PER_ENTRY_MAX, Seqno, fencing_token
from viewstamp.machine.context import Context
from viewstamp.machine.state_machine import Command, Query, StateMachine, running_at

SESSION_ENDED: Final = "session_ended"
"""The `op` of the end of a session: the hook of this name ran, with the client's number as its argument."""

_REMEMBERED_MAX: Final = 200_000
_ALARMS_MAX: Final = 10_000
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
        self._recorded = False
        """Whether the history holds contexts."""
        self._before: dict[int, int] = {}
        """For the token of each executed command, that of the one before it in its part; 0 for the first."""
        self._ends: list[tuple[int, Operation]] = []
        """The ends of sessions with their tokens, in the order of the log."""

    def initial_of_part(self, operations: Sequence[Operation]) -> Hashable:
        """Return the snapshot of a fresh machine, before the first entry."""
        del operations
        return 0, self._initial

    def parts(self, operations: Sequence[Operation]) -> list[tuple[str, list[Operation]]]:
        """Divide by key where the keys are independent. Learns where in the log everything stands.

        Raises:
            HistoryError: some calls with a result have a context and some have none.
        """
        self._recorded = any(operation.context is not None for operation in operations)
        ends = [operation for operation in operations if operation.op == SESSION_ENDED]
        self._ends = sorted(((_token(end), end) for end in ends), key=itemgetter(0))
        calls = [operation for operation in operations if operation.op != SESSION_ENDED]
        if self._recorded and (missing := [call for call in calls if call.answered and call.context is None]):
            raise HistoryError(f"other operations have a `context`, this one has none: {missing[0]}")
        whole = [("the machine", calls)] if calls else []
        parts = parts_by_key(calls) if self._independent_keys else whole
        self._before = {}
        for _, part in parts:
            tokens = sorted(_token(call) for call in part if call.context and not self.changes_nothing(call))
            self._before.update(zip(tokens, [0, *tokens], strict=False))
        return parts

    def doubt(self) -> str | None:
        """Say why a violation in the history last judged may not be one; None: it is one."""
        if self._recorded or self._class.session_ended is StateMachine.session_ended:
            return None
        name = f"{self._class.__name__}.{SESSION_ENDED}"
        return f"{name} may have run, and this history does not record when sessions ended: nothing is proved"

    def changes_nothing(self, operation: Operation) -> bool:
        """Return whether it is a query."""
        return isinstance(self._methods[operation.op], Query)

    def alike(self, operation: Operation) -> Hashable:
        """Return the call: only equal ones are alike."""
        return same_call(operation)

    def objection(self, operation: Operation) -> str | None:
        """Say why the machine does not take this call."""
        if operation.op == SESSION_ENDED:
            right = operation.context is not None and len(operation.args) == 1
            return None if right else f"{SESSION_ENDED} needs a `context` and one argument, the client"
        if operation.op not in self._methods:
            known = ", ".join(self._methods) or "none"
            return f"{self._class.__name__} has no method {show(operation.op)}: its methods are {known}"
        try:
            self._arguments(operation)
        except (TypeError, ValueError, msgspec.ValidationError) as error:
            return f"{operation.op} does not take these arguments: {error}"
        return None

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return the place and the snapshot after the call, or `ILLEGAL`."""
        assert isinstance(state, tuple)
        place, snapshot = state
        context = operation.context
        is_query = self.changes_nothing(operation)
        if self._recorded:
            if context is None:
                return ILLEGAL  # its outcome was unknown, and the log does not hold it
            until = context.token
            if is_query:
                until = fencing_token(Seqno(context.seqno), COMMANDS_PER_ENTRY_MAX - 1)
            if place > until or not (is_query or self._before[until] == place):
                return ILLEGAL
            snapshot = self._with_ends(place, snapshot, until)
        after, outcome, result = self._worked(snapshot, operation)
        fits = operation.outcome == outcome and operation.result == result
        if not fits and operation.outcome != "unknown":
            return ILLEGAL
        if is_query:
            return state
        return place if context is None else context.token, after

    def describe(self, state: Hashable) -> str:
        """Return the attributes of a machine in this state."""
        assert isinstance(state, tuple)
        machine = self._restored(state[1])
        return show({name: value for name, value in vars(machine).items() if not name.startswith("_")}, 80)

    def _with_ends(self, place: int, snapshot: bytes, until: int) -> bytes:
        """Return the snapshot with what the ends of sessions did after `place`, up to `until`."""
        first = bisect_right(self._ends, place, key=itemgetter(0))
        for token, end in self._ends[first:]:
            if token > until:
                break
            snapshot = self._worked(snapshot, end)[0]
        return snapshot

    def _worked(self, snapshot: bytes, operation: Operation) -> tuple[bytes, str, Any]:
        call = (snapshot, operation.op, operation.key, operation.args, operation.context)
        answer = self._worked_out.get(call)
        if answer is None:
            answer = self._run(snapshot, operation)
            if len(self._worked_out) >= _REMEMBERED_MAX:
                self._worked_out.clear()
            self._worked_out[call] = answer
        return answer

    def _run(self, snapshot: bytes, operation: Operation) -> tuple[bytes, str, Any]:
        """Return (snapshot after, outcome, result). A query's changes, which it may not make, are dropped."""
        machine = self._restored(snapshot)
        if operation.op == SESSION_ENDED:
            assert operation.context is not None
            with _under(machine, operation.context), suppress(Exception):  # as the replicas do
                machine.session_ended(operation.args[0])
            return self._after(machine, operation), "ok", None
        is_query = self.changes_nothing(operation)
        if operation.context is None:
            outcome, result = self._call_without_context(machine, operation)
        else:
            _ring_alarms(machine, operation.context)
            with _under(machine, operation.context, reading=is_query):
                outcome, result = self._call(machine, operation)
        return snapshot if is_query else self._after(machine, operation), outcome, result

    def _call(self, machine: StateMachine, operation: Operation) -> tuple[str, Any]:
        function = self._methods[operation.op].function
        try:
            return "ok", freeze(function(machine, *self._arguments(operation)))
        except Exception as error:  # noqa: BLE001  what the machine raises is its result
            return "raised", type(error).__name__

    def _call_without_context(self, machine: StateMachine, operation: Operation) -> tuple[str, Any]:
        """Call the method; raise `HistoryError` where it reads what the history does not hold."""
        unrecorded = _Unrecorded()
        machine.bind_context(unrecorded)
        answer = self._call(machine, operation)
        if unrecorded.was_read:
            name = f"{self._class.__name__}.{operation.op}"
            raise HistoryError(f"{name} reads self.context, which this history does not record")
        return answer

    def _restored(self, snapshot: bytes) -> StateMachine:
        machine = self._class()
        machine.restore(snapshot)
        return machine

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


def _ring_alarms(machine: StateMachine, context: RecordedContext) -> None:
    """Let the machine do what was due by then, as the replicas did at this entry or before.

    The tokens of alarms are not recorded: this call's stands for them.
    """
    for _ in range(_ALARMS_MAX):
        moment = machine.next_alarm()
        if moment is None or moment > context.now:
            return
        with _under(machine, context), suppress(Exception):
            machine.alarm()


class _Unrecorded(Context):
    """A context that holds nothing, and notes that it was asked for."""

    __slots__ = ("was_read",)

    def __init__(self) -> None:
        self.was_read = False
        super().__init__()

    @property
    def running(self) -> bool:
        """True: `StateMachine.context` asks this before it hands the context out."""
        self.was_read = True
        return True

    @running.setter
    def running(self, value: bool) -> None:
        """Whatever the class sets at first."""


def _token(operation: Operation) -> int:
    assert operation.context is not None
    return operation.context.token


def _under(
    machine: StateMachine, context: RecordedContext, *, reading: bool = False
) -> AbstractContextManager[Context]:
    return running_at(
        machine,
        view=context.view,
        seqno=context.seqno,
        offset=context.offset,
        now=context.now,
        client=context.client,
        session=context.session,
        reading=reading,
    )


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
