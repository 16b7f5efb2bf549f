"""How a Python load generator talks to the process that started it: a plan a line in, figures a line out."""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

CONNECTIONS_MAX: Final = 16
"""Connections that a load generator opens. The same for every peer."""
KEYS: Final = 1_000
STRIDE: Final = 7_919
"""A prime, so that the clients start on different keys."""
MIXED_WRITE_EVERY: Final = 10
"""One operation in this number of a mixed load is a write."""
_QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}


class Plan(msgspec.Struct, frozen=True):
    """One load: a number of clients with one operation under way each."""

    workload: str
    """writes, reads or mixed."""
    clients: int
    value_bytes: int
    warm_s: float
    """Operations begun in this time are not counted."""
    seconds: float
    connections: int = CONNECTIONS_MAX
    """The most connections that the clients share."""

    def line(self) -> str:
        """Return the line that asks a load generator for this."""
        return (
            f"{self.workload} {self.clients} {self.value_bytes} {self.warm_s} {self.seconds} "
            f"{self.connections}\n"
        )

    @classmethod
    def parse(cls, line: str) -> "Plan":
        """Return the plan in a line; `ValueError` where it holds none."""
        workload, clients, value_bytes, warm_s, seconds, connections = line.split()
        return cls(workload, int(clients), int(value_bytes), float(warm_s), float(seconds), int(connections))

    def writes_at(self, place: int) -> bool:
        """Return whether the operation at this place is a write."""
        return self.workload == "writes" or (self.workload == "mixed" and place % MIXED_WRITE_EVERY == 0)


def figures(latencies_s: list[float], elapsed_s: float) -> dict[str, Any]:
    """Return what is answered to a plan; latencies in whole microseconds.

    Where nothing was done in time, a latency is at least the time that there was.
    """
    ordered = sorted(latencies_s) or [elapsed_s]
    last = len(ordered) - 1
    return {
        "operations": len(latencies_s),
        "per_second": round(len(latencies_s) / elapsed_s, 1),
        "latency_us": {
            name: round(ordered[min(last, int(share * len(ordered)))] * 1e6)
            for name, share in _QUANTILES.items()
        },
    }


def plans() -> Iterator[Plan]:
    """Yield what is asked for until the input ends."""
    for line in sys.stdin:
        yield Plan.parse(line)


def answer(document: dict[str, Any]) -> None:
    """Print the figures of the plan that was asked for last."""
    print(json.dumps(document), flush=True)


def serve(run: Callable[[Plan], dict[str, Any]]) -> None:
    """Carry out plan after plan."""
    for plan in plans():
        answer(run(plan))
