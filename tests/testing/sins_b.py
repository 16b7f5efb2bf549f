# mypy: ignore-errors
"""Sins of queries, hidden state, aliases and floats: the first words of each docstring name what may be reported."""

import asyncio
import collections
import contextlib
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import gc
import itertools
import json
import locale
import os
import random
import sys
import threading
import time
import types
import uuid
from contextvars import ContextVar
from typing import Any, NamedTuple

import msgspec

import viewstamp
from viewstamp import StateMachine, command, query


class QueryByAlias(StateMachine):
    """VS005"""

    seen: dict[str, list[int]] = {}

    @command
    def add(self, name: str, n: int) -> int:
        self.seen.setdefault(name, []).append(n)
        return len(self.seen)

    @query
    def sorted_of(self, name: str) -> list[int]:
        rows = self.seen.get(name, [])
        rows.sort()
        return rows


class QueryByDefaultDict(StateMachine):
    """VS005"""

    seen: dict[str, int] = {}

    @command
    def add(self, name: str) -> int:
        self.seen[name] = self.seen.get(name, 0) + 1
        return self.seen[name]

    @query
    def read(self, name: str) -> int:
        return vars(self)["seen"].setdefault(name, 0)


class QueryByStruct(StateMachine):
    """VS005"""

    class Page(msgspec.Struct):
        text: str = ""
        reads: int = 0

    pages: dict[str, "QueryByStruct.Page"] = {}

    @command
    def write(self, name: str, text: str) -> int:
        self.pages[name] = QueryByStruct.Page(text)
        return len(self.pages)

    @query
    def read(self, name: str) -> str:
        for page in filter(None, [self.pages.get(name)]):
            page.reads += 1
            return page.text
        return ""


class QueryByPop(StateMachine):
    """VS005"""

    jobs: list[str] = []

    @command
    def add(self, name: str) -> int:
        self.jobs.append(name)
        return len(self.jobs)

    @query
    def peek(self) -> str:
        jobs = iter(self.jobs)
        first = next(jobs, "")
        with contextlib.suppress(ValueError):
            getattr(self.jobs, "remove")(first)
        return first


class GlobalByClosure(StateMachine):
    """VS006"""

    total: int = 0

    def _make():
        count = 0

        def bump():
            nonlocal count
            count += 1
            return count

        return bump

    bump = staticmethod(_make())

    @command
    def add(self) -> int:
        self.total += self.bump()
        return self.total


class GlobalByFunctionAttribute(StateMachine):
    """VS006"""

    total: int = 0

    @command
    def add(self) -> int:
        _tick.calls = getattr(_tick, "calls", 0) + 1
        self.total += _tick.calls
        return self.total


def _tick() -> None:
    """Do nothing."""


class GlobalByLruCache(StateMachine):
    """VS006"""

    factor: int = 1

    @command
    def set_factor(self, n: int) -> int:
        self.factor = n
        return n

    @command
    def priced(self, name: str) -> int:
        return _price(self, name)


@functools.cache
def _price(shop: Any, name: str) -> int:
    return shop.factor * len(name)


class GlobalByType(StateMachine):
    """VS006"""

    class Serial:
        last = 0

        def __init__(self) -> None:
            type(self).last += 1

    total: int = 0

    @command
    def add(self) -> int:
        GlobalByType.Serial()
        self.total += GlobalByType.Serial.last
        return self.total


class GlobalByContextVar(StateMachine):
    """VS006"""

    total: int = 0

    @command
    def add(self) -> int:
        COUNT.set(COUNT.get() + 1)
        self.total += COUNT.get()
        return self.total


COUNT: ContextVar[int] = ContextVar("COUNT", default=0)


class GlobalDecimalContext(StateMachine):
    """VS006 VS012"""

    total: decimal.Decimal = decimal.Decimal(0)

    @command
    def precise(self, digits: int) -> int:
        decimal.getcontext().prec = max(1, digits % 28)
        return digits

    @command
    def add(self, n: int) -> str:
        self.total += decimal.Decimal(n) / decimal.Decimal(7)
        return str(self.total)


class GlobalModuleMonkey(StateMachine):
    """VS006"""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        mod = sys.modules[type(self).__module__]
        mod.LIMIT = getattr(mod, "LIMIT", 0) + n
        self.total += mod.LIMIT
        return self.total


class GlobalEnumAttribute(StateMachine):
    """VS006"""

    class Kind(enum.Enum):
        A = 1
        B = 2

    total: int = 0

    @command
    def add(self, n: int) -> int:
        kind = GlobalEnumAttribute.Kind.A
        kind.uses = getattr(kind, "uses", 0) + 1
        self.total += kind.uses
        return self.total


