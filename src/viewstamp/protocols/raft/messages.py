"""What members say to each other. The tags and the order of fields are the wire's ABI.

Every message carries the sender's term. What promises something (a vote, an acknowledgement) carries the
sender's incarnation, so that nobody counts the word of a node that has forgotten what it said; what a leader
sends carries the incarnation it is meant for.
"""

from typing import TypeAlias

import msgspec

from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.raft.membership import Configuration, Member


class RequestVote(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Vote for me (Raft 5.2). With `pre` (thesis 9.6): would you? Nothing is promised by the answer."""

    term: int
    """The term of the election; with `pre` the sender has not entered it yet."""
    pre: bool
    transfer: bool
    """The leader itself asked for this election: do not protect it."""
    campaign: int
    """Numbers the sender's campaigns; the answer repeats it."""
    last_view: int
    last_seqno: int


class Vote(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Answer to `RequestVote`."""

    term: int
    """The sender's own current term."""
    incarnation: Incarnation
    candidate: NodeId
    election: int
    """The term asked for."""
    pre: bool
    granted: bool
    campaign: int


class AppendEntries(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Entries that follow `previous`; without entries it is a heartbeat, a probe and a round of reads."""

    term: int
    to: Incarnation
    previous_view: int
    previous_seqno: int
    entries: list[bytes]
    """Encoded `EntryRecord`s: the bytes go into the follower's journal as they are."""
    committed: int
    round: int
    """Number of the leader's latest round of confirmation; the answer repeats it."""
    attempt: int
    """Counts how often the leader went back for this follower; a refusal repeats it."""


class Appended(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """My log holds, on disk, what yours holds up to `matched`."""

    term: int
    incarnation: Incarnation
    matched_view: int
    matched_seqno: int
    round: int
    reached: int = 0
    """Up to where they agree in memory: no promise, it only saves sending that again."""


class Conflict(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """My log does not hold what should precede your entries; or your term is over (then only `term` counts).

    The hint is the last entry of mine that yours may share: its term is at most that of the refused one.
    """

    term: int
    incarnation: Incarnation
    refused_seqno: int
    hint_view: int
    hint_seqno: int
    round: int
    attempt: int


class SnapshotChunk(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """A piece of a snapshot for a follower whose next entry the leader has compacted away (Raft 7)."""

    term: int
    to: Incarnation
    meta: SnapshotMeta
    offset: int
    data: bytes


class SnapshotWanted(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """Of the snapshot with this viewstamp and digest I have everything before `offset`. No promise."""

    term: int
    incarnation: Incarnation
    view: int
    seqno: int
    digest: int
    offset: int
    gap: bool
    """The chunk answered was not the next one: go on from `offset`, whatever you sent."""


class ReadIndex(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """Up to where must I have applied to answer a read that reached me before this request (thesis 6.4)?"""

    term: int
    request: int


class ReadIndexAnswer(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    """Answer to `ReadIndex`; None: ask somebody else, or later."""

    term: int
    request: int
    seqno: int | None


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    """Campaign at once: you are to lead (thesis 3.10)."""

    term: int
    to: Incarnation


class Introduce(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """No configuration that I know of lists this incarnation of me."""

    incarnation: Incarnation
    founded: bool
    """Whether the sender has a log; one that has none may take part in founding a cluster."""
    known: tuple[Member, ...]
    """Whom the sender has heard introduce themselves, itself among them, in ascending order."""


class Recognize(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Answer to `Introduce` by an established member: this is the cluster's configuration as I know it."""

    term: int
    configuration: Configuration


RaftMessage: TypeAlias = (
    RequestVote
    | Vote
    | AppendEntries
    | Appended
    | Conflict
    | SnapshotChunk
    | SnapshotWanted
    | ReadIndex
    | ReadIndexAnswer
    | TimeoutNow
    | Introduce
    | Recognize
)
