# mypy: ignore-errors
"""Sins of clocks, randomness, sets and hashes: the first words of each docstring name what may be reported."""

import asyncio
import calendar
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
import operator
import os
import pathlib
import pickle
import random
import secrets
import string
import sys
import tempfile
import threading
import time
import traceback
import types
import uuid
import weakref
from contextvars import ContextVar
from typing import Any, NamedTuple

import msgspec

import viewstamp
from viewstamp import StateMachine, command, query

now = dt.datetime.now
CLOCKS = {"wall": time.time, "cpu": time.process_time}
stamp = functools.partial(time.strftime, "%Y")


class ClockInTable(StateMachine):
    """VS001"""

    last: float = 0.0

    @command
    def touch(self) -> float:
        self.last = CLOCKS["wall"]()
        return self.last


class ClockByGetattr(StateMachine):
    """VS001"""

    last: int = 0

    @command
    def touch(self) -> int:
        self.last = getattr(time, "".join(["mono", "tonic_ns"]))()
        return self.last


class ClockByPartial(StateMachine):
    """VS001"""

    year: str = ""

    @command
    def touch(self) -> str:
        self.year = stamp()
        return self.year


class ClockInDefaultFactory(StateMachine):
    """VS001"""

    @dataclasses.dataclass
    class Row:
        name: str
        at: float = dataclasses.field(default_factory=time.time)

    rows: list["ClockInDefaultFactory.Row"] = []

    @command
    def add(self, name: str) -> int:
        self.rows.append(ClockInDefaultFactory.Row(name))
        return len(self.rows)


class ClockAtImport(StateMachine):
    """VS006 VS001 VS012"""

    STARTED = time.time()
    age: float = 0.0

    @command
    def touch(self) -> float:
        self.age = self.context.now / 1e6 - self.STARTED
        return self.age


class ClockOfSubclass(StateMachine):
    """VS001"""

    class Day(dt.date):
        pass

    last: str = ""

    @command
    def touch(self) -> str:
        self.last = ClockOfSubclass.Day.today().isoformat()
        return self.last


class EntropyStringShuffle(StateMachine):
    """VS002"""

    deck: list[int] = []

    @command
    def deal(self, n: int) -> list[int]:
        self.deck = sorted(range(max(0, min(n, 9))), key=lambda _: random.random())
        return self.deck


class EntropyByOperator(StateMachine):
    """VS002"""

    last: int = 0

    @command
    def roll(self) -> int:
        self.last = operator.methodcaller("randint", 1, 10**6)(random)
        return self.last


class EntropyInStruct(StateMachine):
    """VS002"""

    class Order(msgspec.Struct):
        name: str
        key: str = msgspec.field(default_factory=lambda: uuid.uuid4().hex)

    orders: dict[str, "EntropyInStruct.Order"] = {}

    @command
    def order(self, name: str) -> str:
        self.orders[name] = EntropyInStruct.Order(name)
        return self.orders[name].key


class EntropySeededByNone(StateMachine):
    """VS002"""

    last: float = 0.0

    @command
    def roll(self, seed: int) -> float:
        rng = random.Random(None if seed else None)
        self.last = rng.random()
        return self.last


class EntropyFromUrandomFile(StateMachine):
    """VS011"""

    last: int = 0

    @command
    def roll(self) -> int:
        self.last = pathlib.Path("/dev/urandom").open("rb").read(1)[0]
        return self.last


class SetOfFrozen(StateMachine):
    """VS003"""

    seen: dict[str, frozenset[str]] = {}

    @command
    def add(self, group: str, names: list[str]) -> str:
        self.seen[group] = self.seen.get(group, frozenset()) | frozenset(
            f"{n}{i}" for n in names for i in range(5)
        )
        return ",".join(map(str.upper, self.seen[group]))


class SetViaJson(StateMachine):
    """VS003"""

    tags: set[str] = set()

    @command
    def add(self, name: str) -> str:
        self.tags |= {f"{name}{i}" for i in range(6)}
        return json.dumps(self.tags, default=list)


