"""The members of the cluster, as a value in the log. Each member is named with its incarnation.

An incarnation stands for one data directory from its creation to its loss. A node whose disk was wiped is
another incarnation, which has promised nothing: its votes and acknowledgements do not count until a
configuration lists it.

A change of more than one voter goes through a *joint* configuration (Raft 6): it has the new voters and,
as `outgoing`, the old ones, and everything that is decided needs a majority of each. A removed incarnation
stays listed, so that its directory can be told when it comes back.
"""

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

import msgspec

from viewstamp.core.ids import Incarnation, NodeId, Viewstamp
from viewstamp.core.messages import UNREADABLE
from viewstamp.protocols.replication.messages import Member

REMOVED_MAX: Final = 64
"""Removed incarnations that a configuration remembers; the oldest are forgotten first."""

Removal: TypeAlias = tuple[NodeId, Incarnation, Viewstamp]
"""A removed incarnation, and the entry whose configuration no longer lists it."""


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """Voters and learners in ascending order of node, each node once over both."""

    voters: tuple[Member, ...] = ()
    """Elect leaders and make entries committed."""
    learners: tuple[Member, ...] = ()
    """Receive everything, count for nothing."""
    returning: tuple[NodeId, ...] = ()
    """Learners that become voters as soon as they have caught up."""
    outgoing: tuple[Member, ...] = ()
    """The voters of the configuration before this one, while both decide; empty: this one is not joint."""
    successors: tuple[tuple[NodeId, NodeId], ...] = ()
    """(learner, the voter whose place it takes): one joint change for all, when all have caught up."""
    removed: tuple[Removal, ...] = ()
    """The last `REMOVED_MAX` removed incarnations, in the order of their removal."""

    @property
    def is_joint(self) -> bool:
        """Whether decisions need a majority of the voters and one of the outgoing voters."""
        return bool(self.outgoing)

    @property
    def is_unfinished(self) -> bool:
        """Whether another configuration is to follow this one: it is joint, or learners are to vote."""
        return bool(self.outgoing or self.returning or self.successors)

    @property
    def deciding(self) -> tuple[tuple[Member, ...], ...]:
        """The groups of voters of which a majority must agree, each."""
        return (self.voters, self.outgoing) if self.outgoing else (self.voters,)

    @property
    def electors(self) -> dict[NodeId, Incarnation]:
        """The nodes that vote, in either half."""
        return dict((*self.outgoing, *self.voters))

    @property
    def promised(self) -> tuple[NodeId, ...]:
        """Learners that are to vote when they have caught up."""
        return (*self.returning, *(new for new, _ in self.successors))

    @property
    def members(self) -> dict[NodeId, Incarnation]:
        """Voters, learners and outgoing voters."""
        return dict((*self.outgoing, *self.voters, *self.learners))

    def incarnation_of(self, node: NodeId) -> Incarnation | None:
        """Return the incarnation under which `node` is listed, None where it is not."""
        return self.members.get(node)

    def lists(self, node: NodeId, incarnation: Incarnation) -> bool:
        """Return whether this incarnation of the node takes part."""
        return self.incarnation_of(node) == incarnation

    def is_voter(self, node: NodeId, incarnation: Incarnation) -> bool:
        """Return whether this incarnation of the node votes, in either half."""
        member = (node, incarnation)
        return member in self.voters or member in self.outgoing

    def removed_at(self, node: NodeId, incarnation: Incarnation) -> Viewstamp | None:
        """Return the entry that removed this incarnation; None: none did, or it is long ago."""
        for gone, its_incarnation, at in self.removed:
            if (gone, its_incarnation) == (node, incarnation):
                return at
        return None

    def without_promises(self, node: NodeId, incarnation: Incarnation) -> "Configuration":
        """Return this with `node` as a returning learner: what its earlier incarnation promised is gone."""
        assert not self.is_joint, self
        was_voter = any(member[0] == node for member in self.voters)
        return msgspec.structs.replace(
            self,
            voters=_without(self.voters, {node}),
            learners=_ordered((*_without(self.learners, {node}), (node, incarnation))),
            returning=_nodes({*self.returning, node}) if was_voter else self.returning,
        )

    def renewed(self, incarnations: Mapping[NodeId, Incarnation]) -> "Configuration":
        """Return this with these incarnations of the nodes that it lists."""

        def now(members: tuple[Member, ...]) -> tuple[Member, ...]:
            return tuple((node, incarnations.get(node, known)) for node, known in members)

        return msgspec.structs.replace(
            self, voters=now(self.voters), learners=now(self.learners), outgoing=now(self.outgoing)
        )

    def promoting(self, node: NodeId) -> "Configuration":
        """Return this with the learner `node` as a voter."""
        promoted = tuple(member for member in self.learners if member[0] == node)
        assert promoted, (node, self)
        return self._tidy(
            voters=_ordered((*self.voters, *promoted)), learners=_without(self.learners, {node})
        )

    def learning(
        self,
        added: Iterable[Member],
        *,
        returning: Iterable[NodeId],
        successors: Iterable[tuple[NodeId, NodeId]],
    ) -> "Configuration":
        """Return this with more learners, and which of the learners are to become voters, and for whom."""
        return msgspec.structs.replace(
            self,
            learners=_ordered({*self.learners, *added}),
            returning=_nodes({*self.returning, *returning}),
            successors=tuple(sorted({*self.successors, *successors})),
        )

    def changing(
        self, promoted: Iterable[NodeId], leaving: Iterable[NodeId], at: Viewstamp
    ) -> "Configuration":
        """Return the joint configuration in which these learners vote and these voters are to leave.

        Learners that leave are removed at once: they decide nothing.
        """
        assert not self.is_joint, self
        going, coming = {*leaving}, {*promoted}
        voters = (*_without(self.voters, going), *(m for m in self.learners if m[0] in coming))
        joint = self._tidy(voters=_ordered(voters), learners=_without(self.learners, coming | going))
        joint = msgspec.structs.replace(joint, outgoing=self.voters)
        return joint.remembering((member for member in self.learners if member[0] in going), at)

    def removing(self, nodes: Iterable[NodeId], at: Viewstamp) -> "Configuration":
        """Return this without these members, all at once: for learners, and for a single voter."""
        assert not self.is_joint, self
        gone = {*nodes}
        smaller = self._tidy(voters=_without(self.voters, gone), learners=_without(self.learners, gone))
        return smaller.remembering((m for m in (*self.voters, *self.learners) if m[0] in gone), at)

    def leaving_joint(self, at: Viewstamp) -> "Configuration":
        """Return the new half alone; who was only in the old one is removed."""
        assert self.is_joint, self
        kept = {*self.voters, *self.learners}
        alone = msgspec.structs.replace(self, outgoing=())
        return alone.remembering((member for member in self.outgoing if member not in kept), at)

    def remembering(self, gone: Iterable[Member], at: Viewstamp) -> "Configuration":
        """Return this with these incarnations among the removed ones."""
        more = tuple((node, incarnation, at) for node, incarnation in gone)
        return msgspec.structs.replace(self, removed=(*self.removed, *more)[-REMOVED_MAX:])

    def _tidy(self, *, voters: tuple[Member, ...], learners: tuple[Member, ...]) -> "Configuration":
        """Return this with these members, and no intention about a node that is not here."""
        nodes = {node for node, _ in learners}
        listed = nodes.union(node for node, _ in voters)
        return msgspec.structs.replace(
            self,
            voters=voters,
            learners=learners,
            returning=tuple(node for node in self.returning if node in nodes),
            successors=tuple(pair for pair in self.successors if pair[0] in nodes and pair[1] in listed),
        )


