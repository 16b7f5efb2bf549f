"""Frames on a byte stream, without a stream: bytes in, frames out (docs/reference/wire-format.md).

Rules of this file:

- A frame is a fixed header of 16 bytes and a payload. The header holds magic, version, kind, length and a
  checksum; the checksum is taken over the payload and seeded with the rest of the header, so that no bit of
  either can change unseen.
- A length beyond the limit is refused before a byte of the payload is kept.
- The splitter is total: for any bytes it yields frames, waits for more, or raises `ProtocolViolation`.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final

from xxhash import xxh3_64_intdigest

from viewstamp.core.errors import ProtocolViolation

FRAME_VERSION: Final = 1
"""Of the frames alone, so that every version can read another's hello. See `handshake.WIRE` for the rest."""

NOTHING: Final = -1
"""No frame is of this kind."""
HELLO: Final = 1
"""The first frame of a connection, from the end that opened it."""
WELCOME: Final = 2
"""The answer to a hello that is accepted."""
REFUSAL: Final = 3
"""The answer to one that is not; the connection is closed after it."""
PEER: Final = 4
"""A message of the protocol from member to member."""
CLIENT: Final = 5
"""A `core.messages.ClientMessage`."""
SERVER: Final = 6
"""A `core.messages.ServerMessage`."""
CHALLENGE: Final = 7
"""The answer to a hello that must be proved (`proof`)."""
PROOF: Final = 8
"""The answer to a challenge."""

HEADER_BYTES: Final = 16
_HEADER: Final = Struct("<QQ")
_unpack: Final = _HEADER.unpack_from
_pack: Final = _HEADER.pack
_MAGIC: Final = 0x5356  # "VS", little-endian
_PREFIX: Final = _MAGIC | FRAME_VERSION << 16
_PREFIX_MASK: Final = 0xFFFFFF
_KIND_PREFIXES: Final = tuple(_PREFIX | kind << 24 for kind in range(PROOF + 1))


def frame_header(kind: int, payload: bytes) -> bytes:
    """Return the header that goes before `payload`; the two are sent one after the other."""
    word = _KIND_PREFIXES[kind] | len(payload) << 32
    return _pack(word, xxh3_64_intdigest(payload, word))


def encode_frame(kind: int, payload: bytes) -> bytes:
    """Return a whole frame. Where many are sent at once, join headers and payloads instead."""
    return frame_header(kind, payload) + payload


class FrameQueue:
    """Frames that wait to be sent over one connection."""

    __slots__ = ("_kind", "parts", "size")

    def __init__(self, kind: int) -> None:
        self._kind = kind
        """Of the frames that `put` adds."""
        self.parts: list[bytes] = []
        """Headers and payloads, in turn. Read-only for callers."""
        self.size = 0
        """Bytes in `parts`."""

    def put(self, payload: bytes) -> None:
        """Add a message."""
        self.parts += frame_header(self._kind, payload), payload
        self.size += HEADER_BYTES + len(payload)

    def add(self, kind: int, payload: bytes) -> None:
        """Add a frame of some kind."""
        self.parts += frame_header(kind, payload), payload
        self.size += HEADER_BYTES + len(payload)

    def take(self) -> bytes:
        """Remove everything and return it, in one piece."""
        parts, self.parts = self.parts, []
        self.size = 0
        return b"".join(parts)

    def clear(self) -> None:
        """Remove everything."""
        self.parts = []
        self.size = 0


FREE_BYTES: Final = 16 << 10
"""Of each connection, outside the budget."""


