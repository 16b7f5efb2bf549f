"""What must hold of versions: each is put in force at one entry, and no node goes beyond its class."""

from viewstamp.core.ids import Viewstamp
from viewstamp.machine.evolution import version_of
from viewstamp.replica.replica import Replica
from viewstamp.sim.judge.ghosts import Ghosts, NodeGhost
from viewstamp.sim.judge.invariants.base import Invariant


class RaisedOnce(Invariant):
    """I37: each version of the class is raised at one entry, the same on every replica, and only there."""

    name = "I37 RaisedOnce"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._raised: dict[tuple[int, int], Viewstamp] = {}
        """Where each version and interface was raised, by the first replica that was seen to do it."""

    def executed(self, node: NodeGhost, replica: Replica) -> None:
        """Compare where this replica has raised its version with where others did."""
        state = replica.state
        if state.versions is None:
            return
        version, own = state.versions.machine, version_of(state.definition.cls)
        if version > own:
            self.fail(node.node, f"it executes version {version} with a class of version {own}")
        if state.raised_at is None:
            return
        first = self._raised.setdefault((version, state.runner.in_force.digest), state.raised_at)
        if state.raised_at != first:
            self.fail(node.node, f"it raised version {version} at {state.raised_at}, and another at {first}")
        if state.runner.in_force.version != version:
            self.fail(node.node, f"version {version} is in force, and its machine has another")
