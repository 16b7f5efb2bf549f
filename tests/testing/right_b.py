# mypy: ignore-errors
"""Right classes that use flags, named tuples, fractions, struct, expiry, rollback and recursion."""

import collections
import contextlib
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
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
import time
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple, Optional, Self, Union

import msgspec

from viewstamp import StateMachine, command, query

log = logging.getLogger(__name__)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2

    @property
    def weight(self) -> int:
        return self.value * 10

    @classmethod
    def of(cls, n: int) -> "Level":
        return cls.HIGH if n > 1 else cls.LOW


class Flags(enum.Flag):
    READ = 1
    WRITE = 2


class Tickets(StateMachine):
    open: dict[int, Level] = {}
    perms: dict[str, int] = {}

    @command
    def file(self, n: int) -> int:
        number = len(self.open) + 1
        self.open[number] = Level.of(n)
        log.debug("filed %r at %s", self.open[number], time.strftime("%H", time.gmtime(0)))
        return sum(level.weight for level in self.open.values())

    @command
    def grant(self, who: str, write: bool) -> bool:
        flags = Flags.READ | Flags.WRITE if write else Flags.READ
        self.perms[who] = flags.value
        return Flags.WRITE in flags


class Point(NamedTuple):
    x: int
    y: int

    def moved(self, dx: int, dy: int) -> "Point":
        return self._replace(x=self.x + dx, y=self.y + dy)


class Robot(StateMachine):
    at: Point = Point(0, 0)
    trail: list[Point] = []

    @command
    def go(self, way: Literal["n", "s", "e", "w"], n: int) -> Point:
        dx, dy = {"n": (0, 1), "s": (0, -1), "e": (1, 0), "w": (-1, 0)}[way]
        self.at = self.at.moved(dx * n, dy * n)
        self.trail.append(self.at)
        return self.at

    @query
    def far(self) -> float:
        return math.hypot(*self.at)


class Pixel(msgspec.Struct):
    colour: int = 0


class Canvas(StateMachine):
    rows: list[list[Pixel]] = []

    @command
    def clear(self, n: int) -> int:
        size = abs(n) % 5
        self.rows = [[Pixel() for _ in range(size)] for _ in range(size)]
        return size

    @command
    def paint(self, x: int, y: int, colour: int) -> bool:
        if not (0 <= y < len(self.rows) and 0 <= x < len(self.rows[y])):
            return False
        self.rows[y][x].colour = colour
        return True


class Cart(msgspec.Struct):
    items: dict[str, int] = {}
    at: int = 0


class Carts(StateMachine):
    carts: dict[int, Cart] = {}
    TTL_US: ClassVar[int] = 60_000_000

    def _expire(self) -> None:
        for client in [c for c, cart in self.carts.items() if self.context.now - cart.at > self.TTL_US]:
            del self.carts[client]

    @command
    def add(self, item: str, count: int = 1) -> dict[str, int]:
        self._expire()
        cart = self.carts.setdefault(self.context.client, Cart())
        cart.at = self.context.now
        cart.items[item] = cart.items.get(item, 0) + count
        return cart.items

    def session_ended(self, client: int) -> None:
        self.carts.pop(client, None)


class Elect(StateMachine):
    leader: int = 0
    until: int = 0
    token: int = 0

    @command
    def campaign(self, ttl_ms: int) -> int:
        if self.context.now < self.until and self.leader != self.context.client:
            return 0
        self.leader, self.until = self.context.client, self.context.now + max(ttl_ms, 1) * 1000
        self.token = self.context.token
        self.context.notify(self.context.client, {"leader": True})
        return self.token

    @query
    def who(self) -> int:
        return self.leader if self.context.now < self.until else 0


class Polls(StateMachine):
    polls: dict[str, dict[str, list[int]]] = {}
    raises = (LookupError,)

    @command
    def create(self, name: str, options: list[str]) -> int:
        self.polls[name] = {option: [] for option in options}
        return len(options)

    @command
    def vote(self, name: str, option: str) -> int:
        try:
            voters = self.polls[name][option]
        except KeyError:
            raise LookupError(f"no {option} in {name}") from None
        if self.context.client not in voters:
            voters.append(self.context.client)
        return len(voters)

    @query
    def tally(self, name: str) -> list[tuple[str, int]]:
        poll = self.polls.get(name, {})
        return sorted(((o, len(v)) for o, v in poll.items()), key=operator.itemgetter(1, 0), reverse=True)


class Versions(StateMachine):
    texts: dict[str, list[str]] = {}

    @command
    def save(self, name: str, text: str) -> int:
        versions = self.texts.setdefault(name, [])
        if versions and versions[-1] == text:
            return len(versions)
        versions.append(text)
        return len(versions)

    @command
    def fork(self, name: str, into: str) -> bool:
        if name not in self.texts or into in self.texts:
            return False
        self.texts[into] = self.texts[name][:]
        return True

    @command
    def rename(self, name: str, into: str) -> bool:
        if name not in self.texts or into in self.texts:
            return False
        self.texts[into] = self.texts.pop(name)
        return True


