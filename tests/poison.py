"""Plants an entry that no replica can execute into the data directories of members that do not run.

The entry that holds certain bytes gets the same bytes in place of its data in every directory, behind the
backs of all checks, as if a program before this one had let them into the log.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from viewstamp.core.ids import Incarnation, PersistSeq, Viewstamp
from viewstamp.protocols.replication.stored_log import StoredLog
from viewstamp.storage.directory import DataDirectory, open_data_directory
from viewstamp.storage.files import OsFileSystem
from viewstamp.storage.inspect import inspect_identity

POISON = b"\xff no batch"


@contextmanager
def opened(path: Path, protocol: str) -> Iterator[tuple[DataDirectory, StoredLog]]:
    identity = inspect_identity(OsFileSystem(), str(path)).identity
    directory = open_data_directory(
        OsFileSystem(),
        str(path),
        cluster_id=identity.cluster_id,
        node=identity.node,
        incarnation=Incarnation(0),
    )
    try:
        log: StoredLog = import_module(f"viewstamp.protocols.{protocol}.journal").read_stored_log(
            directory.recovered
        )
        yield directory, log
    finally:
        directory.close()


def plant(directories: Sequence[Path], protocol: str, victim: bytes, *, poison: bytes = POISON) -> Viewstamp:
    """Put the poison in the place of the entry that holds these bytes; return where it stood."""
    found: set[Viewstamp] = set()
    for path in directories:
        with opened(path, protocol) as (directory, log):
            for seqno in range(log.base.seqno + 1, log.last.seqno + 1):
                entry = log.entry(seqno)
                if victim in entry.data:
                    found.add(entry.viewstamp)
                    records = log.replaced(seqno, poison, bytes)
                    journal = directory.journal
                    journal.append(PersistSeq(journal.written + 1), records)
                    journal.sync()
                    break
    (viewstamp,) = found
    return viewstamp


def data_at(path: Path, protocol: str, viewstamp: Viewstamp) -> bytes | None:
    """Return the data of the entry at this viewstamp; None where this directory does not hold it."""
    with opened(path, protocol) as (_, log):
        found = log.find(viewstamp.seqno)
        return found.data if found is not None and found.viewstamp == viewstamp else None
