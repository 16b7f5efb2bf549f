"""One leader a view, and one durable promise of each kind a view."""

# ruff: noqa: ARG002  the moments of `Invariant` have one signature for all

from typing import Any

from viewstamp.core.ids import NodeId, View
from viewstamp.sim.judge.ghosts import Ghosts, NodeGhost
from viewstamp.sim.judge.invariants.base import Invariant


class ElectionSafety(Invariant):
    """I1: at most one leader a view, permanently, crashes included (Raft 5.2)."""

    name = "I1 ElectionSafety"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._leaders: dict[View, NodeId] = {}

    def leading(self, node: NodeGhost, view: View) -> None:
        """Compare with the node that led this view first."""
        first = self._leaders.setdefault(view, node.node)
        if first != node.node:
            self.fail(node.node, f"it leads view {view}, which node {first} led already")


class VoteOnce(Invariant):
    """I7: a durable promise of a view is never replaced by another in that view; a view never goes back.

    Every sent promise is durable (I11), so the ghost over durable promises sees all that were sent. It
    outlives the disk: a wiped node that votes again in an old view is caught here.
    """

    name = "I7 VoteOnce"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._made: dict[tuple[NodeId, View, str], Any] = {}
        self._views: dict[NodeId, View] = {}

    def durable(self, node: NodeGhost) -> None:
        """Compare the promises on disk with those that were there before."""
        image = node.image
        view = image.view
        before = self._views.get(node.node, View(0))
        if view < before:
            self.fail(node.node, f"its disk went back from view {before} to {view}")
        self._views[node.node] = view
        for promise, value in image.promises.items():
            if value is not None:
                first = self._made.setdefault((node.node, view, promise), value)
                if first != value:
                    self.fail(node.node, f"{promise} of view {view} was {first} and is now {value}")

    def recovered(self, node: NodeGhost, before: Any, *, lost: bool) -> None:
        """Expect what was promised to be there again, unless the disk was lost."""
        if lost:
            self._views[node.node] = View(0)
        self.durable(node)