class Fractions(StateMachine):
    top: int = 0
    bottom: int = 1

    @command
    def add(self, a: int, b: int) -> str:
        if b == 0:
            return "no"
        total = fractions.Fraction(self.top, self.bottom) + fractions.Fraction(a, b)
        self.top, self.bottom = total.numerator, total.denominator
        return str(total)


class Life(StateMachine):
    alive: set[tuple[int, int]] = set()

    @command
    def toggle(self, x: int, y: int) -> int:
        self.alive ^= {(x, y)}
        return len(self.alive)

    @command
    def step(self) -> int:
        near = collections.Counter(
            (x + dx, y + dy) for x, y in self.alive for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy
        )
        self.alive = {cell for cell, n in near.items() if n == 3 or (n == 2 and cell in self.alive)}
        return len(self.alive)

    @query
    def shown(self) -> list[tuple[int, int]]:
        return sorted(self.alive)


class Packed(StateMachine):
    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._names: dict[str, int] = {}

    @command
    def add(self, name: str, n: int) -> int:
        self._numbers.append(n)
        self._names[name] = len(self._numbers)
        return self._names[name]

    @query
    def sum(self) -> int:
        return sum(self._numbers)

    def snapshot(self) -> bytes:
        head = struct.pack(f"<I{len(self._numbers)}q", len(self._numbers), *self._numbers)
        return head + msgspec.msgpack.encode(self._names)

    def restore(self, snapshot: bytes) -> None:
        (count,) = struct.unpack_from("<I", snapshot)
        self._numbers = list(struct.unpack_from(f"<{count}q", snapshot, 4))
        self._names = msgspec.msgpack.decode(snapshot[4 + 8 * count :])


class Simulated(StateMachine):
    history: list[float] = []

    @command
    def walk(self, seed: int, steps: int) -> float:
        rng = random.Random(seed)
        at = 0.0
        for _ in range(abs(steps) % 10):
            at += rng.gauss(0, 1)
        self.history.append(at)
        return round(at, 6)

    @query
    def mean(self) -> str:
        return f"{statistics.fmean(self.history):.3f}" if self.history else ""


class Lines(StateMachine):
    rows: list[str] = []

    def _parsed(self) -> Iterator[tuple[int, str]]:
        for number, row in enumerate(self.rows):
            yield number, row.partition(":")[0]

    @command
    def add(self, key: str, value: str) -> int:
        self.rows.append(f"{key}:{value}")
        return sum(1 for _, found in self._parsed() if found == key)

    @query
    def keys(self) -> list[str]:
        return list(dict.fromkeys(key for _, key in self._parsed()))


class Guarded(StateMachine):
    raises = (PermissionError, ZeroDivisionError)
    owner: int = 0
    total: int = 0

    def _check(self) -> None:
        if self.owner not in (0, self.context.client):
            raise PermissionError("not yours")

    @command
    def own(self) -> bool:
        self._check()
        self.owner = self.context.client
        return True

    @command
    def share(self, n: int, of: int) -> int:
        self._check()
        part = n // of
        self.total += part
        return self.total

    @command
    def careful(self, text: str) -> int:
        try:
            n = int(text)
        except ValueError:
            return -1
        self.total += n
        return self.total


class Lru(StateMachine):
    items: dict[str, int] = {}
    hits: int = 0

    @command
    def get(self, key: str) -> Optional[int]:
        if key not in self.items:
            return None
        self.hits += 1
        value = self.items[key] = self.items.pop(key)
        return value

    @command
    def put(self, key: str, n: int) -> int:
        self.items[key] = n
        while len(self.items) > 2:
            self.items.pop(next(iter(self.items)))
        return len(self.items)


class Nested(StateMachine):
    teams: dict[str, dict[str, list[str]]] = {}

    @command
    def join(self, team: str, role: str, who: str) -> int:
        members = self.teams.setdefault(team, {}).setdefault(role, [])
        if who not in members:
            members.append(who)
            members.sort()
        return len(members)

    @command
    def move(self, a: str, b: str) -> int:
        if a == b or a not in self.teams:
            return 0
        source = self.teams.pop(a)
        target = self.teams.setdefault(b, {})
        for role, members in source.items():
            target.setdefault(role, []).extend(members)
        return len(target)

    @query
    def flat(self) -> list[tuple[str, str, str]]:
        return [
            (t, r, w)
            for t, roles in sorted(self.teams.items())
            for r, ws in sorted(roles.items())
            for w in ws
        ]


class Pipeline(StateMachine):
    STEPS: ClassVar[tuple[str, ...]] = ("strip", "lower", "title")
    seen: list[str] = []

    @command
    def run(self, text: str) -> str:
        for step in self.STEPS:
            text = getattr(text, step)()
        self.seen.append(text)
        return text

    @command
    def reduce(self, ns: list[int]) -> int:
        return functools.reduce(operator.add, ns, 0)
