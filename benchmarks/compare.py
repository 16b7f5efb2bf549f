"""Three-node clusters of viewstamp, etcd, ZooKeeper, PySyncObj and the bare pipe under the same loads.

    python -m benchmarks.compare --minutes 20 --json compare.json

One cluster after the other is started on a real disk of this machine, warmed up and loaded; the whole is done
again in each round, beginning with another peer, so that a drift of the machine meets all of them. Compare
only ratios within a round. Before the first round each peer tries over how many connections its clients do
most, and keeps to that. A peer of which something is not installed is left out, and the Debian packages that
it lacks are named. Exit code 1: nothing was left to compare.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from benchmarks import connections, keep, machine, tables
from benchmarks.effort import Meter
from benchmarks.loads.lines import CONNECTIONS_MAX, Plan
from benchmarks.peers import PEERS
from benchmarks.peers.base import Peer, PeerFailed, Running
from benchmarks.ratios import Row

CLIENTS = (1, 16, 64, 256, 1000)
KINDS = (("writes", 32), ("reads", 32), ("mixed", 32), ("writes", 1024), ("reads", 1024), ("mixed", 1024))
WARM_CLIENTS = 64
WARM_S = 0.3
"""Before each measurement; the cluster as a whole is warmed up after its start as well."""
FIRST_WARM_S = {"zookeeper": 20.0}
"""The virtual machine compiles what is hot; the others need no more than their caches filled."""
OTHERS_WARM_S = 1.0
START_S = 3.0
"""A guess at what a start and an end cost, for `--minutes`."""
SHORTEST_S = 0.5
LONGEST_S = 10.0


class Comparison:
    """The clusters that run, and what was measured so far."""

    def __init__(self, folder: Path, stack: ExitStack, *, together: bool) -> None:
        self._folder = folder
        self._stack = stack
        self._together = together
        """Every cluster is left running, idle."""
        self._kept: dict[str, Running] = {}
        self._number = 0
        self.rows: list[dict[str, Any]] = []

    def measure(self, peer: Peer, plans: Sequence[Plan], number: int) -> None:
        """Start a peer unless it runs, carry out every plan that it can do, and end it."""
        if peer.keeps_running or self._together:
            running = self._kept.get(peer.name) or self._start(peer, self._stack)
            self._kept[peer.name] = running
            self._measure(peer, running, plans, number)
        else:
            with ExitStack() as stack:
                self._measure(peer, self._start(peer, stack), plans, number)

    def _start(self, peer: Peer, stack: ExitStack) -> Running:
        self._number += 1
        folder = self._folder / f"{self._number}-{peer.name}"
        folder.mkdir()
        running = peer.start(stack, folder)
        for workload in peer.workloads:
            seconds = FIRST_WARM_S.get(peer.name, OTHERS_WARM_S) / len(peer.workloads)
            running.ask(Plan(workload, WARM_CLIENTS, 32, 0.0, seconds))
        return running

    def _measure(self, peer: Peer, running: Running, plans: Sequence[Plan], number: int) -> None:
        for plan in plans:
            if plan.workload not in peer.workloads:
                continue
            meter = Meter(running.server_pids, running.load_pids)
            figures = running.ask(plan)
            row = {"round": number, "peer": peer.name, **msgspec.structs.asdict(plan), **figures}
            self.rows.append({**row, "cores": msgspec.structs.asdict(meter.read())})
            show(self.rows[-1])


def show(row: dict[str, Any]) -> None:
    """Say how it goes."""
    load = f"{row['clients']} clients, {row['workload']} of {row['value_bytes']} bytes"
    latency, cores = row["latency_us"], row["cores"]
    print(
        f"round {row['round']}: {row['peer']}, {load}: {row['per_second']:,.0f}/s, p50 {latency['p50']} us, "
        f"p99 {latency['p99']} us; cores: {cores['servers']:.2f} servers, {cores['load']:.2f} load, "
        f"{cores['others']:.2f} others",
        file=sys.stderr,
        flush=True,
    )


def chosen_peers(names: Sequence[str]) -> tuple[list[Peer], list[str]]:
    """Prepare the peers; return those that can run, and a line for each that cannot."""
    usable, absent = [], []
    for name in names:
        missing = PEERS[name].missing()
        if missing:
            absent.append(f"{name} is left out: install {', '.join(missing)}")
            continue
        try:
            PEERS[name].prepare()
        except PeerFailed as error:
            absent.append(f"{name} is left out: {error}")
        else:
            usable.append(PEERS[name])
    return usable, absent


def seconds_each(
    minutes: float,
    rounds: int,
    peers: Sequence[Peer],
    kinds: Sequence[Any],
    clients: int,
    trials_s: float = 0.0,
) -> float:
    """Return how long each measurement may take so that all of them fit into the time."""
    budget_s = minutes * 60 - trials_s
    measurements = 0
    for peer in peers:
        starts = 1 if peer.keeps_running else rounds
        budget_s -= starts * (START_S + FIRST_WARM_S.get(peer.name, OTHERS_WARM_S))
        measurements += rounds * clients * sum(workload in peer.workloads for workload, _ in kinds)
    return min(LONGEST_S, max(SHORTEST_S, budget_s / max(1, measurements) - WARM_S - 0.1))


def seconds_of(trials: Sequence[Plan], peers: Sequence[Peer]) -> float:
    """Return about how long the trials of all peers take."""
    each = sum(START_S + OTHERS_WARM_S for peer in peers if peer.connects)
    return each + sum(
        plan.warm_s + plan.seconds + 0.1
        for peer in peers
        if peer.connects
        for plan in trials
        if plan.workload in peer.workloads
    )


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--clients", nargs="+", type=int, default=list(CLIENTS))
    parser.add_argument("--kinds", nargs="+", default=[f"{workload}:{size}" for workload, size in KINDS],
                        help="WORKLOAD:VALUE_BYTES, such as reads:1024")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="of each measurement; otherwise by --minutes")
    parser.add_argument("--minutes", type=float, default=20.0, help="about how long all of it may take")
    parser.add_argument(
        "--together",
        action="store_true",
        help="leave all clusters running and change peer after each measurement: for a machine in use",
    )
    parser.add_argument(
        "--connections",
        type=int,
        choices=connections.COUNTS,
        help="the same for every peer; otherwise the best",
    )
    parser.add_argument("--json", type=Path, help="write every figure there")
    parser.add_argument("--directory", type=Path, help="where the data goes: a real disk")
    return parser.parse_args(words)


def plans_of(given: argparse.Namespace, peers: Sequence[Peer]) -> tuple[list[Plan], list[Plan]]:
    """Return the trials and the plans of a round."""
    kinds = [(workload, int(size)) for workload, _, size in (kind.partition(":") for kind in given.kinds)]
    count = given.connections or CONNECTIONS_MAX
    loads = [(*kind, clients) for kind in kinds for clients in given.clients]
    drafts = [Plan(workload, clients, size, WARM_S, 0.0, count) for workload, size, clients in loads]
    trials = [] if given.connections else connections.trials(drafts)
    seconds = given.seconds or seconds_each(
        given.minutes, given.rounds, peers, kinds, len(given.clients), seconds_of(trials, peers)
    )
    return trials, [msgspec.structs.replace(plan, seconds=round(seconds, 2)) for plan in drafts]


def compare(given: argparse.Namespace, peers: Sequence[Peer]) -> tuple[list[Row], list[Row]]:
    """Measure all of it; return the rows of the trials and those of the rounds."""
    trials, plans = plans_of(given, peers)
    with tempfile.TemporaryDirectory(prefix="viewstamp-compare-", dir=given.directory) as name:
        machine.check_disk(Path(name))
        with ExitStack() as stack:
            comparison = Comparison(Path(name), stack, together=given.together)
            for peer in peers:
                if trials and peer.connects:
                    comparison.measure(peer, trials, connections.ROUND)
            tried, comparison.rows = comparison.rows, []
            best = connections.best(tried)
            for number in range(given.rounds):
                turn = number % len(peers)
                for some in [[plan] for plan in plans] if given.together else [plans]:
                    for peer in [*peers[turn:], *peers[:turn]]:
                        own = [connections.chosen(peer.name, plan, best) for plan in some]
                        comparison.measure(peer, own, number + 1)
    return tried, comparison.rows


def main() -> int:
    given = arguments()
    peers, absent = chosen_peers(given.peers)
    for line in absent:
        print(line, file=sys.stderr)
    if not peers:
        return 1
    began = monotonic()
    tried, rows = compare(given, peers)
    print(tables.everything(rows))
    if given.json is not None:
        versions = {peer.name: peer.version() for peer in peers}
        document = {"machine": machine.describe(), "versions": versions, "trials": tried, "rows": rows}
        keep.write(given.json, document)
    print(f"\n{(monotonic() - began) / 60:.1f} minutes", *absent, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
