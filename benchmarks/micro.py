"""Small measurements of each part of the path of a write: a regression is found where it happens.

    python -m benchmarks.micro --json benchmarks/results/micro.json
    python -m benchmarks.micro --against benchmarks/results/micro.json      what has become slower?

Each is repeated until it takes long enough to be timed, several times over; the least time counts, for noise
only ever adds. The unit is a *turn* of a fixed loop of plain Python measured beside it, so that figures of
different machines and days can be compared. Exit code 1: something is slower than the other figures by more
than `--tolerance`.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random
from time import process_time
from typing import Any, Final

import msgspec

from benchmarks import keep
from benchmarks.checker import recorded
from benchmarks.tables import markdown
from benchmarks.trio import CLIENT, SECRET, Trio
from viewstamp.checker.linearizable import check
from viewstamp.checker.store_model import VersionedStore
from viewstamp.core.effects import Send
from viewstamp.core.events import PeerUp, Received, Woke
from viewstamp.core.ids import Incarnation, Instant, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.messages import (
    RESULT,
    OpenSession,
    Results,
    SessionOpened,
    Submit,
    decode_client_message,
    encode_message,
)
from viewstamp.link.framing import CLIENT as CLIENT_FRAME
from viewstamp.link.framing import Splitter, encode_frame
from viewstamp.machine.definition import MachineDefinition
from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.replica.answers import Answers
from viewstamp.replica.batches import Decoders, decode_batch, encode_batch
from viewstamp.replica.client.client import ClientCore
from viewstamp.replica.events import CallId, ClientEffect
from viewstamp.replica.options import ClientSetup, SessionLimits
from viewstamp.replica.replicated_state import ReplicatedState
from viewstamp.services.kv import KeyValueStore
from viewstamp.sim.run.plan import RunPlan
from viewstamp.sim.run.run import execute
from viewstamp.storage.directory import open_data_directory
from viewstamp.storage.files import OsFileSystem

Action = Callable[[], object]

REPEATS: Final = 5
SHORTEST_S: Final = 0.1
BATCH: Final = 64
TURN: Final = "turn"
"""The name of the loop that all others are compared with."""
QUERIES: Final = [msgspec.msgpack.encode(["get", f"key{number}"]) for number in range(BATCH)]
NOTHING: Final = msgspec.Raw(msgspec.msgpack.encode(None))
COMMANDS: Final = [msgspec.msgpack.encode(["set", f"key{number}", b"x" * 32]) for number in range(BATCH)]


def turn() -> int:
    """What machines are compared by: some work of the kind that this program does."""
    table: dict[int, tuple[int, int]] = {}
    for number in range(1_000):
        table[number & 63] = (number, number + 1)
    return sum(first for first, _ in table.values())


def submission(first: int, session: int) -> Submit:
    calls = [(first + at, msgspec.Raw(command)) for at, command in enumerate(COMMANDS)]
    return Submit(CLIENT, session, first - 1, calls)


def codec() -> Iterator[tuple[str, int, Action]]:
    """Yield (name, operations in one call, call): clients' messages and frames."""
    message = submission(1, 1)
    encoded = encode_message(message)
    frame = encode_frame(CLIENT_FRAME, encoded)
    stream = encode_frame(CLIENT_FRAME, encode_message(submission(1, 1))) * 16
    splitter = Splitter(1 << 24)
    yield f"codec: encode a message of {BATCH} calls", 1, lambda: encode_message(message)
    yield f"codec: decode a message of {BATCH} calls", 1, lambda: decode_client_message(encoded)
    yield "codec: make a frame of it", 1, lambda: encode_frame(CLIENT_FRAME, encoded)
    yield "codec: split 16 such frames", 16, lambda: list(splitter.split(stream))
    yield (
        "codec: split one of two pieces",
        1,
        lambda: [*splitter.split(frame[:99]), *splitter.split(frame[99:])],
    )


def calls() -> Iterator[tuple[str, int, Action]]:
    """Yield what a client's core does: calls made in one turn, sent as one message, and answered."""
    setup = ClientSetup(servers=(NodeId(1),), secret=SECRET, rng=Random(1), now=Instant(0))
    core, made = ClientCore(setup), {"calls": 0}
    core.step(PeerUp(NodeId(1)), Instant(0))

    def answered(effects: list[ClientEffect]) -> None:
        for effect in effects:
            if not isinstance(effect, Send):
                continue
            if isinstance(effect.message, OpenSession):
                opened = SessionOpened(CLIENT, 1, 60_000, effect.message.question)
                answered(core.step(Received(NodeId(1), opened), Instant(0)))
            elif isinstance(effect.message, Submit):
                results = [(sequence, RESULT, NOTHING) for sequence, _ in effect.message.calls]
                core.step(Received(NodeId(1), Results(CLIENT, 1, results)), Instant(0))

    def call(count: int) -> None:
        for command in COMMANDS[:count]:
            made["calls"] += 1
            core.invoke(CallId(made["calls"]), "command", command, Instant(10_000_000), Instant(0))
        while core.has_queued:
            answered(core.step(Woke(), Instant(0)))

    yield "client: one call, sent and answered", 1, partial(call, 1)
    yield f"client: each of {BATCH} calls, sent and answered", BATCH, partial(call, BATCH)


