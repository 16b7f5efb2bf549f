"""Workloads of machines that this library does not know: a user's own classes.

`viewstamp sim --workload MODULE:CLASS` takes a `StateMachine`, whose methods are called with small random
arguments of their types, or a subclass of `OwnMachine` that says better what to call. The class itself is the
model: what it answers alone is what the cluster must have answered.
"""

from collections.abc import Iterator
from random import Random
from typing import Any, ClassVar, Final

import msgspec
from msgspec import inspect

from viewstamp.checker.history import Operation
from viewstamp.checker.machine_model import MachineModel
from viewstamp.checker.models import ILLEGAL, Model
from viewstamp.core.errors import ConfigurationError
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.authorization import Grant
from viewstamp.sim.workloads.clients import CallKind, Plan, SimClient
from viewstamp.sim.world.options import LoadOptions, SwarmOptions

UNKNOWN_MAX: Final = 6
_CLIENTS_MAX: Final = 4
_TIMEOUT_MIN_US: Final = 3_000_000
_READS: Final = 0.5
_FEW: Final = 3
_INTEGERS: Final = 4
_TEXTS: Final = {
    "DateTimeType": ("2026-11-30T10:00:00Z", "2026-11-30T10:00:00.5Z", "2027-01-01T00:00:00Z"),
    "DateType": ("2026-11-30", "2026-12-01", "2027-01-01"),
    "TimeType": ("10:00:00", "10:00:00.5", "23:59:59"),
    "TimeDeltaType": ("PT1S", "PT90S", "P1D"),
    "DecimalType": ("1", "0.10", "2.5"),
    "UUIDType": tuple(f"00000000-0000-4000-8000-00000000000{digit}" for digit in "123"),
    "ByteArrayType": ("YQ==", "Yg=="),
}
"""Of types that travel as text: some texts that msgspec converts to them."""


class OwnMachine:
    """Calls of a machine's methods. A subclass sets `machine`, and may override `call`.

    Results that depend on `self.context` are not a function of state and arguments: set `judged` to
    False then. The replicas are still compared.
    """

    machine: type[StateMachine]
    judged: ClassVar[bool] = True
    """Whether the history must be what the class alone would have answered."""
    independent_keys: ClassVar[bool] = False
    """A promise: calls with different first arguments do not influence each other. Much faster to judge."""
    later: tuple[type[StateMachine], ...] = ()
    """Later versions of the class, to be deployed while the cluster runs (`faults.deploys`)."""
    needs_sessions = False
    grants: tuple[Grant, ...] = ()
    client_kind: type[SimClient] | None = None

    def __init__(self, load: LoadOptions) -> None:
        self.load = load
        self.model: Model = MachineModel(self.machine, independent_keys=self.independent_keys)
        if not self.judged:
            self.model = Anything(self.machine)
        self._methods = MachineDefinition.of(self.machine).methods
        self.commands = sorted(name for name, method in self._methods.items() if method.kind == "command")
        self.queries = sorted(name for name, method in self._methods.items() if method.kind == "query")
        self._unknown = 0

    def call(self, rng: Random, method: str) -> tuple[Any, ...]:
        """Return arguments for a call of this method. Few different ones, so that clients meet."""
        return drawn_arguments(rng, self.machine, method)

    def fit(self, options: SwarmOptions) -> SwarmOptions:
        """Let few clients call at a time, and wait long: the whole machine is one object to the checker."""
        load = msgspec.structs.replace(
            options.load,
            clients=min(options.load.clients, _CLIENTS_MAX),
            pipeline=1,
            sessionless=0.0,
            call_timeout_us=max(options.load.call_timeout_us, _TIMEOUT_MIN_US),
        )
        return msgspec.structs.replace(options, load=load)

    def plan(self, rng: Random) -> Plan:
        """Return the next call of some client: no command once too many outcomes are unknown."""
        is_read = rng.random() < min(self.load.reads, _READS) or self._unknown >= UNKNOWN_MAX
        if self.queries and (is_read or not self.commands):
            stale = rng.random() < self.load.stale_reads
            return self._planned(rng, "stale" if stale else "linearizable", rng.choice(self.queries))
        return self._planned(rng, "command", rng.choice(self.commands))

    def note_result(self, plan: Plan, result: object) -> None:
        """Nothing to learn."""

    def note_unknown(self, plan: Plan) -> None:
        """Count the command: each unknown outcome doubles the checker's work."""
        self._unknown += plan.kind == "command"

    def final_plans(self) -> list[Plan]:
        """Return a call of each method."""
        rng = Random(1)  # noqa: S311  a simulation
        commands = [self._planned(rng, "command", name) for name in self.commands]
        return commands + [self._planned(rng, "linearizable", name) for name in self.queries]

    def _planned(self, rng: Random, kind: CallKind, method: str) -> Plan:
        arguments = self.call(rng, method)
        if self.independent_keys and arguments:
            return Plan(kind, method, arguments[0], arguments[1:])
        return Plan(kind, method, None, arguments)


