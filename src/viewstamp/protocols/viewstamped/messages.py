"""What members say to each other. The tags are the wire's ABI: fields may be appended, never moved.

Every message but the two of the bootstrap carries its *group*: the incarnation of the member of view 1.
A message of another group is dropped, so two services that bootstrapped apart can never mix
(docs/requirements.md#b9).
"""

from typing import Final, TypeAlias

import msgspec

from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.viewstamped.membership import Member, Membership

NO_GROUP: Final = Incarnation(-1)
"""The group of a node that knows of no view."""


class Ballot(msgspec.Struct, frozen=True, order=True, array_like=True, gc=False):
    """Number of a proposal: by number, then by node, so that no two proposers share one (lab 6: prop_t)."""

    number: int
    node: NodeId


LOWEST: Final = Ballot(0, NodeId(0))
"""Below every proposal."""


class Prepare(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Phase 1 of Paxos for the view `instance`: promise to accept nothing below `ballot`."""

    group: Incarnation
    instance: View
    ballot: Ballot


class Prepared(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The one answer to `Prepare`: a promise if `promised` equals `ballot`, a rejection if it is higher."""

    group: Incarnation
    instance: View
    ballot: Ballot
    promised: Ballot
    """n_h of the acceptor."""
    accepted: Ballot | None
    """n_a, None where it accepted nothing in this instance."""
    value: Membership | None
    """v_a."""
    synchronised: bool
    """It knows that the current view completed its synchronisation."""
    late: bool = False
    """It has committed entries that it has not executed yet: others should lead if they can."""


class Accept(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Phase 2: accept this value."""

    group: Incarnation
    instance: View
    ballot: Ballot
    value: Membership


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """The answer to `Accept`: done if `promised` equals `ballot`, rejected if it is higher."""

    group: Incarnation
    instance: View
    ballot: Ballot
    promised: Ballot


class Views(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Decided views, ascending, without a gap: phase 3, and what a node that is behind gets."""

    group: Incarnation
    memberships: tuple[Membership, ...]
    latest: View
    """The newest view that the sender knows: ask again if it is higher than the last one here."""


class WantViews(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """Send me the decided views after this one."""

    group: Incarnation
    after: View


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """A heartbeat: answer with `Pong`, and with `Views` if I am behind."""

    group: Incarnation
    view: View
    incarnation: Incarnation
    """Of the sender."""
    unheard: tuple[NodeId, ...] = ()
    """From a primary: backups that do not answer it. The lowest member takes them for dead."""
    heard: bool = True
    """Your answer to my last ping has come: I hear you, too."""


class Pong(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """The answer to a heartbeat."""

    group: Incarnation
    view: View
    incarnation: Incarnation
    """Of the sender: the answer of a wiped node does not count for the member that it was."""
    busy_ms: int = 0
    """Sent unasked: I restore a snapshot and may be silent for this long."""


class Join(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    """I ask to join. Answered with the decided views that I lack; the primary proposes a view with me."""

    group: Incarnation
    """`NO_GROUP` from a node that belongs to none yet."""
    member: Member
    view: View
    """The newest view that I know, 0 where there is none."""
    answered: bool = False
    """You have answered me before, so messages pass in both directions. Only such a node is admitted."""
    waits: bool = False
    """Only when an operator has added me."""


class BootstrapQuery(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    """Do you know any view? If nobody does, the lowest member makes the first."""

    incarnation: Incarnation
    """Of the lowest member, which wants to know."""
    forwarded: bool = False
    """Whether another member asks, to tell it: their connection may be cut."""


class NotBootstrapped(msgspec.Struct, frozen=True, array_like=True, tag=11, gc=False):
    """I know no view. A node that knows one answers `BootstrapQuery` with `Views`."""

    asked: Incarnation
    """Of the node that wants to know: an answer to an earlier incarnation does not count."""
    others: tuple[NodeId, ...] = ()
    """Members that said the same to the sender, of this incarnation."""


class Append(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """The primary's log goes on after `previous` with these entries; lab 7's `invoke`, and its transfer."""

    group: Incarnation
    view: View
    previous: Viewstamp
    records: tuple[bytes, ...]
    """Encoded `records.EntryRecord`s, the very bytes of the primary's journal; seqnos without a gap."""
    committed: Seqno


class Appended(msgspec.Struct, frozen=True, array_like=True, tag=13, gc=False):
    """My log equals the primary's up to here, and that is on my disk."""

    group: Incarnation
    view: View
    matched: Viewstamp


class StagedPart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How much of which snapshot a backup has received: the transfer goes on from there."""

    viewstamp: Viewstamp
    digest: int
    offset: int


class Position(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """My log looks like this: send me what follows the last point at which we agree (`transferreq`)."""

    group: Incarnation
    view: View
    marks: tuple[Viewstamp, ...]
    """The last entry of each view in my log, ascending; the first is my base."""
    staged: StagedPart | None


class Chunk(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """A piece of a snapshot, for a backup that lacks entries which the primary's log no longer holds."""

    group: Incarnation
    view: View
    meta: SnapshotMeta
    offset: int
    data: bytes


class ChunkReceived(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """I have the snapshot's bytes before `staged.offset`, and no others."""

    group: Incarnation
    view: View
    staged: StagedPart


class Probe(msgspec.Struct, frozen=True, array_like=True, tag=17, gc=False):
    """Are you still in my view? Asked after the reads of this round had arrived."""

    group: Incarnation
    view: View
    round: int


class Probed(msgspec.Struct, frozen=True, array_like=True, tag=18, gc=False):
    """I am."""

    group: Incarnation
    view: View
    round: int


ViewMessage: TypeAlias = Prepare | Prepared | Accept | Accepted | Views | WantViews | Ping | Pong | Join
"""About views: which is next, which members it has, which of them are alive."""
ReplicationMessage: TypeAlias = Append | Appended | Position | Chunk | ChunkReceived | Probe | Probed
"""Of one view, between its primary and a backup."""
Grouped: TypeAlias = ViewMessage | ReplicationMessage
Message: TypeAlias = Grouped | BootstrapQuery | NotBootstrapped
