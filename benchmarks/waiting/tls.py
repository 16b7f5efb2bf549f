"""What TLS costs: writes of 256 clients with it and without, side by side, and how long connecting takes.

python -m benchmarks.waiting.tls

Two clusters of three run at the same time, one with certificates, one with a secret file. Rounds alternate
between them, so that whatever else the machine does meets both. The ratio of rates is told, and that of
processor time for a write, which a busy machine does not move: it is what the limit is for.
"""

import argparse
import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any, Final, NamedTuple

from benchmarks.effort import processor_s
from benchmarks.loads.lines import CONNECTIONS_MAX, Plan
from benchmarks.machine import check_disk
from benchmarks.peers.base import Process, python
from benchmarks.peers.viewstamp import DEFAULTS
from viewstamp.cli.authority import Authority, write_pair
from viewstamp.core.ids import NodeId
from viewstamp.link.framing import CLIENT
from viewstamp.runtime.client_base import CLIENT_LIMITS
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.dialing import OutgoingLink
from viewstamp.runtime.security import Security, client_security
from viewstamp.runtime.system import loop_factory
from viewstamp.testkit.load import wait_for_leader
from viewstamp.testkit.processes import ServerGroup

CLIENTS: Final = 256
ROUNDS: Final = 9
SECONDS: Final = 2.0
CONNECTS: Final = 800
_TURNS: Final = 8
"""Of one cluster after the other. The turn that others disturbed least is told."""
_SERVER: Final = NodeId(1)


class Side(NamedTuple):
    """One of the two clusters, with its load."""

    group: ServerGroup
    load: Process
    pids: list[int]


def start(stack: ExitStack, folder: Path, *, secured: bool) -> Side:
    """Start three servers and what loads them."""
    folder.mkdir()
    group = stack.enter_context(ServerGroup(folder, 3, settings=DEFAULTS, secured=secured))
    if secured:
        certify(folder, group.cluster)
    group.start()
    asyncio.run(wait_for_leader(group))
    load = Process(stack, python("viewstamp_load", group.cluster_file), folder / "load.log", talks=True)
    return Side(group, load, [server.pid for server in group.servers.values()])


def certify(folder: Path, cluster: ClusterConfig) -> None:
    """Write a CA, and what the nodes and a client show."""
    authority = Authority.new(cluster.cluster_id)
    authority.save(folder)
    for node in cluster.node_ids:
        pair = authority.issue(cluster.cluster_id, f"node/{node}", is_server=True)
        write_pair(folder / f"node-{node}", pair)
    write_pair(folder / "client", authority.issue(cluster.cluster_id, "client/load", is_server=False))


def writes(side: Side, seconds: float) -> dict[str, float]:
    """Let the clients write; return the rate, and the processor time of servers and load for each."""
    plan = Plan("writes", CLIENTS, 32, 0.0, seconds, CONNECTIONS_MAX)
    before = processor_s(side.pids), processor_s([side.load.pid])
    figures = side.load.ask(plan)
    servers, load = processor_s(side.pids) - before[0], processor_s([side.load.pid]) - before[1]
    done = figures["per_second"] * seconds
    return {
        "per_second": figures["per_second"],
        "p50_us": figures["latency_us"]["p50"],
        "p99_us": figures["latency_us"]["p99"],
        "servers_us": servers / done * 1e6,
        "all_us": (servers + load) / done * 1e6,
    }


class Welcome:
    """Waits for one server to welcome a connection (`dialing.LinkOwner`)."""

    def __init__(self) -> None:
        self.came = asyncio.Event()

    def link_changed(self, peer: NodeId, is_up: bool) -> None:  # noqa: ARG002, FBT001  as the link says it
        if is_up:
            self.came.set()

    def link_received(self, peer: NodeId, payload: bytes) -> None:
        """Nothing is asked, so nothing is answered."""


async def connect_s(cluster: ClusterConfig, security: Security) -> float:
    """Return the time from dialling one server until it has welcomed us."""
    owner = Welcome()
    link = OutgoingLink(
        _SERVER,
        cluster.addresses[_SERVER],
        hello=security.greet_server(cluster.cluster_id, _SERVER, operator=False),
        kind=CLIENT,
        limits=CLIENT_LIMITS,
        rng=Random(1),
        owner=owner,
        dirty=[],
        secure=security.dial(cluster.cluster_id, _SERVER),
    )
    began = perf_counter()
    link.start()
    await owner.came.wait()
    taken = perf_counter() - began
    await link.stop()
    return taken


async def connects(sides: dict[str, Side], count: int) -> dict[str, dict[str, float]]:
    """Connect to both, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    securities = {name: client_security(side.group.cluster, operator=False) for name, side in sides.items()}
    used: dict[str, list[float]] = {name: [] for name in sides}
    for name, side in list(sides.items()) * _TURNS:
        before, own = processor_s(side.pids), process_time()
        for _ in range(count // _TURNS):
            taken[name].append(await connect_s(side.group.cluster, securities[name]))
        used[name].append((processor_s(side.pids) - before + process_time() - own) / (count // _TURNS))
    return {
        name: {"p50_s": median(found), "least_s": min(found), "processor_s": min(used[name])}
        for name, found in taken.items()
    }


def summary(rounds: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    """Return medians over rounds of what TLS leaves of the plain figures."""

    def middle(ratio: Callable[[dict[str, float], dict[str, float]], float]) -> float:
        return round(median(ratio(one["plain"], one["tls"]) for one in rounds), 3)

    return {
        "rate": middle(lambda plain, tls: tls["per_second"] / plain["per_second"]),
        "processor": middle(lambda plain, tls: plain["all_us"] / tls["all_us"]),
        "processor_servers": middle(lambda plain, tls: plain["servers_us"] / tls["servers_us"]),
    }


def measure(
    directory: Path | None = None, *, rounds: int = ROUNDS, seconds: float = SECONDS
) -> dict[str, Any]:
    """Return what was seen in each round, and the summary."""
    with TemporaryDirectory(prefix="viewstamp-wait-", dir=directory) as found, ExitStack() as stack:
        folder = Path(found)
        check_disk(folder)
        sides = {name: start(stack, folder / name, secured=name == "tls") for name in ("plain", "tls")}
        for side in sides.values():
            writes(side, 1.0)  # to be warm
        seen = [{name: writes(side, seconds) for name, side in sides.items()} for _ in range(rounds)]
        with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
            connecting = runner.run(connects(sides, CONNECTS))
    return {"rounds": seen, "of_plain": summary(seen), "connecting": connecting}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    given = parser.parse_args()
    found = measure(rounds=given.rounds, seconds=given.seconds)
    for one in found.pop("rounds"):
        print({name: {key: round(value, 1) for key, value in row.items()} for name, row in one.items()})
    print(found)


if __name__ == "__main__":
    main()
