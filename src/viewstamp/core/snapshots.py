"""A snapshot as a value: what it covers, how long it is, and how to read it.

A snapshot is immutable. Reading it is therefore as pure as reading a tuple, wherever its bytes live; a disk
that fails to read one raises, which ends the process (docs/faults.md#rule-2).
"""

from typing import Protocol

import msgspec
import xxhash

from viewstamp.core.ids import Viewstamp


class SnapshotMeta(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a snapshot without its body."""

    viewstamp: Viewstamp
    """The last entry whose effect the body contains."""
    header: bytes
    """The protocol's own part, such as the membership; opaque to everything but that protocol."""
    size_bytes: int
    """Length of the body."""
    digest: int
    """`xxh3_64` of the body. Equal viewstamp and equal digest means: the same snapshot."""


class Snapshot(Protocol):
    """The state of a replica at one viewstamp, durable wherever its maker said so."""

    @property
    def meta(self) -> SnapshotMeta:
        """What this snapshot covers."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes of the body from `offset`; empty at the end."""
        ...


class BytesSnapshot:
    """A snapshot whose body is in memory."""

    __slots__ = ("body", "meta")

    def __init__(self, viewstamp: Viewstamp, header: bytes, body: bytes) -> None:
        self.body = body
        self.meta = SnapshotMeta(viewstamp, header, len(body), xxhash.xxh3_64_intdigest(body))

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes of the body from `offset`; empty at the end."""
        return self.body[offset : offset + length]


def read_whole(snapshot: Snapshot) -> bytes:
    """Return the body in one piece."""
    return snapshot.read(0, snapshot.meta.size_bytes)
