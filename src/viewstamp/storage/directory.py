"""One node's data directory: its identity, its lock, its journal and its snapshots.

DIR/identity     whose it is; made last, so that a crash while the directory is being made leaves nothing
DIR/lock         held by the process that uses it
DIR/journal/     segments
DIR/snapshots/   the newest two
"""

import posixpath
from collections.abc import Callable
from typing import Final

import msgspec

from viewstamp.core.errors import ConfigurationError, JournalCorrupt, StorageError
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.core.protocol import Recovered
from viewstamp.core.snapshots import Snapshot
from viewstamp.machine.schema import incompatible
from viewstamp.storage.files import AlreadyLocked, Closeable, FileSystem, PathStatus, explain, explained
from viewstamp.storage.framing import SEGMENT_HEADER_BYTES, Identity
from viewstamp.storage.identity import (
    IDENTITY_NAME,
    IdentityFile,
    Service,
    make_identity,
    read_identity,
    write_identity,
)
from viewstamp.storage.journal import Journal
from viewstamp.storage.segments import REMEDY, SEGMENT_BYTES, SegmentFolder, read_segment
from viewstamp.storage.snapshots import FileSnapshotStore, SnapshotStore
from viewstamp.storage.wal import create_wal, open_wal

JOURNAL_NAME: Final = "journal"
SNAPSHOTS_NAME: Final = "snapshots"
LOCK_NAME: Final = "lock"
_OTHERS_WRITE: Final = 0o022
_NAMES: Final = frozenset({JOURNAL_NAME, SNAPSHOTS_NAME, LOCK_NAME, IDENTITY_NAME, f"{IDENTITY_NAME}.tmp"})


class DataDirectory:
    """An open data directory. It is this process's alone until it is closed."""

    def __init__(
        self,
        identity: Identity,
        journal: Journal,
        snapshots: SnapshotStore,
        recovered: Recovered,
        lock: Closeable | None = None,
    ) -> None:
        self.identity = identity
        self.journal = journal
        self.snapshots = snapshots
        self.recovered = recovered
        """What a core is started with. Its writes are read from the disk when iterated."""
        self._lock = lock
        self._confirm: Callable[[], None] | None = None

    def on_confirm(self, confirm: Callable[[], None]) -> None:
        """Set what `confirm_service` does."""
        self._confirm = confirm

    def confirm_service(self) -> None:
        """Record durably what runs on this directory from now on: call it before anything is served.

        Raises:
            StorageError: the disk refused.
        """
        if self._confirm is not None:
            self._confirm()

    def close(self) -> None:
        """Close everything. Closing twice is allowed."""
        try:
            self.journal.close()
        finally:
            self.snapshots.close()
            if self._lock is not None:
                self._lock.close()


def open_data_directory(
    files: FileSystem,
    path: str,
    *,
    cluster_id: str,
    node: NodeId,
    incarnation: Incarnation,
    segment_bytes: int = SEGMENT_BYTES,
    service: Service | None = None,
    accept_class: bool = False,
) -> DataDirectory:
    """Open the data directory of this node, and make it if there is none.

    `incarnation` is drawn at random by the caller and used only for a new directory; the answer's `identity`
    has the one that counts. `service` is what is to run on it (None: nothing, a tool looks into it); with
    `accept_class` its class may differ from the one that ran there before.

    Raises:
        ConfigurationError: it is another node's, in use, no data directory, not trustworthy or not writable,
            or another protocol or class ran on it.
        JournalCorrupt: its content is not what was written; nothing was changed.
        StorageError: the disk refused.
    """
    path = path.rstrip("/") or "/"
    wanted = make_identity(cluster_id, node, incarnation)
    _make_directory(files, path)
    _check_content(files, path)
    lock = _take_lock(files, path)
    try:
        found = read_identity(files, path)
        if found is None:
            _set_up(files, path, wanted, segment_bytes)
            found = IdentityFile(wanted)
        _compare(path, found.identity, wanted)
        if service is not None and found.service is not None:
            _compare_service(path, found.service, service, accept_class=accept_class)
        directory = _open(files, path, found.identity, lock, segment_bytes)
    except BaseException:
        lock.close()
        raise
    if service is not None and service != found.service:
        content = msgspec.structs.replace(found, service=service)
        directory.on_confirm(lambda: write_identity(files, path, content))
    return directory


def _make_directory(files: FileSystem, path: str) -> None:
    try:
        found = files.status(path)
        if found is None:
            files.mkdir(path)
            return
    except OSError as error:
        raise ConfigurationError(str(explain(error, "make the data directory", path))) from error
    if found.kind != "directory":
        raise ConfigurationError(
            f"{path} is not a directory but a {found.kind}: name a directory of its own for the data"
        )
    if found.mode & _OTHERS_WRITE:
        raise ConfigurationError(f"{path} can be written by other users: run chmod 700 {path}")
    if not found.owned:
        raise ConfigurationError(
            f"{path} belongs to another user: run as that user or choose another directory"
        )


def _check_content(files: FileSystem, path: str) -> None:
    """Refuse what another user may have put there, and whatever is not a file where one should be."""
    with explained("look into", path):
        folders = {name: f"{path}/{name}" for name in (JOURNAL_NAME, SNAPSHOTS_NAME)}
        names = [f"{path}/{name}" for name in (IDENTITY_NAME, LOCK_NAME)]
        for folder in folders.values():
            status = files.status(folder)
            if status is not None:
                _check_one(folder, status, "directory")
                names += [f"{folder}/{name}" for name in files.listdir(folder)]
        for name in names:
            status = files.status(name)
            if status is not None:
                _check_one(name, status, "file")


