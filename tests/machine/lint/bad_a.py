# mypy: ignore-errors
"""Classes that break one rule each, the first word of each docstring: VS001 to VS005."""

import datetime as dt
import os
import random
import secrets
import sys
import time
import uuid
from datetime import date, datetime
from random import randint
from time import monotonic as clock
from viewstamp.machine.state_machine import StateMachine, command, query


def stamp() -> float:
    return time.time()


def names_of(tags: set[str]) -> list[str]:
    return [tag for tag in tags]


class ClockPlain(StateMachine):
    """VS001"""

    last: float = 0.0

    @command
    def touch(self) -> float:
        self.last = time.time()
        return self.last


class ClockAlias(StateMachine):
    """VS001"""

    last: float = 0.0

    @command
    def touch(self) -> None:
        self.last = clock()


class ClockHelper(StateMachine):
    """VS001"""

    last: float = 0.0

    @command
    def touch(self) -> None:
        self.last = stamp()


class ClockDatetime(StateMachine):
    """VS001"""

    log: list[str] = []

    @command
    def touch(self) -> None:
        self.log.append(datetime.now(dt.timezone.utc).isoformat())


class ClockDate(StateMachine):
    """VS001"""

    log: list[str] = []

    @command
    def touch(self) -> None:
        today = date.today
        self.log.append(str(today()))


class ClockLocalImport(StateMachine):
    """VS001"""

    at: int = 0

    @command
    def touch(self) -> int:
        from time import time_ns

        self.at = time_ns()
        return self.at


class ClockStrftime(StateMachine):
    """VS001"""

    log: list[str] = []

    @command
    def touch(self) -> None:
        self.log.append(time.strftime("%Y"))


class EntropyRandint(StateMachine):
    """VS002"""

    rolls: list[int] = []

    @command
    def roll(self) -> int:
        self.rolls.append(randint(1, 6))
        return self.rolls[-1]


class EntropyModule(StateMachine):
    """VS002"""

    names: list[str] = []

    @command
    def pick(self) -> str:
        return random.choice(self.names) if self.names else ""


class EntropyUuid(StateMachine):
    """VS002"""

    orders: dict[str, int] = {}

    @command
    def order(self, count: int) -> str:
        key = str(uuid.uuid4())
        self.orders[key] = count
        return key


class EntropySecret(StateMachine):
    """VS002"""

    token: str = ""

    @command
    def renew(self) -> str:
        self.token = secrets.token_hex(8)
        return self.token


class EntropyUnseeded(StateMachine):
    """VS002"""

    value: int = 0

    @command
    def draw(self) -> int:
        self.value = random.Random().randrange(9)
        return self.value


class EntropySystem(StateMachine):
    """VS002"""

    value: int = 0

    @command
    def draw(self) -> int:
        self.value = int.from_bytes(os.urandom(4), "big")
        return self.value


class SetLoop(StateMachine):
    """VS003"""

    tags: set[str] = set()
    order: list[str] = []

    @command
    def freeze(self) -> None:
        for tag in self.tags:
            self.order.append(tag)


class SetList(StateMachine):
    """VS003"""

    tags: set[str] = set()

    @command
    def add(self, tag: str) -> list[str]:
        self.tags.add(tag)
        return list(self.tags)


class SetPop(StateMachine):
    """VS003"""

    waiting: set[str] = set()

    @command
    def take(self) -> str | None:
        return self.waiting.pop() if self.waiting else None


class SetJoin(StateMachine):
    """VS003"""

    tags: set[str] = set()

    @query
    def text(self) -> str:
        return ",".join(self.tags)


class SetLocal(StateMachine):
    """VS003"""

    winner: str = ""

    @command
    def choose(self, names: list[str]) -> str:
        unique = set(names)
        self.winner = next(iter(unique)) if unique else ""
        return self.winner


class SetOfDict(StateMachine):
    """VS003"""

    groups: dict[str, set[str]] = {}

    @command
    def first(self, group: str) -> list[str]:
        return [name for name in self.groups.get(group, set())]


class SetDifference(StateMachine):
    """VS003"""

    have: dict[str, int] = {}

    @command
    def missing(self, names: list[str]) -> list[str]:
        return list(set(names) - self.have.keys())


class SetHelper(StateMachine):
    """VS003"""

    tags: set[str] = set()

    @command
    def show(self) -> list[str]:
        return names_of(self.tags)


class SetKey(StateMachine):
    """VS003"""

    tags: set[str] = set()

    @command
    def longest(self) -> str:
        return max(self.tags, key=len, default="")


class SetFloats(StateMachine):
    """VS003"""

    prices: set[float] = set()

    @command
    def total(self) -> float:
        return sum(self.prices)


class HashShard(StateMachine):
    """VS004"""

    shards: list[int] = [0, 0, 0, 0]

    @command
    def put(self, key: str) -> int:
        shard = hash(key) % 4
        self.shards[shard] += 1
        return shard


class IdKey(StateMachine):
    """VS004"""

    seen: dict[int, str] = {}

    @command
    def put(self, name: str) -> int:
        self.seen[id(name)] = name
        return len(self.seen)


class HashMethod(StateMachine):
    """VS004"""

    last: int = 0

    @command
    def put(self, name: str) -> None:
        self.last = name.__hash__()


class SizeOf(StateMachine):
    """VS004"""

    used: int = 0

    @command
    def put(self, name: str) -> int:
        self.used += sys.getsizeof(name)
        return self.used
