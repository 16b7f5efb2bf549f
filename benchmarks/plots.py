"""Pictures of a comparison for docs/benchmarks.md. Needs matplotlib: `make bench-tools`."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from benchmarks.ratios import SMALL, Case, Row, by_round
from benchmarks.tables import peers_of

# Colours that all eyes can tell apart (Okabe and Ito); ours are full lines, the others dashed.
STYLES: Final[dict[str, dict[str, Any]]] = {
    "viewstamp-raft": {"color": "#0072B2", "marker": "o", "linewidth": 2.2},
    "viewstamp-viewstamped": {"color": "#56B4E9", "marker": "s", "linewidth": 2.2},
    "viewstamp-primary_backup": {"color": "#009E73", "marker": "^", "linewidth": 2.2},
    "etcd": {"color": "#D55E00", "marker": "D", "linestyle": "--"},
    "zookeeper": {"color": "#E69F00", "marker": "v", "linestyle": "--"},
    "pysyncobj-batched": {"color": "#CC79A7", "marker": "<", "linestyle": "--"},
    "pysyncobj-unbatched": {"color": "#882255", "marker": ">", "linestyle": "--"},
    "pipe": {"color": "#777777", "marker": "x", "linestyle": ":"},
}
SIZE_INCHES: Final = (10.5, 4.4)
DOTS_PER_INCH: Final = 110


def thousands(value: float, _: object) -> str:
    return f"{value:,.0f}"


def milliseconds(value: float, _: object) -> str:
    return f"{value:g}"


def draw(axes: Axes, rows: Sequence[Row], workload: str, value_bytes: int, name: str, scale: float) -> None:
    """Draw a line for each peer: the median over rounds, with the range as a bar."""
    these = [row for row in rows if (row["workload"], row["value_bytes"]) == (workload, value_bytes)]
    for peer in peers_of(these):
        counts, middles, below, above = [], [], [], []
        for clients in sorted({row["clients"] for row in these}):
            values = [
                scale * value
                for value in by_round(these, peer, Case(workload, clients, value_bytes), name).values()
            ]
            if values:
                counts.append(clients)
                middles.append(median(values))
                below.append(median(values) - min(values))
                above.append(max(values) - median(values))
        axes.errorbar(
            counts, middles, yerr=(below, above), label=peer, markersize=5, capsize=2, **STYLES[peer]
        )
    axes.set(xscale="log", yscale="log", xlabel="concurrent clients")
    axes.set_xticks(sorted({row["clients"] for row in these}))
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.minorticks_off()
    axes.grid(visible=True, which="major", alpha=0.25)


def finish(figure: Figure, left: Axes, path: Path) -> None:
    """Put one legend below both pictures and save them."""
    handles, labels = left.get_legend_handles_labels()
    columns = (len(labels) + 1) // 2 if len(labels) > 5 else len(labels)
    figure.legend(handles, labels, loc="lower center", ncols=columns, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.13 if len(labels) > columns else 0.08, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})
    plt.close(figure)


def rates(rows: Sequence[Row], path: Path, value_bytes: int) -> None:
    """Writes and linearizable reads a second."""
    figure, (left, right) = plt.subplots(1, 2, figsize=SIZE_INCHES)
    for axes, workload, title in (
        (left, "writes", "writes a second"),
        (right, "reads", "linearizable reads a second"),
    ):
        draw(axes, rows, workload, value_bytes, "per_second", 1.0)
        axes.yaxis.set_major_formatter(FuncFormatter(thousands))
        axes.set_title(f"{title}, values of {value_bytes} bytes", fontsize=11)
    finish(figure, left, path)


def latencies(rows: Sequence[Row], path: Path) -> None:
    """Median and 99th percentile of a write."""
    figure, (left, right) = plt.subplots(1, 2, figsize=SIZE_INCHES, sharey=True)
    for axes, name in ((left, "p50"), (right, "p99")):
        draw(axes, rows, "writes", SMALL, name, 0.001)
        axes.yaxis.set_major_formatter(FuncFormatter(milliseconds))
        axes.set_title(f"latency of a write, {name}, in ms", fontsize=11)
    finish(figure, left, path)


def all_of(rows: Sequence[Row], folder: Path) -> None:
    """Draw every picture that docs/benchmarks.md shows."""
    for value_bytes in sorted({row["value_bytes"] for row in rows}):
        rates(rows, folder / f"rates-{value_bytes}.png", value_bytes)
    latencies(rows, folder / "latencies.png")
