"""What a leader and its followers say to each other in any protocol with a log: the fields, once.

A protocol subclasses these with its tags and adds its own fields, such as the term, after those here. `view`
means the term in Raft and the epoch in primary-backup. Every message is built by keyword.

What promises something carries the sender's incarnation, so that the word of a node that has forgotten what
it said does not count. What a leader sends carries the incarnation that it is meant for.
"""

from typing import TypeAlias

import msgspec

from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.core.snapshots import SnapshotMeta

Member: TypeAlias = tuple[NodeId, Incarnation]


class BaseAppendEntries(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """Entries that follow `previous`; without entries it is a heartbeat, a probe and a round of reads."""

    to: Incarnation
    previous_view: int
    previous_seqno: int
    entries: list[bytes]
    """Encoded `EntryRecord`s: the bytes go into the follower's journal as they are."""
    committed: int
    """Up to where the leader knows the log to be committed."""
    round: int
    """Number of the leader's latest round of confirmation; the answer repeats it."""
    attempt: int
    """Counts how often the leader went back for this follower; a refusal repeats it."""


class BaseAnswer(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """What every answer to `BaseAppendEntries` says."""

    incarnation: Incarnation
    round: int
    """The latest round of confirmation that the sender has seen of this leader."""


class BaseAppendResponse(BaseAnswer, frozen=True, array_like=True, gc=False, kw_only=True):
    """My log holds, on disk, what yours holds up to `matched`."""

    matched_view: int
    matched_seqno: int
    reached: int
    """Up to where they agree in memory: no promise, it only saves sending that again."""


class BaseAppendRejected(BaseAnswer, frozen=True, array_like=True, gc=False, kw_only=True):
    """My log does not hold what should precede your entries.

    The hint is the last entry of mine that yours may share: its view is at most that of the refused one.
    """

    refused_seqno: int
    hint_view: int
    hint_seqno: int
    attempt: int
    """That of the message refused."""


class BaseSnapshotChunk(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """A piece of a snapshot for a follower whose next entry the leader has compacted away."""

    to: Incarnation
    meta: SnapshotMeta
    """Of the whole."""
    offset: int
    """Where the piece begins."""
    data: bytes


class BaseSnapshotAck(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """Of the snapshot with this viewstamp and digest I have everything before `offset`. No promise."""

    incarnation: Incarnation
    view: int
    seqno: int
    digest: int
    offset: int
    gap: bool
    """The chunk answered was not the next one: go on from `offset`, whatever you sent."""


class BaseIntroduce(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """No configuration that I know of lists this incarnation of me."""

    incarnation: Incarnation
    bootstrapped: bool
    """Whether the sender has a log; one without may take part in bootstrapping a cluster."""
    known: tuple[Member, ...]
    """The members that the sender has heard introduce themselves, or has heard of by members that had, itself
    among them, in ascending order."""
    agreed: tuple[NodeId, ...] = ()
    """The members without a log that said, to the sender or to another that told it, that they had heard of
    just these, in ascending order."""
