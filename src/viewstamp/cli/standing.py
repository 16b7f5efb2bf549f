"""What a class would run on: the snapshot and the log of a data directory, or of a backup. Only reads."""

from collections.abc import Iterator

import msgspec

from viewstamp.cli.stream_places import Source, records_of
from viewstamp.core.effects import Entry
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import PersistSeq
from viewstamp.core.protocol import Recovered
from viewstamp.core.snapshots import BytesSnapshot, Snapshot
from viewstamp.protocols.registry import journal_of
from viewstamp.replica.options import SessionLimits
from viewstamp.storage.files import OsFileSystem
from viewstamp.storage.inspect import FrameSeen, ProblemSeen, inspect_identity, inspect_journal
from viewstamp.storage.snapshots import FileSnapshotStore
from viewstamp.stream.records import Chunk, Header, LogEntry


class Standing(msgspec.Struct, frozen=True):
    """A snapshot, and the entries after it."""

    snapshot: Snapshot | None
    entries: list[Entry]
    limits: SessionLimits | None = None
    """Those of the cluster, where the source says them."""
    code: dict[str, str] = {}
    """Of the class that ran last, where the source says it."""
    digest: int | None = None
    """Of the results up to the last entry, where the source says it."""


def read_directory(path: str) -> Standing:
    """Return what a data directory holds; a server may run on it.

    Raises:
        ConfigurationError: it is not a data directory, or its log is of no known protocol.
        JournalCorrupt, StorageError: it cannot be read.
    """
    files = OsFileSystem()
    content = inspect_identity(files, path)
    if content.service is None:
        raise ConfigurationError(f"{path}: no server has run on it yet")
    store = FileSnapshotStore(files, f"{path}/snapshots", content.identity.seed)
    snapshot, _ = store.newest_valid()
    writes: list[tuple[PersistSeq, tuple[bytes, ...]]] = []
    for seen in inspect_journal(files, path, content.identity):
        if isinstance(seen, FrameSeen):
            writes += enumerate_writes(seen)
        elif isinstance(seen, ProblemSeen) and seen.kind == "damaged":
            raise ConfigurationError(f"{seen.path} is damaged at {seen.offset}: {seen.reason}")
    written = writes[-1][0] if writes else PersistSeq(0)
    log = journal_of(content.service.protocol).read_stored_log(Recovered(writes, written, snapshot))
    entries = [log.entry(seqno) for seqno in range(log.base.seqno + 1, log.last.seqno + 1)]
    found = [Entry(entry.viewstamp, entry.data) for entry in entries]
    return Standing(snapshot, found, code=content.service.code)


def enumerate_writes(seen: FrameSeen) -> Iterator[tuple[PersistSeq, tuple[bytes, ...]]]:
    """Yield the writes of a frame with their numbers."""
    for place, records in enumerate(seen.writes):
        yield PersistSeq(seen.first_seq + place), tuple(records)


def read_backup(source: Source) -> Standing:
    """Return what a backup holds.

    Raises:
        ConfigurationError: it cannot be read.
        StreamDamaged: it is not whole.
    """
    header: Header | None = None
    body, entries, digest = bytearray(), [], None
    for record in records_of(source):
        if isinstance(record, Header):
            header = record
        elif isinstance(record, Chunk):
            body += record.data
        elif isinstance(record, LogEntry):
            entries.append(Entry(record.viewstamp, record.data))
            digest = record.digest
    assert header is not None, "a whole stream has a header"
    snapshot = None if header.snapshot is None else header.snapshot
    made = None if snapshot is None else BytesSnapshot(header.viewstamp, snapshot.header, bytes(body))
    known = {name: value for name, value in header.limits.items() if name in SessionLimits.__struct_fields__}
    return Standing(made, entries, SessionLimits(**known) if known else None, header.code, digest)
