"""Which configuration is in force: the last one in the log, committed or not (thesis 4.1).

It takes effect when it is appended and is undone when its entry is cut off, so the older ones stay here until
the log's base passes them.
"""

from collections.abc import Iterable

from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.core.quorum import majority
from viewstamp.protocols.raft.configuration import Configuration


class Membership:
    """The configurations of one log, oldest first. Lookups are those of the one in force."""

    __slots__ = ("_history", "current", "incarnations", "quorum", "voters")

    def __init__(self, configuration: Configuration, seqno: int) -> None:
        self._history: list[tuple[int, Configuration]] = [(seqno, configuration)]
        """Ascending; the first is the one in force at the log's base."""
        self.current = configuration
        self.voters: frozenset[NodeId] = frozenset()
        self.incarnations: dict[NodeId, Incarnation] = {}
        """Of voters and learners."""
        self.quorum = 1
        self._take_effect()

    @property
    def changed_at(self) -> int:
        """Seqno of the entry that made the configuration in force; 0: the founding one."""
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
        """The log begins anew after `seqno`, where this configuration is in force."""
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
        """Tell whether these nodes are a majority of the voters. Others among them do not count."""
        return len(self.voters.intersection(supporters)) >= self.quorum

    def _take_effect(self) -> None:
        self.current = self._history[-1][1]
        self.voters = frozenset(node for node, _ in self.current.voters)
        self.incarnations = dict((*self.current.voters, *self.current.learners))
        self.quorum = majority(max(1, len(self.voters)))
