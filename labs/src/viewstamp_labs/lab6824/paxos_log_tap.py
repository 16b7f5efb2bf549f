"""A core that is watched: what its Paxos writes becomes a line of the log as soon as it is durable."""

from collections.abc import Sequence

from viewstamp.core.effects import Effect, Persist
from viewstamp.core.events import Event, Persisted
from viewstamp.core.ids import Instant, NodeId, View
from viewstamp.core.protocol import Status
from viewstamp.protocols.viewstamped.core import ViewstampedCore
from viewstamp_labs.lab6824.paxos_log import PaxosLog


class WatchedCore:
    """A `core.protocol.Core` that writes `paxos-<port>.log` beside doing what the core inside it does."""

    __slots__ = ("_core", "_log")

    def __init__(self, core: ViewstampedCore, log: PaxosLog) -> None:
        self._core = core
        self._log = log

    @property
    def deadline(self) -> Instant | None:
        """See `Core`."""
        return self._core.deadline

    @property
    def leader(self) -> NodeId | None:
        """See `Core`."""
        return self._core.leader

    @property
    def view(self) -> View:
        """See `Core`."""
        return self._core.view

    @property
    def accepting(self) -> bool:
        """See `Core`."""
        return self._core.accepting

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        """See `Core`. A line is written before the core learns that its record is durable: breakpoint 2."""
        if type(event) is Persisted:
            self._log.durable(event.seq)
        effects = self._core.step(event, now)
        for effect in effects:
            if type(effect) is Persist:
                self._log.note(effect.seq, effect.records)
        return effects

    def status(self, now: Instant) -> Status:
        """See `Core`."""
        return self._core.status(now)
