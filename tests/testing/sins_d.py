# mypy: ignore-errors
"""Sins of half-done commands, recursion, batches and snapshots: the first words of each docstring name what may be reported."""

import asyncio
import collections
import contextlib
import dataclasses
import datetime as dt
import functools
import gc
import importlib
import io
import json
import locale
import logging
import os
import random
import shutil
import socket
import sys
import threading
import time
import traceback
from typing import Any

import msgspec

import viewstamp
from viewstamp import StateMachine, command, query


class HalfInLoop(StateMachine):
    """VS013"""

    stock: dict[str, int] = {}

    @command
    def put(self, name: str, n: int) -> int:
        self.stock[name] = n
        return n

    @command
    def take(self, names: list[str]) -> int:
        for name in names:
            self.stock[name] -= 1
        return len(names)


class HalfByConversion(StateMachine):
    """VS013"""

    count: int = 0
    total: int = 0

    @command
    def add(self, text: str) -> int:
        self.count += 1
        self.total += int(text, 16)
        return self.total


class HalfByIndex(StateMachine):
    """VS013"""

    moves: int = 0
    rows: list[int] = [1, 2, 3]

    @command
    def move(self, n: int) -> int:
        self.moves += 1
        return self.rows[n]


class HalfByUnpack(StateMachine):
    """VS013"""

    moves: int = 0

    @command
    def move(self, words: str) -> str:
        self.moves += 1
        verb, noun = words.split()
        return noun + verb


class HalfByAssert(StateMachine):
    """VS013"""

    moves: int = 0

    @command
    def move(self, n: int) -> int:
        self.moves += n
        assert self.moves < 5, "too far"
        return self.moves


class HalfByFinally(StateMachine):
    """VS013"""

    busy: bool = False
    done: int = 0

    @command
    def move(self, n: int) -> int:
        self.busy = True
        if n > 2:
            raise ValueError("too much")
        self.busy = False
        self.done += n
        return self.done


class DeepMutual(StateMachine):
    """VS014"""

    last: bool = False

    @command
    def even(self, n: int) -> bool:
        self.last = self._even(abs(n))
        return self.last

    def _even(self, n: int) -> bool:
        return n == 0 or self._odd(n - 1)

    def _odd(self, n: int) -> bool:
        return n != 0 and self._even(n - 1)


class DeepLinked(StateMachine):
    """VS014"""

    nexts: dict[int, int] = {}

    @command
    def link(self) -> int:
        n = len(self.nexts)
        self.nexts[n] = n + 1
        return n

    @query
    def length(self, n: int) -> int:
        walk = lambda at: 1 + walk(self.nexts[at]) if at in self.nexts else 0  # noqa: E731
        return walk(n)


class DeepYield(StateMachine):
    """VS014"""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        self.total += sum(self._down(n))
        return self.total

    def _down(self, n: int):
        if n > 0:
            yield n
            yield from self._down(n - 1)


class BatchOffset(StateMachine):
    """VS015"""

    firsts: int = 0

    @command
    def add(self) -> int:
        self.firsts += 0 if self.context.offset else 1
        return self.firsts


class BatchKey(StateMachine):
    """VS015"""

    entries: dict[int, int] = {}

    @command
    def add(self) -> int:
        key = self.context.viewstamp.seqno
        self.entries[key] = self.entries.get(key, 0) + 1
        return len(self.entries)


class BatchTime(StateMachine):
    """VS015"""

    stamps: list[str] = []

    @command
    def add(self) -> int:
        mark = str(self.context.viewstamp)
        if mark not in self.stamps:
            self.stamps.append(mark)
        return len(self.stamps)


class SnapshotTwo(StateMachine):
    """VS016"""

    def __init__(self) -> None:
        self.a: list[int] = []
        self.b: dict[str, int] = {}

    @command
    def add(self, name: str, n: int) -> int:
        self.a.append(n)
        self.b[name] = len(self.a)
        return len(self.b)

    def snapshot(self) -> bytes:
        return json.dumps({"a": self.a}).encode()

    def restore(self, snapshot: bytes) -> None:
        self.a = json.loads(snapshot)["a"]


