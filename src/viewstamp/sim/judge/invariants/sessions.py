"""What clients were promised about repeated requests."""

# ruff: noqa: ARG002  the moments of `Invariant` have one signature for all

from viewstamp.core.messages import FAILED, RESULT, ClientMessage, Results, ServerMessage, Submit
from viewstamp.sim.judge.ghosts import Ghosts, NodeGhost
from viewstamp.sim.judge.invariants.base import Invariant


class ExactlyOnce(Invariant):
    """I16: one command of one client has one result, whoever answers and however often.

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
