"""A member whose disk does not answer gives way: it hands leadership over, and then says nothing.

Heartbeats do not wait for the disk, so without this a leader whose disk hangs would lead on, and nobody be
served (etcd-io/etcd#15247, cockroachdb/cockroach#41691). In a protocol in which every member of a view must
write, a backup's disk would stop the service as well.

The replica tells the watch which writes its core asks for and which of them are durable, and looks at it
again at `overdue_at`. That lies ahead as long as the disk answers, so a step costs one comparison.
Rules of this file:

- The age of the oldest write that is not durable is what counts. Nothing else is measured, nothing is sent
  while disks answer.
- A member that has waited for half of the limit asks the others how their disks are, and again after each
  limit. At the limit a leader hands over to the one that syncs best, if any is fit.
- After one and a half limits the member says nothing to the others until its disk has answered: to them it
  is as good as down, and they go on without it. It is silent only while a majority without it has said that
  its disks work: where all disks are slow together, another leader would not help.
- A member whose disk was slow is not fit for a while, so that leadership does not come back at once. Each
  further time the while is twice as long, up to a limit.

A message that is not sent is lost, which every protocol bears.
"""

from collections import deque
from typing import Final

import msgspec

from viewstamp.core.effects import Send
from viewstamp.core.events import DirectiveToken, PeerDown, PeerUp
from viewstamp.core.ids import Instant, NodeId, PersistSeq
from viewstamp.core.protocol import Core, Status
from viewstamp.core.quorum import majority
from viewstamp.replica.events import DiskReport, ReplicaEffect

AWAY_MIN_US: Final = 10_000_000
"""How long a member is not fit to lead after its disk was slow."""
AWAY_MAX_US: Final = 640_000_000
OWN_TOKEN: Final = DirectiveToken(0)
"""Of the watch's own directive; the tokens of operators count from 1."""
_NEVER: Final = Instant(1 << 62)


