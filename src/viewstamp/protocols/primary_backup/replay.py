"""Reading a journal back: from records to promise, record of the synchronous set, and log."""

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from viewstamp.core.ids import NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.protocol import Recovered
from viewstamp.protocols.primary_backup.records import Adopted, Base, Promise, SyncRecord, decode_record
from viewstamp.protocols.shipping.entries import EntryRecord, Truncation
from viewstamp.protocols.shipping.log import Log
from viewstamp.protocols.shipping.rebuilding import RebuiltLog


class Replay:
    """What the writes so far amount to."""

    __slots__ = ("candidate", "epoch", "granted", "rebuilt", "record")

    def __init__(self) -> None:
        self.epoch = 0
        """The highest epoch promised; in the course's form the number of the last takeover heard of."""
        self.candidate: NodeId | None = None
        """Who is primary of that epoch, if anybody is."""
        self.granted = False
        """Whether this node helped it to that."""
        self.record: SyncRecord | None = None
        self.rebuilt = RebuiltLog()

    @property
    def log(self) -> Log:
        """The log as of the writes so far."""
        return self.rebuilt.log

    @property
    def view(self) -> View:
        """The epoch promised."""
        return View(self.epoch)

    @property
    def promises(self) -> Mapping[str, Any]:
        """To whom that epoch was granted by this node."""
        return {"epoch granted to": self.candidate if self.granted else None}

    def write(self, seq: PersistSeq, records: Sequence[bytes]) -> None:
        """Take in one atomic write.

        Raises:
            JournalCorrupt: a record is not one of this protocol's, or does not follow those before it.
        """
        for encoded in records:
            record = decode_record(encoded)
            if type(record) is EntryRecord:
                self.rebuilt.append(record, encoded, seq)
            elif type(record) is Promise:
                self.epoch, self.candidate = record.epoch, record.candidate
                self.granted = record.granted
            elif type(record) is Truncation:
                self.rebuilt.truncate(record.after)
            elif type(record) is Base:
                base = Viewstamp(View(record.view), Seqno(record.seqno))
                self.rebuilt.move_base(base, record.kept, seq)
            elif type(record) is Adopted:
                self.record = record.record
            else:
                assert_never(record)  # type: ignore[arg-type]  # `type() is` does not narrow a union


def replay(recovered: Recovered) -> tuple[Replay, bool]:
    """Read a fenced journal back; see `RebuiltLog.finish` for the second result and for what is raised."""
    state = Replay()
    for seq, records in recovered.writes:
        state.write(seq, records)
    return state, state.rebuilt.finish(recovered)
