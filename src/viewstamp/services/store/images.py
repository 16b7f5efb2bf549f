"""The store as bytes: a snapshot in pieces, made while they are consumed.

A snapshot is the format's name and then pieces, each behind its length: the revisions and the window, the
leases, the records, the history. Of a step the record after it stands here once, and the one before it only
where the history does not hold it.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeAlias

import msgspec

from viewstamp.services.sorted_names import SortedKeys
from viewstamp.services.store.history import Record, Step, step_of
from viewstamp.services.store.leases import LeaseImage
from viewstamp.services.store.table import Table

FORMAT: Final = b"viewstamp store 1\n"
_PER_PIECE: Final = 512
_LENGTH_BYTES: Final = 4


class Head(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """What is not a list."""

    revision: int
    floor: int
    compacted: int
    bytes_max: int
    ms_max: int


class LeasePiece(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Leases, in the order in which they were granted."""

    leases: list[LeaseImage]


class RecordPiece(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Keys as they are, in the order of the table."""

    records: list[tuple[bytes, Record]]


class StepImage(msgspec.Struct, frozen=True, array_like=True):
    """A step without the record before it, where that is the one after the step before of the key."""

    revision: int
    time: int
    key: bytes
    after: Record | None
    first: bool
    """Of the steps of this key here; then `before` is what it was."""
    before: Record | None


class StepPiece(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Steps, in order."""

    steps: list[StepImage]


Piece: TypeAlias = Head | LeasePiece | RecordPiece | StepPiece
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(Piece).decode


def pieces(table: Table) -> Iterator[bytes]:
    """Yield a snapshot of a store."""
    yield FORMAT
    history = table.history
    head = Head(table.revision, table.floor, history.compacted, history.bytes_max, history.ms_max)
    yield _framed(head)
    yield from _in_parts(LeasePiece, table.leases.images())
    yield from _in_parts(RecordPiece, table.records.items())
    yield from _in_parts(StepPiece, _step_images(history.kept))


def fill(table: Table, snapshot: bytes) -> None:
    """Set the state of a fresh store.

    Raises:
        ValueError: the bytes are not a snapshot of one.
    """
    for piece in _split(snapshot):
        match piece:
            case Head():
                table.revision, table.floor = piece.revision, piece.floor
                history = table.history
                history.bytes_max, history.ms_max = piece.bytes_max, piece.ms_max
                history.compacted = piece.compacted
            case LeasePiece():
                table.leases.restore(piece.leases)
            case RecordPiece():
                table.records.update(piece.records)
            case StepPiece():
                _add_steps(table, piece.steps)
    table.keys = SortedKeys(table.records)
    for key, record in table.records.items():
        table.leases.attach(record.lease, key)


def _in_parts(make: Callable[[list[Any]], Piece], items: Iterable[Any]) -> Iterator[bytes]:
    remaining = iter(items)
    while part := list(islice(remaining, _PER_PIECE)):
        yield _framed(make(part))


def _framed(piece: Piece) -> bytes:
    encoded = _ENCODE(piece)
    return len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded


def _split(snapshot: bytes) -> Iterator[Piece]:
    if not snapshot.startswith(FORMAT):
        raise ValueError("these bytes are not a snapshot of a store")
    body = memoryview(snapshot)
    offset = len(FORMAT)
    while offset < len(body):
        start = offset + _LENGTH_BYTES
        offset = start + int.from_bytes(body[offset:start], "big")
        if offset > len(body):
            raise ValueError("the snapshot of a store is cut short")
        yield _DECODE(body[start:offset])


def _step_images(steps: list[Step]) -> Iterator[StepImage]:
    known: set[bytes] = set()
    for step in steps:
        first = step.key not in known
        known.add(step.key)
        yield StepImage(step.revision, step.time, step.key, step.after, first, step.before if first else None)


def _add_steps(table: Table, images: list[StepImage]) -> None:
    history = table.history
    for image in images:
        before = image.before if image.first else history.last_of(image.key)
        after = image.after
        if after is not None and (current := table.records.get(image.key)) == after:
            after = current  # one object, as before the snapshot was made
        history.add(step_of(image.revision, image.time, image.key, after, before))
