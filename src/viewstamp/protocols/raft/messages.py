"""What members say to each other. The tags and the order of fields are the wire's ABI.

Every message but `Introduce` carries the sender's term. The messages that move the log subclass those of
`replication.messages`: the base's fields come first on the wire. There `view` is the term and `seqno` the
index; what only Raft says has the paper's names. Messages are built by keyword.
"""

from typing import TypeAlias

import msgspec

from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.replication.configuration import Configuration
from viewstamp.protocols.replication.messages import (
    BaseAppendEntries,
    BaseAppendRejected,
    BaseAppendResponse,
    BaseIntroduce,
    BaseSnapshotAck,
    BaseSnapshotChunk,
)


class RequestVote(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False, kw_only=True):
    """Vote for me (Raft 5.2). With `pre` (thesis 9.6): would you? Nothing is promised by the answer."""

    term: int
    """The term of the election; with `pre` the sender has not entered it yet."""
    pre: bool
    transfer: bool
    """The leader itself asked for this election: do not protect it."""
    campaign: int
    """Numbers the sender's campaigns; the answer repeats it."""
    last_log_term: int
    last_log_index: int
    incarnation: Incarnation = Incarnation(0)
    """Of the sender: one that was removed is told so (`Dismissed`)."""


class VoteResponse(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False, kw_only=True):
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


class AppendEntries(BaseAppendEntries, frozen=True, array_like=True, tag=3, gc=False, kw_only=True):
    """Entries, or a heartbeat (Raft 5.3). `committed` is figure 2's leaderCommit."""

    term: int

    @property
    def prev_log_term(self) -> int:
        """Figure 2's prevLogTerm: the term of the entry before these."""
        return self.previous_view

    @property
    def prev_log_index(self) -> int:
        """Figure 2's prevLogIndex: the index of the entry before these."""
        return self.previous_seqno


class AppendResponse(BaseAppendResponse, frozen=True, array_like=True, tag=4, gc=False, kw_only=True):
    """Figure 2's answer "true": it says how much is on disk, not only that the entries fitted."""

    term: int


class AppendRejected(BaseAppendRejected, frozen=True, array_like=True, tag=5, gc=False, kw_only=True):
    """Figure 2's answer "false" where the logs part. A term that is over is answered by `StaleTerm`."""

    term: int


class SnapshotChunk(BaseSnapshotChunk, frozen=True, array_like=True, tag=6, gc=False, kw_only=True):
    """InstallSnapshot (Raft 7), a piece at a time."""

    term: int


class SnapshotAck(BaseSnapshotAck, frozen=True, array_like=True, tag=7, gc=False, kw_only=True):
    """Answer to `SnapshotChunk`."""

    term: int


class ReadIndex(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False, kw_only=True):
    """Up to where must I have applied to answer a read that reached me before this request (thesis 6.4)?"""

    term: int
    request: int


class ReadIndexAnswer(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False, kw_only=True):
    """Answer to `ReadIndex`; None: ask another node, or later."""

    term: int
    request: int
    index: int | None


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False, kw_only=True):
    """Campaign at once: you are to lead (thesis 3.10)."""

    term: int
    to: Incarnation


class Introduce(BaseIntroduce, frozen=True, array_like=True, tag=11, kw_only=True):
    """An introduction. It has no term: a node without a log has none to speak of."""


class Recognize(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Answer to `Introduce` by an established member: this is the cluster's configuration as I know it."""

    term: int
    configuration: Configuration


class StaleTerm(msgspec.Struct, frozen=True, array_like=True, tag=13, gc=False):
    """Your term is over (figure 2: reply false if term < currentTerm): mine is `term`, a later one."""

    term: int


class Dismissed(msgspec.Struct, frozen=True, array_like=True, tag=14, gc=False, kw_only=True):
    """Your incarnation was removed, by the committed entry at (view, seqno): take part no more."""

    term: int
    incarnation: Incarnation
    view: int
    seqno: int


RaftMessage: TypeAlias = (
    RequestVote
    | VoteResponse
    | AppendEntries
    | AppendResponse
    | AppendRejected
    | SnapshotChunk
    | SnapshotAck
    | ReadIndex
    | ReadIndexAnswer
    | TimeoutNow
    | Introduce
    | Recognize
    | StaleTerm
    | Dismissed
)
