"""Logs on disks: equal up to a common entry, and complete in what is committed."""

# ruff: noqa: ARG002  the moments of `Invariant` have one signature for all

from typing import Any

import msgspec

from viewstamp.core.effects import Entry
from viewstamp.core.ids import ORIGIN, NodeId, View, Viewstamp
from viewstamp.sim.judge.ghosts import Ghosts, NodeGhost, link
from viewstamp.sim.judge.invariants.base import Invariant


class _Log(msgspec.Struct):
    """The hash chain of one durable log."""

    start: int = 0
    chains: list[int] = msgspec.field(default_factory=lambda: [0])
    """chains[i] is the hash of the log up to the seqno start + i."""
    last: Viewstamp = ORIGIN


class LogMatching(Invariant):
    """I2: two logs that hold the same viewstamp are equal up to it (Raft 5.3)."""

    name = "I2 LogMatching"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._logs: dict[NodeId, _Log] = {}
        self._seen: dict[Viewstamp, int] = {}
        """The hash of the log that ends with a viewstamp, as the first disk showed it."""

    def durable(self, node: NodeGhost) -> None:
        """Follow the log to its end and compare the hash there."""
        last = node.image.last
        log = self._logs.setdefault(node.node, _Log())
        if last == log.last:
            return
        end = log.start + len(log.chains) - 1
        if last.view != log.last.view or last.seqno < log.last.seqno or node.image.base.seqno > end:
            self._restart(node, log)
        self._follow(node, log, last)

    def recovered(self, node: NodeGhost, before: Any, *, lost: bool) -> None:
        """Read the whole log again."""
        log = self._logs[node.node] = _Log()
        self._restart(node, log)
        self._follow(node, log, node.image.last)

    def _restart(self, node: NodeGhost, log: _Log) -> None:
        start = node.image.base.seqno
        if start > self.ghosts.committed.length:
            self.fail(node.node, f"its snapshot reaches to {start}, which was never committed")
        log.start, log.chains = start, [self.ghosts.committed.chain(start)]

    def _follow(self, node: NodeGhost, log: _Log, last: Viewstamp) -> None:
        chains = log.chains
        read = node.image.data
        for seqno in range(log.start + len(chains), last.seqno + 1):
            data = read(seqno)  # type: ignore[arg-type]
            if data is None:
                self.fail(node.node, f"its log ends with {last} but has no entry {seqno}")
                return
            chains.append(link(chains[-1], data))
        log.last = last
        if self._seen.setdefault(last, chains[-1]) != chains[-1]:
            self.fail(node.node, f"its log up to {last} differs from another log with that end")


class LeaderCompleteness(Invariant):
    """I3: the log of a new leader holds everything that was committed in earlier views (Raft 5.4)."""

    name = "I3 LeaderCompleteness"

    def leading(self, node: NodeGhost, view: View) -> None:
        """Look for the last entry committed before this view."""
        viewstamp = self.ghosts.committed.before_view(view)
        if not node.image.holds(viewstamp):
            self.fail(node.node, f"it leads view {view} without the committed entry {viewstamp}")


class CommittedImmutable(Invariant):
    """I6: a committed entry that a disk once held is never overwritten, truncated or forgotten by it."""

    name = "I6 CommittedImmutable"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._held: dict[NodeId, Viewstamp] = dict.fromkeys(ghosts.members, ORIGIN)
        """For each disk a committed entry that it holds, the last one seen."""

    def applied(self, node: NodeGhost, entry: Entry) -> None:
        """Remember which disks hold the entry at the moment it is committed."""
        viewstamp = entry.viewstamp
        for other, image in self.ghosts.images.items():
            if image.holds(viewstamp):
                self._held[other] = viewstamp

    def durable(self, node: NodeGhost) -> None:
        """Look for the committed entry that was there, then for a later one."""
        held = self._held[node.node]
        image = node.image
        if not image.holds(held):
            self.fail(node.node, f"the committed entry {held} is no longer on its disk (last {image.last})")
        committed = self.ghosts.committed
        newest = committed.viewstamp(min(committed.length, image.last.seqno))
        if newest.seqno > held.seqno and image.holds(newest):
            self._held[node.node] = newest

    def recovered(self, node: NodeGhost, before: Any, *, lost: bool) -> None:
        """Check that the entry is there again, unless the disk was lost."""
        if lost:
            self._held[node.node] = ORIGIN
        self.durable(node)
