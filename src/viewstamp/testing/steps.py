"""Sequences of calls of one class, drawn from a seed, without a cluster: what the equal runs execute."""

from collections.abc import Callable
from random import Random
from typing import Any, Final, Literal

import msgspec

from viewstamp.machine.definition import MachineDefinition, Method
from viewstamp.sim.workloads.own_machine import OwnMachine, drawn_arguments

StepKind = Literal["command", "query", "session_ended"]
STEPS: Final = 40
"""In one sequence."""
_CLIENTS: Final = 3
_FIRST_CLIENT: Final = 4_294_967_311
"""Clients have numbers that stand out in results, as in production."""
_QUERIES: Final = 0.3
_ENDED: Final = 0.03
_UNUSUAL: Final = 0.06
"""The share of calls with a number that is not small, or another text than one letter."""
_UNUSUAL_NUMBERS: Final = (-1, 7, 1_000, 3_000)
_UNUSUAL_TEXTS: Final = ("", "zz", "a b", "ß-7")
_NOW_US: Final = (0, 1, 1_000, 1_000_000, 60_000_000, 86_400_000_000)


class Step(msgspec.Struct, frozen=True):
    """One call, or the end of a client's session."""

    kind: StepKind
    method: str
    arguments: tuple[Any, ...]
    client: int
    now: int
    """Log time in microseconds."""

    def __str__(self) -> str:
        if self.kind == "session_ended":
            return f"the session of client {self.client_name} ends"
        return f"client {self.client_name}: {self.method}({', '.join(map(_shown, self.arguments))})"

    @property
    def client_name(self) -> int:
        """Return the number by which people know the client."""
        return self.client - _FIRST_CLIENT + 1


Draw = Callable[[Random, str], tuple[Any, ...]]


def draw_of(workload: OwnMachine) -> Draw:
    """Return what draws arguments: the workload's own `call` where it has one."""
    if type(workload).call is not OwnMachine.call:
        return workload.call
    methods = MachineDefinition.of(workload.machine).methods
    return lambda rng, name: unusual(rng, drawn_arguments(rng, workload.machine, name), methods[name])


def unusual(rng: Random, arguments: tuple[Any, ...], method: Method) -> tuple[Any, ...]:
    """Return the arguments, now and then with a number that is not small, or another text than one letter."""
    if rng.random() >= _UNUSUAL:
        return arguments
    places = [place for place, value in enumerate(arguments) if type(value) in {int, str}]
    if not places:
        return arguments
    place = rng.choice(places)
    other = rng.choice(_UNUSUAL_NUMBERS if type(arguments[place]) is int else _UNUSUAL_TEXTS)
    changed = (*arguments[:place], other, *arguments[place + 1 :])
    return changed if is_accepted(method, changed) else arguments


def draw_steps(definition: MachineDefinition, draw: Draw, seed: int, count: int = STEPS) -> list[Step]:
    """Return a sequence of calls; the same for the same seed on each Python."""
    rng = Random(seed)  # noqa: S311  a simulation
    commands = sorted(name for name, method in definition.methods.items() if method.kind == "command")
    queries = sorted(name for name, method in definition.methods.items() if method.kind == "query")
    now = 1_000_000
    steps: list[Step] = []
    while len(steps) < count:
        now += rng.choice(_NOW_US)
        client = _FIRST_CLIENT + rng.randrange(_CLIENTS)
        if rng.random() < _ENDED:
            steps.append(Step("session_ended", "", (), client, now))
            continue
        is_query = bool(queries) and (not commands or rng.random() < _QUERIES)
        name = rng.choice(queries if is_query else commands)
        arguments = draw(rng, name)
        steps.append(Step("query" if is_query else "command", name, arguments, client, now))
    return steps


def is_accepted(method: Method, arguments: tuple[Any, ...]) -> bool:
    """Return whether a method takes these arguments."""
    try:
        msgspec.convert([method.name, *arguments], method.arguments)
    except (msgspec.ValidationError, TypeError, ValueError):
        return False
    return True


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 30 else f"{text[:27]}..."