class Anything(MachineModel):
    """A model to which every result is right."""

    def step(self, state: Any, operation: Operation) -> Any:
        """Return the state as it is."""
        del operation
        assert state is not ILLEGAL
        return state

    def changes_nothing(self, operation: Operation) -> bool:
        """Return True: every order is as good as any other."""
        del operation
        return True


def drawn_arguments(rng: Random, machine: type[StateMachine], method: str) -> tuple[Any, ...]:
    """Return small random arguments of the types that a method takes.

    Raises:
        ConfigurationError: values of one of the types cannot be drawn.
    """
    info = inspect.type_info(MachineDefinition.of(machine).methods[method].arguments)
    assert isinstance(info, inspect.StructType)
    return tuple(
        _drawn(rng, field.type, f"{machine.__name__}.{method}({field.name})") for field in info.fields
    )


def _drawn(rng: Random, wanted: inspect.Type, where: str) -> Any:
    """Return a value that msgspec converts to the type."""
    match wanted:
        case inspect.NoneType():
            return None
        case inspect.BoolType():
            return rng.random() < 0.5
        case inspect.IntType() | inspect.FloatType() | inspect.AnyType():
            return _number(rng, wanted)
        case inspect.StrType():
            return rng.choice("abc") * max(1, wanted.min_length or 1)
        case inspect.BytesType():
            return rng.choice("abc").encode() * max(1, wanted.min_length or 1)
        case inspect.LiteralType():
            return rng.choice(list(wanted.values))
        case inspect.EnumType():
            return rng.choice(list(wanted.cls)).value
        case inspect.UnionType():
            return _drawn(rng, rng.choice(list(wanted.types)), where)
        case _ if type(wanted).__name__ in _TEXTS:
            return rng.choice(_TEXTS[type(wanted).__name__])
        case _:
            return _drawn_container(rng, wanted, where)


def _drawn_container(rng: Random, wanted: inspect.Type, where: str) -> Any:
    match wanted:
        case inspect.CollectionType():
            return [_drawn(rng, wanted.item_type, where) for _ in _some(rng)]
        case inspect.TupleType():
            return [_drawn(rng, item, where) for item in wanted.item_types]
        case inspect.DictType():
            return {
                _drawn(rng, wanted.key_type, where): _drawn(rng, wanted.value_type, where) for _ in _some(rng)
            }
        case inspect.DataclassType() | inspect.TypedDictType():
            return {field.encode_name: _drawn(rng, field.type, where) for field in wanted.fields}
        case inspect.StructType(tag=None, array_like=False):
            return {field.encode_name: _drawn(rng, field.type, where) for field in wanted.fields}
        case _:
            raise ConfigurationError(
                f"{where}: no value of this type can be drawn; subclass OwnMachine and override `call`"
            )


def _some(rng: Random) -> Iterator[int]:
    return iter(range(rng.randrange(_FEW)))


def _number(rng: Random, wanted: inspect.Type) -> int:
    least, most = getattr(wanted, "ge", None), getattr(wanted, "le", None)
    above, below = getattr(wanted, "gt", None), getattr(wanted, "lt", None)
    least = least if least is not None else above + 1 if above is not None else None
    most = most if most is not None else below - 1 if below is not None else None
    if least is None:
        least = 0 if most is None or most >= 0 else most - _INTEGERS
    top = least + _INTEGERS - 1
    return rng.randint(int(least), int(top if most is None else min(top, most)))
