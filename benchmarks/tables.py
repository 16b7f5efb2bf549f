"""Tables of Markdown out of the figures of a comparison."""

from collections.abc import Sequence
from statistics import median

from benchmarks.ratios import Case, Row, by_round, judged


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def peers_of(rows: Sequence[Row]) -> list[str]:
    """Return the peers in the order in which they were measured first."""
    return list(dict.fromkeys(row["peer"] for row in sorted(rows, key=lambda row: row["round"])))


def spread(values: Sequence[float], form: str) -> str:
    """Return the median and, where they differ, the range."""
    low, middle, high = (format(value, form) for value in (min(values), median(values), max(values)))
    return middle if low == high else f"{middle} ({low}-{high})"


def cell(rows: Sequence[Row], peer: str, case: Case) -> str:
    """Return operations a second with their range, and the latencies."""
    rates = list(by_round(rows, peer, case, "per_second").values())
    if not rates:
        return "-"
    p50, p99 = (median(by_round(rows, peer, case, name).values()) / 1000 for name in ("p50", "p99"))
    return f"{spread(rates, ',.0f')}; {p50:.2f} / {p99:.1f} ms"


def figures(rows: Sequence[Row], workload: str, value_bytes: int) -> str:
    """Return a table of one kind of load: a line for each number of clients, a column for each peer."""
    these = [row for row in rows if (row["workload"], row["value_bytes"]) == (workload, value_bytes)]
    peers = peers_of(these)
    lines = [
        [str(clients), *(cell(these, peer, Case(workload, clients, value_bytes)) for peer in peers)]
        for clients in sorted({row["clients"] for row in these})
    ]
    return markdown(["clients", *peers], lines)


def effort_cell(rows: Sequence[Row], peer: str, case: Case) -> str:
    """Return the microseconds of processor time that an operation costs the servers, and the load."""
    found = [
        (1e6 * row["cores"]["servers"] / row["per_second"], 1e6 * row["cores"]["load"] / row["per_second"])
        for row in rows
        if row["peer"] == peer and row["per_second"]
        if case == Case(row["workload"], row["clients"], row["value_bytes"])
    ]
    if not found:
        return "-"
    servers, load = (median(values) for values in zip(*found, strict=True))
    return f"{servers:,.0f} + {load:,.0f}"


def effort(rows: Sequence[Row], workload: str, value_bytes: int) -> str:
    """Return a table of processor time: it depends on what else the machine does far less than a rate."""
    these = [row for row in rows if (row["workload"], row["value_bytes"]) == (workload, value_bytes)]
    peers = peers_of(these)
    lines = [
        [str(clients), *(effort_cell(these, peer, Case(workload, clients, value_bytes)) for peer in peers)]
        for clients in sorted({row["clients"] for row in these})
    ]
    return markdown(["clients", *peers], lines)


def connections(rows: Sequence[Row]) -> str:
    """Return a table of the number of connections that each peer's clients shared."""
    shared = {(row["workload"], row["clients"], row["peer"]): row["connections"] for row in rows}
    peers = peers_of(rows)
    cases = dict.fromkeys((workload, clients) for workload, clients, _ in shared if clients > 1)
    lines = [
        [f"{workload}, {clients}", *(str(shared.get((workload, clients, peer), "-")) for peer in peers)]
        for workload, clients in cases
    ]
    return markdown(["load, clients", *peers], lines)


def ratio_table(rows: Sequence[Row]) -> str:
    """Return the table of what must be shown."""
    lines = []
    for target, seen, met in judged(rows):
        bound = f"{'at least' if target.upward else 'at most'} {target.bound:g}"
        rounds = ", ".join(f"{ratio:.2f}" for ratio in seen)
        lines.append([target.title, bound, f"{median(seen):.2f}", rounds, "yes" if met else "**no**"])
    return markdown(["ratio", "wanted", "median", "round by round", "met"], lines)


def kinds(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """Return the workloads and sizes of values that were measured."""
    return list(dict.fromkeys((row["workload"], row["value_bytes"]) for row in rows))


def everything(rows: Sequence[Row]) -> str:
    """Return all tables, as they are printed."""
    parts = [
        f"{workload}, values of {value_bytes} bytes; a second (range over rounds); p50 / p99\n\n"
        + figures(rows, workload, value_bytes)
        for workload, value_bytes in kinds(rows)
    ]
    return "\n\n".join([*parts, ratio_table(rows)])
