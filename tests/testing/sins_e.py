# mypy: ignore-errors
"""Sins of each kind once more: the first words of each docstring name what may be reported."""

import calendar, collections, dataclasses, datetime, decimal, enum, functools, heapq, itertools, json, math, operator, os, random, re, string, sys, threading, time, uuid, zlib
from datetime import datetime as DT
from functools import lru_cache, partial
from time import perf_counter as tick
from typing import Any, Optional
import msgspec
from viewstamp import StateMachine, command, query


class Clock:
    def read(self):
        return time.time_ns()


CLOCK = Clock()
RNG = random.Random(7)
HOST = os.uname().nodename if hasattr(os, "uname") else "x"
DEBUG = "DEBUG" in os.environ
IDS = iter(range(10**9))
TODAY = datetime.date.today()


def default_id():
    return uuid.uuid4().hex


class C1(StateMachine):
    """VS001"""

    n: int = 0

    @command
    def go(self) -> int:
        self.n = CLOCK.read()
        return self.n


class C2(StateMachine):
    """VS001"""

    n: float = 0.0

    @command
    def go(self) -> float:
        t = tick()
        self.n += 1
        return tick() - t


class C3(StateMachine):
    """VS001 VS006"""

    n: int = 0

    @command
    def go(self) -> int:
        self.n = (TODAY - datetime.date(2020, 1, 1)).days
        return self.n


class C4(StateMachine):
    """VS001 VS012"""

    s: str = ""

    @command
    def go(self) -> str:
        self.s = DT.fromtimestamp(0).astimezone().tzname() or ""
        return self.s


class C5(StateMachine):
    """VS001"""

    n: int = 0

    @command
    def go(self, at: float = 0.0) -> int:
        self.n = calendar.timegm(time.gmtime())
        return self.n


class R1(StateMachine):
    """VS002 VS006"""

    n: int = 0

    @command
    def go(self) -> int:
        self.n = RNG.randrange(10)
        return self.n


class R2(StateMachine):
    """VS002"""

    ids: list[str] = []

    @command
    def go(self, name: str) -> str:
        self.ids.append(f"{name}-{default_id()}")
        return self.ids[-1]


class R3(StateMachine):
    """VS002"""

    n: int = 0

    @command
    def go(self) -> int:
        choice = random.choice
        self.n = choice([1, 2, 3]) + max(random.sample(range(1000), 3))
        return self.n


class R4(StateMachine):
    """VS002"""

    s: str = ""

    @command
    def go(self) -> str:
        self.s = "".join(random.choices(string.ascii_letters, k=8))
        return self.s


class S1(StateMachine):
    """VS003"""

    rooms: dict[str, set[str]] = {}

    @command
    def go(self, room: str, who: str) -> list[str]:
        self.rooms.setdefault(room, set()).update({who, who + "1", who + "2", "z"})
        return [n for r in sorted(self.rooms) for n in self.rooms[r]]


class S2(StateMachine):
    """VS003"""

    todo: set[str] = set()
    done: list[str] = []

    @command
    def go(self, a: str) -> list[str]:
        self.todo |= {a + c for c in "pqrst"}
        while self.todo:
            self.done.append(self.todo.pop())
        return self.done


class S3(StateMachine):
    """VS003"""

    xs: dict[str, int] = {}

    @command
    def go(self, names: list[str]) -> str:
        for n in {*names, "aa", "bb", "cc", "dd"}:
            self.xs.setdefault(n, len(self.xs))
        return next(iter(self.xs))


class S4(StateMachine):
    """VS003"""

    tags: frozenset[str] = frozenset("abcdef")

    @query
    def go(self) -> tuple[str, ...]:
        return tuple(self.tags)


class H1(StateMachine):
    """VS004"""

    n: int = 0

    @command
    def go(self, s: str) -> int:
        self.n = hash(s.lower()) & 0xFF
        return self.n


class H2(StateMachine):
    """VS004"""

    seen: dict[int, str] = {}

    @command
    def go(self, s: str) -> int:
        self.seen[id(s)] = s
        return len(self.seen)


class Q1(StateMachine):
    """VS005"""

    q: list[str] = []

    @command
    def put(self, s: str) -> int:
        self.q += [s]
        return len(self.q)

    @query
    def take(self) -> str:
        return self.q.pop(0) if self.q else ""


class Q2(StateMachine):
    """VS005"""

    @dataclasses.dataclass
    class P:
        n: int = 0

    ps: dict[str, "Q2.P"] = {}

    @command
    def put(self, s: str) -> int:
        self.ps[s] = Q2.P(len(self.ps))
        return len(self.ps)

    @query
    def top(self) -> int:
        if not self.ps:
            return 0
        best = max(self.ps.values(), key=lambda p: p.n)
        best.n += 1
        return best.n