def _check_one(path: str, found: PathStatus, wanted: str) -> None:
    if found.kind != wanted:
        what = "neither a file nor a directory" if found.kind == "other" else f"a {found.kind}"
        raise ConfigurationError(f"{path} is {what}: a {wanted} must stand there; nothing was changed")
    if not found.owned:
        raise ConfigurationError(f"{path} belongs to another user: nothing was changed; give it to this user")
    if found.mode & _OTHERS_WRITE:
        raise ConfigurationError(f"{path} can be written by other users: run chmod go-w {path}")


def _take_lock(files: FileSystem, path: str) -> Closeable:
    try:
        return files.lock(f"{path}/{LOCK_NAME}")
    except AlreadyLocked as error:
        holder = f"process {error.holder}" if error.holder else "another process"
        raise ConfigurationError(
            f"{path} is in use by {holder}: stop it, or choose another directory"
        ) from None
    except OSError as error:
        raise ConfigurationError(str(explain(error, "write to the data directory", path))) from error


def _set_up(files: FileSystem, path: str, identity: Identity, segment_bytes: int) -> None:
    """Make a new data directory, over what an attempt that crashed may have left."""
    with explained("set up", path):
        names = files.listdir(path)
    strange = sorted(set(names) - _NAMES)
    if strange:
        raise ConfigurationError(f"{path} is not empty and not a data directory: it holds {strange[0]}")
    _refuse_orphans(files, path, names, segment_bytes)
    with explained("set up", path):
        for name in (JOURNAL_NAME, SNAPSHOTS_NAME):
            if name not in names:
                files.mkdir(f"{path}/{name}")
        for name in files.listdir(f"{path}/{JOURNAL_NAME}"):
            files.unlink(f"{path}/{JOURNAL_NAME}/{name}")
        files.sync_directory(f"{path}/{JOURNAL_NAME}")
        files.sync_directory(path)
        files.sync_directory(posixpath.dirname(path) or ".")
    create_wal(files, f"{path}/{JOURNAL_NAME}", identity, segment_bytes=segment_bytes)
    write_identity(files, path, IdentityFile(identity))


def _refuse_orphans(files: FileSystem, path: str, names: list[str], segment_bytes: int) -> None:
    """Refuse to make a new directory out of one that has data and lost its identity."""
    message = f"{path}/{IDENTITY_NAME} is missing, but there is data; {REMEDY}"
    if SNAPSHOTS_NAME in names:
        with explained("list", path):
            if files.listdir(f"{path}/{SNAPSHOTS_NAME}"):
                raise JournalCorrupt(message)
    if JOURNAL_NAME in names:
        nobody = Identity("?", NodeId(0), Incarnation(0))
        folder = SegmentFolder(files, f"{path}/{JOURNAL_NAME}", nobody, segment_bytes)
        for number in folder.numbers():
            if read_segment(folder, number)[SEGMENT_HEADER_BYTES:].strip(b"\0"):
                raise JournalCorrupt(message)


def _compare(path: str, found: Identity, wanted: Identity) -> None:
    if found.cluster_id != wanted.cluster_id:
        raise ConfigurationError(
            f"{path} belongs to cluster {found.cluster_id!r}, not to {wanted.cluster_id!r}"
        )
    if found.node != wanted.node:
        raise ConfigurationError(f"{path} belongs to node {found.node}, not to node {wanted.node}")


def _compare_service(path: str, found: Service, wanted: Service, *, accept_class: bool) -> None:
    """Refuse to run something else on this data than what wrote it."""
    if found.protocol != wanted.protocol:
        raise ConfigurationError(
            f"{path} was written by the protocol {found.protocol}, the cluster file says {wanted.protocol}: "
            f"nothing was changed; write protocol = '{found.protocol}' into the cluster file: no protocol "
            "can read another one's data"
        )
    if accept_class:
        return
    difference = f"the class is {wanted.machine}" if found.machine != wanted.machine else ""
    if not difference and not found.version:  # else the log says what it needs of the class
        difference = incompatible(found.schema, wanted.schema)
    if difference:
        raise ConfigurationError(
            f"{path} was written with the class {found.machine}, and {difference}: nothing was changed; "
            f"start this node with the class {found.machine} as it was, or, where all members are to run the "
            "changed class, with --accept-class"
        )


def _newest_snapshot(snapshots: FileSnapshotStore) -> Snapshot | None:
    newest, damaged = snapshots.newest_valid()
    if damaged:
        # An older snapshot may no longer meet the journal, which was released up to the newest.
        raise JournalCorrupt(f"{damaged[0].path} is damaged: {damaged[0].reason}; {REMEDY}")
    return newest


def _open(
    files: FileSystem, path: str, identity: Identity, lock: Closeable, segment_bytes: int
) -> DataDirectory:
    snapshots = FileSnapshotStore(files, f"{path}/{SNAPSHOTS_NAME}", identity.seed)
    try:
        newest = _newest_snapshot(snapshots)
        # The process before may have ended between a rename and its sync: what is read here must stay.
        with explained("sync", path):
            files.sync_directory(path)
        journal, writes = open_wal(files, f"{path}/{JOURNAL_NAME}", identity, segment_bytes=segment_bytes)
        try:
            snapshots.remove_remains()
        except StorageError:
            journal.close()
            raise
    except BaseException:
        snapshots.close()
        raise
    recovered = Recovered(writes=writes, written=journal.written, snapshot=newest)
    return DataDirectory(identity, journal, snapshots, recovered, lock)
