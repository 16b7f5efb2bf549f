# mypy: ignore-errors
"""Right classes as users write them: with context, time, randomness, sets, floats and snapshots of their own."""

import bisect, collections, dataclasses, datetime, decimal, enum, functools, hashlib, heapq, itertools, json, math, operator, random, re, statistics, struct, textwrap, base64, zlib, copy, logging, string
from typing import Any, Optional, Literal, NamedTuple, Annotated
import msgspec, viewstamp
from viewstamp import StateMachine, command, query

log = logging.getLogger("x")


class Lease(StateMachine):
    holders: dict[str, tuple[int, int]] = {}

    @command
    def acquire(self, name: str, ttl: int) -> Optional[int]:
        now = self.context.now
        held = self.holders.get(name)
        if held is not None and held[1] > now and held[0] != self.context.client:
            return None
        self.holders[name] = (self.context.client, now + max(ttl, 0))
        return self.context.token

    @command
    def release(self, name: str) -> bool:
        held = self.holders.get(name)
        if held is None or held[0] != self.context.client:
            return False
        del self.holders[name]
        return True

    def session_ended(self, client: int) -> None:
        for name in [n for n, (c, _) in self.holders.items() if c == client]:
            del self.holders[name]


class RateLimiter(StateMachine):
    hits: dict[str, list[int]] = {}
    WINDOW = 1_000_000

    @command
    def hit(self, user: str) -> bool:
        now = self.context.now
        recent = [t for t in self.hits.get(user, []) if now - t < self.WINDOW]
        ok = len(recent) < 3
        if ok:
            recent.append(now)
        self.hits[user] = recent
        return ok


class Raffle(StateMachine):
    tickets: list[str] = []
    winners: list[str] = []

    @command
    def enter(self, name: str) -> int:
        self.tickets.append(name)
        return len(self.tickets)

    @command
    def draw(self, n: int) -> list[str]:
        n = max(0, min(n, len(self.tickets)))
        self.winners = self.context.random.sample(self.tickets, n)
        return self.winners


class Game(StateMachine):
    class State(msgspec.Struct):
        hp: int = 10
        bag: list[str] = []

    players: dict[str, "Game.State"] = {}

    @command
    def join(self, name: str) -> bool:
        if name in self.players:
            return False
        self.players[name] = Game.State(hp=self.context.random.randrange(5, 15))
        return True

    @command
    def fight(self, a: str, b: str) -> str:
        x, y = self.players.get(a), self.players.get(b)
        if x is None or y is None or x is y:
            return "nobody"
        dmg = self.context.random.choice([1, 2, 3])
        y.hp -= dmg
        if y.hp <= 0:
            x.bag.extend(y.bag)
            del self.players[b]
        return f"{a} hits {b} for {dmg}"

    @query
    def top(self) -> list[str]:
        return sorted(self.players, key=lambda p: (-self.players[p].hp, p))[:3]


class Ledger(StateMachine):
    class Entry(msgspec.Struct, frozen=True):
        at: int
        who: str
        cents: int

    entries: list["Ledger.Entry"] = []
    balance: dict[str, int] = {}
    raises = (ValueError,)

    @command
    def post(self, who: str, cents: int) -> int:
        after = self.balance.get(who, 0) + cents
        if after < 0:
            raise ValueError("overdrawn")
        self.balance[who] = after
        self.entries.append(Ledger.Entry(self.context.now, who, cents))
        return after

    @query
    def statement(self, who: str) -> str:
        return "\n".join(f"{e.at} {e.cents / 100:.2f}" for e in self.entries if e.who == who)


class Graph(StateMachine):
    edges: dict[str, set[str]] = {}

    @command
    def link(self, a: str, b: str) -> int:
        self.edges.setdefault(a, set()).add(b)
        self.edges.setdefault(b, set()).add(a)
        return sum(len(x) for x in self.edges.values()) // 2

    @query
    def reach(self, a: str) -> list[str]:
        seen, todo = {a}, [a]
        while todo:
            for n in sorted(self.edges.get(todo.pop(), ())):
                if n not in seen:
                    seen.add(n)
                    todo.append(n)
        return sorted(seen)


