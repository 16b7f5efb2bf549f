"""Your own class under our disasters.

`disasters` makes a pytest test of a class; `ClusterMachine` is the base of a hypothesis state machine;
`examine` is the same without pytest. `pytest --viewstamp app:Shop` needs no test at all. Everything is
imported when it is first used, so that importing this costs nothing.

Read in this order: `examination` (what is done to a class), `steps`, `twins`, `equal_runs`, `elsewhere`
(equal runs without a cluster), `report` (what a failure says), `disasters`, `simulated`, `cluster_machine`,
`plugin`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from viewstamp.backup.golden import replays
    from viewstamp.sim.run.finished import FinishedRun as Run
    from viewstamp.sim.workloads.own_machine import OwnMachine
    from viewstamp.testing.cluster_machine import ClusterMachine
    from viewstamp.testing.disasters import disasters
    from viewstamp.testing.examination import examine
    from viewstamp.testing.simulated import SimulatedCluster

__all__ = ["ClusterMachine", "OwnMachine", "Run", "SimulatedCluster", "disasters", "examine", "replays"]

_LATE = {
    "ClusterMachine": ("viewstamp.testing.cluster_machine", "ClusterMachine"),
    "OwnMachine": ("viewstamp.sim.workloads.own_machine", "OwnMachine"),
    "Run": ("viewstamp.sim.run.finished", "FinishedRun"),
    "SimulatedCluster": ("viewstamp.testing.simulated", "SimulatedCluster"),
    "disasters": ("viewstamp.testing.disasters", "disasters"),
    "replays": ("viewstamp.backup.golden", "replays"),
    "examine": ("viewstamp.testing.examination", "examine"),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _LATE:
        raise AttributeError(f"module 'viewstamp.testing' has no attribute {name!r}")
    module, attribute = _LATE[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value