class UnfinishedBytes:
    """A budget for the frames that have begun and not ended: of all connections of one node together.

    Each connection may hold a little of a frame at any time, so that a full budget does not touch those whose
    frames are short or just cut in two by a read. What it holds beyond that comes out of the budget. The
    connection whose frame would go over it is the one that is given up.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        """0 <= used <= limit."""

    def change(self, before: int, after: int) -> None:
        """A connection's unfinished frame grows or shrinks to this many bytes.

        Raises:
            ProtocolViolation: the budget is used up; nothing was changed.
        """
        used = self.used + max(after - FREE_BYTES, 0) - max(before - FREE_BYTES, 0)
        if used > self.limit and after > before:
            raise ProtocolViolation(
                f"unfinished frames fill the {self.limit} bytes that this node has for them: try again later"
            )
        self.used = used
        assert used >= 0, "a connection gave back more than it took"


class Splitter:
    """Cuts a stream into frames. One splitter belongs to one connection."""

    __slots__ = ("_needed", "_pending", "budget", "frames_cut", "payload_bytes_max")

    def __init__(self, payload_bytes_max: int) -> None:
        self.budget: UnfinishedBytes | None = None
        """What an unfinished frame is counted in, together with those of other connections."""
        self.frames_cut = 0
        """Frames of which a part had to be kept. While one is unfinished, this names it."""
        self.payload_bytes_max = payload_bytes_max
        """May be raised between two frames, as when a hello was accepted."""
        self._pending = bytearray()
        """The beginning of a frame; len(_pending) < _needed between two calls of `split`."""
        self._needed = HEADER_BYTES
        """Bytes from the beginning of `_pending` without which nothing more can be said."""

    @property
    def in_frame(self) -> bool:
        """Whether the stream stands in the middle of a frame: if it ends now, something was cut off."""
        return bool(self._pending)

    def single(self, data: bytes) -> tuple[int, bytes] | None:
        """Return (kind, payload) if these bytes are one whole frame and nothing else; None: `split` them.

        That is how a frame comes where messages are small and few, and it costs a third of `split`.
        """
        size = len(data)
        if size < HEADER_BYTES or self._pending:
            return None
        word, checksum = _unpack(data)
        if size != HEADER_BYTES + (word >> 32) or word & _PREFIX_MASK != _PREFIX:
            return None
        payload = data[HEADER_BYTES:]
        if word >> 32 > self.payload_bytes_max or xxh3_64_intdigest(payload, word) != checksum:
            return None
        return word >> 24 & 0xFF, payload

    def split(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Take in bytes and yield (kind, payload) of each frame that they complete.

        The caller consumes the iterator to its end, or gives the connection up.

        Raises:
            ProtocolViolation: this is not our stream, or it is damaged. Frames before the fault were yielded.
        """
        if self._pending:
            size = len(self._pending)
            self._count(size, size + len(data))
            self._pending += data
            if len(self._pending) < self._needed:
                return
            data = bytes(self._pending)
            self.give_back()
        unpack, digest = _unpack, xxh3_64_intdigest
        start, size = 0, len(data)
        needed = HEADER_BYTES
        while size - start >= HEADER_BYTES:
            word, checksum = unpack(data, start)
            end = start + HEADER_BYTES + (word >> 32)
            if word & _PREFIX_MASK != _PREFIX or word >> 32 > self.payload_bytes_max:
                raise ProtocolViolation(self._explain(word))
            if end > size:
                needed = end - start
                break
            payload = data[start + HEADER_BYTES : end]
            if digest(payload, word) != checksum:
                raise ProtocolViolation("a frame's checksum is wrong: it was damaged on its way")
            start = end
            yield word >> 24 & 0xFF, payload
        if start < size:
            self._keep(data[start:], needed)

    def _keep(self, rest: bytes, needed: int) -> None:
        """Wait for more. What can no longer become a frame is refused even before its header is whole."""
        prefix = _PREFIX.to_bytes(3, "little")
        if rest[:3] != prefix[: len(rest)]:
            raise ProtocolViolation(self._explain(int.from_bytes(rest[:3], "little")))
        self._count(0, len(rest))
        self._pending += rest
        self._needed = needed
        self.frames_cut += 1

    def give_back(self) -> None:
        """Keep nothing of an unfinished frame, nor the memory that it took."""
        self._count(len(self._pending), 0)
        self._pending = bytearray()

    def _count(self, before: int, after: int) -> None:
        if self.budget is not None:
            self.budget.change(before, after)

    def _explain(self, word: int) -> str:
        if word & 0xFFFF != _MAGIC:
            return "these bytes are not of this protocol"
        version = word >> 16 & 0xFF
        if version != FRAME_VERSION:
            return f"frames of version {version} cannot be read here, only of version {FRAME_VERSION}"
        return f"a frame of {word >> 32} bytes is over the limit of {self.payload_bytes_max}"