def sessions() -> Iterator[tuple[str, int, Action]]:
    """Yield what executes a batch of the log: sessions, the machine, and what is told to the client."""
    definition = MachineDefinition.of(KeyValueStore)
    replicated = ReplicatedState(definition, SessionLimits())
    decoders = Decoders.of(definition)
    state = {"seqno": 0}

    def apply(message: bytes) -> Answers:
        state["seqno"] += 1
        answers = Answers()
        batch = decode_batch(encode_batch(1, (0, 0), [message]), decoders)
        replicated.apply(Viewstamp(View(1), Seqno(state["seqno"])), batch, {CLIENT}, answers)
        return answers

    session = apply(encode_message(OpenSession(CLIENT))).opened[0].session

    def execute_batch() -> None:
        state["first"] = state.get("first", 1 - BATCH) + BATCH
        apply(encode_message(submission(state["first"], session)))

    yield f"session: decode and execute an entry of {BATCH} commands", BATCH, execute_batch


def steps() -> Iterator[tuple[str, int, Action]]:
    """Yield the way of a write through three replicas, without wire and disk."""
    for protocol in PROTOCOL_NAMES:
        trio = Trio(protocol)
        yield (
            f"step: one command through three replicas, {protocol}",
            1,
            partial(trio.submit, COMMANDS[:1]),
        )
        yield f"step: each of {BATCH} commands, {protocol}", BATCH, partial(trio.submit, COMMANDS)
        yield f"step: each of {BATCH} reads, {protocol}", BATCH, partial(trio.ask, QUERIES)


def journal(folder: Path) -> Iterator[tuple[str, int, Action]]:
    """Yield writes of the journal, with their syncs: processor time, not the disk's."""
    files = OsFileSystem()
    where = str(folder / "data")
    directory = open_data_directory(
        files, where, cluster_id="micro", node=NodeId(1), incarnation=Incarnation(1)
    )

    def write(records: tuple[bytes, ...]) -> None:
        seq = PersistSeq(directory.journal.written + 1)
        directory.journal.append(seq, records)
        directory.journal.sync()
        directory.journal.release(seq)
        upkeep = directory.journal.begin_upkeep()
        if upkeep is not None:
            upkeep()

    yield "journal: write and sync 100 bytes", 1, lambda: write((b"r" * 100,))
    yield "journal: write and sync 8 KiB", 1, lambda: write((b"r" * 8192,))
    directory.close()


def simulation() -> Iterator[tuple[str, int, Action]]:
    """Yield the simulator with every invariant, and the checker of histories."""
    for protocol in PROTOCOL_NAMES:
        report = execute(RunPlan(protocol, 1))
        yield (
            f"simulator: an event, {protocol}",
            report.events,
            partial(execute, RunPlan(protocol, 1)),
        )
    history = recorded(Random(1), 0.02)
    yield "checker: an operation of a history", len(history), lambda: check(history, VersionedStore())


def least_us(action: Action) -> float:
    """Return the least processor time of a call in microseconds."""
    calls = 1
    while (took := timed_s(action, calls)) < SHORTEST_S:
        calls = max(calls + 1, int(calls * min(10.0, 1.2 * SHORTEST_S / max(took, 1e-6))))
    best = min([took, *(timed_s(action, calls) for _ in range(REPEATS - 1))])
    return best / calls * 1e6


def timed_s(action: Action, calls: int) -> float:
    began = process_time()
    for _ in range(calls):
        action()
    return process_time() - began


def cases(folder: Path) -> Iterator[tuple[str, int, Action]]:
    """Yield every measurement."""
    yield from codec()
    yield from calls()
    yield from sessions()
    yield from steps()
    yield from journal(folder)
    yield from simulation()


def measure(only: str = "") -> dict[str, dict[str, float]]:
    """Return microseconds and turns of each, by name."""
    found: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="viewstamp-micro-"))
        for name, operations, action in cases(Path(folder)):
            if only in name:
                unit = least_us(turn)  # beside each, so that a slow minute slows both
                took = least_us(action) / operations
                found[name] = {"us": round(took, 3), "turns": round(took / unit, 5)}
                print(f"{name}: {took:.2f} us", file=sys.stderr, flush=True)
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    lines = [[name, f"{one['us']:,.2f}", f"{one['turns']:.3f}"] for name, one in found.items()]
    return markdown(["operation", "us of processor time", f"in {TURN}s"], lines)


def slower(found: dict[str, Any], before: dict[str, Any], tolerance: float) -> list[str]:
    """Return a line for each that takes more turns than it did, beyond the tolerance."""
    return [
        f"{name}: {one['turns'] / before[name]['turns']:.2f} times what it was"
        for name, one in found.items()
        if name in before and one["turns"] > before[name]["turns"] * (1 + tolerance)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="those whose name contains this")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--against", type=Path, help="compare with the figures in this file")
    parser.add_argument("--tolerance", type=float, default=0.3)
    given = parser.parse_args()
    found = measure(given.only)
    print(table(found))
    worse: list[str] = []
    if given.against is not None:
        before = json.loads(given.against.read_text(encoding="utf-8"))
        worse = slower(found, before, given.tolerance)
    if given.json is not None:
        keep.write(given.json, found)
    print(*worse, sep="\n")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