class SetViaDictFromKeys(StateMachine):
    """VS003"""

    order: dict[str, int] = {}

    @command
    def add(self, names: list[str]) -> list[str]:
        fresh = {f"{n}-{i}" for n in names for i in range(4)}
        self.order = dict.fromkeys(fresh, 0)
        return list(self.order)


class SetViaZip(StateMachine):
    """VS003"""

    seats: dict[str, int] = {}

    @command
    def seat(self, names: list[str]) -> dict[str, int]:
        guests = set(names) | {"host", "cook", "waiter"}
        self.seats = dict(zip(guests, itertools.count()))
        return self.seats


class SetViaCounterTie(StateMachine):
    """VS003"""

    votes: dict[str, str] = {}

    @command
    def vote(self, who: str, what: str) -> str:
        self.votes[who] = what
        choices = set(self.votes.values()) | {"x", "y", "z"}
        return collections.Counter(choices).most_common(1)[0][0]


class SetViaDictViews(StateMachine):
    """VS003"""

    a: dict[str, int] = {}
    b: dict[str, int] = {}

    @command
    def both(self, name: str, other: str) -> str:
        self.a[name] = self.b[other] = 1
        self.a.update(dict.fromkeys("pqrstu", 1))
        return "".join(self.a.keys() | self.b.keys())


class SetViaSortedPartialKey(StateMachine):
    """VS003"""

    words: set[str] = set()

    @command
    def add(self, name: str) -> list[str]:
        self.words |= {f"{name}{c}" for c in "abcdef"}
        return sorted(self.words, key=len)


class SetViaReduce(StateMachine):
    """VS003"""

    words: set[str] = set()

    @command
    def add(self, name: str) -> str:
        self.words |= {f"{name}{c}" for c in "abcdef"}
        return functools.reduce(lambda x, y: x + y, self.words, "")


class SetViaMinDefault(StateMachine):
    """VS003"""

    words: set[str] = set()

    @command
    def add(self, name: str) -> str:
        self.words |= {f"{name}{c}" for c in "abcdef"}
        (first, *_) = self.words
        return first


class SetRepr(StateMachine):
    """VS003"""

    words: set[str] = set()
    shown: str = ""

    @command
    def add(self, name: str) -> str:
        self.words |= {f"{name}{c}" for c in "abcdef"}
        self.shown = "%s" % self.words
        return self.shown


class HashOfTuple(StateMachine):
    """VS004"""

    buckets: dict[int, int] = {}

    @command
    def put(self, name: str, n: int) -> int:
        bucket = abs(hash((n, name))) % 97
        self.buckets[bucket] = n
        return bucket


class HashOfFrozenDataclass(StateMachine):
    """VS004"""

    @dataclasses.dataclass(frozen=True)
    class Key:
        name: str

    last: int = 0

    @command
    def put(self, name: str) -> int:
        self.last = HashOfFrozenDataclass.Key(name).__hash__() % 1009
        return self.last


class HashByMap(StateMachine):
    """VS004"""

    last: int = 0

    @command
    def put(self, names: list[str]) -> int:
        self.last = sum(map(hash, [*names, "x"])) % 1013
        return self.last


class IdSort(StateMachine):
    """VS004"""

    rows: list[list[int]] = []

    @command
    def add(self, n: int) -> int:
        self.rows.append([n])
        self.rows.sort(key=id)
        return self.rows[0][0]


class IdInFormat(StateMachine):
    """VS004"""

    class Box:
        pass

    last: str = ""

    @command
    def label(self) -> str:
        self.last = f"{IdInFormat.Box()}"[-14:]
        return self.last


class AddressInException(StateMachine):
    """VS004"""

    n: int = 0

    @command
    def fail(self, n: int) -> int:
        if n > 1:
            raise ValueError(f"bad {(lambda: 0)}")
        self.n = n
        return n


class SizeInState(StateMachine):
    """VS004"""

    bytes_used: int = 0

    @command
    def put(self, text: str) -> int:
        self.bytes_used += text.__sizeof__()
        return self.bytes_used


class WeakCache(StateMachine):
    """VS004 VS006"""

    hits: int = 0

    class Item:
        pass

    @command
    def get(self, name: str) -> int:
        item = WeakCache.Item()
        ref = weakref.ref(item)
        del item
        self.hits += ref() is None
        return self.hits
