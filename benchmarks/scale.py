"""What an operation costs against the size of what it works on: keys, sessions, log, waiters, values.

    python -m benchmarks.scale                 up to a million keys and log entries, about a minute
    python -m benchmarks.scale --largest 10000000

Processor time, in one process and without a disk: the least of several runs, for noise only ever adds. The
last column is the exponent of the growth at its worst step: 0 where size does not matter, 1 where the cost
doubles with the size. Above 1 something is wrong. Memory is counted by `tracemalloc`.
"""

import argparse
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from math import log
from time import process_time
from typing import Final

import msgspec

from benchmarks.tables import markdown
from benchmarks.trio import Trio
from viewstamp.core.ids import LogTime, Seqno, View, Viewstamp
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.runner import MachineRunner
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, Log, encode_record
from viewstamp.replica.options import SessionLimits
from viewstamp.replica.sessions import Remembered, Sessions
from viewstamp.services.kv import KeyValueStore
from viewstamp.services.locks import LockService

Action = Callable[[], object]

RUNS: Final = 5
OPERATIONS: Final = 200
VALUE: Final = b"x" * 32
NAME: Final = "lock"
AT: Final = Viewstamp(View(1), Seqno(1))


class Case(msgspec.Struct, frozen=True):
    """A kind of operation at several sizes."""

    name: str
    sizes: tuple[int, ...]
    make: Callable[[int], Action]
    """Returns one operation on something of this size."""


def key(number: int) -> str:
    return f"key{number:09d}"


def store_of(size: int) -> KeyValueStore:
    store = KeyValueStore()
    for number in range(size):
        store.set(key(number), b"%032d" % number)
    return store


