"""The members of the cluster, as a value in the log. Each member is named with its incarnation.

An incarnation stands for one data directory from its creation to its loss. A node whose disk was wiped is
another incarnation, which has promised nothing: its votes and acknowledgements do not count until a
configuration lists it.

Which configuration is in force: the last one in the log, committed or not (thesis 4.1).

It takes effect when it is appended and is undone when its entry is cut off, so the older ones stay here until
the log's base passes them.
"""

from collections.abc import Iterable, Mapping

import msgspec

from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.core.messages import UNREADABLE
from viewstamp.core.quorum import majority
from viewstamp.protocols.replication.messages import Member


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """Voters and learners in ascending order of node, each node once over both."""

    voters: tuple[Member, ...] = ()
    """Elect leaders and make entries committed."""
    learners: tuple[Member, ...] = ()
    """Receive everything, count for nothing."""
    returning: tuple[NodeId, ...] = ()
    """Learners that become voters as soon as they have caught up."""

    def incarnation_of(self, node: NodeId) -> Incarnation | None:
        """Return the incarnation under which `node` is listed, None where it is not."""
        for member, incarnation in (*self.voters, *self.learners):
            if member == node:
                return incarnation
        return None

    def lists(self, node: NodeId, incarnation: Incarnation) -> bool:
        """Return whether this incarnation of the node is a voter or a learner."""
        return self.incarnation_of(node) == incarnation

    def is_voter(self, node: NodeId, incarnation: Incarnation) -> bool:
        """Return whether this incarnation of the node is a voter."""
        return (node, incarnation) in self.voters

    def without_promises(self, node: NodeId, incarnation: Incarnation) -> "Configuration":
        """Return this with `node` as a returning learner: what its earlier incarnation promised is gone."""
        return Configuration(
            voters=tuple(member for member in self.voters if member[0] != node),
            learners=_ordered((*(m for m in self.learners if m[0] != node), (node, incarnation))),
            returning=tuple(sorted({*self.returning, node})),
        )

    def promoting(self, node: NodeId) -> "Configuration":
        """Return this with the learner `node` as a voter."""
        promoted = tuple(member for member in self.learners if member[0] == node)
        assert promoted, (node, self)
        return Configuration(
            voters=_ordered((*self.voters, *promoted)),
            learners=tuple(member for member in self.learners if member[0] != node),
            returning=tuple(other for other in self.returning if other != node),
        )


def first_configuration(incarnations: Mapping[NodeId, Incarnation]) -> Configuration:
    """Return the first configuration of a cluster: all members vote."""
    return Configuration(voters=_ordered(incarnations.items()))


def _ordered(members: Iterable[Member]) -> tuple[Member, ...]:
    return tuple(sorted(members))


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Configuration)


def encode_configuration(configuration: Configuration) -> bytes:
    """Return the configuration as it stands in an entry or in a snapshot's header."""
    return _ENCODER.encode(configuration)


def decode_configuration(data: bytes) -> Configuration | None:
    """Return the configuration, None where the bytes are not one that could have been written."""
    try:
        configuration = _DECODER.decode(data)
    except UNREADABLE:
        return None
    return configuration if is_canonical(configuration) else None


def is_canonical(configuration: Configuration) -> bool:
    """Return whether the members are in order, each once, and the returning ones among the learners."""
    members = (*configuration.voters, *configuration.learners)
    nodes = [node for node, _ in members]
    return (
        list(configuration.voters) == sorted(configuration.voters)
        and list(configuration.learners) == sorted(configuration.learners)
        and len(set(nodes)) == len(nodes)
        and all(node >= 0 for node in nodes)
        and set(configuration.returning) <= {node for node, _ in configuration.learners}
    )


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
        """Return whether these nodes are a majority of the voters. Nodes that are not voters do not count."""
        return len(self.voters.intersection(supporters)) >= self.quorum

    def _take_effect(self) -> None:
        self.current = self._history[-1][1]
        self.voters = frozenset(node for node, _ in self.current.voters)
        self.incarnations = dict((*self.current.voters, *self.current.learners))
        self.quorum = majority(max(1, len(self.voters)))
