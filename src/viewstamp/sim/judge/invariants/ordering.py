"""What may never go back, and what is always at least something else."""

# ruff: noqa: ARG002  the moments of `Invariant` have one signature for all

from typing import Any

from viewstamp.core.ids import NodeId, View
from viewstamp.sim.judge.ghosts import Ghosts, NodeGhost
from viewstamp.sim.judge.invariants.base import Invariant


class Monotonic(Invariant):
    """I8: positions and views of one life only grow."""

    name = "I8 Monotonic"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._views: dict[NodeId, View] = {}

    def stepped(self, node: NodeGhost, core: Any) -> None:
        """Compare the core with what it was."""
        view = core.view
        if view < self._views.get(node.node, view):
            self.fail(node.node, f"its view went back from {self._views[node.node]} to {view}")
        self._views[node.node] = view
        self.ghosts.oracle.check_step(node.node, core)

    def crashed(self, node: NodeGhost) -> None:
        """What was only in memory may go back now."""
        self._views.pop(node.node, None)
        self.ghosts.oracle.forget(node.node)


class Ordering(Invariant):
    """I9: purged <= snapshot <= applied <= committed <= last."""

    name = "I9 Ordering"

    def stepped(self, node: NodeGhost, core: Any) -> None:
        """Let the protocol look at its own fields."""
        self.ghosts.oracle.check_node(core)
