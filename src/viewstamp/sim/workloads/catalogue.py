"""The workloads by name: those of the library, and MODULE:CLASS of a user."""

from collections.abc import Callable
from importlib import import_module
from typing import Final

from viewstamp.core.errors import ConfigurationError
from viewstamp.machine.state_machine import StateMachine
from viewstamp.sim.workloads.claims import (
    ElectionWorkload,
    ReadWriteLockWorkload,
    SemaphoreWorkload,
    notified_semaphores,
)
from viewstamp.sim.workloads.files import FileWorkload
from viewstamp.sim.workloads.granted import GrantedStoreWorkload
from viewstamp.sim.workloads.locks import LockWorkload, notified_workload
from viewstamp.sim.workloads.own_machine import OwnMachine
from viewstamp.sim.workloads.queues import QueueWorkload
from viewstamp.sim.workloads.store import CoordinationWorkload
from viewstamp.sim.workloads.workload import (
    HostileStoreWorkload,
    RegisterWorkload,
    StoreWorkload,
    TallyWorkload,
    Workload,
)
from viewstamp.sim.world.options import LoadOptions

WORKLOADS: Final[dict[str, Callable[[LoadOptions], Workload]]] = {
    "elections": ElectionWorkload,
    "files": FileWorkload,
    "granted": GrantedStoreWorkload,
    "hostile": HostileStoreWorkload,
    "kv": StoreWorkload,
    "locks": LockWorkload,
    "locks-notified": notified_workload,
    "queues": QueueWorkload,
    "registers": RegisterWorkload,
    "rwlocks": ReadWriteLockWorkload,
    "semaphores": SemaphoreWorkload,
    "semaphores-notified": notified_semaphores,
    "store": CoordinationWorkload,
    "tally": TallyWorkload,
}


def drawn_workload(seed: int) -> str:
    """Return the name of the workload of a seed for which none is asked for: locks for one in eight."""
    if seed % 8 == 7:
        return ("locks", "locks-notified")[seed // 8 % 2]
    return ("kv", "registers", "tally")[seed % 3]


def make_workload(name: str, load: LoadOptions) -> Workload:
    """Return a new workload of this name, or made from the class at MODULE:CLASS.

    Raises:
        ConfigurationError: there is none, or its class cannot be used; the text says why.
    """
    if name in WORKLOADS:
        return WORKLOADS[name](load)
    module_name, colon, class_name = name.partition(":")
    if not colon:
        known = ", ".join(sorted(WORKLOADS))
        raise ConfigurationError(
            f"no workload is called {name!r}: there are {known}, or MODULE:CLASS of your own"
        )
    try:
        found = vars(import_module(module_name)).get(class_name)
    except Exception as error:  # the module is the user's, and so is what its first lines raise
        raise ConfigurationError(f"cannot import {module_name!r}: {type(error).__name__}: {error}") from error
    if isinstance(found, type) and issubclass(found, StateMachine):
        found = type(found.__name__, (OwnMachine,), {"machine": found})
    if not (isinstance(found, type) and issubclass(found, OwnMachine) and hasattr(found, "machine")):
        raise ConfigurationError(f"{name}: give a subclass of StateMachine, or of sim.own_machine.OwnMachine")
    workload = found(load)
    workload.final_plans()  # so that a class whose arguments cannot be drawn is refused now
    return workload
