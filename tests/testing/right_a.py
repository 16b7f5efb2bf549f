# mypy: ignore-errors
"""Right classes that use contexts, dates, decimals, enums, caches, inheritance and nested dataclasses."""

import bisect
import collections
import contextlib
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import hashlib
import heapq
import itertools
import json
import logging
import math
import operator
import random
import re
import statistics
import string
import struct
import textwrap
import types
import uuid
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, Generic, Literal, NamedTuple, NewType, Optional, Protocol, TypeVar

import msgspec

import viewstamp
from viewstamp import StateMachine, command, query

log = logging.getLogger(__name__)
Cents = NewType("Cents", int)
LIMITS: Final = types.MappingProxyType({"a": 10, "b": 20, "c": 30})
RATES = {"eur": decimal.Decimal("1.00"), "usd": decimal.Decimal("1.08")}
WORD = re.compile(r"\w+")


@functools.lru_cache(maxsize=None)
def fib(n: int) -> int:
    a, b = 0, 1
    for _ in range(n % 90):
        a, b = b, a + b
    return a


class Pure(StateMachine):
    total: int = 0

    @command
    def add(self, n: int) -> int:
        self.total += fib(abs(n))
        return self.total


class Suit(enum.Enum):
    SPADE = "s"
    HEART = "h"


class Card(msgspec.Struct, frozen=True, order=True):
    rank: int
    suit: Suit = Suit.HEART


class Poker(StateMachine):
    deck: list[Card] = [Card(rank, suit) for rank in range(3) for suit in Suit]
    hands: dict[int, list[Card]] = {}

    @command
    def shuffle(self) -> int:
        self.deck = [Card(rank, suit) for rank in range(3) for suit in Suit]
        self.context.random.shuffle(self.deck)
        self.hands = {}
        return len(self.deck)

    @command
    def draw(self) -> Optional[Card]:
        if not self.deck:
            return None
        card = self.deck.pop()
        self.hands.setdefault(self.context.client, []).append(card)
        return card

    @query
    def best(self) -> list[Card]:
        return sorted(
            (max(hand, key=lambda c: (c.rank, c.suit.value)) for hand in self.hands.values()),
            key=lambda c: (c.rank, c.suit.value),
        )

    def session_ended(self, client: int) -> None:
        self.deck.extend(self.hands.pop(client, []))


@dataclasses.dataclass
class Address:
    street: str
    tags: set[str] = dataclasses.field(default_factory=set)


@dataclasses.dataclass
class Person:
    name: str
    home: Address
    born: Optional[dt.date] = None
    friends: dict[str, int] = dataclasses.field(default_factory=dict)


class People(StateMachine):
    people: dict[str, Person] = {}

    @command
    def add(self, name: str, street: str) -> bool:
        if name in self.people:
            return False
        self.people[name] = Person(name, Address(street, {street, name}))
        return True

    @command
    def befriend(self, a: str, b: str) -> int:
        if a not in self.people or b not in self.people or a == b:
            return 0
        self.people[a].friends[b] = self.people[a].friends.get(b, 0) + 1
        return len(self.people[a].friends)

    @query
    def tags(self, name: str) -> list[str]:
        person = self.people.get(name)
        return sorted(person.home.tags) if person else []

    @query
    def older(self, name: str) -> Optional[Person]:
        found = copy.deepcopy(self.people.get(name))
        if found is not None:
            found.home.tags.discard(name)
        return found


class Base(StateMachine):
    events: list[str] = []

    def _note(self, what: str) -> None:
        self.events.append(f"{self.context.now // 1000}: {what}")
        del self.events[:-20]


class Audited(Base):
    total: int = 0

    @command
    def add(self, n: int) -> int:
        self.total += n
        self._note(f"add {n}")
        return self.total

    @command
    def undo(self) -> int:
        try:
            last = self.events.pop()
        except IndexError:
            return self.total
        self.total -= int(last.rsplit(" ", 1)[1])
        return self.total


class MixinCount:
    def counted(self, xs: list[int]) -> dict[int, int]:
        return dict(collections.Counter(xs))


class Mixed(MixinCount, StateMachine):
    xs: list[int] = []

    @command
    def put(self, n: int) -> dict[int, int]:
        self.xs.append(n % 3)
        return self.counted(self.xs)


class Money(StateMachine):
    acc: dict[str, decimal.Decimal] = {}

    @command
    def deposit(self, who: str, cents: int, currency: Literal["eur", "usd"]) -> str:
        with decimal.localcontext() as ctx:
            ctx.prec = 12
            ctx.rounding = decimal.ROUND_HALF_EVEN
            amount = (decimal.Decimal(cents) / 100 * RATES[currency]).quantize(decimal.Decimal("0.01"))
        self.acc[who] = self.acc.get(who, decimal.Decimal(0)) + amount
        return f"{self.acc[who]:.2f}"


