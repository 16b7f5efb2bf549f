"""What an invariant is: a name, and the moments at which it looks.

Rules of this family: a check costs O(1) for each event (amortised where a log was rewritten); it reads ghosts
and never changes them; what it must remember is its own; it raises `InvariantViolated` under its stable name.
"""

# ruff: noqa: ARG003  the moments of `Invariant` have one signature for all

from typing import Any, ClassVar

from viewstamp.core.effects import Entry, Send, Stage
from viewstamp.core.events import ReadToken
from viewstamp.core.ids import NodeId, View, Viewstamp
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.messages import ClientMessage, ServerMessage
from viewstamp.core.protocol import Guarantees
from viewstamp.replica.replica import Replica
from viewstamp.sim.judge.ghosts import Ghosts, NodeGhost


class Invariant:
    """One property. A subclass overrides the moments it needs; the others are never called."""

    name: ClassVar[str] = ""
    """Stable: tests, the mutation suite and the reports go by it."""

    def __init__(self, ghosts: Ghosts) -> None:
        self.ghosts = ghosts

    @classmethod
    def applies(cls, guarantees: Guarantees) -> bool:
        """Return whether a protocol with these guarantees promises this at all."""
        return True

    def fail(self, node: NodeId, explanation: str) -> None:
        """Raise the violation, with the moment and the node."""
        raise InvariantViolated(self.name, f"{self.ghosts.where(node)}: {explanation}")

    def sent(self, node: NodeGhost, effect: Send) -> None:
        """A message leaves the node now."""

    def applying(self, node: NodeGhost, entry: Entry) -> None:
        """The node is about to apply this entry; the committed history may not have it yet."""

    def applied(self, node: NodeGhost, entry: Entry) -> None:
        """The node applied this entry as the first of all nodes."""

    def restored(self, node: NodeGhost, viewstamp: Viewstamp) -> None:
        """The node replaces its state by the snapshot of this viewstamp; `node.applied` is what it was."""

    def queried(self, node: NodeGhost, token: ReadToken) -> None:
        """A linearizable read arrived."""

    def answered(self, node: NodeGhost, token: ReadToken) -> None:
        """That read is answered now from the applied state."""

    def leading(self, node: NodeGhost, view: View) -> None:
        """The node leads this view from now on, by its own account."""

    def stepped(self, node: NodeGhost, core: Any) -> None:
        """The core took a step; its effects were looked at."""

    def durable(self, node: NodeGhost) -> None:
        """A write or a snapshot became durable: `node.image` has grown."""

    def recovered(self, node: NodeGhost, before: Any, *, lost: bool) -> None:
        """The node starts again; `before` was its image when it went down, `lost` if its disk was."""

    def crashed(self, node: NodeGhost) -> None:
        """The node went down."""

    def requested(self, node: NodeGhost, message: ClientMessage) -> None:
        """A client's message reached the node."""

    def responded(self, node: NodeGhost, message: ServerMessage) -> None:
        """The node answers a client."""

    def staged(self, node: NodeGhost, effect: Stage) -> None:
        """The node stages a piece of a snapshot that it receives."""

    def executed(self, node: NodeGhost, replica: Replica) -> None:
        """The replica took a step in which its replicated state changed; its effects were carried out."""

    def served(self, node: NodeGhost, replica: Replica) -> None:
        """The replica took a step in which its state, or what waits in it, may have changed."""

    def state(self, node: NodeGhost, viewstamp: Viewstamp, digest: int) -> None:
        """The hash of the node's whole replicated state after this entry."""

    def snapshot(self, node: NodeGhost, viewstamp: Viewstamp, digest: int) -> None:
        """The node made or received the snapshot of this viewstamp with this digest of its body."""
