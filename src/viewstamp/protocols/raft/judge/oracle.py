"""What the simulator must know of Raft to judge a cluster: promises, disks, and how to tell a message."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.core.judge import Configured, DurableImage
from viewstamp.core.quorum import has_majority
from viewstamp.protocols.raft.core import RaftCore
from viewstamp.protocols.raft.journal import Replay
from viewstamp.protocols.raft.judge import invariants
from viewstamp.protocols.raft.judge.describe import describe
from viewstamp.protocols.raft.messages import (
    AppendEntries,
    AppendRejected,
    AppendResponse,
    RequestVote,
    SnapshotAck,
    SnapshotChunk,
    StaleTerm,
    VoteResponse,
)
from viewstamp.protocols.replication.configuration import Configuration
from viewstamp.protocols.replication.judge import invariants as judging
from viewstamp.protocols.replication.judge.disk_image import DiskImage

RaftImage: TypeAlias = DiskImage[Replay]


class RaftOracle:
    """Judges one run; satisfies `core.judge.Oracle`."""

    __slots__ = ("_before", "_configurations", "_configured", "_members")

    def __init__(self, members: tuple[NodeId, ...]) -> None:
        assert members
        self._members = members
        self._before: dict[NodeId, invariants.Positions] = {}
        self._configurations: dict[NodeId, Configuration] = {}
        """By which configuration each running node counts."""
        self._configured: dict[NodeId, tuple[Configuration, int, int, int, Configured]] = {}
        """What was said of each node last, and what it was made of."""

    def check_node(self, core: RaftCore) -> None:
        """Orderings and windows of one node."""
        invariants.check_node(core)

    def check_step(self, node: NodeId, core: RaftCore) -> None:
        """What may never go back."""
        after = invariants.positions_of(core)
        before = self._before.get(node)
        if before is not None and before != after:
            invariants.check_step(before, after, core)
        self._before[node] = after
        self._configurations[node] = core.state.membership.current

    def forget(self, node: NodeId) -> None:
        """The node crashed: what it knew only in memory may go back."""
        self._before.pop(node, None)
        self._configurations.pop(node, None)
        self._configured.pop(node, None)

    def make_image(self) -> RaftImage:
        """Return the image of an empty disk."""
        return DiskImage(Replay())

    def broken_promise(self, source: NodeId, message: Any, durable: DurableImage) -> str | None:
        """I11: say what a message promises that the sender's disk does not hold."""
        assert isinstance(durable, DiskImage), durable
        match message:
            case VoteResponse() if message.granted and not message.pre:
                return _broken_vote(durable, message.election, message.candidate)
            case RequestVote() if not message.pre:
                return _broken_vote(durable, message.term, source)
            case AppendResponse():
                return _broken_term(durable, message.term) or judging.broken_match(durable, message)
            case VoteResponse() | AppendRejected() | SnapshotAck() | AppendEntries() | SnapshotChunk():
                return _broken_term(durable, message.term)
            case StaleTerm():
                return _broken_term(durable, message.term)
            case _:
                return None

    def committed_by(self, viewstamp: Viewstamp, images: Mapping[NodeId, DurableImage]) -> bool:
        """Return whether a majority of the voters has the entry on disk.

        The voters are those of a configuration that a disk with the entry would restart with, or that such a
        node counts by already while it writes it: two that follow one another share a majority.
        """
        holders = {node for node, image in images.items() if image.holds(viewstamp)}
        for node in holders:
            image = images[node]
            assert isinstance(image, DiskImage), image
            if _is_decided(holders, image.replay.membership.current):
                return True
        return any(_is_decided(holders, known) for known in self._configurations.values())

    def owes_progress(
        self, alive: Mapping[NodeId, Incarnation | None], images: Mapping[NodeId, DurableImage]
    ) -> bool:
        """A majority of the members must serve, whatever the others do.

        Where members were changed: by the last configuration on any disk and by the one before it, since it
        may not be committed, and with the disks that they list.
        """
        newest = _newest_configurations(images)
        if all(configuration.members.keys() <= {*self._members} for configuration in newest):
            known = [configuration for configuration in newest if configuration.is_joint]
            if not known and all(len(each.members) == len(self._members) for each in newest):
                return has_majority(alive, self._members)
        listed = [
            {node for node in alive if configuration.incarnation_of(node) == alive[node]}
            for configuration in newest
        ]
        return all(map(_is_decided, listed, newest))

    def configured(self, core: RaftCore) -> Configured:
        """Return the configuration in force at a core (`core.judge.ConfigurationOracle`)."""
        state = core.state
        membership, log = state.membership, state.log
        seqno, current, base = membership.changed_at, membership.current, log.base_seqno
        pending = membership.count_after(state.committed) if seqno > state.committed else 0
        known = self._configured.get(state.node)
        if known is not None and known[0] is current and known[1:4] == (seqno, base, pending):
            return known[4]  # another configuration is another object
        configured = Configured(
            seqno=Seqno(seqno),
            view=None if (term := log.view_at(seqno)) is None else View(term),
            voters=current.voters,
            outgoing=current.outgoing,
            pending=pending,
            base=Seqno(base),
        )
        self._configured[state.node] = current, seqno, base, pending, configured
        return configured

    def listed(self, images: Mapping[NodeId, DurableImage]) -> Mapping[NodeId, Incarnation]:
        """Return the members of the newest configuration on any disk (`core.judge.ConfigurationOracle`)."""
        newest = _newest_configurations(images)
        return newest[0].members if newest else {}

    def acknowledged(self, message: Any) -> tuple[Incarnation, Viewstamp] | None:
        """Return the incarnation that acknowledges, and up to which entry."""
        return judging.matched_by(message) if type(message) is AppendResponse else None

    def believed(self, core: RaftCore) -> Iterator[tuple[NodeId, Incarnation, Seqno, View | None]]:
        """Return for each follower up to where a leader takes its log for acknowledged."""
        return judging.believed(core.state.log, core.replication.progress.values())

    def describe(self, message: Any) -> str:
        """Return the message as a short line of prose."""
        return describe(message)


