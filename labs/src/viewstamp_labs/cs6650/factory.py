"""One factory's state: the log and the positions in the protocol's core, the customer records beside it.

Rules of this file:

- the log belongs to the core of `protocols.primary_backup` in its course form; one entry is one `MapOp`, so
  that positions count orders (2.6). The core is driven on the inner seam: sessions and batches, which a
  `Replica` adds, are not of the assignment;
- only `Apply` changes the records, in the log's order, on the primary and on backups alike;
- nothing is on a disk: a restarted factory is empty (3.2), and what it writes is as durable as it gets.

No input or output here, and no clock but the one that it is given.
"""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Final, assert_never

from viewstamp.core.effects import (
    Answer,
    Apply,
    Capture,
    Effect,
    LeaderChanged,
    Persist,
    Refuse,
    Release,
    Removed,
    Restore,
    Send,
    Settled,
    Stage,
)
from viewstamp.core.events import Event, PeerDown, Persisted
from viewstamp.core.ids import Incarnation, Instant, NodeId, Viewstamp
from viewstamp.core.protocol import CoreSetup, Recovered
from viewstamp.protocols.primary_backup.course.core import CourseCore
from viewstamp.protocols.primary_backup.options import CourseOptions
from viewstamp.runtime.system import Clock
from viewstamp.services.records import CustomerRecords
from viewstamp_labs.cs6650.messages import NOBODY, Positions, unpack_operation

SendTo = Callable[[NodeId, Any], bool]
"""Sends a message of the core to another factory; False: there is no connection."""
Applied = Callable[[Viewstamp], None]
"""Hears takeover and index of each operation that was applied to the records."""

_NO_INCARNATION: Final = Incarnation(0)


class Factory:
    """Log, positions and records of one factory, changed by events."""

    def __init__(
        self,
        factory_id: NodeId,
        factories: tuple[NodeId, ...],
        *,
        rng: Random,
        clock: Clock,
        options: CourseOptions | None = None,
    ) -> None:
        self._clock = clock
        self.records = CustomerRecords()
        """The map of customer records; see `positions.committed_index` for how far it has come."""
        self.core = CourseCore(
            CoreSetup(
                node=factory_id,
                members=tuple(sorted(factories)),
                incarnation=_NO_INCARNATION,
                rng=rng,
                options=options or CourseOptions(),
                recovered=Recovered(),
                now=clock(),
            )
        )
        self.send: SendTo = _send_nowhere
        self.applied: Applied = _ignore
        self.fed: Callable[[], None] = _do_nothing
        """Called after each event: the deadline may have changed."""
        self._events: deque[Event] = deque()
        self._is_feeding = False

    @property
    def factory_id(self) -> NodeId:
        """This factory."""
        return self.core.factory_id

    @property
    def positions(self) -> Positions:
        """Where log and records stand."""
        core = self.core
        primary = NOBODY if core.primary_id is None else core.primary_id
        return Positions(core.factory_id, primary, core.last_index, core.committed_index)

    @property
    def is_production(self) -> bool:
        """Whether this factory believes that it produces."""
        return self.core.primary_id == self.core.factory_id

    @property
    def deadline(self) -> Instant | None:
        """When to feed `Woke`."""
        return self.core.deadline

    def log_entries(self) -> list[bytes]:
        """Return the log's operations as they are on the wire, index 1 first."""
        return self.core.log_entries()

    def feed(self, event: Event) -> None:
        """Take in an event and all that follows from it at once.

        May be called while an earlier event is fed: it then waits until that one is done.
        """
        self._events.append(event)
        if self._is_feeding:
            return
        self._is_feeding = True
        try:
            while self._events:
                for effect in self.core.step(self._events.popleft(), self._clock()):
                    self._carry_out(effect)
        finally:
            self._is_feeding = False
        self.fed()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(to, message):
                if not self.send(to, message):
                    self._events.append(PeerDown(to))
            case Persist(seq, _):
                self._events.append(Persisted(seq))
            case Apply(entry):
                self.records.update(unpack_operation(entry.data))
                self.applied(entry.viewstamp)
            case LeaderChanged() | Release():
                pass
            case Capture() | Stage() | Restore() | Answer() | Refuse() | Settled() | Removed():
                raise AssertionError(f"the course's form does not ask for {effect}")
            case _:
                assert_never(effect)


def _send_nowhere(_to: NodeId, _message: Any) -> bool:
    return False


def _ignore(_viewstamp: Viewstamp) -> None:
    pass


def _do_nothing() -> None:
    pass
