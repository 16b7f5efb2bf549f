"""A stream out of the answers of a running node.

The reader pulls, some parts at a time, so that it sets the pace and needs no more memory than those parts.
What a node answers is looked at record by record before it is handed on.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol, TypeAlias

import msgspec

from viewstamp.core.errors import NotExecuted, ProtocolViolation
from viewstamp.core.events import TakeSnapshot
from viewstamp.core.ids import NodeId, Viewstamp
from viewstamp.core.messages import (
    AdminReply,
    LogPart,
    OperatorReply,
    PositionReply,
    ReadLog,
    ReadPosition,
    ReadSnapshot,
    SnapshotPart,
)
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.replica.snapshot_body import preface_of
from viewstamp.stream.encoder import StreamEncoder
from viewstamp.stream.records import (
    CHUNK_BYTES,
    FORMAT,
    Chunk,
    Header,
    Mark,
    SnapshotHead,
    StreamDamaged,
    log_header,
    split_record,
)

Question: TypeAlias = TakeSnapshot | ReadPosition | ReadSnapshot | ReadLog
PARTS_AT_ONCE: Final = 4
"""Parts of a snapshot that are asked for together."""
PART_BYTES: Final = 1 << 20
"""Of the entries asked for together."""
ATTEMPTS: Final = 50
"""How often a node is asked for a snapshot that covers a position, before it is given up."""


class Ask(Protocol):
    """Ask one node these questions together."""

    def __call__(self, questions: Sequence[Question], /) -> Sequence[OperatorReply]:
        """Return the answers in the order of the questions.

        Raises:
            CallError: the node did not answer.
        """
        ...


class Origin(msgspec.Struct, frozen=True):
    """The cluster that a stream is about."""

    cluster_id: str
    protocol: str
    members: tuple[NodeId, ...]
    limits: dict[str, int]


class Compacted(NotExecuted):
    """A node no longer has the entries after a position. Nothing is lost: a snapshot contains them."""


def confirmed_position(ask: Ask) -> Viewstamp:
    """Return a position that everything acknowledged before this call is part of.

    Raises:
        NotExecuted: this node cannot tell: ask the leader.
    """
    (reply,) = ask([ReadPosition(0)])
    if not isinstance(reply, PositionReply):
        raise _wrong(reply)
    if reply.refusal is not None:
        raise NotExecuted(f"no position was confirmed: {reply.refusal}")
    return reply.viewstamp


class Collector:
    """Makes one stream of what one node answers. Append all bytes that its methods yield, in this order."""

    __slots__ = ("_ask", "_origin", "_pause", "encoder")

    def __init__(
        self,
        ask: Ask,
        origin: Origin,
        *,
        pause: Callable[[], None],
        encoder: StreamEncoder | None = None,
    ) -> None:
        """`pause` waits a moment for the node to come further; `encoder` goes on with a stream that grew."""
        self._ask = ask
        self._origin = origin
        self._pause = pause
        self.encoder = encoder or StreamEncoder()

    def snapshot(self, at_least: Viewstamp, wall_time_ms: int) -> Iterator[bytes]:
        """Yield header and snapshot: the state at a position that is not before `at_least`.

        Raises:
            NotExecuted: the node refused, or does not come so far.
        """
        meta, part = self._begin(at_least)
        yield self.encoder.begin(self._header(meta, part, wall_time_ms))
        yield self.encoder.encoded(part.records)
        offset = CHUNK_BYTES
        while offset < meta.size_bytes:
            offsets = range(offset, min(offset + PARTS_AT_ONCE * CHUNK_BYTES, meta.size_bytes), CHUNK_BYTES)
            for reply in self._ask([ReadSnapshot(0, one) for one in offsets]):
                if not isinstance(reply, SnapshotPart):
                    raise _wrong(reply)
                if reply.refusal is not None or reply.meta != meta:
                    raise NotExecuted(f"no backup was taken: {reply.refusal or 'the snapshot changed'}")
                yield self.encoder.encoded(reply.records)
            offset = offsets[-1] + CHUNK_BYTES

    def log(self, after: Viewstamp, wall_time_ms: int) -> Iterator[bytes]:
        """Yield the header of a stream of entries only."""
        part = self._read_log(after)
        origin = self._origin
        yield self.encoder.begin(
            log_header(
                origin.cluster_id,
                origin.protocol,
                after,
                digest=part.digest,
                wall_time_ms=wall_time_ms,
                members=origin.members,
                limits=origin.limits,
            )
        )

    def entries(self, *, upto: int | None = None) -> Iterator[bytes]:
        """Yield the entries that follow what was written, as far as the node has them or up to a seqno.

        Raises:
            Compacted: the node has forgotten some of them.
        """
        while upto is None or self.encoder.progress.last.seqno < upto:
            records = self._read_log(self.encoder.progress.last).records
            if not records:
                return
            yield self.encoder.encoded(records)

    def mark(self, wall_time_ms: int) -> bytes:
        """Return a mark: at this time nothing was known beyond what was written."""
        last = self.encoder.progress.last
        return self.encoder.record(Mark(wall_time_ms, last.view, last.seqno))

    def _begin(self, at_least: Viewstamp) -> tuple[SnapshotMeta, SnapshotPart]:
        reason = "it takes no snapshot"
        for _ in range(ATTEMPTS):
            told, part = self._ask([TakeSnapshot()])[0], None
            if not isinstance(told, AdminReply):
                raise _wrong(told)
            (part,) = self._ask([ReadSnapshot(0, 0, at_least.seqno)])
            if not isinstance(part, SnapshotPart):
                raise _wrong(part)
            if part.meta is not None and part.refusal is None:
                return part.meta, part
            reason = told.refusal or part.refusal or reason
            self._pause()
        raise NotExecuted(f"no backup was taken: {reason}")

    def _header(self, meta: SnapshotMeta, part: SnapshotPart, wall_time_ms: int) -> Header:
        found = split_record(memoryview(part.records))
        if found is None or not isinstance(found[0], Chunk):
            raise StreamDamaged("a server sent what is not a piece of a snapshot")
        preface, origin = preface_of(found[0].data), self._origin
        return Header(
            format=FORMAT,
            cluster_id=origin.cluster_id,
            protocol=origin.protocol,
            machine=preface.machine,
            machine_version=meta.machine_version,
            level=meta.level,
            viewstamp=meta.viewstamp,
            log_time=preface.log_time,
            wall_time_ms=wall_time_ms,
            digest=preface.digest,
            members=origin.members,
            limits=origin.limits,
            snapshot=SnapshotHead(meta.size_bytes, meta.digest, meta.format, meta.header),
            code=part.code,
        )

    def _read_log(self, after: Viewstamp) -> LogPart:
        (part,) = self._ask([ReadLog(0, after, PART_BYTES)])
        if not isinstance(part, LogPart):
            raise _wrong(part)
        if part.refusal is None:
            return part
        if part.refusal.startswith("compacted"):
            raise Compacted(part.refusal)
        raise NotExecuted(f"the log was not read: {part.refusal}")


def _wrong(reply: OperatorReply) -> ProtocolViolation:
    return ProtocolViolation(f"a node answered with {type(reply).__name__}, which was not asked for")
