"""Reading a journal back: from records to term, vote, log and configuration.

A replay may begin with writes that had been released already, so the first records may speak of entries whose
predecessors are gone. Whether that is a hole or only history is decided at the end, against the last marker.
The oracle's durable images are replays that go on as a node writes.
"""

from collections.abc import Sequence
from typing import assert_never

from viewstamp.core.errors import JournalCorrupt
from viewstamp.core.ids import ORIGIN, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.protocol import Recovered
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.raft.configuration import Configuration, decode_configuration
from viewstamp.protocols.raft.membership import Membership
from viewstamp.protocols.raft.records import CONFIGURATION, HardState, Marker, decode_record
from viewstamp.protocols.shipping.entries import EntryRecord, Truncation
from viewstamp.protocols.shipping.log import Log


class Replay:
    """What the writes so far amount to."""

    __slots__ = ("base", "founded", "log", "membership", "term", "vote")

    def __init__(self) -> None:
        self.term = 0
        self.vote: NodeId | None = None
        self.founded = False
        """Whether a marker was seen: the first write of every life of a data directory holds one."""
        self.base = ORIGIN
        """The last marker's position: the log must reach down to it in the end."""
        self.log = Log()
        self.membership = Membership(Configuration(), 0)

    def write(self, seq: PersistSeq, records: Sequence[bytes]) -> None:
        """Take in one atomic write.

        Raises:
            JournalCorrupt: a record is not one of raft's, or does not follow those before it.
        """
        for encoded in records:
            record = decode_record(encoded)
            if type(record) is EntryRecord:
                self._append(record, encoded, seq)
            elif type(record) is HardState:
                self.term, self.vote = record.term, record.vote
            elif type(record) is Truncation:
                self._truncate(record.after)
            elif type(record) is Marker:
                self._move_base(record, seq)
            else:
                assert_never(record)  # type: ignore[arg-type]  # `type() is` does not narrow a union

    def _append(self, entry: EntryRecord, encoded: bytes, seq: PersistSeq) -> None:
        log = self.log
        if entry.seqno != log.last_seqno + 1:
            if log.last_seqno != log.base_seqno or entry.seqno <= self.base.seqno:
                raise JournalCorrupt(
                    f"entry {entry.view}.{entry.seqno} in write {seq} does not follow {log.last}: "
                    "start this node with an empty data directory to have it let back in"
                )
            log.reset(Viewstamp(View(0), Seqno(entry.seqno - 1)), seq)
        log.append(entry, encoded, seq)
        if entry.kind == CONFIGURATION:
            configuration = decode_configuration(entry.data)
            if configuration is None:
                raise JournalCorrupt(f"entry {entry.view}.{entry.seqno} holds an unreadable configuration")
            self.membership.append(entry.seqno, configuration)

    def _truncate(self, after: int) -> None:
        if after < self.base.seqno:
            raise JournalCorrupt(f"a record cuts the log off after {after}, before its base {self.base}")
        self.log.truncate(max(after, self.log.base_seqno))
        self.membership.truncate(after)

    def _move_base(self, marker: Marker, seq: PersistSeq) -> None:
        """Install the marker's base; entries after `kept` are gone, those between stay."""
        log = self.log
        base = Viewstamp(View(marker.view), Seqno(marker.seqno))
        self.founded, self.base = True, base
        if marker.kept < log.last_seqno:
            self._truncate(marker.kept)
        if marker.kept <= marker.seqno or log.last_seqno <= marker.seqno:
            log.reset(base, seq)
            self.membership.reset(marker.configuration, marker.seqno)
        elif log.base_seqno <= marker.seqno:
            log.compact(base)
            self.membership.rebase(marker.configuration, marker.seqno)

    def finish(self, recovered: Recovered) -> bool:
        """Make the log ready to go on from. Return whether the snapshot is newer than the journal knows.

        Raises:
            JournalCorrupt: something between the snapshot and the end of the log is missing.
        """
        if not self.founded:
            if recovered.written or recovered.snapshot:
                raise JournalCorrupt(
                    "the journal holds no founding record: start this node with an empty data directory "
                    "to have it let back in"
                )
            return False
        meta = recovered.snapshot.meta if recovered.snapshot else None
        position = meta.viewstamp if meta else ORIGIN
        if self.log.base != self.base or position.seqno < self.base.seqno:
            raise JournalCorrupt(
                f"the log begins after {self.log.base}, the snapshot is of {position}, the journal says "
                f"{self.base}: something between is missing; start this node with an empty data directory"
            )
        self.log.persisted(recovered.written)
        return meta is not None and self.install(meta, recovered.written)

    def install(self, meta: SnapshotMeta, seq: PersistSeq) -> bool:
        """Go on from a snapshot that the journal may not know of; return whether the log had to give way."""
        position = meta.viewstamp
        if self.log.view_at(position.seqno) == position.view or position.seqno < self.log.base_seqno:
            return False
        configuration = decode_configuration(meta.header)
        if configuration is None:
            raise JournalCorrupt(f"the snapshot of {position} has an unreadable header")
        self.log.reset(position, 0)
        self.log.persisted(seq)
        self.membership.reset(configuration, position.seqno)
        self.base = position
        return True


def replay(recovered: Recovered) -> tuple[Replay, bool]:
    """Read a journal back; see `Replay.finish` for the second result and for what is raised."""
    state = Replay()
    for seq, records in recovered.writes:
        state.write(seq, records)
    return state, state.finish(recovered)
