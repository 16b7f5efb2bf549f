"""What clients were promised: reads that miss nothing, and one result for each command."""

# ruff: noqa: ARG002  the moments of `Invariant` have one signature for all

from viewstamp.core.events import ReadToken
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import FAILED, RESULT, ClientMessage, Results, ServerMessage, Submit
from viewstamp.core.protocol import Guarantees
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
            self.fail(node.node, f"it answers a read (token {token}) that it never received")
        elif node.applied < least:
            self.fail(
                node.node, f"it answers a read from seqno {node.applied}; {least} was committed before it"
            )

    def crashed(self, node: NodeGhost) -> None:
        """Its open reads are gone."""
        for key in [key for key in self._least if key[0] == node.node]:
            del self._least[key]


class ExactlyOnce(Invariant):
    """I16: one command of one client has one result, whichever node answers and however often.

    A command that was executed a second time shows another result (every write of the workload returns
    something that it changes: a version, a count), and the linearizability check sees the rest.
    """

    name = "I16 ExactlyOnce"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._commands: set[tuple[int, int]] = set()
        self._results: dict[tuple[int, int], tuple[int, bytes]] = {}

    def requested(self, node: NodeGhost, message: ClientMessage) -> None:
        """Learn which numbers are commands: a query that is asked again may be answered differently."""
        if type(message) is Submit:
            self._commands.update((message.client, sequence) for sequence, _ in message.calls)

    def responded(self, node: NodeGhost, message: ServerMessage) -> None:
        """Compare each result with the first."""
        if type(message) is not Results:
            return
        for sequence, kind, payload in message.results:
            key = (message.client, sequence)
            if kind not in {RESULT, FAILED} or key not in self._commands:
                continue
            result = (kind, bytes(payload))
            if self._results.setdefault(key, result) != result:
                self.fail(node.node, f"command {sequence} of client {message.client} has a second result")