def write(size: int) -> Action:
    store = store_of(size)
    return lambda: store.set(key(size // 2), VALUE)


def page_after_a_new_key(size: int) -> Action:
    store, number = store_of(size), count(size)

    def operation() -> None:
        store.set(key(next(number)), VALUE)
        store.range("key", key(size - 20), 10)

    return operation


def create_and_delete(size: int) -> Action:
    store = store_of(size)

    def operation() -> None:
        store.set("key", VALUE)
        store.delete("key")

    return operation


def piece_of_a_snapshot(size: int) -> Action:
    pieces: Iterator[bytes] = iter(())

    def operation() -> object:
        nonlocal pieces
        piece = next(pieces, None)
        if piece is None:
            pieces = store.snapshot()
        return piece

    store = store_of(size)
    return operation


def sessions_of(size: int) -> Sessions:
    sessions = Sessions(SessionLimits(sessions_max=max(size + 1, 1_000)))
    for number in range(1, size + 1):
        sessions.open(number * 7_919, number << 20, LogTime(number))
    return sessions


def command_in_a_session(size: int) -> Action:
    sessions, sequence = sessions_of(size), count(1)
    client, number = (size // 2 + 1) * 7_919, (size // 2 + 1) << 20

    def operation() -> None:
        session = sessions.use(number, client, LogTime(size))
        assert session is not None
        at = next(sequence)
        sessions.remember(session, at, Remembered(0, b"\x01", at))
        sessions.acknowledge(session, at - 1)
        assert sessions.overdue(LogTime(size)) is None

    return operation


def open_and_end(size: int) -> Action:
    sessions, number = sessions_of(size), count((size + 1) << 20)

    def operation() -> None:
        at = next(number)
        sessions.end(sessions.open(1, at, LogTime(size)))

    return operation


def append_and_compact(size: int) -> Action:
    """The log keeps its length: what is appended goes out at the other end, a quarter of it at a time."""
    entries, seqno = Log(), count(1)

    def append() -> None:
        at = next(seqno)
        entry = EntryRecord(1, at, COMMAND, VALUE)
        entries.append(entry, encode_record(entry), at)

    def operation() -> None:
        append()
        entries.persisted(entries.last_seqno)
        if entries.last_seqno - entries.base_seqno > size + size // 4:
            entries.compact(entries.viewstamp_at(entries.base_seqno + size // 4))

    for _ in range(size):
        append()
    return operation


def wait_and_withdraw(size: int) -> Action:
    runner = MachineRunner(MachineDefinition.of(LockService))
    locks, sequence = runner.machine, count(2)
    assert isinstance(locks, LockService)
    runner.begin_entry(AT, LogTime(1))
    context = runner.context
    context.session = 1
    for client in range(1, size + 2):
        context.client = client
        locks.acquire(NAME, 1)
    context.client = size + 2

    def operation() -> None:
        at = next(sequence)
        locks.acquire(NAME, at)
        locks.release(NAME, at)
        context.take_notifications()

    return operation


def value_through_three_replicas(size: int) -> Action:
    return _submitting(Trio("raft"), b"x" * size)


def through_members(size: int) -> Action:
    return _submitting(Trio("raft", members=size), VALUE)


def _submitting(trio: Trio, value: bytes) -> Action:
    command = msgspec.msgpack.encode(["set", "key", value])

    def operation() -> None:
        trio.submit([command])
        trio.answers.clear()

    return operation


def cases(largest: int) -> Iterator[Case]:
    """Yield every case."""
    large = tuple(size for size in (10**4, 10**5, 10**6, 10**7) if size <= largest)
    few = (10, 1_000, min(largest, 100_000))
    yield Case("keys: write one", large, write)
    yield Case("keys: create one, read a page at the end", large, page_after_a_new_key)
    yield Case("keys: create and delete one", large, create_and_delete)
    yield Case("keys: a piece of a snapshot", large, piece_of_a_snapshot)
    yield Case("sessions: a command in one", few, command_in_a_session)
    yield Case("sessions: open and end one", few, open_and_end)
    yield Case("log: append an entry, compact at the other end", large, append_and_compact)
    yield Case("waiters of one lock: wait and withdraw", (10, 1_000, 60_000), wait_and_withdraw)
    yield Case(
        "bytes of a value: write it on three replicas", (100, 10_000, 900_000), value_through_three_replicas
    )
    yield Case("members: write on all of them", (3, 5, 7), through_members)


def cost_us(action: Action, operations: int = OPERATIONS) -> float:
    """Return the least processor time of an operation, on average over a run."""
    least = float("inf")
    for _ in range(RUNS):
        began = process_time()
        for _ in range(operations):
            action()
        least = min(least, process_time() - began)
    return least / operations * 1e6


def growth(sizes: tuple[int, ...], costs: list[float]) -> float:
    """Return the exponent of the growth of the cost with the size, at its worst step."""
    steps = zip(pairwise(sizes), pairwise(costs), strict=True)
    exponents = [log(after / before) / log(large / small) for (small, large), (before, after) in steps]
    return max([0.0, *exponents])


def bytes_of(make: Callable[[], object]) -> int:
    """Return what is allocated by this and kept."""
    tracemalloc.start()
    kept = make()
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return used


def memory(size: int = 50_000) -> Iterator[tuple[str, float]]:
    """Yield (of what, bytes)."""
    own = len(key(0)) + len(VALUE)
    yield "a key, beside its own bytes and its value's", bytes_of(lambda: store_of(size)) / size - own
    yield "a session", bytes_of(lambda: sessions_of(size)) / size


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--largest", type=int, default=10**6, help="the most keys and entries")
    parser.add_argument("--only", default="", help="those whose name contains this")
    given = parser.parse_args()
    lines: list[list[str]] = []
    for case in cases(given.largest):
        if given.only in case.name:
            costs = [cost_us(case.make(size)) for size in case.sizes]
            shown = ", ".join(f"{size:,}: {cost:.1f}" for size, cost in zip(case.sizes, costs, strict=True))
            lines.append([case.name, shown, f"{growth(case.sizes, costs):.2f}"])
            print(*lines[-1], sep=" | ", file=sys.stderr, flush=True)
    print(markdown(["operation", "size: us of processor time", "exponent"], lines))
    print()
    print(markdown(["one more of", "bytes"], [[what, f"{size:.0f}"] for what, size in memory()]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
