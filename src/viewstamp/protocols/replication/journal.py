"""A log, read back from a journal: entry by entry, cut by cut, base by base.

A replay may begin with writes that had been released already, so the first records may speak of entries whose
predecessors are gone. Whether that is a hole or only history is decided at the end, against the last base.
The oracles' durable images are replays that go on as a node writes.
"""

from typing import Final, Literal

from viewstamp.core.errors import MOVE_AWAY, JournalCorrupt
from viewstamp.core.ids import ORIGIN, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.protocol import Recovered
from viewstamp.protocols.replication.log import EntryRecord, Log

_HINT: Final = MOVE_AWAY
BaseMove = Literal["emptied", "shortened", "none"]


class RebuiltLog:
    """What the writes so far amount to."""

    __slots__ = ("base", "bootstrapped", "log")

    def __init__(self) -> None:
        self.bootstrapped = False
        """Whether a base was seen: the first write to every data directory holds one."""
        self.base = ORIGIN
        """The last base's position: the log must reach down to it in the end."""
        self.log = Log()

    def append(self, entry: EntryRecord, encoded: bytes, seq: PersistSeq) -> None:
        """Take in an entry.

        Raises:
            JournalCorrupt: it does not follow the one before.
        """
        log = self.log
        if entry.seqno < 1:
            raise JournalCorrupt(f"write {seq} holds an entry {entry.view}.{entry.seqno}: {_HINT}")
        if entry.seqno != log.last_seqno + 1:
            if log.last_seqno != log.base_seqno or entry.seqno <= self.base.seqno:
                raise JournalCorrupt(
                    f"entry {entry.view}.{entry.seqno} in write {seq} does not follow {log.last}: {_HINT}"
                )
            log.reset(Viewstamp(View(0), Seqno(entry.seqno - 1)), seq)
        log.append(entry, encoded, seq)

    def truncate(self, after: int) -> None:
        """Entries after this seqno are gone.

        Raises:
            JournalCorrupt: the log's base is one of them.
        """
        if after < self.base.seqno:
            raise JournalCorrupt(
                f"a record cuts the log off after {after}, before its base {self.base}: {_HINT}"
            )
        self.log.truncate(max(after, self.log.base_seqno))

    def move_base(self, base: Viewstamp, kept: int, seq: PersistSeq) -> BaseMove:
        """The log begins after `base`; entries after `kept` are gone, those between stay."""
        log = self.log
        self.bootstrapped, self.base = True, base
        if kept < log.last_seqno:
            self.truncate(kept)
        if kept <= base.seqno or log.last_seqno <= base.seqno:
            log.reset(base, seq)
            return "emptied"
        if log.base_seqno <= base.seqno:
            log.compact(base)
            return "shortened"
        return "none"

    def finish(self, recovered: Recovered) -> bool:
        """Make the log ready to go on from. Return whether the snapshot is newer than the journal knows.

        Raises:
            JournalCorrupt: something between the snapshot and the end of the log is missing.
        """
        if not self.bootstrapped:
            if recovered.written or recovered.snapshot:
                raise JournalCorrupt(f"the journal holds no bootstrap record: {_HINT}")
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
        """Go on from a snapshot that the journal may not know of; return whether the log had to give way."""
        log = self.log
        if log.view_at(position.seqno) == position.view or position.seqno < log.base_seqno:
            return False
        log.reset(position, 0)
        log.persisted(seq)
        self.base = position
        return True
