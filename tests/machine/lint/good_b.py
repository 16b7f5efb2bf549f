# mypy: ignore-errors
"""Classes that look like the bad ones and are right: state, aliases, texts."""

import copy
import functools
import itertools
import logging
import math
import operator
import os.path
import re
import string
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Final
import msgspec
from viewstamp.machine.state_machine import StateMachine, command, query

PRICES: Final = {"apple": 3, "pear": 4}
LIMITS = {"orders": 100}
WORD = re.compile(r"\w+")
STOP_WORDS = frozenset({"a", "the"})
_PRIMES = [2, 3, 5, 7]
log = logging.getLogger(__name__)


class Order(msgspec.Struct, frozen=True):
    item: str
    count: int
    at: int


class Refused(Exception):
    """Nothing was changed."""


def total_of(rows: list[tuple[str, int]]) -> int:
    return sum(count for _, count in rows)


@functools.lru_cache
def squares(n: int) -> int:
    return sum(i * i for i in range(n % 10))


def copy_of(rows: dict[str, int]) -> dict[str, int]:
    fresh = dict(rows)
    fresh["total"] = sum(rows.values())
    return fresh


class QueryBuilds(StateMachine):
    rows: dict[str, int] = {}

    @query
    def report(self) -> dict[str, int]:
        found = copy_of(self.rows)
        found["count"] = len(self.rows)
        return found

    @query
    def grouped(self) -> dict[int, list[str]]:
        groups: dict[int, list[str]] = defaultdict(list)
        for name, value in self.rows.items():
            groups[value].append(name)
        return dict(groups)


class QueryDeep(StateMachine):
    rows: dict[str, list[int]] = {}

    @query
    def padded(self) -> dict[str, list[int]]:
        rows = copy.deepcopy(self.rows)
        for row in rows.values():
            row.append(0)
        return rows


class Constants(StateMachine):
    total: int = 0
    LIMIT = 10
    NAMES = ("a", "b")

    @command
    def buy(self, item: str) -> int:
        price = PRICES.get(item, LIMITS["orders"])
        self.total = min(self.total + price, self.LIMIT)
        return self.total + len(self.NAMES) + _PRIMES[0]


class Logged(StateMachine):
    total: int = 0

    @command
    def add(self, n: int) -> int:
        log.debug("adding %d", n)
        self.total += n
        return self.total


class PureHelper(StateMachine):
    rows: list[tuple[str, int]] = []

    @command
    def put(self, name: str, count: int) -> int:
        self.rows.append((name, count))
        return total_of(self.rows) + squares(count)


class LocalState(StateMachine):
    total: int = 0

    @command
    def add(self, numbers: list[int]) -> int:
        seen: dict[int, int] = {}
        for n in numbers:
            seen[n] = seen.get(n, 0) + 1
        ids = itertools.count()
        for _ in numbers:
            self.total += next(ids)
        return len(seen)


class WithDefaults(StateMachine):
    rows: list[str] = []

    @command
    def put(self, name: str, tags: list[str] = [], count: int = 1) -> int:
        self.rows.extend([name, *tags] * count)
        return len(self.rows)


class InitState(StateMachine):
    rows: dict[str, int]
    total: int

    def __init__(self) -> None:
        self.rows = {}
        self.total = 0

    @command
    def add(self, name: str) -> int:
        self.rows[name] = self.total = self.total + 1
        return self.total


class WithProperty(StateMachine):
    rows: dict[str, int] = {}

    @property
    def total(self) -> int:
        return sum(self.rows.values())

    @command
    def add(self, name: str, n: int) -> int:
        self.rows[name] = n
        return self.total


class Swap(StateMachine):
    current: list[int] = []
    previous: list[int] = []

    @command
    def turn(self) -> int:
        self.previous = self.current
        self.current = []
        return len(self.previous)

    @command
    def add(self, n: int) -> int:
        self.current.append(n)
        return len(self.current)


class Copies(StateMachine):
    current: list[int] = []
    backup: list[int] = []
    grid: list[list[int]] = []

    @command
    def save(self) -> int:
        self.backup = list(self.current)
        self.grid = [[0] * 3 for _ in range(3)]
        self.grid[0][0] = 1
        return len(self.backup)

    @command
    def add(self, n: int) -> int:
        self.current.append(n)
        return len(self.backup)


class FrozenTwice(StateMachine):
    by_item: dict[str, Order] = {}
    orders: list[Order] = []

    @command
    def order(self, item: str, count: int) -> int:
        order = Order(item, count, self.context.now)
        self.by_item[item] = order
        self.orders.append(order)
        return len(self.orders)


class Moves(StateMachine):
    waiting: list[list[str]] = []
    served: list[list[str]] = []

    @command
    def join(self, names: list[str]) -> int:
        self.waiting.append(names)
        return len(self.waiting)

    @command
    def serve(self) -> int:
        if self.waiting:
            group = self.waiting.pop(0)
            self.served.append(group)
        return len(self.served)


class EitherPlace(StateMachine):
    small: list[list[int]] = []
    large: list[list[int]] = []

    @command
    def put(self, numbers: list[int]) -> int:
        if len(numbers) > 1:
            self.large.append(numbers)
        else:
            self.small.append(numbers)
        return len(self.small) + len(self.large)


class Arguments(StateMachine):
    rows: dict[str, list[int]] = {}

    @command
    def put(self, name: str, numbers: list[int]) -> list[int]:
        numbers.append(0)
        self.rows[name] = numbers
        return numbers


class Cents(StateMachine):
    cents: int = 0

    @command
    def pay(self, cents: int) -> str:
        self.cents += cents
        return f"{self.cents // 100}.{self.cents % 100:02d}"


class Decimals(StateMachine):
    total: Decimal = Decimal(0)

    @command
    def add(self, amount: Decimal) -> str:
        self.total += amount
        return str(self.total)


class Floats(StateMachine):
    total: float = 0.0
    count: int = 0

    @command
    def add(self, value: float) -> float:
        self.total += value
        self.count += 1
        return round(self.total / self.count, 6)

    @query
    def text(self) -> str:
        return f"{self.total:.2f} ({math.sqrt(abs(self.total)):.3f})"


class FloatRefused(StateMachine):
    total: float = 0.0

    @command
    def add(self, value: float) -> float:
        if value < 0:
            raise Refused(f"{value} is below zero")
        self.total = max(self.total, value)
        return self.total


class Dates(StateMachine):
    due: dict[str, datetime] = {}

    @command
    def plan(self, name: str, start: datetime) -> str:
        self.due[name] = start + timedelta(days=7)
        return self.due[name].isoformat()

    @query
    def as_date(self) -> str:
        return datetime.fromtimestamp(0, tz=timezone.utc).date().isoformat()


class Paths(StateMachine):
    names: dict[str, int] = {}

    @command
    def put(self, path: str) -> str:
        pure = PurePosixPath(path)
        name = os.path.join(str(pure.parent), pure.name)
        self.names[name] = self.names.get(name, 0) + 1
        return os.path.basename(name)


class Texts(StateMachine):
    counts: dict[str, int] = {}

    @command
    def put(self, text: str) -> int:
        for word in WORD.findall(text.lower()):
            if word not in STOP_WORDS and word[0] in string.ascii_letters:
                self.counts[word] = self.counts.get(word, 0) + 1
        return len(self.counts)

    @query
    def common(self) -> list[tuple[str, int]]:
        return sorted(self.counts.items(), key=operator.itemgetter(1, 0))
