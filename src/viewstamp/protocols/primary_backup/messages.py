"""The messages of the fenced form. The tags and the order of fields are the wire's ABI.

Each carries the sender's epoch. A promise carries the incarnation of its sender; what a primary sends carries
the incarnation that it is meant for. Tags below 10 belong to the course's form (`course/messages.py`).
"""

from typing import TypeAlias

import msgspec

from viewstamp.core.ids import Incarnation, Viewstamp
from viewstamp.protocols.primary_backup.journal import SyncRecord
from viewstamp.protocols.replication.messages import (
    BaseAppendEntries,
    BaseAppendRejected,
    BaseAppendResponse,
    BaseIntroduce,
    BaseSnapshotAck,
    BaseSnapshotChunk,
)


class Introduce(BaseIntroduce, frozen=True, array_like=True, tag=10, kw_only=True):
    """An introduction, without an epoch: a node without a log is in none."""


class Recognize(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Answer to `Introduce` by a member with a log."""

    epoch: int
    record: SyncRecord


class Fence(msgspec.Struct, frozen=True, array_like=True, tag=12, gc=False):
    """Refuse every epoch below this one: I am to lead it. A `trial` only asks whether you would."""

    epoch: int
    trial: bool
    by_operator: bool
    """The operator requested it: do not protect the primary that you hear."""
    campaign: int
    """Numbers the sender's campaigns; the answer repeats it."""


class FenceResponse(msgspec.Struct, frozen=True, array_like=True, tag=13, gc=False):
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
    """The newest record that the sender knows."""


class AppendEntries(BaseAppendEntries, frozen=True, array_like=True, tag=14, gc=False, kw_only=True):
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
    """The operator requests that you lead. Answered by `PromoteResponse`."""

    request: int


class PromoteResponse(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """The outcome of `Promote`: why the sender does not lead, or None where it leads."""

    request: int
    refusal: str | None


class StaleEpoch(msgspec.Struct, frozen=True, array_like=True, tag=21, gc=False):
    """Your epoch is over: the sender's is `epoch`, a later one."""

    epoch: int


class Dismissed(msgspec.Struct, frozen=True, array_like=True, tag=22, gc=False, kw_only=True):
    """Your incarnation was removed, by a record in force: take part no more."""

    epoch: int
    incarnation: Incarnation
    at: Viewstamp


FencedMessage: TypeAlias = (
    Introduce
    | Recognize
    | Fence
    | FenceResponse
    | AppendEntries
    | AppendResponse
    | AppendRejected
    | SnapshotChunk
    | SnapshotAck
    | Promote
    | PromoteResponse
    | StaleEpoch
    | Dismissed
)
