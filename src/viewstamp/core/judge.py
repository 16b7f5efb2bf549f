"""How a protocol is judged: invariants that see one node, an oracle that sees disks and messages.

The simulator's generic checks (one leader a view, one history, nothing acknowledged that is not durable, ...)
are written once. What they need to know of a protocol's own messages and records they ask its `Oracle`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import msgspec

from viewstamp.core.ids import Incarnation, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.snapshots import SnapshotMeta


class InvariantViolated(AssertionError):
    """A named invariant does not hold. The name is stable: tests and the mutation suite go by it."""

    def __init__(self, name: str, explanation: str) -> None:
        super().__init__(f"{name}: {explanation}")
        self.name = name
        self.explanation = explanation


def ensure(condition: object, name: str, explanation: str) -> None:
    """Raise `InvariantViolated` unless the condition holds. For hot paths test first, then raise."""
    if not condition:
        raise InvariantViolated(name, explanation)


class DurableImage(Protocol):
    """What a node would come back with if it crashed now: its disk, read as it is written.

    The simulator makes one for each node, feeds it each write at the moment it becomes durable, and makes a
    new one from what survived when the node crashed.
    """

    @property
    def view(self) -> View:
        """The highest view it would still know to have entered or promised."""
        ...

    @property
    def promises(self) -> Mapping[str, Any]:
        """The protocol's other durable promises by name (Raft: the vote)."""
        ...

    @property
    def base(self) -> Viewstamp:
        """The last entry that only the snapshot holds."""
        ...

    @property
    def last(self) -> Viewstamp:
        """The last entry of the log, `base` where it is empty."""
        ...

    def write(self, seq: PersistSeq, records: Sequence[bytes]) -> None:
        """One more atomic write became durable."""
        ...

    def snapshot(self, meta: SnapshotMeta) -> None:
        """A snapshot became durable."""
        ...

    def holds(self, viewstamp: Viewstamp) -> bool:
        """Return whether the entry at this viewstamp is in the log or behind the snapshot."""
        ...

    def data(self, seqno: Seqno) -> bytes | None:
        """Return the data of the entry at `seqno`; None where the log does not hold it."""
        ...


class Oracle(Protocol):
    """A protocol's own part in judging a whole cluster. One oracle watches one run."""

    def check_node(self, core: Any) -> None:
        """Raise `InvariantViolated` unless the orderings that one node must keep hold in this core."""
        ...

    def check_step(self, node: NodeId, core: Any) -> None:
        """Compare a core with what it was after its previous step, if any: what may never go back."""
        ...

    def forget(self, node: NodeId) -> None:
        """The node crashed: its volatile positions may go back now."""
        ...

    def make_image(self) -> DurableImage:
        """Return the image of an empty disk."""
        ...

    def broken_promise(self, source: NodeId, message: Any, durable: DurableImage) -> str | None:
        """Say what `message`, sent now by `source`, promises that its disk does not hold; None if nothing."""
        ...

    def committed_by(self, viewstamp: Viewstamp, images: Mapping[NodeId, DurableImage]) -> bool:
        """Return whether these durable images justify that the entry at `viewstamp` is committed."""
        ...

    def owes_progress(
        self, alive: Mapping[NodeId, Incarnation | None], images: Mapping[NodeId, DurableImage]
    ) -> bool:
        """Return whether these members must serve, even if none of the others ever comes back.

        `alive` names each with the incarnation of its data directory, None where that is new. `images` are
        the disks of all members, also of those that are gone. When in doubt: False.
        """
        ...

    def describe(self, message: Any) -> str:
        """Return the message as a short line of prose, for traces and golden transcripts."""
        ...


Deciding: TypeAlias = tuple[tuple[tuple[NodeId, Incarnation], ...], ...]
"""Groups of voters; what is decided has a majority of each."""


class Configured(msgspec.Struct, frozen=True, gc=False):
    """Which members decide, by the log of one node."""

    seqno: Seqno
    """Of the entry that says so; at most `base`: of an entry that is gone from the log. 0: the bootstrap."""
    view: View | None
    """The view of that entry; None where its log holds no entry there."""
    voters: tuple[tuple[NodeId, Incarnation], ...]
    """Empty where the node does not know yet."""
    pending: int
    """Configurations of its log that this node does not know to be committed."""
    base: Seqno
    """Up to where entries are gone from its log."""
    outgoing: tuple[tuple[NodeId, Incarnation], ...] = ()
    """The voters before these, while both must agree; empty: only `voters` decide."""

    @property
    def deciding(self) -> "Deciding":
        """The voters, and those before them while both must agree."""
        return (self.voters, self.outgoing) if self.outgoing else (self.voters,)


@runtime_checkable
class MembershipOracle(Oracle, Protocol):
    """What the oracle of a protocol knows besides whose members operators change."""

    def listed(self, images: Mapping[NodeId, DurableImage]) -> Mapping[NodeId, Incarnation]:
        """Return the members of the newest configuration on any of these disks; empty: there is none."""
        ...


@runtime_checkable
class ConfigurationOracle(MembershipOracle, Protocol):
    """What the oracle of a protocol knows besides whose configurations are entries of its log."""

    def configured(self, core: Any) -> Configured:
        """Return the configuration in force at a core."""
        ...


@runtime_checkable
class AcknowledgingOracle(Oracle, Protocol):
    """What the oracle of a protocol knows besides whose leader remembers what was acknowledged."""

    def acknowledged(self, message: Any) -> tuple[Incarnation, Viewstamp] | None:
        """Return the incarnation that acknowledges its log, and up to which entry; None: none does."""
        ...

    def believed(self, core: Any) -> Iterable[tuple[NodeId, Incarnation, Seqno, View | None]]:
        """Return for each follower up to where a leading core takes its log for acknowledged.

        With the view of the entry there, None where the leader's own log does not reach down to it.
        """
        ...


class AgreedView(Protocol):
    """A view that members agreed on: its members and its leader."""

    @property
    def view(self) -> View:
        """Its number."""
        ...

    @property
    def members(self) -> Collection[Any]:
        """Its members as values: a node that lost its memory is another member."""
        ...

    @property
    def nodes(self) -> Collection[NodeId]:
        """The nodes on which they run."""
        ...

    @property
    def leader(self) -> Any:
        """The member that leads it."""
        ...


class ViewOracle(Oracle, Protocol):
    """What the oracle of a protocol with agreed views knows besides (`Guarantees.agreed_views`)."""

    def agreed(self, core: Any) -> Sequence[AgreedView]:
        """Return the views that a core knows, view v at place v - 1; it only ever adds to them."""
        ...

    def synchronised(self, core: Any) -> View:
        """Return the highest view in which all members held what was acknowledged, as far as it knows."""
        ...

    def opening(self, core: Any) -> Viewstamp | None:
        """Return what all members must hold before the view that this core leads serves; None: none."""
        ...

    def agrees(self, image: DurableImage, view: AgreedView) -> bool:
        """Return whether this disk accepted exactly this view, or knows that it was decided."""
        ...
