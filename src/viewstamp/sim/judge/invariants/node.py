"""What must hold in one node at any time: its positions, the log's time, its sessions, its queues."""

# ruff: noqa: ARG002  the moments of `Invariant` have one signature for all

from typing import Any

from viewstamp.core.ids import MICROSECONDS_PER_MS, LogTime, NodeId, Seqno, View
from viewstamp.replica.replica import Replica
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


class LogTimeMonotonic(Invariant):
    """I8 of the time in the log: it never goes back; what expired stays so (docs/faults.md#k12)."""

    name = "I8 LogTime"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._times: dict[NodeId, tuple[Seqno, LogTime]] = {}

    def executed(self, node: NodeGhost, replica: Replica) -> None:
        """Compare with the time at the entry applied before."""
        state = replica.state
        seqno, time = state.applied.seqno, state.log_time
        last_seqno, last_time = self._times.get(node.node, (0, 0))
        if seqno != last_seqno:
            if seqno > last_seqno and time < last_time:
                self.fail(node.node, f"the log's time goes from {last_time} to {time} us at entry {seqno}")
            self._times[node.node] = seqno, time

    def crashed(self, node: NodeGhost) -> None:
        """The next life begins at a snapshot, which is older."""
        self._times.pop(node.node, None)


class SessionOrder(Invariant):
    """I16 of sessions: none lives longer than it may, and all replicas keep them in one order."""

    name = "I16 SessionOrder"

    def executed(self, node: NodeGhost, replica: Replica) -> None:
        """Walk the sessions."""
        state = replica.state
        sessions, last = state.sessions, 0
        for session in sessions:
            if session.number <= last:
                self.fail(node.node, f"session {session.number} is listed behind one that was opened later")
            last = session.number
            ends_at = session.last_used + sessions.time_to_live_ms(session) * MICROSECONDS_PER_MS
            if ends_at <= state.log_time:
                self.fail(node.node, f"session {session.number} lives at {state.log_time} us, past {ends_at}")


class Bounded(Invariant):
    """I20: nothing in a replica grows beyond the limit that its options name."""

    name = "I20 Bounded"

    def served(self, node: NodeGhost, replica: Replica) -> None:
        """Compare every queue with its limit."""
        for what, size, limit in replica.queues():
            if size > limit:
                self.fail(node.node, f"{size} {what}, but the limit is {limit}")
