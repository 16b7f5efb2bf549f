"""Writing a stream: records to bytes, in the one order that a reader accepts."""

from viewstamp.stream.progress import Progress
from viewstamp.stream.records import (
    MAGIC,
    Chunk,
    Header,
    LogEntry,
    Mark,
    StreamDamaged,
    encode_record,
    split_record,
)


class StreamEncoder:
    """One stream that is being written. Each method returns bytes to append; keep them in this order."""

    __slots__ = ("progress",)

    def __init__(self, progress: Progress | None = None) -> None:
        """Begin a new stream, or go on where the reader of one without an end record stands."""
        self.progress = progress or Progress()
        """What was written so far. Read-only for callers."""

    def begin(self, header: Header) -> bytes:
        """Return the first bytes of the stream."""
        self.progress.take(header)
        return self._counted(MAGIC + encode_record(header))

    def record(self, record: Chunk | LogEntry | Mark) -> bytes:
        """Return one record.

        Raises:
            StreamDamaged: it may not follow what was written.
        """
        self.progress.take(record)
        return self._counted(encode_record(record))

    def encoded(self, records: bytes) -> bytes:
        """Return these records, as they came from a server, after a look at each.

        Raises:
            StreamDamaged: they are not records of a log, or may not follow what was written.
        """
        view, offset = memoryview(records), 0
        while offset < len(view):
            found = split_record(view[offset:])
            if found is None or not isinstance(found[0], Chunk | LogEntry):
                raise StreamDamaged("a server sent what is not a piece of its log")
            self.progress.take(found[0])
            offset += found[1]
        return self._counted(records)

    def end(self) -> bytes:
        """Return the end record: the stream is whole.

        Raises:
            StreamDamaged: the snapshot is not complete.
        """
        end = self.progress.end()
        self.progress.take(end)
        return encode_record(end)

    def _counted(self, data: bytes) -> bytes:
        self.progress.count(data)
        return data
