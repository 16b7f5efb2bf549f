"""A class in three versions that answer alike, for the simulator: `tests.evolution.deployed:Deployed`."""

from typing import Any

import msgspec

from viewstamp.machine.evolution import migration
from viewstamp.machine.state_machine import StateMachine, command, query
from viewstamp.sim.workloads.own_machine import OwnMachine


class Till(StateMachine):
    """The first version."""

    stock: dict[str, int] = {}  # noqa: RUF012  copied for each instance
    sold: int = 0

    @command
    def add(self, item: str, count: int) -> int:
        """Add to the stock."""
        self.stock[item] = self.stock.get(item, 0) + count
        return self.stock[item]

    @command
    def buy(self, item: str) -> int:
        """Take one."""
        self.sold += 1
        self.stock[item] = self.stock.get(item, 0) - 1
        return self.sold

    @query
    def left(self, item: str) -> int:
        """Return how many are left."""
        return self.stock.get(item, 0)


class Entry(msgspec.Struct):
    """What the second version keeps of an item."""

    count: int = 0
    sold: int = 0


def _second() -> type[StateMachine]:
    class Till(StateMachine):
        version = 2
        stock: dict[str, int] = {}  # noqa: RUF012
        sold: int = 0
        entries: dict[str, Entry] = {}  # noqa: RUF012
        scratch: int = 0

        @migration(to=2, removes=["stock"])
        def _to_entries(self) -> None:
            self.entries = {item: Entry(count) for item, count in self.stock.items()}

        @command
        def add(self, item: str, count: int, twice: bool = False) -> int:
            self.scratch += 1
            if self.context.version < 2:
                self.stock[item] = self.stock.get(item, 0) + count
                return self.stock[item]
            entry = self.entries.setdefault(item, Entry())
            entry.count += 2 * count if twice else count
            return entry.count

        @command
        def buy(self, item: str) -> int:
            self.sold += 1
            if self.context.version < 2:
                self.stock[item] = self.stock.get(item, 0) - 1
            else:
                entry = self.entries.setdefault(item, Entry())
                entry.count -= 1
                entry.sold += 1
            return self.sold

        @command(since=2)
        def close(self) -> int:
            return self.scratch

        @query
        def left(self, item: str) -> int:
            if self.context.version < 2:
                return self.stock.get(item, 0)
            return self.entries[item].count if item in self.entries else 0

    return Till


def _third() -> type[StateMachine]:
    second: Any = _second()

    class Till(second):  # type: ignore[misc]
        version = 3
        total: int = 0

        @migration(to=3)
        def _count(self) -> None:
            self.total = sum(entry.sold for entry in self.entries.values())

    return Till


class Deployed(OwnMachine):
    """Clients of the first version, servers of all three."""

    machine = Till
    later = (_second(), _third())