class DiskWatch:
    """How long the writes of one node have not been durable, and what follows when that is too long."""

    __slots__ = (
        "_ask_at",
        "_away_until",
        "_away_us",
        "_connected",
        "_core",
        "_limit_us",
        "_node",
        "_now",
        "_reports",
        "_retry_at",
        "_waiting",
        "overdue_at",
        "sync_us",
    )

    def __init__(self, core: Core, node: NodeId, *, stall_ms: int) -> None:
        """Watch the writes of `core`, of this node.

        One that is not durable after `stall_ms` is slow; 0: none is. The core is asked, and never told.
        """
        self._core = core
        self._node = node
        self._limit_us = stall_ms * 1_000
        self._now = Instant(0)
        self._waiting: deque[tuple[PersistSeq, Instant]] = deque()
        """Writes that are not durable, and when each was asked for."""
        self.overdue_at = _NEVER
        """When to call `successor` and `while_overdue`: half of the limit after the oldest of them."""
        self.sync_us = 0
        """How long the last write took until it was durable."""
        self._away_until = Instant(0)
        self._away_us = AWAY_MIN_US
        """How long this member will be away the next time."""
        self._reports: dict[NodeId, DiskReport] | None = None
        """What the others said since they were asked; None: they were not, as long as this disk answers."""
        self._ask_at = Instant(0)
        self._connected: set[NodeId] = set()
        """Members to or from which there is a connection."""
        self._retry_at: Instant | None = Instant(0)
        """When leadership may be handed over; None while that is under way."""

    @property
    def waited_us(self) -> int:
        """How long the oldest write has not been durable, at the last event."""
        return self._now - self._waiting[0][1] if self._waiting else 0

    @property
    def is_silent(self) -> bool:
        """Whether this member says nothing to the others now."""
        reports = self._reports
        if reports is None or 2 * self.waited_us < 3 * self._limit_us:
            return False
        members = self._core.status(self._now).members
        working = [node for node in members if node in reports and reports[node].answers]
        return len(working) >= majority(len(members))

    def account(self, status: Status, now: Instant) -> Status:
        """Return the core's status with the connections, and why it waits where the disk does not answer."""
        self._now = now
        status = msgspec.structs.replace(status, connected=tuple(sorted(self._connected)))
        if self._reports is None:
            return status
        why = f"the disk has not answered for {self.waited_us / 1e6:.1f} s"
        return msgspec.structs.replace(status, waiting_for=status.waiting_for or why)

    def wrote(self, seq: PersistSeq, now: Instant) -> None:
        """Record that the core asks for a write."""
        if not self._waiting and self._limit_us:
            self.overdue_at = Instant(now + (self._limit_us + 1) // 2)
        self._waiting.append((seq, now))

    def durable(self, upto: PersistSeq, now: Instant) -> None:
        """Record that the writes up to this one are durable."""
        waiting = self._waiting
        if not waiting or waiting[0][0] > upto:
            return
        self._now = now
        self.sync_us = now - waiting[0][1]
        while waiting and waiting[0][0] <= upto:
            waiting.popleft()
        self.overdue_at = _NEVER
        if self._limit_us:
            if waiting:
                self.overdue_at = Instant(waiting[0][1] + (self._limit_us + 1) // 2)
            if self.sync_us >= self._limit_us:
                self._stay_away()
        if now < self.overdue_at:
            self._reports = None

    def linked(self, event: PeerUp | PeerDown) -> None:
        """Record that there is a connection to or from a member, or none."""
        if isinstance(event, PeerUp):
            self._connected.add(event.peer)
        else:
            self._connected.discard(event.peer)

    def _stay_away(self) -> None:
        """The disk was slow: do not lead for a while, and for longer if that was so a while ago."""
        recently = self._now < self._away_until + self._away_us
        self._away_us = min(2 * self._away_us, AWAY_MAX_US) if recently and self._away_until else AWAY_MIN_US
        self._away_until = Instant(self._now + self._away_us)

    def successor(self, now: Instant) -> NodeId | None:
        """Return to which member leadership must be handed over now; None: to none, or it is under way."""
        self._now = now
        if self._reports is None:
            self._reports, self._ask_at = {}, now
        if self.waited_us >= self._limit_us and self._core.leader == self._node:
            return self._hand_over()
        return None

    def _hand_over(self) -> NodeId | None:
        assert self._reports is not None
        fit = [(report.sync_us, node) for node, report in self._reports.items() if report.fit]
        if not fit or self._retry_at is None or self._now < self._retry_at:
            return None
        self._retry_at = None
        return min(fit)[1]

    def handed_over(self, now: Instant) -> None:
        """The core has answered the directive: leadership moved, or it may be tried again after a while."""
        self._retry_at = Instant(now + self._limit_us)

    def while_overdue(self, effects: list[ReplicaEffect], now: Instant) -> list[ReplicaEffect]:
        """Return what may leave of a step's effects, and the questions to the others when they are due."""
        self._now = now
        if self.is_silent:
            effects = [effect for effect in effects if type(effect) is not Send]
        if now >= self._ask_at:
            self._ask_at = Instant(now + self._limit_us)
            members = self._core.status(now).members
            effects += [Send(node, self._report(asks=True)) for node in members if node != self._node]
        return effects

    def on_report(self, source: NodeId, report: DiskReport, now: Instant) -> list[ReplicaEffect]:
        """Take in what another member says of its disk; return the answer if it asks."""
        self._now = now
        if self._reports is not None and source in self._core.status(now).members:
            self._reports[source] = report
        return [Send(source, self._report(asks=False))] if report.asks else []

    def _report(self, *, asks: bool) -> DiskReport:
        answers = 2 * self.waited_us < self._limit_us or not self._limit_us
        fit = answers and self._now >= self._away_until
        return DiskReport(asks, answers, fit, self.sync_us)
