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


class Clocked(StateMachine):
    """Answers with the log's time, and with how long ago it was asked before."""

    last: int = 0

    @command
    def tick(self) -> tuple[int, int]:
        """Return the time, and how much has passed since the last tick."""
        before, self.last = self.last, self.context.now
        return self.context.now, self.context.now - before

    @query
    def age(self) -> int:
        """Return how old the last tick is."""
        return self.context.now - self.last


class Ticketed(StateMachine):
    """Answers with tokens and viewstamps."""

    tickets: list[int] = []  # noqa: RUF012  StateMachine copies the default for each instance

    @command
    def draw(self) -> tuple[int, str]:
        """Return the token, which is larger than every earlier one."""
        token = self.context.token
        assert not self.tickets or token > self.tickets[-1]
        self.tickets.append(token)
        return token, str(self.context.viewstamp)

    @query
    def latest(self) -> tuple[int, str]:
        """Return the last one, and at which entry this was asked."""
        return (self.tickets[-1] if self.tickets else 0), str(self.context.viewstamp)


class FairDice(StateMachine):
    """Throws with the random numbers that all replicas share."""

    thrown: list[int] = []  # noqa: RUF012  StateMachine copies the default for each instance

    @command
    def roll(self, sides: int) -> int:
        """Throw twice."""
        self.thrown.append(self.context.random.randrange(6 + sides))
        return self.thrown[-1] * 100 + self.context.random.randrange(100)

    @query
    def peek(self) -> int:
        """Try what a query may not."""
        return self.context.random.randrange(6)


class Guests(StateMachine):
    """Knows who asked, and forgets those whose sessions have ended."""

    visits: dict[int, int] = {}  # noqa: RUF012  StateMachine copies the default for each instance
    gone: list[tuple[int, int]] = []  # noqa: RUF012  as above

    @command
    def visit(self) -> tuple[int, int, int]:
        """Return who comes, under which session, and how often it has come."""
        client = self.context.client
        self.visits[client] = self.visits.get(client, 0) + 1
        for other in self.visits:
            self.context.notify(other, [client, self.visits[client]])
        return client, self.context.session, self.visits[client]

    @query
    def present(self) -> list[list[int]]:
        """Return the guests and when others left."""
        return [sorted(self.visits), [left for _, left in self.gone]]

    def session_ended(self, client: int) -> None:
        """Forget a guest."""
        self.gone.append((client, self.context.token))
        del self.visits[client]

    def pending_notifications(self) -> list[tuple[int, Any]]:
        """Return what all guests should know."""
        return [(client, len(self.visits)) for client in self.visits]


class WallClock(Clocked):
    """Reads a clock of its own, through another module."""

    @command
    def tick(self) -> tuple[int, int]:
        """Return a time that is another one at each look."""
        self.last += 1
        return thrown() * 1_000 + thrown(), self.last


class Dropper(Ticketed):
    """Says that it has done what it did not do."""

    @command
    def draw(self) -> tuple[int, str]:
        """Return the token; now and then keep it to itself."""
        if thrown() % 20 == 0:
            return self.context.token, str(self.context.viewstamp)
        self.tickets.append(self.context.token)
        return self.context.token, str(self.context.viewstamp)


class Door(StateMachine):
    """Counts sessions that ended, and reads no context."""

    left: int = 0

    @query
    def count(self) -> int:
        """Return how many have left."""
        return self.left

    def session_ended(self, client: int) -> None:
        """Count."""
        self.left += 1
