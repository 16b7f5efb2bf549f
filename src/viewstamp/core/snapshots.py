"""A snapshot as a value: what it covers, how long it is, and how to read it.

A snapshot is immutable. Reading it is therefore as pure as reading a tuple, wherever its bytes live; a disk
that fails to read one raises, which ends the process (docs/faults.md#rule-2).
"""

from typing import Final, Protocol

import msgspec
import xxhash

from viewstamp.core.ids import LEVEL, LEVEL_MIN, Viewstamp

FORMAT: Final = 1
"""Of the snapshots that this version writes, and the only one that it reads."""
UNVERSIONED: Final = 0
"""Machine version in snapshots that were written before classes had versions: it means version 1."""


class Versions(msgspec.Struct, frozen=True, array_like=True):
    """What is in force at one position of the log."""

    level: int = LEVEL
    """The level of features."""
    machine: int = 1
    """The version of the user's class."""


NOTHING: Final = Versions(1, UNVERSIONED)
"""No entry has said yet what is in force. Level 1 was the first at which entries say it."""
NEWEST: Final = Versions()
"""The highest level that this code knows, and a class that says no version."""


def version_refusal(format_: int, level: int) -> str:
    """Return why a snapshot of this format and level cannot be read here, in a few words; empty: it can."""
    if format_ != FORMAT:
        return f"it has format {format_}; this version reads {FORMAT}"
    if not LEVEL_MIN <= level <= LEVEL:
        return f"it has level {level}; this version knows {LEVEL_MIN} to {LEVEL}"
    return ""


class SnapshotMeta(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a snapshot without its body.

    Raises:
        ValueError: it is of a version that cannot be read here. A decoder that meets one refuses the message.
    """

    viewstamp: Viewstamp
    """The last entry whose effect the body contains."""
    header: bytes
    """The protocol's own part, such as the membership; opaque to everything but that protocol."""
    size_bytes: int
    """Length of the body."""
    digest: int
    """`xxh3_64` of the body. Equal viewstamp and equal digest means: the same snapshot."""
    format: int = FORMAT
    level: int = LEVEL
    """The level of features in force at `viewstamp`."""
    machine_version: int = 1
    """The version of the user's class in force at `viewstamp`; 0: classes had no versions. Any can be stored:
    whether it can be restored is for the class to say."""

    @property
    def versions(self) -> Versions:
        """What is in force at `viewstamp`."""
        return Versions(self.level, self.machine_version)

    def __post_init__(self) -> None:
        """Refuse what cannot be read here before anything is received or installed."""
        refusal = version_refusal(self.format, self.level)
        if refusal:
            raise ValueError(f"a snapshot at {self.viewstamp} cannot be used: {refusal}")


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

    def __init__(self, viewstamp: Viewstamp, header: bytes, body: bytes, versions: Versions = NEWEST) -> None:
        self.body = body
        self.meta = SnapshotMeta(
            viewstamp,
            header,
            len(body),
            xxhash.xxh3_64_intdigest(body),
            level=versions.level,
            machine_version=versions.machine,
        )

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes of the body from `offset`; empty at the end."""
        return self.body[offset : offset + length]


def read_whole(snapshot: Snapshot) -> bytes:
    """Return the body in one piece."""
    return snapshot.read(0, snapshot.meta.size_bytes)
