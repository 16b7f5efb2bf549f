"""The workloads by name, and which of them a seed draws when none is asked for."""

from collections.abc import Callable
from typing import Final

from viewstamp.sim.faults.options import LoadOptions
from viewstamp.sim.workloads.locks import LockWorkload, told_workload
from viewstamp.sim.workloads.workload import RegisterWorkload, StoreWorkload, TallyWorkload, Workload

WORKLOADS: Final[dict[str, Callable[[LoadOptions], Workload]]] = {
    "kv": StoreWorkload,
    "locks": LockWorkload,
    "locks-told": told_workload,
    "registers": RegisterWorkload,
    "tally": TallyWorkload,
}


def drawn_workload(seed: int) -> str:
    """Return the name of the workload of a seed for which none is asked for: locks for one in eight."""
    if seed % 8 == 7:
        return ("locks", "locks-told")[seed // 8 % 2]
    return ("kv", "registers", "tally")[seed % 3]
