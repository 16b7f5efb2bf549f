"""The members that must agree: a majority of the voters, in a joint configuration of each half (Raft 6)."""

from collections.abc import Iterable

from viewstamp.core.ids import NodeId
from viewstamp.core.quorum import majority
from viewstamp.protocols.replication.configuration import Configuration
from viewstamp.protocols.replication.messages import Member


class Half:
    """Voters of which a majority must agree."""

    __slots__ = ("quorum", "voters")

    def __init__(self, members: Iterable[Member]) -> None:
        self.voters = frozenset(node for node, _ in members)
        self.quorum = majority(max(1, len(self.voters)))

    def agrees(self, supporters: frozenset[NodeId]) -> bool:
        """Return whether these nodes are a majority of the voters. Nodes that are not voters do not count."""
        return len(self.voters & supporters) >= self.quorum


class Quorums:
    """The halves of one configuration."""

    __slots__ = ("_halves",)

    def __init__(self, configuration: Configuration) -> None:
        self._halves = tuple(map(Half, configuration.deciding))

    def agree(self, supporters: Iterable[NodeId]) -> bool:
        """Return whether these nodes decide: they are a majority of each half."""
        agreeing = frozenset(supporters)
        return all(half.agrees(agreeing) for half in self._halves)
