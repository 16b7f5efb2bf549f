"""Servers on a bad network: how soon is a new cluster there, and how soon is a healed one back?

A tenth of all packets is lost, each second there is another partition, and servers are killed and started
again, all of it from the first moment on. The network is the kernel's own, in namespaces (Linux, root).
Seconds are of the wall clock: an idle machine, please.
"""

import argparse
import asyncio
import os
import tempfile
import threading
from pathlib import Path
from random import Random
from time import monotonic

from viewstamp.core.errors import CallError
from viewstamp.core.ids import NodeId
from viewstamp.runtime.connecting import connect
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.lossy_network import LossyGroup

LOSS = 0.1
PROTOCOLS = ("raft", "viewstamped", "primary_backup")
_POLL_S = 0.01
_GIVE_UP_S = 90.0


class Writer(threading.Thread):
    """A client outside all partitions, which writes one key after the other."""

    def __init__(self, group: LossyGroup) -> None:
        super().__init__(daemon=True)
        self._group = group
        self.began: list[float] = []
        """When each write that was acknowledged began."""
        self.stopping = threading.Event()

    def run(self) -> None:
        """Write until `stopping`."""
        self._group.as_client(lambda: asyncio.run(self._write()))

    async def _write(self) -> None:
        async with connect(self._group.cluster, KeyValueStore, timeout_s=2) as store:
            while not self.stopping.is_set():
                began = monotonic()
                try:
                    await store.set("key", b"value")
                    self.began.append(began)
                except CallError:
                    pass

    def wait(self, since: float) -> float:
        """Return the seconds from then until a write was acknowledged that began later."""
        while not (self.began and self.began[-1] >= since) and monotonic() - since < _GIVE_UP_S:
            self._group.network.stay(_POLL_S)
        return monotonic() - since


class Weather(threading.Thread):
    """Another partition each second, a server that dies or comes back in every other one."""

    def __init__(self, group: LossyGroup, rng: Random, *, kills: bool) -> None:
        super().__init__(daemon=True)
        self._group, self._rng, self._kills = group, rng, kills
        self.down: list[NodeId] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        """Go on until `stopping`; then everything is up and the network whole."""
        group, rng = self._group, self._rng
        while not self.stopping.is_set():
            left = {node for node in group.servers if rng.random() < 0.5}
            group.network.split([left, set(group.servers) - left])
            if self._kills and len(self.down) < len(group.servers) // 2 and rng.random() < 0.5:
                self.down.append(rng.choice([node for node in group.servers if node not in self.down]))
                group.servers[self.down[-1]].kill()
            elif self.down:
                group.start(self.down.pop(0))
            self.stopping.wait(1)
        if self.down:
            group.start(*self.down)
        group.network.heal()


def measure(protocol: str, servers: int, rounds: int, seconds: float, seed: int) -> str:
    """Return a row of the table."""
    rng = Random(seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        LossyGroup(Path(folder), servers, protocol=protocol, loss=LOSS, seed=seed) as group,
    ):
        group.start()
        writer, weather = Writer(group), Weather(group, rng, kills=False)
        began = monotonic()
        weather.start()
        writer.start()
        first = writer.wait(began)
        back = []
        for _ in range(rounds):
            weather.stopping.set()
            weather.join()
            weather = Weather(group, rng, kills=True)
            weather.start()
            group.network.stay(seconds)
            weather.stopping.set()
            weather.join()
            back.append(writer.wait(monotonic()))
        writer.stopping.set()
        writer.join()
    healed = ", ".join(f"{each:.2f}" for each in back)
    return f"| {protocol} | {servers} | {first:.1f} | {healed} | {os.getloadavg()[0]:.1f} |"


def main() -> None:
    """Print a table of Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lossy", description=__doc__)
    parser.add_argument("protocols", nargs="*", default=PROTOCOLS)
    parser.add_argument("--servers", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=1)
    read = parser.parse_args()
    print("| protocol | servers | first write (s) | after each heal (s) | load |")
    print("|---|---|---|---|---|")
    for protocol in read.protocols:
        print(measure(protocol, read.servers, read.rounds, read.seconds, read.seed), flush=True)


if __name__ == "__main__":
    main()
