"""Hostile frames against a live cluster under honest load: `python -m benchmarks.storm --protocol raft`.

Three server processes, honest writers in this process, and attackers in a process of their own that send
what the grammar of `viewstamp.sim.workloads.hostile_frames` makes. Afterwards: does every node run, are all
states equal, what did honest clients wait before and during the storm, what memory do the servers have?
"""

import argparse
import asyncio
import json
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter

import msgspec

from viewstamp.core.errors import NotExecuted, OutcomeUnknown, ProtocolViolation
from viewstamp.core.messages import client_number, decode_client_message
from viewstamp.link.framing import CLIENT, Splitter
from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.connecting import connect
from viewstamp.services.kv import KeyValueStore
from viewstamp.services.stock import StockService
from viewstamp.sim.workloads.hostile_frames import CallGrammar, Frame
from viewstamp.sim.workloads.hostile_values import Facts
from viewstamp.testkit.hostile_wire import Attacker, resident_bytes, secret_of
from viewstamp.testkit.load import wait_for_leader
from viewstamp.testkit.processes import ServerGroup
from viewstamp.testkit.torture import ended, state_digests

FRAMES_PER_CONNECTION = 200
POOL = 4_000
"""Frames are drawn from a pool, which is made again after as many frames as it holds ten times."""
POOL_USES = 10
DEEPER = 100
FRAME_BYTES_MAX = 1 << 20
PLACES = tuple(range(1_000, 1_040))
CLIENTS = tuple(client_number(secret_of(place)) for place in PLACES)
SESSIONS = (0, *(n << 20 for n in range(1, 400, 7)))


class Storm(msgspec.Struct):
    """What a run shows."""

    protocol: str
    frames: int
    connections: int
    seconds: float
    dead: dict[int, str]
    states: int
    """How many different states the nodes have: 1."""
    calm_p50_ms: float
    calm_p99_ms: float
    storm_p50_ms: float
    storm_p99_ms: float
    honest_calls: int
    honest_failures: int
    resident_before_mib: list[float]
    resident_after_mib: list[float]

    def holds(self) -> bool:
        """Whether what issue 14 asks for was seen; memory is judged by eye."""
        return not self.dead and self.states == 1 and self.storm_p99_ms <= 3 * self.calm_p99_ms


class Pool:
    """Frames to draw from: those that a server accepts, and those for which it ends the connection."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._left = 0
        self.rng = Random(seed)
        self.accepted: list[Frame] = []
        self.violating: list[Frame] = []

    def refresh(self) -> None:
        """Make other frames, when these were used often enough."""
        if self._left > 0:
            return
        self._seed += 1
        facts: Facts = {
            "client": CLIENTS,
            "secret": [*map(secret_of, PLACES)],
            "session": SESSIONS,
            "acknowledged": [0, 1, 5],
        }
        frames = list(CallGrammar(self._seed, StockService, facts=facts).frames(POOL))
        self.accepted = [frame for frame in frames if _below(DEEPER, frame)]
        self.violating = [frame for frame in frames if not _is_accepted(frame)]
        self._left = POOL * POOL_USES

    def stream(self, count: int) -> list[Frame]:
        """Return N frames for one connection; only the last may be one that ends it."""
        self.refresh()
        self._left -= count
        last = self.rng.choice(self.violating if self.rng.random() < 0.9 else self.accepted)
        return [*self.rng.choices(self.accepted, k=count - 1), last]


def _below(frames: int, frame: Frame) -> bool:
    """Return whether a frame is accepted where the stack stands deeper, as it does in a server."""
    return _below(frames - 1, frame) if frames else _is_accepted(frame)


def _is_accepted(frame: Frame) -> bool:
    try:
        for kind, payload in Splitter(FRAME_BYTES_MAX).split(frame.data):
            if kind != CLIENT:
                return False
            decode_client_message(payload)
    except ProtocolViolation:
        return False
    return True


def attack(addresses: Sequence[Address], frames: int, seed: int, per_connection: int) -> int:
    """Send hostile frames, a batch on each connection; return the number of connections."""
    pool = Pool(seed)
    connections = 0
    for batch in _batches(frames, per_connection):
        address = addresses[connections % len(addresses)]
        connections += 1
        try:
            with Attacker(address, source=f"127.0.0.{2 + connections % 200}") as attacker:
                for place in PLACES:
                    attacker.speak_for(place)
                attacker.send(b"".join(frame.data for frame in pool.stream(batch)))
                attacker.finish()
        except OSError:
            continue  # refused or cut off: that is a server's right
    return connections


def _batches(frames: int, size: int) -> Iterator[int]:
    for start in range(0, frames, size):
        yield min(size, frames - start)


class Honest:
    """Writers that note how long each call takes."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.failures = 0
        self.stopping = False

    async def write(self, store: type[KeyValueStore], writer: int) -> None:
        """Write one key after the other until told to stop."""
        number = 0
        while not self.stopping:
            number += 1
            began = perf_counter()
            try:
                await store.set(f"honest{writer}-{number % 100}", b"v" * 100)
            except (NotExecuted, OutcomeUnknown):
                self.failures += 1
            self.waits.append(perf_counter() - began)

    def quantile(self, share: float, waits: list[float]) -> float:
        """Return this quantile of waits in milliseconds."""
        return round(1_000 * sorted(waits)[int(share * (len(waits) - 1))], 2) if waits else 0.0


