"""Machines of users, some with mistakes that users make; the tests name them as `tests.sim.own:CLASS`."""

from enum import Enum
from random import Random
from typing import Annotated, Any, Literal

import msgspec

from tests.machine.outside import thrown
from viewstamp.machine.state_machine import StateMachine, command, query
from viewstamp.services.kv import KeyValueStore
from viewstamp.sim.workloads.own_machine import OwnMachine
from viewstamp.sim.workloads.workload import Tally


class Stack(StateMachine):
    """Nothing is wrong with it."""

    items: list[str] = []  # noqa: RUF012  StateMachine copies the default for each instance

    @command
    def push(self, item: str, times: int = 1) -> int:
        """Push it as often as asked."""
        self.items.extend([item] * times)
        return len(self.items)

    @command
    def pop(self) -> str:
        """Return the last one."""
        return self.items.pop()

    @query
    def depth(self) -> int:
        """Return how many there are."""
        return len(self.items)


class Dice(StateMachine):
    """Each replica throws its own: what comes next depends on what other replicas threw."""

    last: int = 0

    @command
    def roll(self, sides: int) -> int:
        """Throw."""
        self.last = thrown() % (6 + sides)
        return self.last


class Unordered(StateMachine):
    """Iterates over a set of strings: all replicas of one process do so in the same order."""

    names: dict[str, int] = {}  # noqa: RUF012  StateMachine copies the default for each instance

    @command
    def add(self, name: str, number: int) -> str:
        """Add some names, in whatever order a set has."""
        for fresh in {f"{name}{number}", f"x{name}", f"y{number}"}:
            self.names[fresh] = len(self.names)
        return ",".join(self.names)


class Forgetful(StateMachine):
    """Leaves a part of its state out of the snapshot."""

    total: int = 0
    calls: int = 0

    @command
    def add(self, amount: int) -> tuple[int, int]:
        """Add."""
        self.total += amount
        self.calls += 1
        return self.total, self.calls

    def snapshot(self) -> bytes:
        """Return half of the state."""
        return b"%d" % self.total

    def restore(self, snapshot: bytes) -> None:
        """Set that half."""
        self.total = int(snapshot)


class Ticking(StateMachine):
    """Its results depend on the time."""

    ticks: int = 0

    @command
    def tick(self) -> int:
        """Return the log's time."""
        self.ticks += 1
        return self.context.now


class TickingWorkload(OwnMachine):
    machine = Ticking
    judged = False


class Colour(Enum):
    RED = "red"


class Point(msgspec.Struct):
    x: int
    y: Annotated[int, msgspec.Meta(gt=5, le=7)]


class Tagged(msgspec.Struct, tag=True):
    x: int


class Many(StateMachine):
    """Takes whatever there is."""

    seen: int = 0

    @command
    def take(
        self,
        flag: bool,
        number: float | None,
        text: Annotated[str, msgspec.Meta(min_length=3)],
        raw: bytes,
        word: Literal["a", "b"],
        colour: Colour,
        points: list[Point],
        pair: tuple[int, str],
        table: dict[str, int],
        choice: str | dict[str, int] | None,
        anything: Any,
    ) -> int:
        """Count."""
        self.seen += 1
        return self.seen


class Hard(StateMachine):
    """Takes what cannot be drawn."""

    @command
    def take(self, value: Tagged) -> None:
        """Do nothing."""


class Stock(OwnMachine):
    """The example of docs/how-to/simulate.md."""

    machine = KeyValueStore

    def call(self, rng: Random, method: str) -> tuple[Any, ...]:
        """Return arguments that fit together."""
        if method == "range":
            return ("", "")
        return (f"k{rng.randrange(3)}", *super().call(rng, method)[1:])


class Tallies(OwnMachine):
    machine = Tally
    independent_keys = True
