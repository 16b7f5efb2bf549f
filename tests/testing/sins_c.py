# mypy: ignore-errors
"""Sins of threads, files and hosts: the first words of each docstring name what may be reported."""

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


class ThreadTimer(StateMachine):
    """VS010"""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        timer = threading.Timer(0, self._late)
        timer.start()
        timer.join()
        self.total += n
        return self.total

    def _late(self) -> None:
        pass


class ThreadLock(StateMachine):
    """VS010"""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        with LOCK:
            self.total += n
        return self.total


LOCK = threading.Lock()


class AsyncRun(StateMachine):
    """VS010"""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        async def inner() -> int:
            return n

        loop = asyncio.new_event_loop()
        try:
            self.total += loop.run_until_complete(inner())
        finally:
            loop.close()
        return self.total


class FileByPrint(StateMachine):
    """VS011"""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        print(n, file=io.FileIO(os.devnull, "w") and open(os.devnull, "w"))
        self.total += n
        return self.total


class Disk(StateMachine):
    """VS011 VS012"""

    free: int = 0

    @command
    def look(self) -> int:
        self.free = shutil.disk_usage(".").free
        return self.free


class ListDir(StateMachine):
    """VS011"""

    names: list[str] = []

    @command
    def look(self) -> int:
        with os.scandir(".") as found:
            self.names = [one.name for one in found]
        return len(self.names)


class ImportData(StateMachine):
    """VS011"""

    size: int = 0

    @command
    def look(self) -> int:
        self.size = os.stat(__file__).st_mtime_ns
        return self.size


class Resolve(StateMachine):
    """VS011 VS012"""

    address: str = ""

    @command
    def look(self) -> str:
        self.address = str(socket.getaddrinfo("localhost", 80)[0])
        return self.address


class EnvironCopy(StateMachine):
    """VS012"""

    region: str = ""

    @command
    def look(self) -> str:
        self.region = dict(os.environ).get("HOME", "")
        return self.region


class EnvironAtImport(StateMachine):
    """VS012"""

    region: str = ""

    @command
    def look(self) -> str:
        self.region = settings().get("region")
        return self.region


def settings() -> dict[str, str]:
    return {"region": os.environ.get("REGION", "eu")}


class LocaleText(StateMachine):
    """VS012"""

    last: str = ""

    @command
    def look(self, n: int) -> str:
        self.last = f"{n:n}" + dt.date(2020, 1, 1 + n % 28).strftime("%A") + locale.format_string("%d", n)
        return self.last


class TimeZone(StateMachine):
    """VS012"""

    day: str = ""

    @command
    def look(self) -> str:
        self.day = dt.datetime.fromtimestamp(self.context.now / 1e6).isoformat()
        return self.day


class Version(StateMachine):
    """VS012"""

    features: int = 0

    @command
    def look(self) -> int:
        self.features = sys.version_info >= (3, 12)
        return self.features


class Recursive(StateMachine):
    """VS012"""

    limit: int = 0

    @command
    def look(self) -> int:
        self.limit = sys.getrecursionlimit()
        return self.limit


class TracebackText(StateMachine):
    """VS012 VS011 VS004"""

    last: str = ""

    @command
    def look(self, n: int) -> str:
        try:
            self.last = str(10 // n)
        except ZeroDivisionError:
            self.last = traceback.format_exc()
        return self.last
