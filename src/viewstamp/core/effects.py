"""What a protocol core can ask for. The driver or the replica around the core carries it out, in order."""

from typing import Any, TypeAlias

import msgspec

from viewstamp.core.events import DirectiveToken, ReadToken, SnapshotToken
from viewstamp.core.ids import NodeId, PersistSeq, View, Viewstamp
from viewstamp.core.snapshots import Snapshot, SnapshotMeta


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send a message of this protocol to another member. May be lost, duplicated, delayed or reordered."""

    to: NodeId
    message: Any


class Persist(msgspec.Struct, frozen=True, gc=False):
    """Append these records to the journal as one atomic write, then answer `Persisted(seq)`.

    The seqs of one data directory are 1, 2, 3, ... without a gap, over restarts as well.
    """

    seq: PersistSeq
    records: tuple[bytes, ...]


class Release(msgspec.Struct, frozen=True, gc=False):
    """Every record persisted before `before` is no longer needed: the journal may forget it, sooner or later.

    A replay may therefore begin with any number of records that had been released already.
    """

    before: PersistSeq


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An entry of the log whose place is final. Empty data is an entry of the protocol's own: skip it."""

    viewstamp: Viewstamp
    data: bytes


class Apply(msgspec.Struct, frozen=True, gc=False):
    """The next entry of this replica's order: its seqno is the one after the last applied or restored."""

    entry: Entry


class Capture(msgspec.Struct, frozen=True, gc=False):
    """Make a durable snapshot of the machine as it is now, then answer `Captured(token)`.

    `viewstamp` is that of the last entry applied; `header` goes into the snapshot's meta unread.
    """

    token: SnapshotToken
    viewstamp: Viewstamp
    header: bytes


class Stage(msgspec.Struct, frozen=True, gc=False):
    """Write a piece of a snapshot that is being received; offsets are contiguous from 0 for each token.

    A new token, or offset 0 again, drops whatever was staged before. With the last piece (offset + length ==
    meta.size_bytes) make it durable, compare its digest, and answer `Staged(token)`.
    """

    token: SnapshotToken
    meta: SnapshotMeta
    offset: int
    data: bytes


class Restore(msgspec.Struct, frozen=True, gc=False):
    """Replace the machine's state by this snapshot, which is durable here."""

    snapshot: Snapshot


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The read of this token may be answered from the machine as it is now."""

    token: ReadToken


class Refuse(msgspec.Struct, frozen=True, gc=False):
    """The read of this token cannot be answered here: ask the leader (or later)."""

    token: ReadToken


class LeaderChanged(msgspec.Struct, frozen=True, gc=False):
    """The leader or the view that this node knows of has changed. None: it knows of no leader now."""

    view: View
    leader: NodeId | None


class Settled(msgspec.Struct, frozen=True, gc=False):
    """A directive was carried out, or was refused for this reason (one line for a person)."""

    token: DirectiveToken
    refusal: str | None


class Removed(msgspec.Struct, frozen=True, gc=False):
    """This incarnation was removed from the cluster by the entry at `at`: it will never take part again."""

    at: Viewstamp


RareEffect: TypeAlias = (
    Release | Capture | Stage | Restore | Answer | Refuse | LeaderChanged | Settled | Removed
)
"""What few steps ask for: a replica looks at the other three first."""

Effect: TypeAlias = Send | Persist | Apply | RareEffect
