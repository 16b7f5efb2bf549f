"""Whether migrations make the same state of the same one each time they run, here and elsewhere.

A migration that reads a clock, a random number or the order of a set splits all replicas at the entry that
raises the version. So `viewstamp upgrade check` runs migrations several times on what stands before that
entry, restored each time, and compares the digests that replicas compare.
"""

from collections.abc import Callable, Iterable

import msgspec

from viewstamp.core.ids import LogTime, Viewstamp
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.evolution import version_of
from viewstamp.machine.in_force import VersionInForce
from viewstamp.machine.interface import interface_of
from viewstamp.machine.runner import MachineRunner
from viewstamp.machine.state_digest import digest_of_pieces
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.replicated_state import ReplicatedState


class Unmigrated(msgspec.Struct, frozen=True):
    """A state before migrations run, and where they would: all that another process needs to run them."""

    version: int
    """In force before."""
    interface: dict[str, str] | None
    """As the log says it; None: it does not."""
    state: bytes
    """The machine's snapshot."""
    viewstamp: Viewstamp
    log_time: int


Elsewhere = Callable[[Unmigrated], Iterable[int]]
"""Runs the migrations in other processes, and returns the digests of what they made."""


def unmigrated(state: ReplicatedState) -> Unmigrated:
    """Return what another process needs to raise this state."""
    in_force = state.runner.in_force
    pieces = b"".join(state.runner.pieces())
    return Unmigrated(in_force.version, in_force.declared, pieces, state.applied, state.log_time)


def target_of(definition: MachineDefinition) -> VersionInForce:
    """Return all that this class can do, as the entry that raises to it would say."""
    version = version_of(definition.cls)
    return VersionInForce(definition, version, interface_of(definition.cls, version))


def migrated_digest(cls: type[StateMachine], before: Unmigrated) -> int:
    """Restore a state, migrate it to the version of this class, and return the digest of what comes out.

    Raises:
        ConfigurationError: the class refuses the state.
        MigrationFailed: a migration raised, or left a state that cannot be kept.
    """
    definition = MachineDefinition.of(cls)
    in_force = VersionInForce(definition, before.version, before.interface)
    runner = MachineRunner(definition).restored(before.state, in_force)
    raised = runner.raised(target_of(definition), before.viewstamp, LogTime(before.log_time))
    return digest_of_pieces(raised.in_force.digest_pieces(raised.machine))
