"""Raft clusters for scripted tests: the world that all logs share, and what is Raft's own in it.

A node votes once in a term, whatever it forgets; a leader is known by its term and its role.
"""

from collections.abc import Callable, Iterable
from random import Random

from tests.protocols.machines import Node
from tests.protocols.world import MS, Letter, World, kinds
from viewstamp.core.effects import Send
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.raft import RaftCore, RaftMessage, RaftOptions
from viewstamp.protocols.raft.judge.oracle import RaftOracle
from viewstamp.protocols.raft.messages import VoteResponse
from viewstamp.protocols.raft.state import Role


class Cluster(World[RaftCore]):
    """Nodes 1, 2, ... of a Raft cluster."""

    def __init__(
        self,
        size: int,
        *,
        options: RaftOptions | None = None,
        seed: int = 0,
        start: bool = True,
        rng: Callable[[NodeId], Random] | None = None,
    ) -> None:
        members = tuple(NodeId(number) for number in range(1, size + 1))
        super().__init__(
            members,
            make_core=RaftCore,
            oracle=RaftOracle(members),
            message_type=RaftMessage,
            options=options or RaftOptions(),
            rng=rng or (lambda node: Random(f"{seed}/{node}")),
        )
        self.votes: dict[tuple[NodeId, Incarnation, int], NodeId] = {}
        if start:
            for node in self.members:
                self.start(node)

    def elect(self) -> int:
        """Let time pass until somebody leads and has committed an entry of its term; return who."""
        self.run_until(lambda: self.leader is not None)
        leader = self.leader
        assert leader is not None
        return leader

    @property
    def leader(self) -> int | None:
        """The leader of the highest term that has committed an entry of it."""
        leading = [
            (node.core.state.term, number)
            for number, node in self.nodes.items()
            if node.core is not None
            and node.core.state.role is Role.LEADER
            and node.core.replication.has_committed
        ]
        return max(leading)[1] if leading else None

    def followers(self) -> list[int]:
        """All but the leader."""
        return [node for node in self.members if node != self.leader]

    def _post(self, node: Node[RaftCore], effect: Send) -> None:
        message = effect.message
        if isinstance(message, VoteResponse) and message.granted and not message.pre:
            key = (node.node, node.incarnation, message.election)
            first = self.votes.setdefault(key, message.candidate)
            assert first == message.candidate, f"VoteOnce: {key} voted for {first} and {message.candidate}"
        super()._post(node, effect)


def propose_all(cluster: Cluster, commands: Iterable[bytes]) -> None:
    """Propose one command after another to the leader, everything being delivered between."""
    for command in commands:
        leader = cluster.leader
        assert leader is not None
        cluster.propose(leader, command)
        cluster.settle()


__all__ = ["MS", "Cluster", "Letter", "kinds", "propose_all"]
