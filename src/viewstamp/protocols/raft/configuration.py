"""Who belongs to the cluster, as a value in the log. Each member is named with its incarnation.

An incarnation is one life of a data directory. A node whose disk was wiped is another incarnation, which has
promised nothing: its votes and acknowledgements do not count until a configuration lists it.
"""

from collections.abc import Iterable, Mapping

import msgspec

from viewstamp.core.ids import Incarnation, NodeId

Member = tuple[NodeId, Incarnation]


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
        """Tell whether this incarnation of the node is a voter or a learner."""
        return self.incarnation_of(node) == incarnation

    def is_voter(self, node: NodeId, incarnation: Incarnation) -> bool:
        """Tell whether this incarnation of the node is a voter."""
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


def founding_configuration(incarnations: Mapping[NodeId, Incarnation]) -> Configuration:
    """Return the first configuration of a cluster: everybody votes."""
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
    except msgspec.MsgspecError:
        return None
    return configuration if is_canonical(configuration) else None


def is_canonical(configuration: Configuration) -> bool:
    """Tell whether the members are in order, each once, and the returning ones among the learners."""
    members = (*configuration.voters, *configuration.learners)
    nodes = [node for node, _ in members]
    return (
        list(configuration.voters) == sorted(configuration.voters)
        and list(configuration.learners) == sorted(configuration.learners)
        and len(set(nodes)) == len(nodes)
        and all(node >= 0 for node in nodes)
        and set(configuration.returning) <= {node for node, _ in configuration.learners}
    )
