"""Protocol cores that check themselves: `viewstamp serve --paranoid`."""

from collections.abc import Sequence

import msgspec

from viewstamp.core.effects import Effect
from viewstamp.core.events import Event
from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.judge import Oracle
from viewstamp.core.protocol import Core, CoreSetup, ProtocolDefinition, WrappedCore


class ParanoidCore(WrappedCore):
    """A core whose node's invariants are checked after each step, before an effect of it is carried out."""

    __slots__ = ("_node", "_oracle")

    def __init__(self, core: Core, oracle: Oracle, node: NodeId) -> None:
        super().__init__(core)
        self._oracle = oracle
        self._node = node

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        """As the core; raise `core.judge.InvariantViolated` where it breaks an invariant."""
        effects = self._core.step(event, now)
        self._oracle.check_node(self._core)
        self._oracle.check_step(self._node, self._core)
        return effects


def paranoid(definition: ProtocolDefinition) -> ProtocolDefinition:
    """Return the protocol with `ParanoidCore`s."""

    def make_core(setup: CoreSetup) -> Core:
        oracle = definition.make_oracle(setup.members)
        return ParanoidCore(definition.make_core(setup), oracle, setup.node)

    return msgspec.structs.replace(definition, make_core=make_core)
