"""Reading a stream: bytes to records, or a refusal that names the byte.

A stream without its end record is not whole: something may be missing at its end. Only a reader that says so
(`growing`) gets what is there, up to the last whole record. A stream that ends inside its snapshot is refused
even then: it holds no state.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from viewstamp.stream.progress import Progress
from viewstamp.stream.records import MAGIC, End, Record, StreamDamaged, split_record

READ_BYTES: Final = 1 << 20
"""What a caller does well to read at a time."""


class StreamDecoder:
    """One stream that is being read, in pieces of any size."""

    __slots__ = ("_begun", "_rest", "progress")

    def __init__(self) -> None:
        self.progress = Progress()
        """What was read so far. `size_bytes` is where the next record begins. Read-only for callers."""
        self._begun = False
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Record]:
        """Yield the records that are complete with these bytes. Consume it to its end.

        Raises:
            StreamDamaged: the bytes are not those of a stream. Records before the fault were yielded.
        """
        buffer = self._rest + data if self._rest else data
        self._rest = b""
        begin = 0
        if not self._begun:
            if not MAGIC.startswith(buffer[: len(MAGIC)]):
                raise StreamDamaged("it is not a stream of viewstamp: it begins with something else")
            if len(buffer) < len(MAGIC):
                self._rest = buffer
                return
            self._begun = True
            begin = len(MAGIC)
        yield from self._records(memoryview(buffer), begin)

    def _records(self, view: memoryview, begin: int) -> Iterator[Record]:
        progress, counted = self.progress, 0
        while True:
            try:
                found = split_record(view[begin:])
                if found is None:
                    break
                if isinstance(found[0], End):
                    progress.count(view[counted:begin])
                    counted = begin
                progress.take(found[0])
            except StreamDamaged as error:
                where = progress.size_bytes + begin - counted
                raise StreamDamaged(f"the stream is damaged at byte {where}: {error}") from None
            begin += found[1]
            yield found[0]
        progress.count(view[counted:begin])
        self._rest = bytes(view[begin:])

    def finish(self) -> None:
        """Say that no more bytes come.

        Raises:
            StreamDamaged: the stream is not whole: its end record is missing, or only part of a record came.
        """
        progress = self.progress
        if not progress.whole or self._rest:
            last = f"its last whole record is {progress.last}" if progress.header else "it has no header"
            raise StreamDamaged(
                f"the stream ends at byte {progress.size_bytes + len(self._rest)} without its end record: "
                f"it is not a whole backup; {last}"
            )

    def finish_growing(self) -> None:
        """Say that no more bytes came of a stream that may end anywhere after its snapshot.

        Raises:
            StreamDamaged: the snapshot that the header announces is not complete.
        """
        progress = self.progress
        if progress.header is not None and not progress.has_snapshot:
            raise StreamDamaged(
                f"the stream ends at byte {progress.size_bytes + len(self._rest)} inside its snapshot: it "
                "holds no state that could be verified or restored"
            )


def read_records(pieces: Iterable[bytes], *, growing: bool = False) -> Iterator[Record]:
    """Yield the records of a stream. With `growing` it may end anywhere after its snapshot.

    A record that is incomplete there is left out.

    Raises:
        StreamDamaged: it is not what was written, or the snapshot is not complete; without `growing` also:
            it is not whole.
    """
    decoder = StreamDecoder()
    for piece in pieces:
        yield from decoder.feed(piece)
    if growing:
        decoder.finish_growing()
    else:
        decoder.finish()