class Changed(msgspec.Struct, frozen=True, array_like=True):
    """The members of a cluster, where an operator has changed them and no entry of the log says so."""

    configuration: Configuration
    at: Viewstamp
    """Of the empty entry that is written with this change, so that it has a place in the log."""


def first_configuration(incarnations: Mapping[NodeId, Incarnation]) -> Configuration:
    """Return the first configuration of a cluster: all members vote."""
    return Configuration(voters=_ordered(incarnations.items()))


def _ordered(members: Iterable[Member]) -> tuple[Member, ...]:
    return tuple(sorted(members))


def _nodes(nodes: Iterable[NodeId]) -> tuple[NodeId, ...]:
    return tuple(sorted(nodes))


def _without(members: Iterable[Member], nodes: set[NodeId]) -> tuple[Member, ...]:
    return tuple(member for member in members if member[0] not in nodes)


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
    """Return whether the members are in order, each once, and what is said of them fits."""
    voters, learners, outgoing = configuration.voters, configuration.learners, configuration.outgoing
    nodes = [node for node, _ in (*voters, *learners)]
    learning = {node for node, _ in learners}
    return (
        all(list(part) == sorted(part) for part in (voters, learners, outgoing))
        and len(set(nodes)) == len(nodes)
        and all(node >= 0 for node, _ in (*voters, *learners, *outgoing))
        and set(configuration.returning) <= learning
        and all(new in learning and old in nodes for new, old in configuration.successors)
        and _is_canonical_half(configuration)
        and len(configuration.removed) <= REMOVED_MAX
    )


def _is_canonical_half(configuration: Configuration) -> bool:
    """Return whether the old half lists each node once, and no node in another incarnation."""
    outgoing, listed = configuration.outgoing, dict((*configuration.voters, *configuration.learners))
    nodes = [node for node, _ in outgoing]
    return (
        len(set(nodes)) == len(nodes)
        and (bool(configuration.voters) or not outgoing)
        and all(listed.get(node, incarnation) == incarnation for node, incarnation in outgoing)
    )
