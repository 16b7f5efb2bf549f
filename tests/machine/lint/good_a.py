# mypy: ignore-errors
"""Classes that look like the bad ones and are right: the context, sets."""

import dataclasses
import hashlib
import heapq
import logging
import random
import zlib
from random import Random
from viewstamp.machine.state_machine import StateMachine, command, query

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int


class ContextTime(StateMachine):
    last: int = 0

    @command
    def touch(self) -> int:
        self.last = self.context.now
        return self.last


class ContextChance(StateMachine):
    rolls: list[int] = []

    @command
    def roll(self) -> int:
        rng = self.context.random
        self.rolls.append(rng.randint(1, 6))
        return self.rolls[-1]


class ContextShuffle(StateMachine):
    names: list[str] = []

    @command
    def mix(self, names: list[str]) -> list[str]:
        self.names = list(names)
        self.context.random.shuffle(self.names)
        return self.names


class ContextToken(StateMachine):
    holders: dict[str, int] = {}

    @command
    def take(self, name: str) -> int:
        if name not in self.holders:
            self.holders[name] = self.context.token
        return self.holders[name]


class ContextClient(StateMachine):
    owners: dict[str, int] = {}

    @command
    def claim(self, name: str) -> bool:
        owner = self.owners.setdefault(name, self.context.client)
        return owner == self.context.client

    def session_ended(self, client: int) -> None:
        for name in [name for name, owner in self.owners.items() if owner == client]:
            del self.owners[name]


class ContextPlace(StateMachine):
    log: list[tuple[int, int]] = []

    @command
    def note(self) -> tuple[int, int]:
        place = (self.context.viewstamp.seqno, self.context.offset)
        self.log.append(place)
        return place


class Leases(StateMachine):
    until: dict[str, int] = {}

    @command
    def renew(self, name: str, ttl_us: int) -> int:
        now = self.context.now
        for expired in [key for key, end in self.until.items() if end <= now]:
            del self.until[expired]
        self.until[name] = now + max(ttl_us, 1)
        return self.until[name]


class Deadline(StateMachine):
    due: list[tuple[int, str]] = []

    @command
    def plan(self, name: str, delay: int) -> int:
        heapq.heappush(self.due, (self.context.now + delay, name))
        return len(self.due)

    @command
    def expire(self) -> list[str]:
        done = []
        while self.due and self.due[0][0] <= self.context.now:
            done.append(heapq.heappop(self.due)[1])
        return done


class SeededRandom(StateMachine):
    seed: int = 1

    @command
    def draw(self) -> float:
        rng = random.Random(self.seed)
        self.seed = rng.randrange(1 << 30)
        return rng.random()


class SeededByToken(StateMachine):
    last: int = 0

    @command
    def draw(self) -> int:
        self.last = Random(self.context.token).randrange(100)
        return self.last


class SortedSet(StateMachine):
    tags: set[str] = set()

    @command
    def add(self, tag: str) -> list[str]:
        self.tags.add(tag)
        return sorted(self.tags)

    @query
    def text(self) -> str:
        return ",".join(sorted(self.tags))


class SetCounts(StateMachine):
    members: set[str] = set()
    scores: dict[str, int] = {}

    @command
    def join(self, name: str) -> int:
        self.members.add(name)
        total = 0
        for member in self.members:
            total += self.scores.get(member, 0)
        return total + len(self.members)

    @query
    def any_winner(self) -> bool:
        return any(self.scores.get(member, 0) > 2 for member in self.members)

    @query
    def best(self) -> str:
        return min(self.members, default="")


class SetAlgebra(StateMachine):
    left: set[int] = set()
    right: frozenset[int] = frozenset()

    @command
    def put(self, value: int) -> int:
        self.left.add(value)
        self.right = frozenset(self.left | {value + 1})
        return len(self.left & self.right)

    @query
    def both(self) -> list[int]:
        return sorted(self.left & self.right)

    @query
    def has(self, value: int) -> bool:
        return value in self.left


class SetResult(StateMachine):
    tags: set[str] = set()

    @query
    def all(self) -> set[str]:
        return self.tags

    @command
    def drop(self, names: list[str]) -> int:
        unwanted = {name for name in names if name in self.tags}
        self.tags -= unwanted
        for name in unwanted:
            self.tags.discard(name)
        return len(self.tags)


class DictOrder(StateMachine):
    rows: dict[str, int] = {}

    @command
    def put(self, name: str, value: int) -> list[str]:
        self.rows[name] = value
        return list(self.rows)

    @query
    def pairs(self) -> list[tuple[str, int]]:
        return [(name, value) for name, value in self.rows.items()]


class Unique(StateMachine):
    names: list[str] = []

    @command
    def put(self, names: list[str]) -> int:
        seen = set(self.names)
        for name in names:
            if name not in seen:
                seen.add(name)
                self.names.append(name)
        return len(seen)


class Dedupe(StateMachine):
    names: list[str] = []

    @command
    def put(self, names: list[str]) -> list[str]:
        self.names = list(dict.fromkeys([*self.names, *names]))
        return self.names


class SetByKey(StateMachine):
    tags: set[str] = set()

    @command
    def add(self, tag: str) -> list[str]:
        self.tags.add(tag)
        return sorted(self.tags, key=lambda name: (len(name), name))


class Checksum(StateMachine):
    shards: list[int] = [0, 0, 0, 0]

    @command
    def put(self, key: str) -> int:
        shard = zlib.crc32(key.encode()) % 4
        self.shards[shard] += 1
        return shard


class Digest(StateMachine):
    last: str = ""

    @command
    def put(self, data: bytes) -> str:
        self.last = hashlib.sha256(data).hexdigest()
        return self.last


class Points(StateMachine):
    marks: dict[str, int] = {}
    size: int = 0

    @command
    def put(self, x: int, y: int) -> int:
        corner = Point(x, y)
        seen = {corner: 1, Point(0, 0): 2}
        self.size = len(seen)
        return self.size


class QueryCopies(StateMachine):
    items: list[int] = []

    @command
    def add(self, n: int) -> int:
        self.items.append(n)
        return len(self.items)

    @query
    def top(self) -> list[int]:
        items = list(self.items)
        items.sort()
        return items[-3:]

    @query
    def reversed(self) -> list[int]:
        items = self.items[:]
        items.reverse()
        return items

    @query
    def largest(self) -> int:
        return heapq.nlargest(1, self.items)[0] if self.items else 0
