"""No message and no answer promises what a crash could take back."""

# ruff: noqa: ARG002  the moments of `Invariant` have one signature for all

from typing import Any

from viewstamp.core.effects import Send, Stage
from viewstamp.core.events import SnapshotToken
from viewstamp.core.ids import Incarnation, NodeId, Seqno, Viewstamp
from viewstamp.core.judge import AcknowledgingOracle
from viewstamp.core.messages import Results, ServerMessage, SessionOpened
from viewstamp.sim.judge.ghosts import Ghosts, NodeGhost
from viewstamp.sim.judge.invariants.base import Invariant

_OFFSET_BITS = 20


class AckDurable(Invariant):
    """I11: a message that promises something leaves only when that is on the sender's disk."""

    name = "I11 AckDurable"

    def sent(self, node: NodeGhost, effect: Send) -> None:
        """Ask the protocol what the message promises that the disk does not hold."""
        broken = self.ghosts.oracle.broken_promise(node.node, effect.message, node.image)
        if broken is not None:
            self.fail(node.node, f"it sends to node {effect.to} what its disk does not hold: {broken}")


class ReplyCommitted(Invariant):
    """I11 for clients: a result shows only what is committed, and so (I5) durable."""

    name = "I11 ReplyCommitted"

    def responded(self, node: NodeGhost, message: ServerMessage) -> None:
        """Compare the position of the result with the committed history."""
        if type(message) is Results:
            seqno = message.position >> _OFFSET_BITS
        elif type(message) is SessionOpened:
            seqno = message.session >> _OFFSET_BITS
        else:
            return
        if seqno > self.ghosts.committed.length:
            self.fail(node.node, f"it answers a client from position {seqno}, which is not committed")


class RecoverExact(Invariant):
    """I29: a restart finds every write that a sync had made durable, and perhaps some that were in flight."""

    name = "I29 RecoverExact"

    def recovered(self, node: NodeGhost, before: Any, *, lost: bool) -> None:
        """Compare the number of the last write found with that of the last one synced."""
        if not lost and node.written < node.synced:
            self.fail(
                node.node, f"write {node.synced} was durable, but the restart found only {node.written}"
            )


class AckBelieved(Invariant):
    """I5, its cause: a leader counts what a member itself acknowledged in that incarnation.

    Only for protocols whose oracle knows; that what members say is true is I11.
    """

    name = "I5 AckBelieved"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._oracle = ghosts.oracle if isinstance(ghosts.oracle, AcknowledgingOracle) else None
        self._said: dict[tuple[NodeId, Incarnation], set[Viewstamp | int]] = {}
        """What each incarnation acknowledged: positions, and their seqnos alone."""
        self._checked: dict[tuple[NodeId, NodeId], tuple[Incarnation, Seqno]] = {}
        """(leader, follower): what was believed at the last check."""

    def sent(self, node: NodeGhost, effect: Send) -> None:
        """Remember what is acknowledged."""
        if self._oracle is not None:
            said = self._oracle.acknowledged(effect.message)
            if said is not None:
                incarnation, upto = said
                self._said.setdefault((node.node, incarnation), set()).update((upto, int(upto.seqno)))

    def stepped(self, node: NodeGhost, core: Any) -> None:
        """Compare what a leader believes, where that is new."""
        if self._oracle is None or core.leader != node.node:
            return
        for follower, incarnation, seqno, view in self._oracle.believed(core):
            if not seqno or self._checked.get((node.node, follower)) == (incarnation, seqno):
                continue
            self._checked[node.node, follower] = incarnation, seqno
            wanted = int(seqno) if view is None else Viewstamp(view, seqno)
            if wanted not in self._said.get((follower, incarnation), ()):
                self.fail(
                    node.node, f"it takes {wanted} as acknowledged by node {follower}, which never said so"
                )

    def crashed(self, node: NodeGhost) -> None:
        """After a restart it believes nothing yet."""
        for key in [key for key in self._checked if key[0] == node.node]:
            del self._checked[key]


class StageInOrder(Invariant):
    """I13, its cause: the pieces of a snapshot are staged from 0 on, each where the one before ended."""

    name = "I13 StageInOrder"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._ends: dict[NodeId, tuple[SnapshotToken, int]] = {}

    def staged(self, node: NodeGhost, effect: Stage) -> None:
        """Compare the piece with where the last one ended."""
        token, end = self._ends.get(node.node, (None, 0))
        wanted = end if token == effect.token else 0
        if effect.offset not in {0, wanted}:
            self.fail(
                node.node, f"it stages a piece at {effect.offset}, but the next is expected at {wanted}"
            )
        self._ends[node.node] = effect.token, effect.offset + len(effect.data)

    def crashed(self, node: NodeGhost) -> None:
        """Forget what was staged."""
        self._ends.pop(node.node, None)
