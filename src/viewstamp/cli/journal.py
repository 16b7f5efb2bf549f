"""`viewstamp journal dump`: read a data directory without a server, a lock or a change."""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from viewstamp.cli.failures import DONE, STORAGE
from viewstamp.cli.flags import AsJson, Flag
from viewstamp.cli.output import printable, show_json
from viewstamp.core.errors import JournalCorrupt
from viewstamp.protocols.registry import journal_of
from viewstamp.storage.files import OsFileSystem
from viewstamp.storage.identity import SkippedEntry
from viewstamp.storage.inspect import (
    FrameSeen,
    ProblemSeen,
    Seen,
    SegmentSeen,
    SnapshotSeen,
    inspect_identity,
    inspect_journal,
    inspect_snapshots,
)

_TEXT_LENGTH_MAX: Final = 100

Decode: TypeAlias = Callable[[bytes], Any]


def dump(
    data: Annotated[Path, Flag("The data directory.")],
    /,
    *,
    protocol: Annotated[str | None, Flag("Whose records they are, not what the identity says.")] = None,
    json: AsJson = False,
) -> int:
    """Print snapshots, segments, frames and records of a data directory, in order.

    Nothing is changed, and a server may be running on it. Exit code 74 if anything is damaged. With
    `--protocol bytes` records are shown as they are.
    """
    files, path = OsFileSystem(), str(data)
    content = inspect_identity(files, path)
    identity = content.identity
    decode = _decoder(protocol or (content.service.protocol if content.service is not None else "raft"))
    show = show_json if json else _print
    show(_identity_line(identity) if not json else {"type": "identity", **msgspec.to_builtins(identity)})
    for skipped in content.skipped:
        show(msgspec.to_builtins(skipped) | {"type": "skipped"} if json else _skipped_line(skipped))
    damaged = False
    for seen in chain(inspect_snapshots(files, path, identity), inspect_journal(files, path, identity)):
        damaged |= isinstance(seen, ProblemSeen) and seen.kind == "damaged"
        for line in _json_lines(seen, decode) if json else _text_lines(seen, decode):
            show(line)
    return STORAGE if damaged else DONE


def _print(line: Any) -> None:
    print(printable(line))


def _identity_line(identity: Any) -> str:
    return (
        f"node {identity.node} of cluster {identity.cluster_id}, incarnation {identity.incarnation:x}, "
        f"format {identity.format_version}"
    )


def _skipped_line(skipped: SkippedEntry) -> str:
    return (
        f"entry {skipped.viewstamp} was skipped by {skipped.who} on {skipped.when}, digest {skipped.digest}"
    )


def _json_lines(seen: Seen, decode: Decode) -> Iterator[Any]:
    document = msgspec.to_builtins(seen)
    if isinstance(seen, FrameSeen):
        document["writes"] = [[decode(record) for record in write] for write in seen.writes]
    yield document


def _text_lines(seen: Seen, decode: Decode) -> Iterator[str]:
    match seen:
        case SnapshotSeen(path=path, meta=meta):
            yield f"{path}: snapshot at {meta.viewstamp}, {meta.size_bytes} bytes, digest {meta.digest:016x}"
        case SegmentSeen(path=path, first_seq=first, size_bytes=size):
            yield f"{path}: segment of {size} bytes, begins with write {first}"
        case ProblemSeen(path=path, offset=offset, kind=kind, reason=reason):
            yield f"{path}: {kind.upper()} at byte {offset}: {reason}"
        case FrameSeen():
            yield from _frame_lines(seen, decode)


def _frame_lines(frame: FrameSeen, decode: Decode) -> Iterator[str]:
    if not frame.writes:
        yield f"  byte {frame.offset}: mark, the journal was closed"
        return
    count, size = len(frame.writes), frame.stored_bytes
    yield f"  byte {frame.offset}: {count} writes in {size} bytes, floor {frame.floor}"
    for seq, records in enumerate(frame.writes, frame.first_seq):
        for record in records:
            text = str(decode(record))
            cut = text if len(text) <= _TEXT_LENGTH_MAX else f"{text[: _TEXT_LENGTH_MAX - 3]}..."
            yield f"    {seq}  {cut}"


def _decoder(protocol: str) -> Decode:
    """Return what makes a value of a record of this protocol, or leaves the bytes where it is none of its."""
    if protocol == "bytes":
        return lambda record: record
    decode_record: Decode = journal_of(protocol).decode_record

    def decode(record: bytes) -> Any:
        try:
            return decode_record(record)
        except JournalCorrupt:
            return record

    return decode
