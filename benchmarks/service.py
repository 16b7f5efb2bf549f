"""The service as clients see it: three server processes, every write synced, loaded by `viewstamp bench`.

Rounds are interleaved; the median of each figure is printed as a table of Markdown, `--json FILE` keeps all.
Everything runs on one machine, so servers and load share its cores: these are lower bounds.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import keep
from viewstamp.testkit.load import wait_for_leader
from viewstamp.testkit.processes import ServerGroup

CLIENTS = (1, 64, 256, 1000)
WORKLOADS = ("writes", "reads")
DEFAULTS = "# the defaults\n"


def measure(cluster: Path, clients: int, workload: str, seconds: float) -> dict[str, Any]:
    """Run one load in a process of its own and return its figures."""
    command = [sys.executable, "-m", "viewstamp", "bench", "--cluster", str(cluster), "--json"]
    command += ["--clients", str(clients), "--workload", workload, "--seconds", str(seconds)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(ran.stdout)
    return figures


def all_rounds(cluster: Path, rounds: int, seconds: float) -> list[dict[str, Any]]:
    figures = []
    for number in range(1, rounds + 1):
        for clients in CLIENTS:
            for workload in WORKLOADS:
                found = measure(cluster, clients, workload, seconds)
                figures.append(found)
                rate, p50 = found["per_second"], found["latency_us"]["p50"]
                print(
                    f"round {number}: {clients} clients, {workload}: {rate:.0f}/s, p50 {p50} us",
                    file=sys.stderr,
                )
    return figures


def table(figures: list[dict[str, Any]]) -> str:
    """Return medians over the rounds as Markdown."""
    lines = ["| clients | writes/s | p50 | p99 | reads/s | p50 | p99 |", "|---|---|---|---|---|---|---|"]
    for clients in CLIENTS:
        cells = [str(clients)]
        for workload in WORKLOADS:
            these = [one for one in figures if (one["clients"], one["workload"]) == (clients, workload)]
            cells.append(f"{median(one['per_second'] for one in these):,.0f}")
            cells += [
                f"{median(one['latency_us'][name] for one in these) / 1000:.2f} ms" for name in ("p50", "p99")
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", type=Path, help="write every figure there")
    given = parser.parse_args()
    temporary = tempfile.TemporaryDirectory(prefix="viewstamp-bench-")
    with temporary as folder, ServerGroup(Path(folder), 3, settings=DEFAULTS) as group:
        group.start()
        asyncio.run(wait_for_leader(group))
        figures = all_rounds(group.cluster_file, given.rounds, given.seconds)
    print(table(figures))
    if given.json is not None:
        keep.write(given.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