class GlobalDefaultOfMethod(StateMachine):
    """VS006"""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        self.total += self._note(n)
        return self.total

    def _note(self, n, *, memo=collections.defaultdict(int)):
        memo[n] += 1
        return memo[n]


class GlobalGenerator(StateMachine):
    """VS006"""

    total: int = 0

    @command
    def add(self) -> int:
        self.total += sum(itertools.islice(NUMBERS, 2))
        return self.total


NUMBERS = (n * n for n in itertools.count())


class ForgottenByObject(StateMachine):
    """VS007"""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        object.__setattr__(self, "high", max(n, getattr(self, "high", 0)))
        self.total += n
        return self.high


class ForgottenByDict(StateMachine):
    """VS007"""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        self.__dict__["extra"] = self.__dict__.get("extra", 0) + 1
        self.total += n
        return self.__dict__["extra"]


class ForgottenInStruct(StateMachine):
    """VS007 VS016 VS017"""

    @dataclasses.dataclass
    class Account:
        cents: int = 0

    accounts: dict[str, "ForgottenInStruct.Account"] = {}

    @command
    def pay(self, name: str, n: int) -> int:
        account = self.accounts.setdefault(name, ForgottenInStruct.Account())
        account.cents += n
        account.count = getattr(account, "count", 0) + 1
        return account.count


class ForgottenBySubclass(StateMachine):
    """VS007 VS016 VS017"""

    class Stack(list[int]):
        top = 0

    rows: list[int] = []

    @command
    def push(self, n: int) -> int:
        if not isinstance(self.rows, ForgottenBySubclass.Stack):
            self.rows = ForgottenBySubclass.Stack(self.rows)
            self.rows.top = len(self.rows)
        self.rows.append(n)
        return self.rows.top


class AliasArgument(StateMachine):
    """VS008"""

    carts: dict[str, list[str]] = {}
    last: list[str] = []

    @command
    def fill(self, name: str, items: list[str]) -> int:
        self.carts[name] = items
        self.last = items
        return len(items)

    @command
    def more(self, name: str, item: str) -> int:
        self.carts.setdefault(name, []).append(item)
        return len(self.last)


class AliasByLoop(StateMachine):
    """VS008"""

    grid: list[list[int]] = []

    @command
    def reset(self) -> int:
        row = [0, 0, 0]
        self.grid = [row for _ in range(3)]
        return len(self.grid)

    @command
    def set(self, n: int) -> int:
        if self.grid:
            self.grid[0][n % 3] = n
        return sum(map(sum, self.grid))


class AliasByTuple(StateMachine):
    """VS008"""

    pair: tuple[list[int], list[int]] = ([], [])

    @command
    def reset(self) -> int:
        shared: list[int] = []
        self.pair = (shared, shared)
        return 0

    @command
    def add(self, n: int) -> int:
        self.pair[0].append(n)
        return len(self.pair[1])


class AliasByStruct(StateMachine):
    """VS008"""

    @dataclasses.dataclass
    class Team:
        members: list[str] = dataclasses.field(default_factory=list)

    teams: dict[str, "AliasByStruct.Team"] = {}
    mine: dict[str, "AliasByStruct.Team"] = {}

    @command
    def join(self, who: str, name: str) -> int:
        team = self.teams.setdefault(name, AliasByStruct.Team())
        team.members.append(who)
        self.mine.update({who: team})
        return len(self.mine[who].members)

    @query
    def size(self, who: str) -> int:
        return len(self.mine[who].members) if who in self.mine else 0


class AliasOfModule(StateMachine):
    """VS008 VS006"""

    board: list[str] = []

    @command
    def reset(self) -> int:
        self.board = EMPTY
        return len(self.board)

    @command
    def mark(self, n: int) -> str:
        if self.board:
            self.board[n % len(self.board)] += "x"
        return "".join(self.board)


EMPTY = ["", "", ""]


class FloatKeyFormat(StateMachine):
    """VS009"""

    prices: dict[str, int] = {}

    @command
    def add(self, price: float) -> int:
        key = format(price * 1.1, "")
        self.prices[key] = self.prices.get(key, 0) + 1
        return self.prices[key]


class FloatJsonText(StateMachine):
    """VS009"""

    lines: list[str] = []

    @command
    def add(self, price: float) -> int:
        self.lines.append(json.dumps({"price": price / 3}))
        return len(self.lines)


class FloatRounded(StateMachine):
    """VS009"""

    total: float = 0.0

    @command
    def add(self, price: float) -> float:
        self.total = float("%.2f" % (self.total + price))
        return self.total
