"""What members say to each other, in both modes. The tags and the order of fields are the wire's ABI.

The course's four messages are made of integers and the bytes of one entry, so that its programs can pack them
as the assignment's 4-byte integers. The fenced mode's carry the sender's epoch; what promises something
carries the sender's incarnation, what a primary sends the incarnation it is meant for.
"""

from typing import TypeAlias, assert_never

import msgspec

from viewstamp.core.ids import Incarnation
from viewstamp.protocols.primary_backup.journal import SyncRecord
from viewstamp.protocols.replication.messages import (
    BaseAppendEntries,
    BaseAppendRejected,
    BaseAppendResponse,
    BaseIntroduce,
    BaseSnapshotAck,
    BaseSnapshotChunk,
)
from viewstamp.protocols.replication.node_state import in_range

# The course's form (assignment 3, section 2.2).


class Greet(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """I am primary now, or you were away: where does your log stand?"""

    view: int
    """Number of the takeover: tells a late word of a dead primary from one of the present one."""
    factory_id: int
    committed_index: int
    last_index: int
    last_view: int
    """In which takeover the entry at `last_index` was made."""


class Greeted(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Answer to `Greet`, and to a `Replicate` that does not follow this log."""

    view: int
    committed_index: int
    last_index: int
    last_view: int


class Replicate(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Replication request: write this entry at `last_index`, apply up to `committed_index` (2.2, step 4)."""

    view: int
    factory_id: int
    committed_index: int
    last_index: int
    entry_view: int
    """In which takeover this entry was made."""
    previous_view: int
    """In which takeover the entry before it was made."""
    entry: bytes


class Replicated(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """Answer to `Replicate`: my log is yours up to `last_index`. A higher view: you are primary no more."""

    view: int
    last_index: int


class Fetch(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """I am primary now, and your log is newer than mine: send me what it holds from `first_index` on."""

    view: int
    factory_id: int
    first_index: int


class Fetched(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """Answer to `Fetch`, one for each entry, some at a time."""

    view: int
    last_index: int
    """Index of this entry."""
    entry_view: int
    """In which takeover it was made."""
    entry: bytes


# The fenced mode.


class Introduce(BaseIntroduce, frozen=True, array_like=True, tag=10, kw_only=True):
    """An introduction. It has no epoch: a node without a log has none to speak of."""


class Recognize(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Answer to `Introduce` by a member with a log."""

    epoch: int
    record: SyncRecord


class Fence(msgspec.Struct, frozen=True, array_like=True, tag=12, gc=False):
    """Refuse every epoch below this one: I am to lead it. With `trial`: would you? Nothing is promised."""

    epoch: int
    trial: bool
    by_operator: bool
    """The operator wants it: do not protect the primary that you hear."""
    campaign: int
    """Numbers the sender's campaigns; the answer repeats it."""


class Fenced(msgspec.Struct, frozen=True, array_like=True, tag=13, gc=False):
    """Answer to `Fence`."""

    epoch: int
    """The highest epoch that the sender has promised."""
    incarnation: Incarnation
    asked: int
    """The epoch asked for."""
    trial: bool
    granted: bool
    campaign: int
    record: SyncRecord
    """The newest record that the sender knows of."""


class Append(BaseAppendEntries, frozen=True, array_like=True, tag=14, gc=False, kw_only=True):
    """Entries, or a heartbeat; the primary's record with it."""

    epoch: int
    record: SyncRecord | None
    """The primary's newest record, unless the backup has it or may not have it yet."""


class AppendResponse(BaseAppendResponse, frozen=True, array_like=True, tag=15, gc=False, kw_only=True):
    """What of the primary's log is on disk here, and that the record `version` is."""

    epoch: int
    version: int
    """Version of the newest record of this epoch on the sender's disk; 0: none."""


class AppendRejected(BaseAppendRejected, frozen=True, array_like=True, tag=16, gc=False, kw_only=True):
    """The logs part before the entries sent. An epoch that is over is answered by `StaleEpoch`."""

    epoch: int


class SnapshotChunk(BaseSnapshotChunk, frozen=True, array_like=True, tag=17, gc=False, kw_only=True):
    """A piece of a snapshot."""

    epoch: int


class SnapshotAck(BaseSnapshotAck, frozen=True, array_like=True, tag=18, gc=False, kw_only=True):
    """Answer to `SnapshotChunk`."""

    epoch: int


class Promote(msgspec.Struct, frozen=True, array_like=True, tag=19, gc=False):
    """The operator wants you to lead. Answered by `PromotionEnded` where that cannot be."""

    request: int


class PromotionEnded(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """What became of `Promote`; None: the sender leads."""

    request: int
    refusal: str | None


class StaleEpoch(msgspec.Struct, frozen=True, array_like=True, tag=21, gc=False):
    """Your epoch is over: the sender's is `epoch`, a later one."""

    epoch: int


CourseMessage: TypeAlias = Greet | Greeted | Replicate | Replicated | Fetch | Fetched
FencedMessage: TypeAlias = (
    Introduce
    | Recognize
    | Fence
    | Fenced
    | Append
    | AppendResponse
    | AppendRejected
    | SnapshotChunk
    | SnapshotAck
    | Promote
    | PromotionEnded
    | StaleEpoch
)


def is_in_range(message: CourseMessage) -> bool:
    """Tell whether all numbers in a message of the course's form could be what they say."""
    match message:
        case Greet() | Greeted():
            stand = message.view, message.committed_index, message.last_index, message.last_view
            return in_range(*stand)
        case Replicate():
            views = message.view, message.entry_view, message.previous_view
            return in_range(*views, message.committed_index, message.last_index)
        case Replicated():
            return in_range(message.view, message.last_index)
        case Fetch():
            return in_range(message.view, message.first_index)
        case Fetched():
            return in_range(message.view, message.last_index, message.entry_view)
        case _:
            assert_never(message)
