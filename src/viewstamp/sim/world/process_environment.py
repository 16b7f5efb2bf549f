"""What the servers of a simulated cluster have in common, and what they reach outside themselves."""

from typing import Any, Protocol

import msgspec

from viewstamp.core.ids import ClientAddress, NodeId
from viewstamp.core.messages import ServerMessage
from viewstamp.core.protocol import ProtocolDefinition
from viewstamp.machine.guard import Guard
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.authorization import Grant
from viewstamp.replica.options import ReplicaOptions
from viewstamp.sim.judge.judge import Judge
from viewstamp.sim.world.content import DiskFaults
from viewstamp.sim.world.disk import SimFileSystem
from viewstamp.sim.world.options import DiskOptions, ProcessOptions
from viewstamp.sim.world.trace import Trace
from viewstamp.sim.world.world import RandomTree, World


def guard_of(machine: type[StateMachine]) -> Guard | None:
    """Return what watches a user's class for forbidden calls; None for the library's own machines."""
    return None if machine.__module__.startswith("viewstamp.") else Guard(machine, is_fatal=True)


class ProcessEnvironment(Protocol):
    """What a process reaches outside itself."""

    def send(self, source: NodeId, to: NodeId, message: Any) -> None:
        """Carry a message to another member."""
        ...

    def respond(self, source: NodeId, to: ClientAddress, message: ServerMessage) -> None:
        """Carry a message to a client."""
        ...

    def died(self, node: NodeId, reason: str) -> None:
        """The process ended by itself: its disk failed. An operator may start it again."""
        ...

    def removed(self, node: NodeId) -> None:
        """The process ended: its incarnation was removed from the cluster."""
        ...


class ProcessSetup(msgspec.Struct, frozen=True):
    """What all processes of a cluster have in common."""

    world: World
    judge: Judge
    trace: Trace
    tree: RandomTree
    members: tuple[NodeId, ...]
    """Those of the first configuration."""
    definition: ProtocolDefinition
    protocol_options: Any
    replica_options: ReplicaOptions
    machine: type[StateMachine]
    grants: tuple[Grant, ...]
    segment_bytes: int
    state_check_every: int
    process_options: ProcessOptions
    environment: ProcessEnvironment


def make_disk(setup: ProcessSetup, node: NodeId, life: int, options: DiskOptions) -> SimFileSystem:
    """Return an empty disk for a node, with these faults."""
    faults = DiskFaults(
        torn=options.torn,
        sync_error=options.error_rate,
        disk_full=options.full_rate,
        short_write=options.short_writes,
    )
    return SimFileSystem(setup.tree.stream("node", node, "disk", life), faults=faults)
