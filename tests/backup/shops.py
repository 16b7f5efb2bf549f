"""A class, twelve ways in which its next version behaves otherwise, and a log of what was done with it."""

from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
import xxhash

from viewstamp.backup.execution import Execution
from viewstamp.core.ids import NodeId, Seqno, View, Viewstamp
from viewstamp.core.messages import NO_SESSION, OpenSession, Submit
from viewstamp.machine.state_machine import StateMachine, command
from viewstamp.replica.batches import encode_batch, encode_logged
from viewstamp.replica.options import SessionLimits
from viewstamp.stream.encoder import StreamEncoder
from viewstamp.stream.records import FORMAT, Chunk, Header, LogEntry, SnapshotHead, log_header

LIMITS = msgspec.structs.asdict(SessionLimits())


class SoldOut(Exception):
    """Nothing is left."""


class Shop(StateMachine):
    stock: dict[str, int] = {}  # noqa: RUF012  copied for each instance
    orders: list[tuple[str, int]] = []  # noqa: RUF012  copied for each instance
    sold: int = 0
    last: str = ""

    @command
    def fill(self, item: str, amount: int) -> int:
        self.stock[item] = self.stock.get(item, 0) + amount
        return self.stock[item]

    @command
    def buy(self, item: str, amount: int = 1) -> int:
        if self.stock.get(item, 0) < amount:
            raise SoldOut(item)
        self.stock[item] -= amount
        self.orders.append((item, amount))
        self.sold += amount
        self.last = item
        return len(self.orders)

    @command
    def note(self, text: str) -> None:
        self.last = text

    @command
    def draw(self) -> float:
        return self.context.random.random()

    def session_ended(self, client: int) -> None:
        self.last = f"{client} left"


def batch(number: int, *messages: Any, check: tuple[int, int] = (0, 0)) -> bytes:
    """Return the data of an entry."""
    return encode_batch(number * 1_000, check, [encode_logged(message) for message in messages])


def submit(number: int, method: str, *args: Any, client: int = 1, session: int = NO_SESSION) -> Submit:
    return Submit(client, session, 0, [(number, msgspec.Raw(msgspec.msgpack.encode([method, *args])))])


def calls(count: int, seed: int = 1) -> list[tuple[Any, ...]]:
    """Return what was done, in order."""
    rng = Random(seed)
    items = ("apple", "pear", "plum")
    done: list[tuple[Any, ...]] = []
    for number in range(count):
        kind = rng.randrange(10)
        if kind < 3:
            done.append(("fill", rng.choice(items), rng.randrange(1, 4)))
        elif kind < 8:
            done.append(("buy", rng.choice(items), rng.randrange(1, 3)))
        else:
            done.append(("note", f"note {number}") if kind == 8 else ("draw",))
    return done


def log_of(machine: type[StateMachine], contents: Sequence[bytes], *, start: int = 0) -> list[LogEntry]:
    """Return the entries with this data, with the digests that the class comes to."""
    execution = Execution(machine, LIMITS)
    entries = []
    for seqno, data in enumerate(contents, start + 1):
        entry = LogEntry(View(1), Seqno(seqno), 0, data)
        execution.execute(entry)
        entries.append(msgspec.structs.replace(entry, digest=execution.state.chain.digest))
    return entries


def shop_log(count: int = 200) -> list[LogEntry]:
    """Return a log of the shop, one call to an entry, the first one a session."""
    done = [batch(number, submit(number, *call)) for number, call in enumerate(calls(count), 2)]
    return log_of(Shop, [batch(1, OpenSession(5)), *done])


def stream_of(entries: Sequence[LogEntry], base: Execution | None = None, *, end: bool = True) -> bytes:
    """Return a stream with these entries, after the state of `base` where there is one."""
    encoder = StreamEncoder()
    parts = []
    if base is None:
        first = log_header(
            "old", "raft", Viewstamp(View(0), Seqno(0)), digest=0, wall_time_ms=0, members=(), limits=LIMITS
        )
        parts.append(encoder.begin(first))
    else:
        state, body = base.state, base.saved().body
        parts.append(encoder.begin(backup_header(base, body)))
        parts += [encoder.record(Chunk(at, body[at : at + 100])) for at in range(0, len(body), 100)]
        entries = [entry for entry in entries if entry.seqno > state.applied.seqno]
    parts += [encoder.record(entry) for entry in entries]
    return b"".join([*parts, encoder.end()] if end else parts)


def backup_header(base: Execution, body: bytes) -> Header:
    state, saved = base.state, base.saved()
    return Header(
        format=FORMAT,
        cluster_id="old",
        protocol="raft",
        machine=base.definition.cls.__name__,
        machine_version=saved.meta.machine_version,
        level=saved.meta.level,
        viewstamp=state.applied,
        log_time=state.log_time,
        wall_time_ms=1_000_000,
        digest=state.chain.digest,
        members=(NodeId(1),),
        limits=LIMITS,
        snapshot=SnapshotHead(len(body), xxhash.xxh3_64_intdigest(body), saved.meta.format, b""),
    )


def executed(entries: Sequence[LogEntry], machine: type[StateMachine] = Shop) -> Execution:
    execution = Execution(machine, LIMITS)
    for entry in entries:
        execution.execute(entry)
    return execution
