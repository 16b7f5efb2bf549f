"""Writing the end of a segment past the page cache, where the file system offers that.

A sync of what lies in the page cache waits for the kernel to find the page, write it and flush the disk; a
direct write has been written when it returns, and the sync only flushes: a fifth quicker for short frames.
What is promised is the same: durable is what a `fdatasync` after it has returned for.

The rules of this file:

1. Direct writes are whole blocks: the first begins with what stands there already, the last ends in zeros. So
   they are for files behind whose last write nothing but zeros stand, such as a segment.
2. Whatever does not fit (a long frame, the end of the file, a file system that refuses) is written the usual
   way. The kernel keeps both ways consistent.
"""

import errno
import mmap
import os
from typing import Final

from viewstamp.storage.files import File, OsFile

BLOCK_BYTES: Final = 4_096
BUFFER_BYTES: Final = 16 * BLOCK_BYTES
_NOWHERE: Final = -1


class TailFile:
    """A `File` that is written at its end."""

    __slots__ = ("_buffer", "_calls", "_direct", "_file", "_next", "_size_bytes", "fdatasync")

    def __init__(self, file: OsFile, direct: int) -> None:
        """Take over `file` and a descriptor of it that was opened for direct writes."""
        self._file = file
        self._calls = file.calls
        self._direct = direct
        """-1 once it is closed, or where the file system refused a direct write."""
        self._size_bytes = file.size()
        self._buffer = mmap.mmap(-1, BUFFER_BYTES)
        """Begins with the block in which `_next` lies, up to there. Aligned, as direct writes must be."""
        self._next = _NOWHERE
        """Where the next write is expected."""
        self.fdatasync = file.fdatasync
        """Make content and size durable, whichever way it was written."""

    def pwrite(self, data: bytes, offset: int) -> int:
        """Write some of `data` and return how many bytes; what stands behind them becomes zeros."""
        head = offset % BLOCK_BYTES
        end = head + len(data)
        size = -(-end // BLOCK_BYTES) * BLOCK_BYTES
        if self._direct < 0 or size > BUFFER_BYTES or offset - head + size > self._size_bytes:
            self._next = _NOWHERE
            return self._file.pwrite(data, offset)
        if offset != self._next:
            self._buffer[:head] = self._begun(head, offset - head)
        self._buffer[head:size] = data.ljust(size - head, b"\0")
        try:
            written = self._calls.pwrite(self._direct, memoryview(self._buffer)[:size], offset - head)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._stop()  # not for direct writes of this size, or not for any
            return self._file.pwrite(data, offset)
        if written != size:
            self._next = _NOWHERE
            return self._file.pwrite(data, offset)
        rest = end % BLOCK_BYTES
        self._buffer[:rest] = self._buffer[end - rest : end]
        self._next = offset + len(data)
        return len(data)

    def _begun(self, length: int, offset: int) -> bytes:
        """Return what stands at the beginning of a block."""
        begun = b""
        while len(begun) < length:
            piece = self._file.pread(length - len(begun), offset + len(begun))
            if not piece:
                raise OSError(errno.EIO, "the file is shorter than it was")
            begun += piece
        return begun

    def pread(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes."""
        return self._file.pread(length, offset)

    def size(self) -> int:
        """Return the length in bytes."""
        return self._file.size()

    def close(self) -> None:
        """Close it, once."""
        self._stop()
        self._file.close()

    def _stop(self) -> None:
        direct, self._direct = self._direct, -1
        if direct >= 0:
            self._calls.close(direct)


def tail_of(file: File) -> File:
    """Return a file for writes at the end of this one: direct ones if its file system can, else itself."""
    if not isinstance(file, OsFile) or not hasattr(os, "O_DIRECT"):
        return file
    try:
        direct = file.calls.open(f"/proc/self/fd/{file.descriptor}", os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return file
    return TailFile(file, direct)
