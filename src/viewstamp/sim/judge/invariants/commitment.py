"""What is committed, what justifies it, and that equal histories make equal states on every node."""

# ruff: noqa: ARG002  the moments of `Invariant` have one signature for all

from typing import Any

from viewstamp.core.effects import Entry
from viewstamp.core.ids import Instant, NodeId, View, Viewstamp
from viewstamp.core.protocol import Guarantees
from viewstamp.sim.judge.ghosts import Ghosts, NodeGhost
from viewstamp.sim.judge.invariants.base import Invariant


class StateMachineSafety(Invariant):
    """I4: all nodes apply one sequence, each entry the next one, none twice (Raft 5.4.3)."""

    name = "I4 StateMachineSafety"

    def applying(self, node: NodeGhost, entry: Entry) -> None:
        """Compare with the committed history, where it reaches that far."""
        seqno = entry.viewstamp.seqno
        if seqno != node.applied + 1:
            self.fail(node.node, f"it applies {entry.viewstamp} after seqno {node.applied}")
        committed = self.ghosts.committed
        if seqno <= committed.length:
            known = committed.entry(seqno)
            if known is not entry and (known.viewstamp != entry.viewstamp or known.data != entry.data):
                self.fail(
                    node.node,
                    f"it applies {entry.viewstamp}, but another node applied {known.viewstamp} there",
                )
        elif entry.viewstamp.view < committed.last.view:
            self.fail(node.node, f"it applies {entry.viewstamp} after {committed.last} was committed")

    def restored(self, node: NodeGhost, viewstamp: Viewstamp) -> None:
        """A snapshot holds what was committed and never moves a node back."""
        committed = self.ghosts.committed
        if viewstamp.seqno > committed.length or committed.viewstamp(viewstamp.seqno) != viewstamp:
            self.fail(node.node, f"it restores the snapshot of {viewstamp}, which was never committed")
        if viewstamp.seqno < node.applied:
            self.fail(node.node, f"it restores the snapshot of {viewstamp} after it applied {node.applied}")


class CommittedDurable(Invariant):
    """I5: when an entry is first taken as committed, the durable disks justify it."""

    name = "I5 CommittedDurable"

    def applied(self, node: NodeGhost, entry: Entry) -> None:
        """Ask the protocol whether these disks make the entry committed."""
        ghosts = self.ghosts
        if ghosts.oracle.committed_by(entry.viewstamp, ghosts.images):
            return
        # A disk that was lost after it acknowledged did hold the entry when the leader counted it.
        if not ghosts.oracle.committed_by(entry.viewstamp, ghosts.images_that_held(entry.viewstamp)):
            self.fail(node.node, f"it takes {entry.viewstamp} as committed, but too few disks hold it")


class NoPriorViewCommit(Invariant):
    """I10: what a leader commits by counting ends with an entry of its own view (Raft 5.4.2).

    It may take several steps to apply what one count committed.
    """

    name = "I10 NoPriorTermCommit"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._latest: dict[NodeId, Entry] = {}
        """For each node the last entry that it was the first to apply, until that is judged."""
        self._told: dict[NodeId, int] = {}
        """Up to where each leader knew the log to be committed before it led."""

    @classmethod
    def applies(cls, guarantees: Guarantees) -> bool:
        """Only where a majority is counted."""
        return guarantees.tolerates == "minority" and not guarantees.dynamic_membership

    def leading(self, node: NodeGhost, view: View) -> None:
        """Remember what the leaders before it committed, though it applies that only now."""
        assert node.core is not None
        self._told[node.node] = node.core.status(Instant(self.ghosts.now_us)).committed

    def applied(self, node: NodeGhost, entry: Entry) -> None:
        """Remember what is committed first by this node."""
        if entry.viewstamp.seqno > self._told.get(node.node, 0):
            self._latest[node.node] = entry

    def stepped(self, node: NodeGhost, core: Any) -> None:
        """Compare the view of the last such entry with the leader's, once nothing is left to apply."""
        entry = self._latest.get(node.node)
        if entry is None:
            return
        if core.leader == node.node and entry.viewstamp.view != core.view:
            status = core.status(Instant(self.ghosts.now_us))
            if status.applied < status.committed:
                return
            # Another node may have been the first to apply the rest of what was counted.
            entry = self.ghosts.committed.entry(node.applied)
        if core.leader == node.node and entry.viewstamp.view != core.view:
            self.fail(node.node, f"as leader of view {core.view} it commits {entry.viewstamp} by counting")
        del self._latest[node.node]

    def crashed(self, node: NodeGhost) -> None:
        """What it would have applied next is not known."""
        self._latest.pop(node.node, None)
        self._told.pop(node.node, None)


class StateEquality(Invariant):
    """I28: the hash of the whole replicated state at one seqno is the same everywhere, sessions included."""

    name = "I28 BackupPrefix"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._digests: dict[int, int] = {}

    def state(self, node: NodeGhost, viewstamp: Viewstamp, digest: int) -> None:
        """Compare with the first node that was there."""
        if self._digests.setdefault(viewstamp.seqno, digest) != digest:
            self.fail(node.node, f"its state at {viewstamp} differs from another node's at the same entry")


class SnapshotEquivalence(Invariant):
    """I13: every snapshot of one viewstamp has one body, whichever node made it and from whichever state.

    A node that restored a snapshot and applied the rest makes the same next snapshot as one that replayed
    everything; together with I28 this is `restore(snapshot) + suffix = replay`.
    """

    name = "I13 SnapshotEquiv"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._digests: dict[Viewstamp, int] = {}

    def snapshot(self, node: NodeGhost, viewstamp: Viewstamp, digest: int) -> None:
        """Compare with the first snapshot of this viewstamp."""
        if self._digests.setdefault(viewstamp, digest) != digest:
            self.fail(node.node, f"its snapshot of {viewstamp} differs from another one of the same entry")
