# mypy: ignore-errors
"""Right classes that use tables, partials, copies, queues, patterns and snapshots as JSON."""

import bisect, collections, dataclasses, datetime, decimal, enum, functools, heapq, itertools, json, logging, math, operator, random, re, string, sys, time, uuid, zlib
from typing import Any, Optional, ClassVar
import msgspec
from viewstamp import StateMachine, command, query

log = logging.getLogger(__name__)
VERSION = ".".join(map(str, (1, 2)))
HANDLERS = {"inc": lambda n: n + 1, "dec": lambda n: n - 1, "sq": lambda n: n * n}
double = functools.partial(operator.mul, 2)
STARTED_LOG = time.time()
PATTERN = re.compile(r"^(\w+)-(\d+)$")
EMPTY = ()


class Kind(enum.Enum):
    A = "a"
    B = "b"


class Point:
    __slots__ = ("x", "y")

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __repr__(self):
        return f"P({self.x},{self.y})"


class Plain:
    def __init__(self, n):
        self.n = n

    def twice(self):
        self.n *= 2
        return self.n


class D1(StateMachine):
    n: int = 0

    @command
    def go(self, what: str) -> int:
        handler = HANDLERS.get(what)
        if handler:
            self.n = handler(self.n) % 1000
        return self.n


class D2(StateMachine):
    n: int = 0

    @command
    def go(self, k: int) -> str:
        p = Point(k, self.n)
        self.n = double(k)
        log.info("%s %s", p, STARTED_LOG if False else "")
        return f"{p} {VERSION}"


class D3(StateMachine):
    n: int = 0

    @command
    def go(self, k: int) -> int:
        self.n = Plain(k).twice()
        return self.n


class D4(StateMachine):
    kinds: dict[str, int] = {}
    raises = (ValueError,)

    @command
    def go(self, s: str) -> int:
        try:
            kind = Kind(s)
        except ValueError:
            return 0
        self.kinds[kind.value] = self.kinds.get(kind.value, 0) + 1
        return self.kinds[kind.value]


class D5(StateMachine):
    rows: list[int] = [1, 2, 3]

    @command
    def go(self, i: int) -> int:
        if not 0 <= i < len(self.rows):
            return -1
        self.rows[i] += 1
        return self.rows[i]


class D6(StateMachine):
    n: int = 0
    parts: ClassVar[dict] = {}
    last: str = ""

    @command
    def go(self, s: str) -> str:
        m = PATTERN.match(s)
        if m is None:
            return ""
        self.n += int(m[2])
        self.last = m[1]
        return self.last


class D7(StateMachine):
    boards: list[list[int]] = []

    @command
    def new(self) -> int:
        row = [0, 0]
        self.boards = [list(row) for _ in range(2)]
        return len(self.boards)

    @command
    def put(self, k: int) -> int:
        for board in self.boards:
            board[k % 2] = k
        return sum(map(sum, self.boards))


class D8(StateMachine):
    names: dict[str, int] = {}

    @command
    def add(self, s: str) -> str:
        self.names[s] = self.names.get(s, 0) + 1
        pair = (s, self.names[s])
        best = max(self.names.items(), key=lambda kv: (kv[1], kv[0]))
        return f"{pair} {best[0]}"

    @query
    def top(self) -> list[str]:
        rows = sorted(self.names.items())
        rows.sort(key=lambda kv: -kv[1])
        return [k for k, _ in rows]


class D9(StateMachine):
    xs: list[dict[str, int]] = []

    @command
    def add(self, k: int) -> int:
        item = {"k": k}
        self.xs.append(item)
        item["seen"] = len(self.xs)
        return item["seen"]

    @query
    def copies(self) -> list[dict[str, int]]:
        out = [dict(x) for x in self.xs]
        for o in out:
            o["n"] = 1
        return out


class D10(StateMachine):
    queue: list[str] = []
    inflight: dict[int, str] = {}

    @command
    def put(self, s: str) -> int:
        self.queue.append(s)
        return len(self.queue)

    @command
    def take(self) -> Optional[str]:
        if not self.queue:
            return None
        job = self.queue.pop(0)
        self.inflight[self.context.token] = job
        return job

    @command
    def fail(self, t: int) -> bool:
        if t not in self.inflight:
            return False
        self.queue.insert(0, self.inflight.pop(t))
        return True


class D11(StateMachine):
    n: int = 0

    @command
    def go(self, text: str) -> int:
        if not text.isdigit():
            return -1
        self.n += 1
        self.n += int(text) % 10
        return self.n


class D12(StateMachine):
    data: dict[int, tuple[int, str]] = {}

    def snapshot(self) -> bytes:
        return json.dumps([[k, list(v)] for k, v in self.data.items()]).encode()

    def restore(self, b: bytes) -> None:
        self.data = {k: (v[0], v[1]) for k, v in json.loads(b)}

    @command
    def put(self, k: int, s: str) -> int:
        self.data[k] = (k, s)
        return len(self.data)


class D13(StateMachine):
    tree: dict[str, Any] = {}

    @command
    def put(self, path: list[str], k: int) -> int:
        node = self.tree
        for p in path:
            node = node.setdefault(f"d{p}", {})
        node["v"] = k
        return len(self.tree)


class D14(StateMachine):
    log_: list[tuple[int, str]] = []

    @command
    def put(self, s: str) -> int:
        key, _, value = s.partition("=")
        self.log_.append((self.context.now, key))
        return len(value)


class D15(StateMachine):
    n: int = 0

    @command
    def go(self, a: int, b: int) -> int:
        self.n += 1
        return a // b if b else 0


class D16(StateMachine):
    totals: dict[str, decimal.Decimal] = {}

    @command
    def go(self, s: str, k: int) -> str:
        self.totals[s] = self.totals.get(s, decimal.Decimal()) + decimal.Decimal(k).scaleb(-2)
        return json.dumps({"total": str(self.totals[s]), "n": k})


class D17(StateMachine):
    groups: dict[str, set[str]] = {}

    @command
    def go(self, g: str, s: str) -> dict[str, int]:
        self.groups.setdefault(g, set()).add(s)
        for members in self.groups.values():
            members.discard("zz")
        return {name: len(members) for name, members in sorted(self.groups.items())}

    @query
    def biggest(self) -> int:
        return max((len(m) for m in self.groups.values()), default=0)


class D18(StateMachine):
    class Item(msgspec.Struct):
        name: str
        tags: list[str] = msgspec.field(default_factory=list)

    items: list["D18.Item"] = []

    @command
    def go(self, s: str, tags: list[str]) -> int:
        self.items.append(D18.Item(s, list(tags)))
        return len(self.items)

    @command
    def tag(self, i: int, s: str) -> int:
        for item in self.items[: abs(i) % 3]:
            item.tags.append(s)
        return sum(len(item.tags) for item in self.items)


class D19(StateMachine):
    open_: bool = False
    by: int = 0

    @command
    def toggle(self) -> bool:
        old = self.open_
        self.open_ = not old
        self.by = self.context.client
        return old


class D20(StateMachine):
    seq: int = 0
    at: int = 0

    @command
    def go(self) -> tuple[int, int]:
        self.seq += 1
        self.at = max(self.at, self.context.now)
        return (self.seq, self.context.viewstamp.seqno)
