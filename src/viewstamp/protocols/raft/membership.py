"""Which configuration is in force: the last one in the log, committed or not (thesis 4.1).

It takes effect when it is appended and is undone when its entry is cut off, so the older ones stay here until
the log's base passes them. While it is joint, whatever is decided needs a majority of each half (Raft 6):
`Membership.has_quorum` and `Membership.reached` are the only places that count.
"""

from collections.abc import Iterable, Mapping

from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.replication.configuration import Configuration
from viewstamp.protocols.replication.quorums import Half


class _Half(Half):
    """Voters that also say how far the log has come among them."""

    __slots__ = ()

    def reached(self, positions: Mapping[NodeId, int], own: int) -> int:
        """Return the highest position that a majority of the voters has reached.

        `positions` are those of the others; a voter that is not among them is this node.
        """
        reached = [positions.get(voter, own) for voter in self.voters]
        reached.sort(reverse=True)
        return reached[self.quorum - 1]


class Membership:
    """The configurations of one log, oldest first. Lookups are those of the one in force."""

    __slots__ = ("_halves", "_history", "current", "incarnations", "staying", "unfinished", "voters")

    def __init__(self, configuration: Configuration, seqno: int) -> None:
        self._history: list[tuple[int, Configuration]] = [(seqno, configuration)]
        """Ascending; the first is the one in force at the log's base."""
        self._halves: tuple[_Half, ...] = ()
        """The voters, and while the configuration is joint the outgoing ones: both must agree."""
        self.current = configuration
        self.voters: frozenset[NodeId] = frozenset()
        """The nodes that vote, in either half."""
        self.staying: frozenset[NodeId] = frozenset()
        """Those of them that still vote when a joint configuration is left."""
        self.incarnations: dict[NodeId, Incarnation] = {}
        """Of voters, learners and outgoing voters."""
        self.unfinished = False
        """Whether another configuration is to follow this one: it is joint, or learners are to vote."""
        self._take_effect()

    @property
    def changed_at(self) -> int:
        """Seqno of the entry that made the configuration in force; 0: the first one."""
        return self._history[-1][0]

    def count_after(self, seqno: int) -> int:
        """Return how many configurations were made by entries after this one."""
        return sum(begins > seqno for begins, _ in self._history)

    def append(self, seqno: int, configuration: Configuration) -> None:
        """A configuration entered the log."""
        assert seqno > self.changed_at, (seqno, self._history)
        self._history.append((seqno, configuration))
        self._take_effect()

    def truncate(self, after: int) -> None:
        """Entries after this seqno left the log."""
        while len(self._history) > 1 and self._history[-1][0] > after:
            self._history.pop()
        self._take_effect()

    def compact(self, base: int) -> None:
        """The log's base moved up to `base`."""
        while len(self._history) > 1 and self._history[1][0] <= base:
            del self._history[0]

    def rebase(self, configuration: Configuration, base: int) -> None:
        """The log's base moved up to `base`, where this configuration is in force, whatever is known here."""
        later = [change for change in self._history if change[0] > base]
        self._history = [(base, configuration), *later]
        self._take_effect()

    def reset(self, configuration: Configuration, seqno: int) -> None:
        """The log begins again after `seqno`, where this configuration is in force."""
        self._history = [(seqno, configuration)]
        self._take_effect()

    def at(self, seqno: int) -> Configuration:
        """Return the configuration in force at `seqno`, which is not before the base."""
        in_force = self._history[0][1]
        for begins, configuration in self._history:
            if begins > seqno:
                break
            in_force = configuration
        return in_force

    def has_quorum(self, supporters: Iterable[NodeId]) -> bool:
        """Return whether these nodes decide: a majority of the voters, in a joint configuration of each half.

        Nodes that are not voters do not count. "Agreement (for elections and entry commitment) requires
        separate majorities from both the old and new configurations" (Raft 6).
        """
        agreeing = frozenset(supporters)
        return all(half.agrees(agreeing) for half in self._halves)

    def reached(self, positions: Mapping[NodeId, int], own: int) -> int:
        """Return the highest position that a majority, in a joint configuration of each half, has reached.

        `positions` are those of the others; a voter that is not among them is this node.
        """
        if len(self._halves) == 1:
            return self._halves[0].reached(positions, own)
        return min(half.reached(positions, own) for half in self._halves)

    def _take_effect(self) -> None:
        self.current = current = self._history[-1][1]
        halves = (current.voters, current.outgoing) if current.outgoing else (current.voters,)
        self._halves = tuple(map(_Half, halves))
        self.staying = self._halves[0].voters
        self.voters = frozenset().union(*(half.voters for half in self._halves))
        self.incarnations = current.members
        self.unfinished = current.is_unfinished
