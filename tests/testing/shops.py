"""Classes of users for the test-kit: a right one, and ones whose sins no reader of the source sees."""

# ruff: noqa: RUF012  StateMachine copies the default for each instance

from typing import Any

import msgspec

from tests.machine.outside import thrown
from viewstamp.machine.state_machine import StateMachine, command, query


class OutOfStock(Exception):
    """Nothing was changed."""


class Shop(StateMachine):
    """Nothing is wrong with it."""

    raises = (OutOfStock,)
    stock: dict[str, int] = {}
    sold: int = 0
    orders: list[tuple[str, int, int]] = []

    @command
    def deliver(self, item: str, count: int) -> int:
        self.stock[item] = self.stock.get(item, 0) + max(count, 0)
        return self.stock[item]

    @command
    def order(self, item: str) -> int:
        if self.stock.get(item, 0) == 0:
            raise OutOfStock(item)
        self.stock[item] -= 1
        self.sold += 1
        self.orders.append((item, self.context.now, self.context.token))
        return len(self.orders)

    @query
    def left(self, item: str) -> int:
        return self.stock.get(item, 0)


class Dice(StateMachine):
    """Throws by way of a library of another package."""

    last: int = 0

    @command
    def roll(self) -> int:
        self.last = thrown()
        return self.last


class Unannotated(StateMachine):
    """A set that no annotation names."""

    seen: Any = None

    @command
    def add(self, name: str) -> str:
        found = _gathered([f"{name}{place}" for place in range(9)])  # few would stand in one order by chance
        return "".join(found)


def _gathered(names: list[str]) -> Any:
    return set(names)


class Halves(StateMachine):
    """Raises what its caller cannot see."""

    total: int = 0

    @command
    def add(self, count: int) -> int:
        self.total += 1
        return 10 // _reciprocal(count)


def _reciprocal(count: int) -> int:
    return count


class Shared(StateMachine):
    """Two names for one list, by way of a helper."""

    rows: dict[str, list[int]] = {}
    last: list[int] = []

    @command
    def add(self, name: str, count: int) -> int:
        row = _row_of(self.rows, name)
        self.last = row
        row.append(count)
        return len(self.rows[name]) + len(self.last)

    @command
    def more(self, count: int) -> int:
        self.last.append(count)
        return sum(len(row) for row in self.rows.values())


def _row_of(rows: dict[str, list[int]], name: str) -> list[int]:
    return rows.setdefault(name, [])


class Deep(StateMachine):
    """As deep as an argument says, behind a table."""

    last: int = 0

    @command
    def count(self, n: int) -> int:
        self.last = STEPS["down"](n)
        return self.last


def _down(n: int) -> int:
    return 0 if n <= 0 else 1 + STEPS["down"](n - 1)


STEPS = {"down": _down}


class Batched(StateMachine):
    """Counts the entries of the log, in a helper."""

    last: int = 0
    entries: int = 0

    @command
    def note(self) -> int:
        self.entries += _is_new(self)
        return self.entries


def _is_new(batched: Any) -> int:
    seqno = batched.context.viewstamp.seqno
    fresh = int(seqno > batched.last)
    batched.last = seqno
    return fresh


class Rounds(StateMachine):
    """Writes itself as text of two digits."""

    def __init__(self) -> None:
        self.total = 0.0

    @command
    def add(self, count: int) -> float:
        self.total += count / 3
        return self.total

    def snapshot(self) -> bytes:
        return msgspec.json.encode(round(self.total, 2))

    def restore(self, snapshot: bytes) -> None:
        self.total = msgspec.json.decode(snapshot)


class Labelled(StateMachine):
    """Shows an object that has no text of its own."""

    last: str = ""

    @command
    def label(self) -> str:
        self.last = repr(object())
        return self.last


class Overdrawn(StateMachine):
    """Right, but its owner believes that the balance is never below zero."""

    balance: int = 0

    @command
    def pay(self, amount: int) -> int:
        self.balance += amount
        return self.balance

    @command
    def take(self, amount: int) -> int:
        self.balance -= amount
        return self.balance
