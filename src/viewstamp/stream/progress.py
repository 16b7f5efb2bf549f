"""How far a stream has come: which record may follow, and what its end record has to say.

Writer and reader hold to the same rules, and a writer can go on where a reader of an unfinished one stands.
"""

from hashlib import sha256

import xxhash

from viewstamp.core.ids import ORIGIN, Viewstamp
from viewstamp.stream.records import Chunk, End, Header, LogEntry, Mark, Record, StreamDamaged


class Progress:
    """What was written or read so far, record by record."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_hash",
        "chunks",
        "digest",
        "entries",
        "header",
        "last",
        "marks",
        "size_bytes",
        "whole",
    )

    def __init__(self) -> None:
        self.header: Header | None = None
        self.chunks = 0
        self.entries = 0
        self.marks = 0
        self.last: Viewstamp = ORIGIN
        """The last entry, or where the stream begins."""
        self.digest = 0
        """The digest chain of results up to `last`."""
        self.whole = False
        """Whether the end record was seen."""
        self.size_bytes = 0
        """Of everything counted so far."""
        self._hash = sha256()
        self._body = xxhash.xxh3_64()
        self._body_bytes = 0

    @property
    def has_snapshot(self) -> bool:
        """Whether there is a header, and all of the snapshot that it announces."""
        if self.header is None:
            return False
        return self.header.snapshot is None or self._body_bytes == self.header.snapshot.size_bytes

    def count(self, data: bytes | memoryview) -> None:
        """Count bytes of whole records: the end record states their number and their hash."""
        self._hash.update(data)
        self.size_bytes += len(data)

    def end(self) -> End:
        """Return the end record of a stream with what was counted."""
        return End(self.chunks, self.entries, self.marks, self.size_bytes, self._hash.digest())

    def take(self, record: Record) -> None:
        """Take in the next record. Everything before an end record must have been counted.

        Raises:
            StreamDamaged: it may not stand here.
        """
        if self.whole:
            raise StreamDamaged("something follows the end record")
        if type(record) is LogEntry:  # nearly all are; `match` would cost more
            self._take_entry(record)
        elif isinstance(record, Header):
            self._take_header(record)
        elif isinstance(record, Chunk):
            self._take_chunk(record)
        elif isinstance(record, Mark):
            self._take_mark(record)
        else:
            assert isinstance(record, End)
            self._take_end(record)

    def _take_entry(self, entry: LogEntry) -> None:
        self._require_snapshot()
        last = self.last
        if entry.seqno != last.seqno + 1 or entry.view < last.view:
            raise StreamDamaged(f"entry {entry.viewstamp} does not follow {last}")
        self.last, self.digest = entry.viewstamp, entry.digest
        self.entries += 1

    def _take_header(self, header: Header) -> None:
        if self.header is not None:
            raise StreamDamaged("there is a second header")
        self.header, self.last, self.digest = header, header.viewstamp, header.digest

    def _take_chunk(self, chunk: Chunk) -> None:
        snapshot = None if self.header is None else self.header.snapshot
        if snapshot is None or chunk.offset != self._body_bytes or not chunk.data or self.has_snapshot:
            raise StreamDamaged("a piece of a snapshot is out of place")
        self._body.update(chunk.data)
        self._body_bytes += len(chunk.data)
        self.chunks += 1
        missing = snapshot.size_bytes - self._body_bytes
        if missing < 0:
            raise StreamDamaged("the snapshot is longer than the header says")
        if missing == 0 and self._body.intdigest() != snapshot.digest:
            raise StreamDamaged("the snapshot's digest is wrong")

    def _take_mark(self, mark: Mark) -> None:
        self._require_snapshot()
        if (mark.view, mark.seqno) != (self.last.view, self.last.seqno):
            raise StreamDamaged(f"a mark of {mark.view}.{mark.seqno} stands behind {self.last}")
        self.marks += 1

    def _take_end(self, end: End) -> None:
        self._require_snapshot()
        if end != self.end():
            raise StreamDamaged("the end record states other content than there is")
        self.whole = True

    def _require_snapshot(self) -> None:
        if self.header is None:
            raise StreamDamaged("it does not begin with a header")
        if not self.has_snapshot:
            raise StreamDamaged("the snapshot is not complete")
