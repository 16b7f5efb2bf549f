"""The measurement of the CS6650 assignment (section 4), and the two graphs of its report.

Starts the real programs on this machine: the server program from one to three times for the writes, and one
and two servers, each with a client program of its own, for the reads. Writes the figures as JSON, the graphs
as SVG, and the tables into the report.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple

from benchmarks.effort import machine_busy_s, processor_s
from benchmarks.machine import describe
from benchmarks.tables import markdown
from viewstamp.runtime.addresses import LOOPBACK, free_ports
from viewstamp_labs.cs6650.server import HOST_VARIABLE
from viewstamp_labs.cs6650.timing import parse_summary

ROOT: Final = Path(__file__).parents[1]
PROGRAMS: Final = ROOT / "labs" / "cs6650"
REPORT: Final = ROOT / "docs" / "labs" / "cs6650-report.md"
RESULTS: Final = ROOT / "benchmarks" / "results" / "cs6650.json"
WRITERS: Final = 8
READERS: Final = 128
ORDERS_BEFORE_READS: Final = 4
SERVERS_OF_WRITES: Final = (1, 2, 3)
SERVERS_OF_READS: Final = (1, 2)
TRIAL_ORDERS: Final = 300
"""Requests of each customer by which the length of the real run is chosen."""
MARGIN: Final = 1.15
ENVIRONMENT: Final = {**os.environ, HOST_VARIABLE: LOOPBACK, "VIEWSTAMP_PYTHON": sys.executable}

Figures = dict[str, Any]


class Servers(NamedTuple):
    """Server programs that run."""

    ports: list[int]
    pids: list[int]


class Others:
    """Cores that programs without a part in the measurement use, on average since this was made."""

    def __init__(self, servers: Servers) -> None:
        self._pids = servers.pids
        self._at = self._sample()

    def _sample(self) -> tuple[float, float]:
        times = os.times()
        own = times.user + times.system + times.children_user + times.children_system
        return monotonic(), machine_busy_s() - processor_s(self._pids) - own

    def cores(self) -> float:
        """Return the average so far."""
        (begun, busy_before), (now, busy) = self._at, self._sample()
        return max(0.0, (busy - busy_before) / (now - begun))


@contextmanager
def factories(size: int) -> Iterator[Servers]:
    """Start server programs; yield them once they listen. They end with the block."""
    ports = free_ports(size)
    book = list(enumerate(ports))
    processes = []
    try:
        for node, port in book:
            peers = [word for peer, at in book if peer != node for word in (str(peer), LOOPBACK, str(at))]
            command = [str(PROGRAMS / "server"), str(port), str(node), str(size - 1), *peers]
            processes.append(subprocess.Popen(command, env=ENVIRONMENT))
        for port in ports:
            wait_for(port)
        yield Servers(ports, [process.pid for process in processes])
    finally:
        for process in processes:
            process.kill()
            process.wait()


def wait_for(port: int) -> None:
    """Return once a server answers."""
    for _ in range(200):
        command = [str(PROGRAMS / "audit"), LOOPBACK, str(port)]
        if not subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False).returncode:
            return
    raise SystemExit(f"no server listens on port {port}")


def start_client(port: int, customers: int, orders: int, request_type: int) -> "subprocess.Popen[str]":
    """Start a client program."""
    words = (LOOPBACK, port, customers, orders, request_type)
    command = [str(PROGRAMS / "client"), *map(str, words)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)


def run_clients(ports: Sequence[int], customers: int, orders: int, request_type: int) -> list[Figures]:
    """Run a client program for each port at the same time; return their summaries."""
    clients = [start_client(port, customers, orders, request_type) for port in ports]
    summaries = []
    for client in clients:
        output, _ = client.communicate()
        summary = parse_summary(output)
        if client.returncode or not summary:
            raise SystemExit(f"a client program ended with {client.returncode}: {output!r}")
        summary["seconds"] = customers * orders / summary["throughput"]
        summaries.append(summary)
    return summaries


def measure(
    servers: Servers, clients: int, customers: int, request_type: int, seconds: float
) -> list[Figures]:
    """Run client programs, one for each of the first servers, for at least `seconds`."""
    orders = TRIAL_ORDERS
    while True:
        others = Others(servers)
        summaries = run_clients(servers.ports[:clients], customers, orders, request_type)
        for summary in summaries:
            summary["others"] = others.cores()
        if min(summary["seconds"] for summary in summaries) >= seconds:
            return summaries
        rate = max(summary["throughput"] for summary in summaries)
        orders = int(max(rate * seconds * MARGIN / customers, orders * MARGIN))


def measure_writes(seconds: float) -> list[Figures]:
    """Return a line of figures for each number of servers."""
    lines = []
    for size in SERVERS_OF_WRITES:
        with factories(size) as servers:
            (summary,) = measure(servers, 1, WRITERS, 1, seconds)
        lines.append({"servers": size, **summary})
        print(f"writes, {size} servers: {summary}", flush=True)
    return lines


def measure_reads(seconds: float) -> list[Figures]:
    """Return a line of figures for each number of servers, each with a client program of its own."""
    lines = []
    for size in SERVERS_OF_READS:
        with factories(size) as servers:
            run_clients(servers.ports[:1], READERS, ORDERS_BEFORE_READS, 1)
            summaries = measure(servers, size, READERS, 2, seconds)
        lines.append(
            {
                "servers": size,
                "throughput": sum(summary["throughput"] for summary in summaries),
                "avg latency": sum(summary["avg latency"] for summary in summaries) / size,
                "seconds": min(summary["seconds"] for summary in summaries),
                "others": max(summary["others"] for summary in summaries),
            }
        )
        print(f"reads, {size} servers and clients: {lines[-1]}", flush=True)
    return lines


def tables(figures: Figures) -> str:
    """Return the figures as Markdown."""
    head = ["servers", "mean latency (us)", "minimum", "maximum", "orders a second", "seconds", "others"]
    names = ["avg latency", "min latency", "max latency", "throughput", "seconds"]
    writes = [
        [str(line["servers"]), *(f"{line[name]:,.0f}" for name in names), f"{line['others']:.2f}"]
        for line in figures["writes"]
    ]
    reads = [
        [
            f"{line['servers']} + {line['servers']}",
            f"{line['throughput']:,.0f}",
            f"{line['seconds']:,.0f}",
            f"{line['others']:.2f}",
        ]
        for line in figures["reads"]
    ]
    machine = figures["machine"]
    where = (
        f"Measured on {machine['cores']} cores of {machine['processor']}, Linux {machine['kernel']}, "
        f'Python {machine["python"]}; servers and clients share the cores. "Others" is how many '
        "cores programs without a part in the measurement took meanwhile."
    )
    read_head = ["servers + clients", "reads a second, summed", "seconds", "others"]
    return "\n\n".join([where, markdown(head, writes), markdown(read_head, reads)])


def write_tables(report: Path, figures: Figures) -> None:
    """Put the tables between the two marks of the report."""
    text = report.read_text(encoding="utf-8")
    begin, end = "<!-- figures: written by make cs6650-report -->\n", "<!-- end of figures -->"
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise SystemExit(f"{report.name} has lost the marks between which the figures stand")
    report.write_text(f"{before}{begin}\n{tables(figures)}\n\n{end}{after}", encoding="utf-8")


def draw(figures: Figures, folder: Path, kind: str) -> None:
    """Draw both graphs into a folder, as files of this kind (svg, png)."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "viewstamp", "svg.fonttype": "none", "font.size": 10})
    import matplotlib.pyplot as plt

    metadata = {"Date": None} if kind == "svg" else {}
    writes, reads = figures["writes"], figures["reads"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    servers = [line["servers"] for line in writes]
    bars(left, servers, [line["avg latency"] for line in writes], "mean latency (µs)", "#5b7fa6")
    bars(right, servers, [line["throughput"] for line in writes], "orders a second", "#b07d3c")
    for axes in (left, right):
        axes.set_xlabel("servers")
    figure.suptitle(f"Writes: {WRITERS} customers in one client program")
    figure.savefig(folder / f"cs6650-writes.{kind}", metadata=metadata, dpi=120)
    plt.close(figure)
    figure, axes = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
    names = [f"{line['servers']} + {line['servers']}" for line in reads]
    bars(axes, names, [line["throughput"] for line in reads], "reads a second, summed", "#5f8f5f")
    axes.set_xlabel(f"servers + client programs of {READERS} customers")
    axes.set_title("Reads")
    figure.savefig(folder / f"cs6650-reads.{kind}", metadata=metadata, dpi=120)
    plt.close(figure)


def bars(axes: Any, names: Sequence[Any], heights: Sequence[float], label: str, colour: str) -> None:
    """Draw bars from zero up, each with its number over it."""
    drawn = axes.bar([str(name) for name in names], heights, width=0.55, color=colour)
    axes.bar_label(drawn, labels=[f"{height:,.0f}" for height in heights], padding=2)
    axes.set_ylabel(label)
    axes.set_ylim(0, max(heights) * 1.15)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="least length of a measured run")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the figures, as JSON")
    parser.add_argument("--draw-only", action="store_true", help="draw the figures that are there")
    parser.add_argument("--folder", type=Path, default=REPORT.parent, help="where the graphs go")
    parser.add_argument("--kind", choices=["svg", "png"], default="svg")
    options = parser.parse_args()
    if not options.draw_only:
        figures = {
            "machine": describe(),
            "writes": measure_writes(options.seconds),
            "reads": measure_reads(options.seconds),
        }
        options.results.parent.mkdir(parents=True, exist_ok=True)
        options.results.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    figures = json.loads(options.results.read_text(encoding="utf-8"))
    draw(figures, options.folder, options.kind)
    if options.folder == REPORT.parent:
        write_tables(REPORT, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