class SnapshotKeys(StateMachine):
    """VS017"""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}

    @command
    def add(self, n: int, name: str) -> int:
        self.names[n] = name
        return len(self.names)

    @query
    def get(self, n: int) -> str:
        return self.names.get(n, "")

    def snapshot(self) -> bytes:
        return json.dumps(self.names).encode()

    def restore(self, snapshot: bytes) -> None:
        self.names = json.loads(snapshot)


class SnapshotTuple(StateMachine):
    """VS017"""

    def __init__(self) -> None:
        self.pairs: list[Any] = []

    @command
    def add(self, n: int, name: str) -> bool:
        found = (n, name) in self.pairs
        self.pairs.append((n, name))
        return found

    def snapshot(self) -> bytes:
        return json.dumps(self.pairs).encode()

    def restore(self, snapshot: bytes) -> None:
        self.pairs = json.loads(snapshot)


class RestoreAdds(StateMachine):
    """VS017"""

    def __init__(self) -> None:
        self.epoch = 0
        self.total = 0

    @command
    def add(self, n: int) -> int:
        self.total += n
        return self.total + self.epoch

    def snapshot(self) -> bytes:
        return json.dumps([self.epoch, self.total]).encode()

    def restore(self, snapshot: bytes) -> None:
        self.epoch, self.total = json.loads(snapshot)
        self.epoch += 1


class RestoreTruncates(StateMachine):
    """VS017 VS016"""

    def __init__(self) -> None:
        self.log: list[int] = []

    @command
    def add(self, n: int) -> int:
        self.log.append(n)
        return len(self.log)

    def snapshot(self) -> bytes:
        return json.dumps(self.log[-5:]).encode()

    def restore(self, snapshot: bytes) -> None:
        self.log = json.loads(snapshot)


class ContextInStruct(StateMachine):
    """VS018"""

    last: int = 0

    @command
    def roll(self) -> int:
        KEPT.append(self.context.random)
        self.last = KEPT[0].randrange(10**6)
        return self.last


KEPT: list[Any] = []


class ContextInLambda(StateMachine):
    """VS018 VS006"""

    last: int = 0

    @command
    def roll(self) -> int:
        LATER.setdefault("now", lambda context=self.context: context.now)
        self.last = LATER["now"]()
        return self.last


LATER: dict[str, Any] = {}


class SwallowBare(StateMachine):
    """VS019"""

    last: int = 0

    @command
    def work(self, n: int) -> int:
        try:
            self.last = len("x" * abs(n))
        except:  # noqa: E722
            self.last = -1
        return self.last


class SwallowTuple(StateMachine):
    """VS019"""

    last: int = 0

    @command
    def work(self, n: int) -> int:
        try:
            self.last = 10 // n
        except (ZeroDivisionError, BaseException):
            self.last = -1
        return self.last


class SwallowSuppress(StateMachine):
    """VS019"""

    last: int = 0

    @command
    def work(self, n: int) -> int:
        with contextlib.suppress(RecursionError, MemoryError):
            self.last = n * 2
        return self.last


class Finalizer(StateMachine):
    """VS006 VS004"""

    total: int = 0

    class Token:
        alive = 0

        def __init__(self) -> None:
            Finalizer.Token.alive += 1

        def __del__(self) -> None:
            Finalizer.Token.alive -= 1

    @command
    def add(self, n: int) -> int:
        token = Finalizer.Token()
        token.me = token
        self.total += Finalizer.Token.alive
        return self.total


class GcCount(StateMachine):
    """VS004"""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        self.total += gc.collect()
        return self.total


class DictOfDifferentInsertion(StateMachine):
    """VS003"""

    groups: dict[str, set[str]] = {}

    @command
    def add(self, name: str) -> str:
        self.groups.setdefault("all", set()).update(f"{name}{i}" for i in range(7))
        index = {member: place for place, member in enumerate(self.groups["all"])}
        return min(index, key=index.__getitem__)
