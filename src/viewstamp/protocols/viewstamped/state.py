"""What the parts of one core share: identity, moment, outbox, and the points at which a test can end it."""

from collections import Counter
from enum import IntEnum
from random import Random
from typing import Protocol

from viewstamp.core.ids import Incarnation, Instant, NodeId
from viewstamp.core.outbox import Outbox
from viewstamp.core.quorum import majority
from viewstamp.protocols.viewstamped.membership import Member, Membership
from viewstamp.protocols.viewstamped.messages import NO_GROUP
from viewstamp.protocols.viewstamped.options import ViewstampedOptions


class Point(IntEnum):
    """Where the labs' breakpoints and partition strike (docs/labs/6.824.md#checks). Own numbers."""

    PREPARED = 1
    """Proposer, a majority has promised, nothing was proposed: the course's breakpoint 3."""
    CHOSEN = 2
    """Proposer, a majority has accepted, nobody was told: breakpoint 4."""
    FIRST_BACKUP_HAS_IT = 3
    """Primary, the first backup holds an entry that no other has seen: breakpoint 1, and partition."""
    BACKUP_HAS_IT = 4
    """Backup, an entry is on its disk, its primary was not told: breakpoint 1."""
    VIEW_ENTERED = 5
    """A view with this node in it is on its disk, nothing was done in it: breakpoint 2."""


class Failpoints(Protocol):
    """For tests only; a core without them behaves as if none were ever armed.

    `reached` may raise or end the process: the effects of that step are then lost, as in a crash.
    It may also cut the network and return: the core goes on.
    """

    def armed(self, point: Point) -> bool:
        """Return whether something shall happen at this point; asked each time."""
        ...

    def reached(self, point: Point) -> None:
        """Do what the test wants to happen at this point."""
        ...


class State:
    """One for each core. Its parts hold on to it, never to one another's fields."""

    __slots__ = (
        "counters",
        "failpoints",
        "group",
        "joining",
        "me",
        "node",
        "now",
        "options",
        "others",
        "outbox",
        "rng",
    )

    def __init__(
        self,
        me: Member,
        others: tuple[NodeId, ...],
        options: ViewstampedOptions,
        outbox: Outbox,
        rng: Random,
        now: Instant,
        failpoints: Failpoints | None,
        *,
        joining: bool = False,
    ) -> None:
        self.me = me
        self.node = me.node
        """This node."""
        self.others = others
        """The other configured members."""
        self.joining = joining
        """This node is to be added to a cluster that exists: it never bootstraps one."""
        self.options = options
        self.outbox = outbox
        self.rng = rng
        self.now = now
        """The moment of the step that runs; never goes back."""
        self.failpoints = failpoints
        self.group: Incarnation = NO_GROUP
        """Incarnation of the member of view 1; set once."""
        self.counters: Counter[str] = Counter()
        """What was dropped and why, for the operator: nothing depends on it."""

    def members_min(self, current: Membership) -> int:
        """Return with how many configured members at least this view serves."""
        options = self.options
        if options.members_min is not None:
            return options.members_min
        if current.configuration is not None:
            return majority(max(1, len(current.configuration.voters)))
        return majority(len(self.others) + 1) if options.bootstrap == "together" else 1

    def drop(self, reason: str) -> None:
        """Count a message that is ignored because no correct member would have sent it."""
        self.counters[reason] += 1

    def reach(self, point: Point) -> None:
        """Pass a failpoint."""
        if self.failpoints is not None and self.failpoints.armed(point):
            self.failpoints.reached(point)

    def armed(self, point: Point) -> bool:
        """Return whether a test waits for this point."""
        return self.failpoints is not None and self.failpoints.armed(point)
