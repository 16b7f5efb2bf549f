# mypy: ignore-errors
"""Classes that look like the bad ones and are right: errors, loops, snapshots."""

import bisect
import enum
import json
import statistics
from fractions import Fraction
import msgspec
from typing import Any
from collections import Counter
from typing import Annotated
from viewstamp.machine.evolution import migration
from viewstamp.machine.state_machine import StateMachine, command, query


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Ticket(msgspec.Struct):
    name: str
    open: bool = True


class Refused(Exception):
    """Nothing was changed."""


def depth_of(node: Any) -> int:
    if not isinstance(node, list):
        return 0
    return 1 + max((depth_of(child) for child in node), default=0)


class Json(StateMachine):
    docs: dict[str, str] = {}

    @command
    def put(self, name: str, number: int) -> str:
        self.docs[name] = json.dumps({"name": name, "number": number}, sort_keys=True)
        return self.docs[name]


class ChecksFirst(StateMachine):
    stock: dict[str, int] = {}
    sold: int = 0

    @command
    def sell(self, item: str, count: int) -> int:
        if self.stock.get(item, 0) < count:
            raise Refused(item)
        self.stock[item] -= count
        self.sold += count
        return self.sold


class Transfers(StateMachine):
    balance: dict[str, int] = {}

    @command
    def move(self, source: str, target: str, amount: int) -> int:
        if source not in self.balance or target not in self.balance:
            raise Refused("no such account")
        if amount < 0 or self.balance[source] < amount:
            raise Refused("not enough")
        self.balance[source] -= amount
        self.balance[target] += amount
        return self.balance[target]


class RollsBack(StateMachine):
    items: list[str] = []

    @command
    def add(self, names: list[str]) -> int:
        before = list(self.items)
        try:
            for name in names:
                if not name:
                    raise Refused("empty")
                self.items.append(name)
        except Refused:
            self.items = before
            raise
        return len(self.items)


class ValidatesInLoop(StateMachine):
    items: list[str] = []

    @command
    def add(self, names: list[str]) -> int:
        for name in names:
            if not name:
                raise Refused("empty")
        self.items.extend(names)
        return len(self.items)


class Catches(StateMachine):
    numbers: list[int] = []
    failed: int = 0

    @command
    def add(self, text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            self.failed += 1
            return -1
        self.numbers.append(number)
        return number


class Nested(StateMachine):
    deepest: int = 0

    @command
    def measure(self, doc: Any) -> int:
        self.deepest = max(self.deepest, depth_of(doc))
        return self.deepest


class Halving(StateMachine):
    last: int = 0

    @command
    def gcd(self, a: int, b: int) -> int:
        self.last = self._gcd(a, b)
        return self.last

    def _gcd(self, a: int, b: int) -> int:
        return a if b == 0 else self._gcd(b, a % b)


class Loops(StateMachine):
    parent: dict[str, str] = {}

    @command
    def join(self, child: str, parent: str) -> str:
        self.parent[child] = parent
        seen = {child}
        name = child
        while (above := self.parent.get(name)) is not None and above not in seen:
            seen.add(above)
            name = above
        return name


class SavesItself(StateMachine):
    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.index: dict[int, list[str]] = {}

    @command
    def put(self, name: str, value: int) -> int:
        self.rows[name] = value
        self._reindex()
        return len(self.index)

    def _reindex(self) -> None:
        self.index = {}
        for name, value in self.rows.items():
            self.index.setdefault(value, []).append(name)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.rows)

    def restore(self, snapshot: bytes) -> None:
        self.rows = msgspec.msgpack.decode(snapshot, type=dict[str, int])
        self._reindex()


class SavesPieces(StateMachine):
    def __init__(self) -> None:
        self.rows: list[str] = []
        self.count = 0

    @command
    def put(self, name: str) -> int:
        self.rows.append(name)
        self.count += 1
        return self.count

    def snapshot(self) -> list[bytes]:
        return [msgspec.msgpack.encode(self._saved())]

    def _saved(self) -> tuple[int, list[str]]:
        return self.count, self.rows

    def restore(self, snapshot: bytes) -> None:
        count, rows = msgspec.msgpack.decode(snapshot)
        self.count = count
        self.rows.extend(rows)


