"""A member whose disk does not answer gives way: it hands leadership over, and then says nothing.

Heartbeats do not wait for the disk, so without this a leader whose disk hangs would lead on, and nobody be
served (etcd-io/etcd#15247, cockroachdb/cockroach#41691). In a protocol in which every member of a view must
write, a backup's disk would stop the service as well.

The watch stands around a core and sees what it asks for and what it is told. Rules of this file:

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
from collections.abc import Sequence
from typing import Final

import msgspec

from viewstamp.core.effects import Effect, Persist, Send, Settled
from viewstamp.core.events import (
    Directed,
    DirectiveToken,
    Event,
    PeerDown,
    PeerUp,
    Persisted,
    Received,
    TransferLeadership,
)
from viewstamp.core.ids import Instant, NodeId, PersistSeq
from viewstamp.core.protocol import Core, Status, WrappedCore
from viewstamp.core.quorum import majority

AWAY_MIN_US: Final = 10_000_000
"""How long a member is not fit to lead after its disk was slow."""
AWAY_MAX_US: Final = 640_000_000
OWN_TOKEN: Final = DirectiveToken(0)
"""Of the watch's own directive; the tokens of operators count from 1."""


class DiskReport(msgspec.Struct, frozen=True, array_like=True, tag=101, gc=False):
    """What one member says to another of its disk. A message beside the protocol's own, never trusted far."""

    asks: bool
    """Whether the sender wants to know how the receiver's disk is."""
    answers: bool
    """Whether the sender's disk answers now."""
    fit: bool
    """Whether the sender could lead as far as its disk is concerned."""
    sync_us: int
    """How long its last write took until it was durable."""


class DiskWatch(WrappedCore):
    """A core whose node gives way while its disk does not answer; otherwise the core that it was given."""

    __slots__ = (
        "_ask_at",
        "_away_until",
        "_away_us",
        "_connected",
        "_limit_us",
        "_node",
        "_now",
        "_reports",
        "_retry_at",
        "_waiting",
        "sync_us",
    )

    def __init__(self, core: Core, node: NodeId, *, stall_ms: int) -> None:
        """Watch `core`, of this node. A write that is not durable after `stall_ms` is slow; 0: none is."""
        super().__init__(core)
        self._node = node
        self._limit_us = stall_ms * 1_000
        self._now = Instant(0)
        self._waiting: deque[tuple[PersistSeq, Instant]] = deque()
        """Writes that are not durable, and when each was asked for."""
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

    def status(self, now: Instant) -> Status:
        """See `Core`; says as well that the disk does not answer."""
        status = self._core.status(now)
        status = msgspec.structs.replace(status, connected=tuple(sorted(self._connected)))
        if self._reports is None:
            return status
        why = f"the disk has not answered for {self.waited_us / 1e6:.1f} s"
        return msgspec.structs.replace(status, waiting_for=status.waiting_for or why)

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        """See `Core`."""
        self._now = now
        if type(event) is Received and type(event.message) is DiskReport:
            return self._on_report(event.source, event.message)
        effects = self._core.step(event, now)
        waiting = self._waiting
        if effects and type(effects[0]) is Persist:  # the outbox puts a write before all else
            waiting.append((effects[0].seq, now))
        if type(event) is PeerUp:
            self._connected.add(event.peer)
        elif type(event) is PeerDown:
            self._connected.discard(event.peer)
        if waiting:
            if type(event) is Persisted:
                self._durable(event.seq)
            if waiting and self._limit_us and 2 * (now - waiting[0][1]) >= self._limit_us:
                effects = self._overdue(list(effects))
        return effects if self._retry_at is not None else self._without_own(effects)

    def _durable(self, upto: PersistSeq) -> None:
        waiting = self._waiting
        if not waiting or waiting[0][0] > upto:
            return
        self.sync_us = self._now - waiting[0][1]
        while waiting and waiting[0][0] <= upto:
            waiting.popleft()
        if self._limit_us and self.sync_us >= self._limit_us:
            self._stay_away()
        if 2 * self.waited_us < self._limit_us:
            self._reports = None

    def _stay_away(self) -> None:
        """The disk was slow: do not lead for a while, and for longer if that was so a while ago."""
        recently = self._now < self._away_until + self._away_us
        self._away_us = min(2 * self._away_us, AWAY_MAX_US) if recently and self._away_until else AWAY_MIN_US
        self._away_until = Instant(self._now + self._away_us)

    def _overdue(self, effects: list[Effect]) -> list[Effect]:
        if self._reports is None:
            self._reports, self._ask_at = {}, self._now
        if self.waited_us >= self._limit_us and self._core.leader == self._node:
            self._hand_over(effects)
        if self.is_silent:
            effects = [effect for effect in effects if type(effect) is not Send]
        if self._now >= self._ask_at:
            self._ask_at = Instant(self._now + self._limit_us)
            members = self._core.status(self._now).members
            effects += [Send(node, self._report(asks=True)) for node in members if node != self._node]
        return effects

    def _hand_over(self, effects: list[Effect]) -> None:
        assert self._reports is not None
        fit = [(report.sync_us, node) for node, report in self._reports.items() if report.fit]
        if fit and self._retry_at is not None and self._now >= self._retry_at:
            self._retry_at = None
            effects += self._core.step(Directed(OWN_TOKEN, TransferLeadership(min(fit)[1])), self._now)

    def _without_own(self, effects: Sequence[Effect]) -> list[Effect]:
        """Return the effects without the answer to this file's own directive."""
        kept: list[Effect] = []
        for effect in effects:
            if type(effect) is Settled and effect.token == OWN_TOKEN:
                self._retry_at = Instant(self._now + self._limit_us)
            else:
                kept.append(effect)
        return kept

    def _on_report(self, source: NodeId, report: DiskReport) -> list[Effect]:
        if self._reports is not None and source in self._core.status(self._now).members:
            self._reports[source] = report
        return [Send(source, self._report(asks=False))] if report.asks else []

    def _report(self, *, asks: bool) -> DiskReport:
        answers = 2 * self.waited_us < self._limit_us or not self._limit_us
        fit = answers and self._now >= self._away_until
        return DiskReport(asks, answers, fit, self.sync_us)
