"""A core that is watched: what its Paxos writes becomes a line of the log as soon as it is durable."""

from collections.abc import Sequence

from viewstamp.core.effects import Effect, Persist
from viewstamp.core.events import Event, Persisted
from viewstamp.core.ids import Instant
from viewstamp.core.protocol import WrappedCore
from viewstamp.protocols.viewstamped.core import ViewstampedCore
from viewstamp_labs.lab6824.paxos_log import PaxosLog


class LoggedCore(WrappedCore):
    """A core around a `ViewstampedCore` that also writes `paxos-<port>.log`."""

    __slots__ = ("_log",)

    def __init__(self, core: ViewstampedCore, log: PaxosLog) -> None:
        super().__init__(core)
        self._log = log

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        """See `Core`. A line is written before the core learns that its record is durable: breakpoint 2."""
        if type(event) is Persisted:
            self._log.durable(event.seq)
        effects = self._core.step(event, now)
        for effect in effects:
            if type(effect) is Persist:
                self._log.note(effect.seq, effect.records)
        return effects