class Notifies(StateMachine):
    waiting: list[int] = []

    @command
    def wait(self) -> int:
        self.waiting.append(self.context.client)
        return len(self.waiting)

    @command
    def wake(self) -> int:
        for client in self.waiting:
            self.context.notify(client, "awake")
        woken, self.waiting = len(self.waiting), []
        return woken


class Enums(StateMachine):
    colour: Colour = Colour.RED
    history: list[Colour] = []

    @command
    def paint(self, colour: Colour) -> int:
        self.colour = colour
        self.history.append(colour)
        return len(self.history)


class Inbox(StateMachine):
    tickets: dict[str, Ticket] = {}

    @command
    def open(self, name: str) -> int:
        self.tickets[name] = Ticket(name)
        return len(self.tickets)

    @command
    def close(self, name: str) -> bool:
        ticket = self.tickets.get(name)
        if ticket is None:
            return False
        ticket.open = False
        return True


class Ring(StateMachine):
    last: list[int] = []
    seen: int = 0

    @command
    def push(self, n: int) -> int:
        self.last.append(n)
        if len(self.last) > 3:
            self.last.pop(0)
        self.seen += 1
        return sum(self.last)


class SortedNames(StateMachine):
    names: list[str] = []

    @command
    def add(self, name: str) -> int:
        place = bisect.bisect_left(self.names, name)
        if place == len(self.names) or self.names[place] != name:
            self.names.insert(place, name)
        return place


class Tallies(StateMachine):
    votes: dict[str, int] = {}

    @command
    def vote(self, names: list[str]) -> list[tuple[str, int]]:
        for name, count in Counter(names).items():
            self.votes[name] = self.votes.get(name, 0) + count
        return sorted(self.votes.items())


class Average(StateMachine):
    numbers: Annotated[list[int], msgspec.Meta(max_length=10_000)] = []

    @command
    def add(self, n: Annotated[int, msgspec.Meta(ge=0, le=100)]) -> int:
        self.numbers.append(n)
        return int(statistics.median(self.numbers))

    @query
    def ratio(self, n: int) -> str:
        return str(Fraction(n, 7))


class Cycles(StateMachine):
    turn: int = 0
    names: list[str] = []

    @command
    def next(self) -> str:
        if not self.names:
            return ""
        self.turn = (self.turn + 1) % len(self.names)
        return self.names[self.turn]


class LocalMachine(StateMachine):
    rows: dict[str, int] = {}

    @command
    def merge(self, rows: dict[str, int]) -> int:
        merged = {**self.rows, **rows}
        removed = [name for name in merged if merged[name] == 0]
        for name in removed:
            merged.pop(name)
        self.rows = merged
        return len(self.rows)


class Allowed(StateMachine):
    tags: set[int] = set()
    last: int = 0

    @command
    def add(self, tag: int) -> int:
        self.tags.add(tag)
        # viewstamp: allow VS003 the last one in any order is overwritten at once
        for each in self.tags:
            self.last = max(self.last, each)
        return self.last


class StatesWhatHolds(StateMachine):
    total: int = 0

    @command
    def add(self, n: int) -> int:
        if n < 0:
            raise Refused("below zero")
        self.total += n
        assert self.total >= 0
        return self.total


class MigrationInOrder(StateMachine):
    """Its migration depends on the state and the context only."""

    version = 2
    tags: set[str] = set()
    order: list[str] = []
    stamp: int = 0

    @command
    def tag(self, name: str) -> int:
        self.tags.add(name)
        return len(self.tags)

    @migration(to=2)
    def _list_tags(self) -> None:
        self.stamp = self.context.now
        for name in sorted(self.tags):
            self.order.append(name)
