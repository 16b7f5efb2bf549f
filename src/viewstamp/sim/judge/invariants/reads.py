"""What a linearizable read may be answered from."""

from viewstamp.core.events import ReadToken
from viewstamp.core.guarantees import Guarantees
from viewstamp.core.ids import NodeId
from viewstamp.sim.judge.ghosts import Ghosts, NodeGhost
from viewstamp.sim.judge.invariants.base import Invariant


class ReadIndex(Invariant):
    """I14: a read is answered from a state that contains everything committed before it arrived."""

    name = "I14 ReadIndex"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._least: dict[tuple[NodeId, ReadToken], int] = {}

    @classmethod
    def applies(cls, guarantees: Guarantees) -> bool:
        """Only where reads are linearizable."""
        return guarantees.reads == "linearizable"

    def queried(self, node: NodeGhost, token: ReadToken) -> None:
        """Remember how far the history went."""
        self._least[node.node, token] = self.ghosts.committed.length

    def answered(self, node: NodeGhost, token: ReadToken) -> None:
        """Compare with how far this node is."""
        least = self._least.pop((node.node, token), None)
        if least is None:
            self.fail(node.node, f"it answers a read (token {token}) that it was not asked")
        elif node.applied < least:
            self.fail(
                node.node, f"it answers a read from seqno {node.applied}; {least} was committed before it"
            )

    def crashed(self, node: NodeGhost) -> None:
        """Its open reads are gone."""
        for key in [key for key in self._least if key[0] == node.node]:
            del self._least[key]
