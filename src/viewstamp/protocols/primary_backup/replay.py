"""Reading a journal back: from records to promise, record of the synchronous set, and log.

A replay may begin with writes that had been released already, so the first records may speak of entries whose
predecessors are gone. Whether that is a hole or only history is decided at the end, against the last base.
The oracles' durable images are replays that go on as a node writes.
"""

from collections.abc import Sequence
from typing import assert_never

from viewstamp.core.errors import JournalCorrupt
from viewstamp.core.ids import ORIGIN, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.protocol import Recovered
from viewstamp.protocols.primary_backup.records import Adopted, Base, Promise, SyncRecord, decode_record
from viewstamp.protocols.shipping.entries import EntryRecord, Truncation
from viewstamp.protocols.shipping.log import Log

_HINT = "start this node with an empty data directory to have it let back in"


class Replay:
    """What the writes so far amount to."""

    __slots__ = ("base", "candidate", "epoch", "founded", "granted", "log", "record")

    def __init__(self) -> None:
        self.epoch = 0
        """The highest epoch promised; in the course's form the number of the last takeover heard of."""
        self.candidate: NodeId | None = None
        """Who is primary of that epoch, if anybody is."""
        self.granted = False
        """Whether this node helped it to that."""
        self.record: SyncRecord | None = None
        self.founded = False
        """Whether a base was seen: the first write of every life of a fenced data directory holds one."""
        self.base = ORIGIN
        """The last base's position: the log must reach down to it in the end."""
        self.log = Log()

    def write(self, seq: PersistSeq, records: Sequence[bytes]) -> None:
        """Take in one atomic write.

        Raises:
            JournalCorrupt: a record is not one of this protocol's, or does not follow those before it.
        """
        for encoded in records:
            record = decode_record(encoded)
            if type(record) is EntryRecord:
                self._append(record, encoded, seq)
            elif type(record) is Promise:
                self.epoch, self.candidate = record.epoch, record.candidate
                self.granted = record.granted
            elif type(record) is Truncation:
                self._truncate(record.after)
            elif type(record) is Base:
                self._move_base(record, seq)
            elif type(record) is Adopted:
                self.record = record.record
            else:
                assert_never(record)  # type: ignore[arg-type]  # `type() is` does not narrow a union

    def _append(self, entry: EntryRecord, encoded: bytes, seq: PersistSeq) -> None:
        log = self.log
        if entry.seqno != log.last_seqno + 1:
            if log.last_seqno != log.base_seqno or entry.seqno <= self.base.seqno:
                raise JournalCorrupt(
                    f"entry {entry.view}.{entry.seqno} in write {seq} does not follow {log.last}: {_HINT}"
                )
            log.reset(Viewstamp(View(0), Seqno(entry.seqno - 1)), seq)
        log.append(entry, encoded, seq)

    def _truncate(self, after: int) -> None:
        if after < self.base.seqno:
            raise JournalCorrupt(
                f"a record cuts the log off after {after}, before its base {self.base}: {_HINT}"
            )
        self.log.truncate(max(after, self.log.base_seqno))

    def _move_base(self, marker: Base, seq: PersistSeq) -> None:
        """Install the base; entries after `kept` are gone, those between stay."""
        log = self.log
        base = Viewstamp(View(marker.view), Seqno(marker.seqno))
        self.founded, self.base = True, base
        if marker.kept < log.last_seqno:
            self._truncate(marker.kept)
        if marker.kept <= marker.seqno or log.last_seqno <= marker.seqno:
            log.reset(base, seq)
        elif log.base_seqno <= marker.seqno:
            log.compact(base)

    def finish(self, recovered: Recovered) -> bool:
        """Make a fenced log ready to go on from; tell whether the snapshot is newer than the journal knows.

        Raises:
            JournalCorrupt: something between the snapshot and the end of the log is missing.
        """
        if not self.founded:
            if recovered.written or recovered.snapshot:
                raise JournalCorrupt(f"the journal holds no founding record: {_HINT}")
            return False
        position = recovered.snapshot.meta.viewstamp if recovered.snapshot else ORIGIN
        if self.log.base != self.base or position.seqno < self.base.seqno:
            raise JournalCorrupt(
                f"the log begins after {self.log.base}, the snapshot is of {position}, the journal says "
                f"{self.base}, and something between is missing: {_HINT}"
            )
        self.log.persisted(recovered.written)
        return recovered.snapshot is not None and self.install(position, recovered.written)

    def install(self, position: Viewstamp, seq: PersistSeq) -> bool:
        """Go on from a snapshot that the journal may not know of; tell whether the log had to give way."""
        log = self.log
        if log.view_at(position.seqno) == position.view or position.seqno < log.base_seqno:
            return False
        log.reset(position, PersistSeq(0))
        log.persisted(seq)
        self.base = position
        return True


def replay(recovered: Recovered) -> tuple[Replay, bool]:
    """Read a fenced journal back; see `Replay.finish` for the second result and for what is raised."""
    state = Replay()
    for seq, records in recovered.writes:
        state.write(seq, records)
    return state, state.finish(recovered)
