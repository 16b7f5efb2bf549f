# mypy: ignore-errors
"""Classes that break one rule each, the first word of each docstring: VS005 to VS011."""

import functools
import heapq
import itertools
import random
import threading
import msgspec
from viewstamp.machine.state_machine import StateMachine, command, query

REGISTRY: dict[str, int] = {}
SETTINGS = {"limit": 3}
RNG = random.Random(3)
IDS = itertools.count()
TEMPLATE: list[int] = []


class Tracker:
    def __init__(self) -> None:
        self.seen = 0

    def hit(self) -> int:
        self.seen += 1
        return self.seen


TRACKER = Tracker()


def set_limit(value: int) -> None:
    SETTINGS["limit"] = value


def remember(item: str, seen: list[str] = []) -> int:
    seen.append(item)
    return len(seen)


class Account(msgspec.Struct):
    owner: str
    balance: int = 0


class QueryAssigns(StateMachine):
    """VS005"""

    reads: int = 0

    @query
    def read(self) -> int:
        self.reads += 1
        return self.reads


class QueryAppends(StateMachine):
    """VS005"""

    log: list[str] = []

    @query
    def read(self, name: str) -> int:
        self.log.append(name)
        return len(self.log)


class QuerySorts(StateMachine):
    """VS005"""

    items: list[int] = []

    @query
    def top(self) -> list[int]:
        items = self.items
        items.sort()
        return items[-3:]


class QueryThroughHelper(StateMachine):
    """VS005"""

    hits: dict[str, int] = {}

    def _count(self, name: str) -> None:
        self.hits[name] = self.hits.get(name, 0) + 1

    @query
    def read(self, name: str) -> int:
        self._count(name)
        return self.hits[name]


class QuerySetdefault(StateMachine):
    """VS005"""

    rows: dict[str, list[int]] = {}

    @query
    def read(self, name: str) -> list[int]:
        return self.rows.setdefault(name, [])


class QueryHeap(StateMachine):
    """VS005"""

    heap: list[int] = []

    @query
    def least(self) -> int:
        return heapq.heappop(self.heap) if self.heap else 0


class GlobalDict(StateMachine):
    """VS006"""

    total: int = 0

    @command
    def put(self, name: str) -> int:
        REGISTRY[name] = REGISTRY.get(name, 0) + 1
        return REGISTRY[name]


class GlobalStatement(StateMachine):
    """VS006"""

    total: int = 0

    @command
    def put(self) -> int:
        global COUNTER
        COUNTER = 1
        self.total += COUNTER
        return self.total


class GlobalSetting(StateMachine):
    """VS006"""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        self.total += min(n, SETTINGS["limit"])
        return self.total


class GlobalGenerator(StateMachine):
    """VS002"""

    rolls: list[int] = []

    @command
    def roll(self) -> int:
        self.rolls.append(RNG.randint(1, 6))
        return self.rolls[-1]


class GlobalCounter(StateMachine):
    """VS006"""

    last: int = 0

    @command
    def fresh(self) -> int:
        self.last = next(IDS)
        return self.last


class GlobalObject(StateMachine):
    """VS006"""

    last: int = 0

    @command
    def hit(self) -> int:
        self.last = TRACKER.hit()
        return self.last


class ClassAttribute(StateMachine):
    """VS006"""

    total: int = 0

    @command
    def add(self) -> int:
        type(self).total += 1
        return type(self).total


class DefaultRemembers(StateMachine):
    """VS006"""

    total: int = 0

    @command
    def add(self, item: str) -> int:
        self.total = remember(item)
        return self.total


class CachedMethod(StateMachine):
    """VS006"""

    prices: dict[str, int] = {}

    @command
    def set_price(self, item: str, price: int) -> int:
        self.prices[item] = price
        return self._price(item)

    @functools.lru_cache
    def _price(self, item: str) -> int:
        return self.prices.get(item, 0)


class Undeclared(StateMachine):
    """VS007"""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        self.total += n
        self.largest = max(getattr(self, "largest", 0), n)
        return self.total


class UndeclaredInInit(StateMachine):
    """VS007"""

    total: int = 0

    def __init__(self) -> None:
        self.history = []

    @command
    def add(self, n: int) -> int:
        self.history.append(n)
        self.total += n
        return self.total


class UndeclaredSlot(StateMachine):
    """VS007"""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        object.__setattr__(self, "extra", n)
        self.total += n
        return self.total


class AliasTwoNames(StateMachine):
    """VS008"""

    current: list[int] = []
    backup: list[int] = []

    @command
    def save(self) -> int:
        self.backup = self.current
        return len(self.backup)

    @command
    def add(self, n: int) -> int:
        self.current.append(n)
        return len(self.backup)


class AliasTwoPlaces(StateMachine):
    """VS008"""

    by_name: dict[str, Account] = {}
    recent: list[Account] = []

    @command
    def open(self, name: str) -> int:
        account = Account(name)
        self.by_name[name] = account
        self.recent.append(account)
        return len(self.recent)

    @command
    def pay(self, name: str, amount: int) -> int:
        account = self.by_name.get(name)
        if account is None:
            return 0
        account.balance += amount
        return account.balance


class AliasTemplate(StateMachine):
    """VS008"""

    row: list[int] = []

    @command
    def reset(self) -> None:
        self.row = TEMPLATE


class AliasRepeated(StateMachine):
    """VS008"""

    grid: list[list[int]] = []

    @command
    def reset(self, n: int) -> int:
        self.grid = [[0, 0]] * 3
        self.grid[0][0] = n
        return sum(row[0] for row in self.grid)


class AliasFromKeys(StateMachine):
    """VS008"""

    rows: dict[str, list[int]] = {}

    @command
    def reset(self, names: list[str]) -> int:
        self.rows = dict.fromkeys(names, [])
        return len(self.rows)


class FloatKey(StateMachine):
    """VS009"""

    counts: dict[str, int] = {}

    @command
    def note(self, price: float) -> int:
        key = f"{price}"
        self.counts[key] = self.counts.get(key, 0) + 1
        return self.counts[key]


class FloatText(StateMachine):
    """VS009"""

    total: float = 0.0

    @command
    def add(self, n: float) -> str:
        self.total += n
        return str(self.total)


class FloatRoundTrip(StateMachine):
    """VS009"""

    total: float = 0.0

    @command
    def add(self, n: float) -> float:
        self.total = float(f"{self.total + n:.2f}")
        return self.total


class ThreadStarted(StateMachine):
    """VS010"""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        def work() -> None:
            self.total += n

        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
        return self.total