class Scheduler(StateMachine):
    due: list[tuple[int, int, str]] = []
    serial: int = 0

    @command
    def at(self, delay_ms: int, what: str) -> int:
        self.serial += 1
        heapq.heappush(self.due, (self.context.now + max(0, delay_ms) * 1000, self.serial, what))
        return self.serial

    @command
    def tick(self) -> list[str]:
        done: list[str] = []
        while self.due and self.due[0][0] <= self.context.now:
            done.append(heapq.heappop(self.due)[2])
        return done

    @query
    def when(self, n: int) -> Optional[str]:
        found = next((at for at, serial, _ in self.due if serial == n), None)
        if found is None:
            return None
        return dt.datetime.fromtimestamp(found // 1_000_000, tz=dt.timezone.utc).isoformat()


class Uuids(StateMachine):
    ids: list[str] = []

    @command
    def make(self, name: str) -> str:
        fresh = uuid.UUID(int=self.context.random.getrandbits(128), version=4)
        named = uuid.uuid5(uuid.NAMESPACE_DNS, name)
        self.ids.append(str(fresh))
        return f"{fresh}/{named}"


class Sharded(StateMachine):
    shards: list[dict[str, int]] = [{}, {}, {}]

    @command
    def put(self, key: str, n: int) -> int:
        at = zlib.crc32(key.encode()) % len(self.shards)
        self.shards[at][key] = n
        return at

    @query
    def sizes(self) -> list[int]:
        return [len(shard) for shard in self.shards]


class SetsDoneRight(StateMachine):
    online: set[str] = set()
    likes: dict[str, frozenset[str]] = {}

    @command
    def join(self, name: str) -> int:
        self.online.add(name)
        return len(self.online)

    @command
    def like(self, name: str, whom: str) -> bool:
        before = self.likes.get(whom, frozenset())
        self.likes[whom] = before | {name}
        return name not in before

    @command
    def leave_all(self, names: set[str]) -> int:
        gone = self.online & names
        self.online -= gone
        for name in gone:
            self.likes.pop(name, None)
        return len(gone)

    @query
    def listed(self) -> str:
        return ", ".join(sorted(name.upper() for name in self.online))

    @query
    def total(self) -> int:
        return sum(len(names) for names in self.likes.values()) + max(
            (len(n) for n in self.online), default=0
        )

    @query
    def common(self, a: str, b: str) -> set[str]:
        return set(self.likes.get(a, ())) & self.likes.get(b, frozenset())


class Checked(StateMachine):
    raises = (KeyError, ValueError)
    stock: dict[str, int] = {}

    @command
    def put(self, name: str, n: int) -> int:
        if n < 0:
            raise ValueError("negative")
        self.stock[name] = self.stock.get(name, 0) + n
        return self.stock[name]

    @command
    def take_all(self, names: list[str]) -> int:
        wanted = collections.Counter(names)
        for name, n in wanted.items():
            if self.stock.get(name, 0) < n:
                raise KeyError(name)
        for name, n in wanted.items():
            self.stock[name] -= n
            if not self.stock[name]:
                del self.stock[name]
        return len(names)


class RolledBack(StateMachine):
    rows: list[int] = []

    @command
    def add_all(self, ns: list[int]) -> int:
        before = list(self.rows)
        try:
            for n in ns:
                if n == 3:
                    raise ValueError("three")
                self.rows.append(n)
        except ValueError:
            self.rows = before
            return -1
        return len(self.rows)


class Expr(StateMachine):
    last: int = 0

    @command
    def evaluate(self, tokens: list[str]) -> int:
        stack: list[int] = []
        for token in tokens:
            if token == "a" and len(stack) > 1:
                stack.append(stack.pop() + stack.pop())
            else:
                stack.append(len(token))
        self.last = stack[-1] if stack else 0
        return self.last


class Json(StateMachine):
    docs: dict[str, Any] = {}

    @command
    def put(self, key: str, value: Any) -> int:
        self.docs[key] = copy.deepcopy(value)
        return self._depth(value)

    def _depth(self, value: Any) -> int:
        if isinstance(value, dict):
            return 1 + max((self._depth(one) for one in value.values()), default=0)
        if isinstance(value, list):
            return 1 + max((self._depth(one) for one in value), default=0)
        return 0

    @query
    def text(self) -> str:
        return json.dumps(self.docs, sort_keys=True)


class Memo(StateMachine):
    """Keeps its cache in the state."""

    known: dict[int, int] = {0: 0, 1: 1}

    @command
    def fib(self, n: int) -> int:
        n = abs(n) % 30
        for at in range(2, n + 1):
            if at not in self.known:
                self.known[at] = self.known[at - 1] + self.known[at - 2]
        return self.known[n]


class Derived(StateMachine):
    words: list[str] = []

    @property
    def longest(self) -> int:
        return max(map(len, self.words), default=0)

    @command
    def add(self, word: str) -> int:
        self.words.append(word.strip().casefold())
        return self.longest

    @query
    def index(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = collections.defaultdict(list)
        for place, word in enumerate(self.words):
            found[word].append(place)
        return dict(found)


class Ring(StateMachine):
    nodes: dict[str, list[int]] = {}

    @staticmethod
    def _points(name: str, count: int = 4) -> list[int]:
        return [
            int.from_bytes(hashlib.sha256(f"{name}:{i}".encode()).digest()[:4], "big") for i in range(count)
        ]

    @command
    def join(self, name: str) -> int:
        self.nodes[name] = self._points(name)
        return len(self.nodes)

    @query
    def owner(self, key: str) -> str:
        ring = sorted((point, name) for name, points in self.nodes.items() for point in points)
        if not ring:
            return ""
        at = bisect.bisect(ring, (self._points(key, 1)[0], ""))
        return ring[at % len(ring)][1]
