# mypy: ignore-errors
"""The second half of the sins of each kind: the first words of each docstring name what may be reported."""

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


class G1(StateMachine):
    """VS006"""

    n: int = 0

    @command
    def go(self) -> int:
        self.n = next(IDS)
        return self.n


class G2(StateMachine):
    """VS006"""

    history: list[int] = []
    cache = {}

    @command
    def go(self, k: int) -> int:
        if k not in G2.cache:
            G2.cache[k] = len(self.history)
        self.history.append(k)
        return G2.cache[k]


class G3(StateMachine):
    """VS006"""

    n: int = 0

    @command
    def go(self, k: int, acc: list[int] = []) -> int:
        acc.append(k)
        self.n = len(acc)
        return self.n


class G4(StateMachine):
    """VS012"""

    n: int = 0

    @command
    def go(self, k: int) -> int:
        self.n += 2 * k if DEBUG else k
        return self.n


class G5(StateMachine):
    """VS012"""

    s: str = ""

    @command
    def go(self) -> str:
        self.s = HOST
        return self.s


class F1(StateMachine):
    """VS007"""

    n: int = 0

    @command
    def go(self, k: int) -> int:
        setattr(self, "last_" + "k", k)
        self.n += getattr(self, "last_k")
        return self.n


class F2(StateMachine):
    """VS007"""

    n: int = 0

    def __init__(self) -> None:
        self._index = {}

    @command
    def go(self, k: int) -> int:
        self._index[k] = self.n
        self.n += 1
        return len(self._index)


class A1(StateMachine):
    """VS008"""

    cur: list[int] = []
    hist: list[list[int]] = []

    @command
    def add(self, k: int) -> int:
        self.cur.append(k)
        return len(self.cur)

    @command
    def snap(self) -> int:
        self.hist.append(self.cur)
        return sum(map(len, self.hist))


class A2(StateMachine):
    """VS008"""

    a: dict[str, list[int]] = {}
    b: dict[str, list[int]] = {}

    @command
    def add(self, s: str, k: int) -> int:
        xs = [k]
        self.a[s] = self.b[s] = xs
        return len(xs)

    @command
    def more(self, s: str) -> int:
        if s in self.a:
            self.a[s].append(1)
        return len(self.b.get(s, []))


class FT(StateMachine):
    """VS009"""

    seen: set[str] = set()

    @command
    def add(self, x: float) -> bool:
        key = f"{x * 0.1}"
        new = key not in self.seen
        self.seen.add(key)
        return new


class T1(StateMachine):
    """VS010"""

    n: int = 0

    @command
    def go(self, k: int) -> int:
        e = threading.Event()
        e.wait(0)
        self.n += k
        return self.n


class IO1(StateMachine):
    """VS011"""

    n: int = 0

    @command
    def go(self) -> int:
        self.n = os.path.getsize(__file__)
        return self.n


class HD1(StateMachine):
    """VS013"""

    acc: dict[str, int] = {}

    @command
    def open(self, a: str) -> int:
        self.acc[a] = 2
        return 2

    @command
    def move(self, a: str, b: str, n: int) -> int:
        self.acc[a] = self.acc.get(a, 0) - n
        self.acc[b] += n
        return n


class HD2(StateMachine):
    """VS013"""

    log: list[str] = []

    @command
    def go(self, when: str) -> str:
        self.log.append(when)
        return datetime.date.fromisoformat(when).isoformat()


class HD3(StateMachine):
    """VS013"""

    n: int = 0
    xs: list[str] = []

    @command
    def go(self, s: str) -> int:
        self.n += 1
        self.xs.remove(s)
        return self.n


class HD4(StateMachine):
    """VS013"""

    n: int = 0

    def _check(self, k: int) -> None:
        if k > 2:
            raise ValueError("k")

    @command
    def go(self, k: int) -> int:
        self.n += k
        self._check(k)
        return self.n


class RC(StateMachine):
    """VS014"""

    n: int = 0

    @command
    def go(self, k: int) -> int:
        def down(i):
            return 0 if i <= 0 else 1 + down(i - 1)

        self.n = down(k)
        return self.n


class B1(StateMachine):
    """VS015"""

    last: int = -1
    n: int = 0

    @command
    def go(self) -> int:
        if self.last != self.context.viewstamp.seqno:
            self.n = 0
        self.last = self.context.viewstamp.seqno
        self.n += 1
        return self.n


class SO(StateMachine):
    """VS016"""

    def __init__(self) -> None:
        self.a = {}
        self.n = 0

    @command
    def go(self, s: str) -> int:
        self.a[s] = self.n
        self.n += 1
        return self.n

    def snapshot(self) -> bytes:
        return json.dumps(self.a).encode()

    def restore(self, b: bytes) -> None:
        self.a = json.loads(b)


class RD(StateMachine):
    """VS017 VS016"""

    def __init__(self) -> None:
        self.xs: list[int] = []

    @command
    def go(self, k: int) -> list[int]:
        self.xs.append(k)
        return self.xs[-2:]

    def snapshot(self) -> bytes:
        return msgspec.json.encode(sorted(self.xs))

    def restore(self, b: bytes) -> None:
        self.xs = msgspec.json.decode(b)


class CK(StateMachine):
    """VS018"""

    n: int = 0
    rng: Any = None

    @command
    def go(self) -> int:
        if self.rng is None:
            self.rng = self.context.random
        self.n = self.rng.randrange(9)
        return self.n


class SW(StateMachine):
    """VS019"""

    n: int = 0

    @command
    def go(self, k: int) -> int:
        try:
            self.n = math.factorial(abs(k) % 20)
        except (ValueError, RecursionError) as e:
            self.n = 0
        return self.n


class SW2(StateMachine):
    """VS019"""

    n: int = 0

    @command
    def go(self, k: int) -> int:
        try:
            self.n += 10 // (k + 1)
        except BaseException:
            return -1
        return self.n
