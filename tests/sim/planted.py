"""Protocol cores with a fault planted in them: what the simulator has to notice by name."""

from collections.abc import Callable, Sequence

import msgspec

from tests.machine.outside import thrown
from viewstamp.checker.models import CounterModel, Model
from viewstamp.core.effects import Answer, Apply, Effect, Persist, Send
from viewstamp.core.events import Event, Persisted, Queried
from viewstamp.core.ids import Instant, NodeId, View
from viewstamp.core.protocol import Core, CoreSetup, ProtocolDefinition, Recovered, Status
from viewstamp.machine.state_machine import StateMachine, command, query
from viewstamp.sim.workloads.workload import TallyWorkload


class Bent:
    """A core that does as another one does, until a subclass bends it."""

    def __init__(self, core: Core) -> None:
        self.core = core

    @property
    def deadline(self) -> Instant | None:
        return self.core.deadline

    @property
    def leader(self) -> NodeId | None:
        return self.core.leader

    @property
    def view(self) -> View:
        return self.core.view

    @property
    def accepting(self) -> bool:
        return self.core.accepting

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        return self.core.step(event, now)

    def status(self, now: Instant) -> Status:
        return self.core.status(now)

    def __getattr__(self, name: str) -> object:
        """Let the protocol's oracle see the real core's parts."""
        return getattr(self.core, name)


class Eager(Bent):
    """Takes every write for durable at once."""

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        if isinstance(event, Persisted):
            return []
        waiting, done = list[Event]([event]), list[Effect]()
        while waiting:
            effects = self.core.step(waiting.pop(0), now)
            done += effects
            waiting += [Persisted(effect.seq) for effect in effects if isinstance(effect, Persist)]
        return done


class Hasty(Bent):
    """Answers every read at once from whatever it has."""

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        return [Answer(event.token)] if isinstance(event, Queried) else self.core.step(event, now)


class Twice(Bent):
    """Applies an entry twice now and then."""

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        effects = list(self.core.step(event, now))
        applied = [effect for effect in effects if isinstance(effect, Apply)]
        return effects + [effect for effect in applied if effect.entry.viewstamp.seqno == 20]


class Chatty(Bent):
    """Sends every message twenty times."""

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        effects = self.core.step(event, now)
        return [again for effect in effects for again in [effect] * (20 if isinstance(effect, Send) else 1)]


def bent(definition: ProtocolDefinition, kind: Callable[[Core], Core]) -> ProtocolDefinition:
    """Return the protocol with this bend in every core."""
    make = definition.make_core
    return msgspec.structs.replace(definition, make_core=lambda setup: kind(make(setup)))


def forgetful(definition: ProtocolDefinition) -> ProtocolDefinition:
    """Return the protocol with cores that never look at their journal, as if term and vote were in memory."""
    make = definition.make_core

    def make_forgetful(setup: CoreSetup) -> Core:
        empty = Recovered(written=setup.recovered.written)
        return make(msgspec.structs.replace(setup, recovered=empty))

    return msgspec.structs.replace(definition, make_core=make_forgetful)


class Moody(StateMachine):
    """A machine that is not deterministic: what it adds depends on what other instances did."""

    total: int = 0

    @command
    def add(self, key: str, amount: int) -> int:
        """Add, after a fashion."""
        self.total += amount * thrown()
        return self.total

    @query
    def read(self, key: str) -> int:
        """Return what there is."""
        return self.total


class MoodyWorkload(TallyWorkload):
    machine: type[StateMachine] = Moody
    model: Model = CounterModel()
