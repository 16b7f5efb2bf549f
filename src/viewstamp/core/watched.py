"""A protocol core whose every step is seen by something else, such as the checks of its own invariants."""

from collections.abc import Callable, Sequence

import msgspec

from viewstamp.core.effects import Effect
from viewstamp.core.events import Event
from viewstamp.core.ids import Instant, NodeId, View
from viewstamp.core.protocol import Core, CoreSetup, ProtocolDefinition, Status


class WatchedCore:
    """Does what the core does, and calls `seen` after each step."""

    __slots__ = ("_core", "_seen", "_step")

    def __init__(self, core: Core, seen: Callable[[Event, Sequence[Effect]], None]) -> None:
        self._core = core
        self._step = core.step
        self._seen = seen

    @property
    def deadline(self) -> Instant | None:
        """As the core."""
        return self._core.deadline

    @property
    def leader(self) -> NodeId | None:
        """As the core."""
        return self._core.leader

    @property
    def view(self) -> View:
        """As the core."""
        return self._core.view

    @property
    def accepting(self) -> bool:
        """As the core."""
        return self._core.accepting

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        """As the core, and seen."""
        effects = self._step(event, now)
        self._seen(event, effects)
        return effects

    def status(self, now: Instant) -> Status:
        """As the core."""
        return self._core.status(now)


def paranoid(definition: ProtocolDefinition) -> ProtocolDefinition:
    """Return the protocol with the invariants of each node checked after each of its steps.

    A step that breaks one raises `core.judge.InvariantViolated`, before any of its effects is carried out.
    """

    def make_core(setup: CoreSetup) -> Core:
        core = definition.make_core(setup)
        oracle = definition.make_oracle(setup.members)

        def check(_event: Event, _effects: Sequence[Effect]) -> None:
            oracle.check_node(core)
            oracle.check_step(setup.node, core)

        return WatchedCore(core, check)

    return msgspec.structs.replace(definition, make_core=make_core)