class Bloom(StateMachine):
    bits: bytes = bytes(8)

    @command
    def add(self, s: str) -> bool:
        h = int.from_bytes(hashlib.blake2b(s.encode(), digest_size=1).digest(), "big") % 64
        b = bytearray(self.bits)
        old = bool(b[h // 8] & (1 << h % 8))
        b[h // 8] |= 1 << h % 8
        self.bits = bytes(b)
        return old


class LRU(StateMachine):
    items: dict[str, int] = {}

    @command
    def put(self, k: str, v: int) -> int:
        self.items.pop(k, None)
        self.items[k] = v
        while len(self.items) > 2:
            del self.items[next(iter(self.items))]
        return len(self.items)


class Prio(StateMachine):
    heap: list[tuple[int, int, str]] = []

    @command
    def push(self, p: int, s: str) -> int:
        heapq.heappush(self.heap, (p, self.context.token, s))
        return len(self.heap)

    @command
    def pop(self) -> Optional[str]:
        return heapq.heappop(self.heap)[2] if self.heap else None


class Voting(StateMachine):
    votes: dict[str, set[str]] = {}
    open: bool = True

    @command
    def vote(self, who: str, what: str) -> bool:
        if not self.open:
            return False
        for s in self.votes.values():
            s.discard(who)
        self.votes.setdefault(what, set()).add(who)
        return True

    @query
    def winner(self) -> str:
        return max(sorted(self.votes), key=lambda w: len(self.votes[w]), default="")


class Chat(StateMachine):
    lines: list[dict[str, Any]] = []

    @command
    def say(self, text: str) -> int:
        line = {
            "id": len(self.lines),
            "at": self.context.now,
            "by": self.context.client,
            "text": text.strip(),
        }
        self.lines.append(line)
        self.context.notify(self.context.client, {"id": line["id"]})
        return line["id"]

    @query
    def since(self, i: int) -> list[dict[str, Any]]:
        return self.lines[i:] if i >= 0 else []


class Calendar(StateMachine):
    slots: dict[str, datetime.date] = {}

    @command
    def book(self, who: str, day: datetime.date) -> str:
        self.slots[who] = day + datetime.timedelta(days=1)
        return self.slots[who].strftime("%Y-%m-%d")


class Bank(StateMachine):
    acc: dict[str, decimal.Decimal] = {}

    @command
    def put(self, k: str, d: decimal.Decimal) -> str:
        self.acc[k] = self.acc.get(k, decimal.Decimal(0)) + d
        return str(self.acc[k].quantize(decimal.Decimal("0.01")))


class Tree(StateMachine):
    class Node(msgspec.Struct):
        key: int
        left: Optional["Tree.Node"] = None
        right: Optional["Tree.Node"] = None

    size: int = 0
    keys: list[int] = []

    @command
    def add(self, k: int) -> int:
        i = bisect.bisect(self.keys, k)
        self.keys.insert(i, k)
        self.size += 1
        return i


class Undo(StateMachine):
    text: str = ""
    past: list[str] = []

    @command
    def type(self, s: str) -> str:
        self.past.append(self.text)
        self.text += s
        return self.text

    @command
    def undo(self) -> str:
        if self.past:
            self.text = self.past.pop()
        return self.text


class Matrix(StateMachine):
    rows: list[list[int]] = [[0, 0], [0, 0]]

    @command
    def set(self, i: Literal[0, 1], j: Literal[0, 1], v: int) -> list[list[int]]:
        self.rows[i][j] = v
        return self.rows


class Stats(StateMachine):
    n: int = 0
    mean: float = 0.0
    m2: float = 0.0

    @command
    def add(self, x: float) -> float:
        self.n += 1
        d = x - self.mean
        self.mean += d / self.n
        self.m2 += d * (x - self.mean)
        return math.sqrt(self.m2 / self.n)


class Tx(StateMachine):
    kv: dict[str, int] = {}

    @command
    def apply(self, ops: list[tuple[str, int]]) -> int:
        fresh = dict(self.kv)
        for k, v in ops:
            if v == 3:
                raise ValueError("no threes")
            fresh[k] = v
        self.kv = fresh
        return len(ops)


class Ids(StateMachine):
    made: list[str] = []

    @command
    def make(self) -> str:
        i = f"{self.context.token:x}-{self.context.random.getrandbits(32):08x}"
        self.made.append(i)
        return i


class Saved(StateMachine):
    def __init__(self) -> None:
        self._d: dict[str, int] = {}

    @command
    def put(self, k: str, v: int) -> int:
        self._d[k] = v
        return len(self._d)

    @query
    def get(self, k: str) -> Optional[int]:
        return self._d.get(k)

    def snapshot(self) -> bytes:
        return json.dumps(self._d, sort_keys=False).encode()

    def restore(self, b: bytes) -> None:
        self._d = json.loads(b)


class Auction(StateMachine):
    ends: int = 0
    bids: list[tuple[int, int]] = []

    @command
    def open(self, ms: int) -> int:
        self.ends = self.context.now + abs(ms) * 1000
        self.bids = []
        return self.ends

    @command
    def bid(self, cents: int) -> bool:
        if self.context.now >= self.ends or (self.bids and cents <= self.bids[-1][0]):
            return False
        self.bids.append((cents, self.context.client))
        return True

    @query
    def winner(self) -> Optional[int]:
        return self.bids[-1][1] if self.bids else None


class Seeded(StateMachine):
    world: list[int] = []

    @command
    def gen(self, seed: int) -> list[int]:
        r = random.Random(seed)
        self.world = [r.randint(0, 9) for _ in range(5)]
        log.info("generated %s", self.world)
        return self.world


class Room(msgspec.Struct):
    guests: set[str] = set()
    tags: frozenset[frozenset[str]] = frozenset()


class Hotel(StateMachine):
    rooms: dict[int, Room] = {}
    beside: dict[frozenset[str], int] = {}

    @command
    def check_in(self, number: int, guests: set[str]) -> int:
        room = self.rooms.setdefault(number % 3, Room())
        room.guests |= guests
        room.tags |= {frozenset(guests)}
        self.beside[frozenset(guests)] = number
        return len(room.guests)

    @command
    def check_out(self, number: int) -> Optional[Room]:
        return self.rooms.pop(number % 3, None)
