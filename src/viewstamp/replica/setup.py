"""What a replica is made of."""

from random import Random
from typing import Any

import msgspec

from viewstamp.core.ids import Incarnation, Instant, NodeId
from viewstamp.core.protocol import Core, CoreSetup, ProtocolDefinition, Recovered
from viewstamp.machine.guard import Guard
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.authorization import Grant
from viewstamp.replica.divergence import StateHasher
from viewstamp.replica.options import ReplicaOptions


class ReplicaSetup(msgspec.Struct, frozen=True):
    """Everything that a replica is made of."""

    node: NodeId
    members: tuple[NodeId, ...]
    incarnation: Incarnation
    definition: ProtocolDefinition
    protocol_options: Any
    """Of the type that the protocol's definition names."""
    options: ReplicaOptions
    machine: type[StateMachine]
    rng: Random
    recovered: Recovered
    now: Instant
    strict: bool = False
    """Check that no query changes the state, which costs two snapshots for each."""
    guard: Guard | None = None
    """What watches the machine's methods for forbidden calls, in tests."""
    grants: tuple[Grant, ...] = ()
    """Which principals may make which calls here; empty: every caller may make every call."""
    hasher: StateHasher | None = None
    """What makes digests of the state; None: each at once."""
    joining: bool = False
    """The node is to be added to a cluster that exists; `members` are those that it asks, and itself."""

    def make_core(self) -> Core:
        """Return the protocol's core as it starts from what the disk holds.

        Raises:
            JournalCorrupt: the journal is not one of this protocol's, or something in it is missing.
        """
        return self.definition.make_core(
            CoreSetup(
                node=self.node,
                members=self.members,
                incarnation=self.incarnation,
                rng=self.rng,
                options=self.protocol_options,
                recovered=self.recovered,
                now=self.now,
                joining=self.joining,
            )
        )
