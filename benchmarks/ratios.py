"""What the comparison must show, as ratios within one round; and how a round's figures are looked up."""

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any, Final

import msgspec

Row = dict[str, Any]
OURS: Final = "viewstamp-raft"
SMALL: Final = 32
PYSYNCOBJ: Final = ("pysyncobj-batched", "pysyncobj-unbatched")


class Case(msgspec.Struct, frozen=True):
    """One load."""

    workload: str
    clients: int
    value_bytes: int = SMALL


class Target(msgspec.Struct, frozen=True):
    """A ratio of two peers' figures in one case, and what it must be."""

    case: Case
    figure: str
    """per_second, p50 or p99."""
    over: str
    """The other peer; `pysyncobj` is the better of its two settings."""
    bound: float
    """At least this where more is better, at most this for a latency."""
    ours: str = OURS

    @property
    def upward(self) -> bool:
        """Whether more is better."""
        return self.figure == "per_second"

    def met(self, ratio: float) -> bool:
        """Return whether a ratio is good enough."""
        return ratio >= self.bound if self.upward else ratio <= self.bound

    @property
    def title(self) -> str:
        """What stands in the table."""
        many = "1 client" if self.case.clients == 1 else f"{self.case.clients} clients"
        what = f"{self.case.workload} a second" if self.upward else f"{self.case.workload[:-1]} {self.figure}"
        return f"{many}, {what}: {self.ours} / {self.over}"


def targets(protocols: Sequence[str]) -> list[Target]:
    """Return what must hold, of the protocols that were measured too."""
    found = [
        Target(Case("writes", 1), "p50", "etcd", 0.6),
        Target(Case("writes", 1), "p50", "pipe", 2.0),
        Target(Case("writes", 64), "per_second", "etcd", 3.0),
        Target(Case("writes", 256), "per_second", "etcd", 4.0),
        Target(Case("writes", 256), "per_second", "pipe", 0.4),
        Target(Case("writes", 1000), "per_second", "etcd", 3.0),
        Target(Case("writes", 1000), "p99", "etcd", 1.0),
        Target(Case("reads", 64), "per_second", "etcd", 4.0),
        Target(Case("reads", 256), "per_second", "etcd", 4.0),
        Target(Case("writes", 1), "per_second", "pysyncobj", 1.0),
        Target(Case("writes", 64), "per_second", "pysyncobj", 3.0),
        Target(Case("writes", 256), "per_second", "pysyncobj", 3.0),
    ]
    return found + [
        Target(Case("writes", clients), "per_second", OURS, 1.0, ours=protocol)
        for protocol in protocols
        if protocol != OURS
        for clients in (1, 64, 256, 1000)
    ]


def figure(row: Row, name: str) -> float:
    """Return one figure of a row."""
    return float(row["per_second"] if name == "per_second" else row["latency_us"][name])


def by_round(rows: Iterable[Row], peer: str, case: Case, name: str) -> dict[int, float]:
    """Return a peer's figure in each round; of `pysyncobj`, that of its better setting."""
    peers = PYSYNCOBJ if peer == "pysyncobj" else (peer,)
    better: Callable[[float, float], float] = max if name == "per_second" else min
    found: dict[int, float] = {}
    for row in rows:
        if row["peer"] in peers and case == Case(row["workload"], row["clients"], row["value_bytes"]):
            value = figure(row, name)
            found[row["round"]] = better(value, found.get(row["round"], value))
    return found


def ratios(rows: Sequence[Row], target: Target) -> list[float]:
    """Return the ratio round by round, of those rounds in which both were measured."""
    ours = by_round(rows, target.ours, target.case, target.figure)
    theirs = by_round(rows, target.over, target.case, target.figure)
    return [ours[number] / theirs[number] for number in sorted(ours.keys() & theirs.keys()) if theirs[number]]


def judged(rows: Sequence[Row]) -> list[tuple[Target, list[float], bool]]:
    """Return each target that can be judged, its ratios, and whether their median is good enough."""
    protocols = sorted({row["peer"] for row in rows if row["peer"].startswith("viewstamp-")})
    found = ((target, ratios(rows, target)) for target in targets(protocols))
    return [(target, seen, target.met(median(seen))) for target, seen in found if seen]
