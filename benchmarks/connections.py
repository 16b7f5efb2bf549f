"""Over how many connections a peer's clients do most, tried before the rounds: each has its best setting.

A connection that many share carries many calls in one message and leaves less to do in parallel. Which of the
two weighs more depends on the peer, the workload and the number of clients.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import msgspec

from benchmarks.loads.lines import CONNECTIONS_MAX, Plan
from benchmarks.ratios import Row

COUNTS: Final = (1, 4, CONNECTIONS_MAX)
PASSES: Final = 2
"""How often each count is tried, the others in between."""
TRIAL_S: Final = 0.4
TRIAL_WARM_S: Final = 0.2
ROUND: Final = 0
"""Trials stand before the first round."""

Best = dict[tuple[str, str, int], int]
"""Peer, workload and clients, and the number of connections that was best."""


def trials(plans: Sequence[Plan]) -> list[Plan]:
    """Return short plans that try every count with each workload and number of clients that has a choice."""
    kinds = dict.fromkeys((plan.workload, plan.clients) for plan in plans if plan.clients > 1)
    smallest = min((plan.value_bytes for plan in plans), default=0)
    return [
        Plan(workload, clients, smallest, TRIAL_WARM_S, TRIAL_S, count)
        for workload, clients in kinds
        for _ in range(PASSES)
        for count in COUNTS
    ]


def best(rows: Sequence[Row]) -> Best:
    """Return what did most in the trials, each count by the sum of its passes."""
    sums: defaultdict[tuple[str, str, int], defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        sums[row["peer"], row["workload"], row["clients"]][row["connections"]] += row["per_second"]
    return {case: max(tried, key=tried.__getitem__) for case, tried in sums.items()}


def chosen(peer: str, plan: Plan, best: Best) -> Plan:
    """Return the plan with the number of connections that was best for this peer; none tried: as it is."""
    count = best.get((peer, plan.workload, plan.clients), plan.connections)
    return msgspec.structs.replace(plan, connections=count)
