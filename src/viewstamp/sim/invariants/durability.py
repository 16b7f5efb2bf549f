"""Nothing is said that a crash could make untrue."""

# ruff: noqa: ARG002  the moments of `Invariant` have one signature for all

from typing import Any

from viewstamp.core.effects import Send
from viewstamp.core.messages import Results, ServerMessage, SessionOpened
from viewstamp.sim.ghosts import NodeGhost
from viewstamp.sim.invariants.base import Invariant

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
    """I29: a restart finds every write that a sync had made durable, and perhaps some under way."""

    name = "I29 RecoverExact"

    def recovered(self, node: NodeGhost, before: Any, *, lost: bool) -> None:
        """Compare the number of the last write found with that of the last one synced."""
        if not lost and node.written < node.synced:
            self.fail(node.node, f"write {node.synced} was durable, and a restart finds {node.written}")
