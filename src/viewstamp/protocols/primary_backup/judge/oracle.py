"""The judge of a cluster in the fenced form: promises, disks, and whether it must make progress."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.core.judge import DurableImage
from viewstamp.protocols.primary_backup.core import PrimaryBackupCore
from viewstamp.protocols.primary_backup.journal import Replay, SyncRecord
from viewstamp.protocols.primary_backup.judge import invariants
from viewstamp.protocols.primary_backup.judge.describe import describe
from viewstamp.protocols.primary_backup.judge.membership import RecordWatch
from viewstamp.protocols.primary_backup.messages import (
    AppendEntries,
    AppendRejected,
    AppendResponse,
    Dismissed,
    Fence,
    FenceResponse,
    Recognize,
    SnapshotAck,
    SnapshotChunk,
    StaleEpoch,
)
from viewstamp.protocols.replication.judge import invariants as judging
from viewstamp.protocols.replication.judge.disk_image import DiskImage
from viewstamp.protocols.replication.quorums import Quorums

BackupImage: TypeAlias = DiskImage[Replay]
"""One node's disk as a restart would read it."""


def make_image() -> BackupImage:
    """Return the image of an empty disk."""
    return DiskImage(Replay())


class PrimaryBackupOracle:
    """Judges one run; satisfies `core.judge.Oracle`."""

    __slots__ = ("_before", "_members", "_records")

    def __init__(self, members: tuple[NodeId, ...]) -> None:
        assert members
        self._members = members
        self._before: dict[NodeId, invariants.Positions] = {}
        self._records = RecordWatch()

    def check_node(self, core: PrimaryBackupCore) -> None:
        """Check the orderings, windows and synchronous set of one node."""
        invariants.check_node(core)

    def check_step(self, node: NodeId, core: PrimaryBackupCore) -> None:
        """Check that nothing went back that may not."""
        after = invariants.positions_of(core)
        before = self._before.get(node)
        if before is not None and before != after:
            invariants.check_step(before, after, core)
        self._before[node] = after
        self._records.check(core)

    def forget(self, node: NodeId) -> None:
        """Forget a node that crashed: what it knew only in memory may go back."""
        self._before.pop(node, None)
        self._records.forget(node)

    def make_image(self) -> BackupImage:
        """Return the image of an empty disk."""
        return make_image()

    def broken_promise(self, source: NodeId, message: Any, durable: DurableImage) -> str | None:
        """I11: say what a message promises that the sender's disk does not hold."""
        assert isinstance(durable, DiskImage), durable
        match message:
            case Fence() if not message.trial:
                return _broken_grant(durable, message.epoch, source)
            case FenceResponse() if message.granted and not message.trial:
                return _broken_epoch(durable, message.asked) or _broken_record(durable, message.record)
            case FenceResponse() | Recognize():
                return _broken_record(durable, message.record)
            case AppendResponse():
                return (
                    _broken_epoch(durable, message.epoch)
                    or judging.broken_match(durable, message)
                    or _broken_version(durable, message)
                )
            case AppendEntries() | AppendRejected() | SnapshotAck() | SnapshotChunk() | StaleEpoch():
                return _broken_epoch(durable, message.epoch)
            case Dismissed():
                return _broken_epoch(durable, message.epoch)
            case _:
                return None

    def committed_by(self, viewstamp: Viewstamp, images: Mapping[NodeId, DurableImage]) -> bool:
        """Return whether all members of a record, of the entry's epoch or a later one, have it on disk.

        The record is one that a majority has on disk: every candidate finds it, or a later one.
        """
        holders = {node for node, image in images.items() if image.holds(viewstamp)}
        records = {record for image in images.values() if (record := _record_of(image)) is not None}
        return any(
            record.epoch >= viewstamp.view
            and holders.issuperset(record.members)
            and Quorums(record.configuration).agree(_stored_by(images, record))
            for record in records
        )

    def owes_progress(
        self, alive: Mapping[NodeId, Incarnation | None], images: Mapping[NodeId, DurableImage]
    ) -> bool:
        """Return whether these nodes can promote one: a majority counts, with a synchronous member in it."""
        known = {node: record for node in alive if (record := _record_of(images[node])) is not None}
        if not known:
            return set(alive) >= set(self._members)
        newest = max(known.values(), key=lambda record: record.age)
        counting = {
            node
            for node, record in known.items()
            if _lists(newest, node, alive[node]) and _lists(record, node, alive[node])
        }
        return Quorums(newest.configuration).agree(counting) and not counting.isdisjoint(newest.members)

    def listed(self, images: Mapping[NodeId, DurableImage]) -> Mapping[NodeId, Incarnation]:
        """Return the members of the newest record on any disk (`core.judge.MembershipOracle`)."""
        known = [record for image in images.values() if (record := _record_of(image)) is not None]
        return max(known, key=lambda record: record.age).configuration.members if known else {}

    def acknowledged(self, message: Any) -> tuple[Incarnation, Viewstamp] | None:
        """Return the incarnation and the position that a message acknowledges."""
        return judging.matched_by(message) if type(message) is AppendResponse else None

    def believed(self, core: PrimaryBackupCore) -> Iterator[tuple[NodeId, Incarnation, Seqno, View | None]]:
        """Return for each backup up to where a primary believes its log to be acknowledged."""
        return judging.believed(core.state.log, core.replication.progress.values())

    def describe(self, message: Any) -> str:
        """Return the message as a short line of prose."""
        return describe(message)


def _record_of(image: DurableImage) -> SyncRecord | None:
    assert isinstance(image, DiskImage), image
    record: SyncRecord | None = image.replay.record
    return record


def _lists(record: SyncRecord, node: NodeId, incarnation: Incarnation | None) -> bool:
    return incarnation is not None and record.lists(node, incarnation)


def _stored_by(images: Mapping[NodeId, DurableImage], record: SyncRecord) -> set[NodeId]:
    """Return the nodes that have this record, or a later one, on disk."""
    return {
        node
        for node, image in images.items()
        if (known := _record_of(image)) is not None and known.age >= record.age
    }


def _broken_grant(durable: BackupImage, epoch: int, candidate: NodeId) -> str | None:
    on_disk = durable.replay
    if on_disk.epoch > epoch or (on_disk.epoch == epoch and on_disk.candidate == candidate):
        return None
    return (
        f"epoch {epoch} for node {candidate}; on disk are epoch {on_disk.epoch} for node {on_disk.candidate}"
    )


def _broken_epoch(durable: BackupImage, epoch: int) -> str | None:
    if durable.replay.epoch >= epoch:
        return None
    return f"epoch {epoch}; on disk is epoch {durable.replay.epoch}"


def _broken_record(durable: BackupImage, record: SyncRecord) -> str | None:
    on_disk = durable.replay.record
    if on_disk is not None and on_disk.age >= record.age:
        return None
    return f"record {record.age}; on disk is {on_disk.age if on_disk is not None else None}"


def _broken_version(durable: BackupImage, message: AppendResponse) -> str | None:
    record = durable.replay.record
    if message.version and (record is None or record.age < (message.epoch, message.version)):
        return f"record {message.epoch}/{message.version}, which is not on disk"
    return None
