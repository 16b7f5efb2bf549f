"""Which nodes decide: configurations are entries of the log and change one at a time."""

# ruff: noqa: ARG002  the moments of `Invariant` have one signature for all

from collections.abc import Collection
from typing import Any

from viewstamp.core.effects import Entry
from viewstamp.core.ids import NodeId, Seqno, Viewstamp
from viewstamp.core.judge import ConfigurationOracle, Configured, Deciding
from viewstamp.core.quorum import majority
from viewstamp.sim.judge.ghosts import Ghosts, NodeGhost
from viewstamp.sim.judge.invariants.base import Invariant


class ConfigSafety(Invariant):
    """I12: one configuration an entry, at most one uncommitted, and quorums of neighbours intersect.

    A node decides by the last configuration of its log, with any restarts, cut-off entries and snapshots in
    between (Raft 6; thesis 4.1). Only for protocols whose oracle knows.
    """

    name = "I12 ConfigSafety"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._oracle = ghosts.oracle if isinstance(ghosts.oracle, ConfigurationOracle) else None
        self._made: dict[Viewstamp, Deciding] = {}
        """By the entry that made them, as the first node showed it."""
        self._bootstraps: list[Deciding] = []
        """The first, and others that differ only in incarnations that ended before the first commit."""
        self._reborn: set[NodeId] = set()
        """Nodes that have lost their disk."""
        self._committed: list[tuple[int, Deciding]] = []
        """(seqno, voters) of the committed ones, ascending."""
        self._seen: dict[NodeId, Configured] = {}

    def applied(self, node: NodeGhost, entry: Entry) -> None:
        """Notice when a configuration is committed."""
        made = self._made.get(entry.viewstamp)
        if made is not None:
            self._committed.append((entry.viewstamp.seqno, made))

    def stepped(self, node: NodeGhost, core: Any) -> None:
        """Look at the configuration in force, if it is another one than before."""
        if self._oracle is None:
            return
        now = self._oracle.configured(core)
        self._compare_with_committed(node, now)
        before = self._seen.get(node.node)
        if now is before or now == before:
            return
        self._seen[node.node] = now
        if now.voters:
            self._look_at(node, core, now, before)

    def recovered(self, node: NodeGhost, before: Any, *, lost: bool) -> None:
        """Remember whose disks were lost."""
        if lost:
            self._reborn.add(node.node)

    def crashed(self, node: NodeGhost) -> None:
        """The next life begins with what its log says."""
        self._seen.pop(node.node, None)

    def _compare_with_committed(self, node: NodeGhost, now: Configured) -> None:
        """A node that has applied a configuration decides by it or by a later one."""
        if self._committed and now.voters:
            seqno = self._committed[-1][0]
            if now.seqno < seqno <= node.applied:
                self.fail(
                    node.node,
                    f"it decides by the configuration of entry {now.seqno}, but applied that of {seqno}",
                )

    def _look_at(self, node: NodeGhost, core: Any, now: Configured, before: Configured | None) -> None:
        if now.seqno <= now.base:
            self._compare_at_base(node, now)
        elif now.view is None:
            self.fail(
                node.node, f"its configuration comes from entry {now.seqno}, which its log does not hold"
            )
        else:
            self._compare_made(node, Viewstamp(now.view, now.seqno), now.deciding, before)
        if core.leader == node.node and now.pending > 1:
            self.fail(node.node, f"it began a change while entry {now.pending - 1} was not committed")

    def _compare_at_base(self, node: NodeGhost, now: Configured) -> None:
        """The entry is gone, or there never was one: the ghosts know what is in force there.

        A node without a log may know a later configuration, from a member that decides by it.
        """
        if now.seqno == 0 and self._may_bootstrap(now.deciding):
            return
        in_force = self._in_force(now.seqno)
        is_learned = now.seqno == 0 and now.deciding in self._made.values()
        if now.deciding not in in_force and not is_learned:
            self.fail(node.node, f"at {now.seqno} it decides by {now.deciding}, others by {in_force[0]}")

    def _may_bootstrap(self, voters: Deciding) -> bool:
        """Return whether a cluster may have bootstrapped with these voters.

        Before the first commit two bootstraps may differ in old incarnations.

        An old incarnation promised nothing to a node that has bootstrapped, so quorums of both still meet.
        """
        if voters in self._bootstraps:
            return True
        if self.ghosts.committed.length:
            return False
        differing = {node for (first,) in self._bootstraps for node, _ in {*first} ^ {*voters[0]}}
        if differing <= self._reborn:
            self._bootstraps.append(voters)
            return True
        return False

    def _in_force(self, seqno: Seqno) -> list[Deciding]:
        found = self._bootstraps or [()]
        for begins, voters in self._committed:
            if begins <= seqno:
                found = [voters]
        return found

    def _compare_made(
        self, node: NodeGhost, made_by: Viewstamp, voters: Deciding, before: Configured | None
    ) -> None:
        known = self._made.get(made_by)
        if known is None:
            self._made[made_by] = voters
            if before is not None and before.voters and before.seqno < made_by.seqno:
                self._compare_quorums(node, before.deciding, voters)
        elif known != voters:
            self.fail(
                node.node, f"entry {made_by} makes {voters} decide; at another node it makes {known} decide"
            )

    def _compare_quorums(self, node: NodeGhost, old: Deciding, new: Deciding) -> None:
        """Two majorities have a member in common if they are larger than all members together.

        Of two groups that must agree, one such pair is enough.
        """
        if not any(_always_meet(first, second) for first in old for second in new):
            self.fail(node.node, f"majorities of {old} and of {new} need not have a member in common")


def _always_meet(first: Collection[Any], second: Collection[Any]) -> bool:
    return majority(len(first)) + majority(len(second)) > len({*first, *second})