def _is_decided(holders: set[NodeId], configuration: Configuration) -> bool:
    """Return whether these nodes decide. Counted here from the lists, and not as the core counts."""
    voters = [node for node, _ in configuration.voters]
    outgoing = [node for node, _ in configuration.outgoing]
    return (
        bool(voters) and has_majority(holders, voters) and (not outgoing or has_majority(holders, outgoing))
    )


def _newest_configurations(images: Mapping[NodeId, DurableImage]) -> list[Configuration]:
    """Return the last configuration on any disk, and the one before it on that disk."""
    newest: tuple[tuple[int, int], list[Configuration]] = ((0, -1), [])
    for image in images.values():
        assert isinstance(image, DiskImage), image
        membership, log = image.replay.membership, image.replay.log
        seqno = membership.changed_at
        if membership.current.voters:
            place = (log.view_at(seqno) or 0, seqno)
            known = [membership.current]
            if seqno > log.base_seqno and membership.at(seqno - 1).voters:
                known.append(membership.at(seqno - 1))
            newest = max(newest, (place, known), key=lambda each: each[0])
    return newest[1]


def _broken_vote(durable: RaftImage, term: int, candidate: NodeId) -> str | None:
    on_disk = durable.replay
    if on_disk.term > term or (on_disk.term == term and on_disk.vote == candidate):
        return None
    return (
        f"a vote for node {candidate} in term {term}; on disk are term {on_disk.term} "
        f"and a vote for {on_disk.vote}"
    )


def _broken_term(durable: RaftImage, term: int) -> str | None:
    if durable.replay.term >= term:
        return None
    return f"term {term}; on disk is term {durable.replay.term}"
