"""Equal histories make equal states: by replay, by snapshot, on every node."""

from viewstamp.core.ids import Viewstamp
from viewstamp.sim.judge.ghosts import Ghosts, NodeGhost
from viewstamp.sim.judge.invariants.base import Invariant


class StateEquality(Invariant):
    """I28: the hash of the whole replicated state at one seqno is the same everywhere, sessions included."""

    name = "I28 BackupPrefix"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._digests: dict[int, int] = {}

    def state(self, node: NodeGhost, viewstamp: Viewstamp, digest: int) -> None:
        """Compare with the first node that was there."""
        if self._digests.setdefault(viewstamp.seqno, digest) != digest:
            self.fail(node.node, f"its state at {viewstamp} differs from another node's at the same place")


class SnapshotEquivalence(Invariant):
    """I13: every snapshot of one viewstamp has one body, whoever made it and out of whatever state.

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
            self.fail(node.node, f"its snapshot of {viewstamp} differs from another one of the same place")