def _memory(group: ServerGroup) -> list[float]:
    running = [server for server in group.servers.values() if server.running]
    return [round(resident_bytes(server.pid) / (1 << 20), 1) for server in running]


async def run(group: ServerGroup, chosen: argparse.Namespace) -> Storm:
    """Run the honest load in calm and in the storm."""
    await wait_for_leader(group)
    honest = Honest()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(chosen.attackers, mp_context=context) as pool:
        async with connect(group.cluster, KeyValueStore, timeout_s=30) as store:
            writers = [asyncio.create_task(honest.write(store, n)) for n in range(chosen.writers)]
            await asyncio.sleep(chosen.calm)
            calm, honest.waits = honest.waits, []
            before, began = _memory(group), monotonic()
            share = chosen.frames // chosen.attackers
            addresses = list(group.cluster.addresses.values())
            jobs: list[Future[int]] = [
                pool.submit(attack, addresses, share, chosen.seed + 1_000 * n, chosen.per_connection)
                for n in range(chosen.attackers)
            ]
            connections = sum(await asyncio.gather(*map(asyncio.wrap_future, jobs)))
            seconds = monotonic() - began
            honest.stopping = True
            await asyncio.gather(*writers)
    dead = {int(node): line for node, line in ended(group).items()}
    states = 0 if dead else len(set((await state_digests(group)).values()))
    return Storm(
        protocol=chosen.protocol,
        frames=share * chosen.attackers,
        connections=connections,
        seconds=round(seconds, 1),
        dead=dead,
        states=states,
        calm_p50_ms=honest.quantile(0.5, calm),
        calm_p99_ms=honest.quantile(0.99, calm),
        storm_p50_ms=honest.quantile(0.5, honest.waits),
        storm_p99_ms=honest.quantile(0.99, honest.waits),
        honest_calls=len(honest.waits),
        honest_failures=honest.failures,
        resident_before_mib=before,
        resident_after_mib=_memory(group),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 where the cluster did not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--protocol", choices=PROTOCOL_NAMES, default="raft")
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--per-connection", type=int, default=FRAMES_PER_CONNECTION)
    parser.add_argument("--attackers", type=int, default=1, help="processes that attack")
    parser.add_argument("--writers", type=int, default=16, help="honest clients at a time")
    parser.add_argument("--calm", type=float, default=5.0, help="seconds without a storm, to compare with")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="add the result to this file")
    chosen = parser.parse_args(arguments)
    with TemporaryDirectory() as folder, ServerGroup(Path(folder), 3, protocol=chosen.protocol) as group:
        group.start()
        storm = asyncio.run(run(group, chosen))
    shown = msgspec.to_builtins(storm)
    for name, value in shown.items():
        print(f"{name:20} {value}")
    if chosen.json is not None:
        known = json.loads(chosen.json.read_text()) if chosen.json.exists() else []
        chosen.json.write_text(json.dumps([*known, shown], indent=2) + "\n")
    return 0 if storm.holds() else 1


if __name__ == "__main__":
    sys.exit(main())
