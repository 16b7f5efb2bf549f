"""Snapshots on a disk: written aside, verified by a digest, put in place by a rename.

The rules of this file:

1. A snapshot has its final name only when all of it is durable. Other names are the remains of a crash.
2. Which one is newest is decided by the viewstamp inside, never by a time.
3. A snapshot that was handed out stays readable, even when its file is pruned.
"""

import struct
import weakref
from collections.abc import Iterable
from typing import Final, Protocol

import msgspec
import xxhash

from viewstamp.core.errors import StorageError
from viewstamp.core.events import SnapshotToken, Staged
from viewstamp.core.ids import Seqno, View, Viewstamp
from viewstamp.core.snapshots import NEWEST, Snapshot, SnapshotMeta, Versions, version_refusal
from viewstamp.storage.files import File, FileSystem, explain, explained, read_all, write_all

SNAPSHOTS_KEPT: Final = 2
SNAPSHOT_FORMAT: Final = 1
_MAGIC: Final = b"VSSNAPS\n"
SNAPSHOT_SUFFIX: Final = ".snap"
_READ_BYTES: Final = 1 << 20
_UNSYNCED_BYTES_MAX: Final = 8 << 20
"""Of a snapshot that is being written. A file system may flush whatever is waiting before it lets a sync of
the journal return: hundreds of megabytes at once would hold up every write of the node."""

# magic, format of the file, length of the protocol's header;
# format, level and machine version of the snapshot; view, seqno, size, digest
_HEAD: Final = struct.Struct("<8sIIIIIQQQQ")
_CHECK: Final = struct.Struct("<Q")


class SnapshotNotSaved(StorageError):
    """A snapshot could not be written. Nothing else is harmed: go on without it, and try again later."""


class SnapshotStore(Protocol):
    """Where a node keeps its snapshots. `save` may run in another thread, one at a time; the rest may not."""

    @property
    def newest(self) -> Snapshot | None:
        """The one with the highest viewstamp."""
        ...

    def save(
        self, viewstamp: Viewstamp, header: bytes, parts: Iterable[bytes], versions: Versions = NEWEST
    ) -> Snapshot:
        """Make a snapshot out of these parts, of a state with these versions in force; it is durable then.

        Raises:
            SnapshotNotSaved: the disk refused, nothing is left of it (the driver answers
                `Captured(token, None)`).
        """
        ...

    def stage(self, token: SnapshotToken, meta: SnapshotMeta, offset: int, data: bytes) -> Staged | None:
        """Write a piece of a snapshot that is being received; see `effects.Stage`.

        None: more is to come. With the last piece the answer says whether it is durable, or had the wrong
        digest.

        Raises:
            SnapshotNotSaved: the disk refused; what was staged is dropped (the driver answers
                `Staged(token, None)`).
        """
        ...

    def close(self) -> None:
        """Give everything back, also the snapshots handed out. Closing twice is allowed."""
        ...


class StoredSnapshot:
    """A snapshot whose body is in a file."""

    __slots__ = ("__weakref__", "_begin", "_file", "meta")

    def __init__(self, file: File, begin: int, meta: SnapshotMeta) -> None:
        self._file = file
        self._begin = begin
        """Where the body starts in the file."""
        self.meta = meta

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes of the body from `offset`; empty at the end."""
        length = max(0, min(length, self.meta.size_bytes - offset))
        with explained("read", f"the snapshot at {self.meta.viewstamp}"):
            return read_all(self._file, length, self._begin + offset)

    def verify(self) -> bool:
        """Read all of it and compare the digest."""
        digest = xxhash.xxh3_64()
        for offset in range(0, self.meta.size_bytes, _READ_BYTES):
            digest.update(self.read(offset, _READ_BYTES))
        return digest.intdigest() == self.meta.digest

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class SnapshotWriter:
    """A snapshot on its way to the disk, under a temporary name."""

    def __init__(
        self,
        files: FileSystem,
        directory: str,
        name: str,
        viewstamp: Viewstamp,
        header: bytes,
        versions: Versions,
    ) -> None:
        self._files = files
        self._directory = directory
        self._path = f"{directory}/{name}"
        self._viewstamp = viewstamp
        self._header = header
        self._versions = versions
        self._digest = xxhash.xxh3_64()
        self.size_bytes = 0
        """Length of the body so far."""
        self._unsynced_bytes = 0
        if files.status(self._path) is not None:
            files.unlink(self._path)
        self._file = files.create(self._path)

    def write(self, part: bytes) -> None:
        """Add to the body. Raises `OSError`."""
        write_all(self._file, part, _body_begin(self._header) + self.size_bytes)
        self._digest.update(part)
        self.size_bytes += len(part)
        self._unsynced_bytes += len(part)
        if self._unsynced_bytes >= _UNSYNCED_BYTES_MAX:
            self._file.fdatasync()
            self._unsynced_bytes = 0

    @property
    def digest(self) -> int:
        """Digest of the body so far."""
        return self._digest.intdigest()

    def commit(self, seed: int) -> StoredSnapshot:
        """Make it durable under its final name. Raises `OSError`."""
        level, machine = self._versions.level, self._versions.machine
        meta = SnapshotMeta(
            self._viewstamp, self._header, self.size_bytes, self.digest, level=level, machine_version=machine
        )
        write_all(self._file, encode_snapshot_header(meta, seed), 0)
        self._file.fdatasync()
        self._files.rename(self._path, f"{self._directory}/{snapshot_name(self._viewstamp)}")
        self._files.sync_directory(self._directory)
        return StoredSnapshot(self._file, _body_begin(self._header), meta)

    def abandon(self) -> None:
        """Leave nothing behind. Never raises: what cannot be deleted now is deleted at the next opening."""
        try:
            self._file.close()
            self._files.unlink(self._path)
        except OSError:
            return


def snapshot_name(viewstamp: Viewstamp) -> str:
    """Return the file name of a snapshot; names sort like viewstamps."""
    return f"{viewstamp.view:016x}-{viewstamp.seqno:016x}{SNAPSHOT_SUFFIX}"


def _body_begin(header: bytes) -> int:
    return _HEAD.size + len(header) + _CHECK.size


def encode_snapshot_header(meta: SnapshotMeta, seed: int) -> bytes:
    """Return what stands before the body."""
    view, seqno = meta.viewstamp.view, meta.viewstamp.seqno
    version = meta.format, meta.level, meta.machine_version
    fixed = _HEAD.pack(
        _MAGIC, SNAPSHOT_FORMAT, len(meta.header), *version, view, seqno, meta.size_bytes, meta.digest
    )
    head = fixed + meta.header
    return head + _CHECK.pack(xxhash.xxh3_64_intdigest(head, seed))


def read_snapshot_header(file: File, seed: int) -> SnapshotMeta | str:
    """Return what a snapshot file says of itself, or in a few words why it is none. Raises `OSError`."""
    fixed = read_all(file, _HEAD.size, 0)
    if len(fixed) < _HEAD.size or not fixed.startswith(_MAGIC):
        return "it does not begin like a snapshot"
    _, file_format, length, *version, view, seqno, size_bytes, digest = _HEAD.unpack(fixed)
    if file_format != SNAPSHOT_FORMAT:
        return f"its file has format {file_format}, this program reads {SNAPSHOT_FORMAT}"
    if file.size() != _HEAD.size + length + _CHECK.size + size_bytes:
        return "its length is not what its header says"
    rest = read_all(file, length + _CHECK.size, _HEAD.size)
    header = rest[:length]
    if _CHECK.pack(xxhash.xxh3_64_intdigest(fixed + header, seed)) != rest[length:]:
        return "its header is damaged"
    if refusal := version_refusal(*version[:2]):
        return refusal
    return SnapshotMeta(Viewstamp(View(view), Seqno(seqno)), header, size_bytes, digest, *version)


class DamagedSnapshot(msgspec.Struct, frozen=True):
    """A snapshot file that cannot be used."""

    path: str
    reason: str


class FileSnapshotStore:
    """The snapshots in one directory. See `SnapshotStore`."""

    def __init__(self, files: FileSystem, path: str, seed: int) -> None:
        self._files = files
        self._path = path
        self._seed = seed
        self._guard = files.guard()
        """Held while files are put in place or pruned."""
        self._saves = 0
        self._staging: SnapshotWriter | None = None
        self._staging_token: SnapshotToken | None = None
        self._open: weakref.WeakSet[StoredSnapshot] = weakref.WeakSet()
        self.newest: Snapshot | None = None
        """The valid one with the highest viewstamp."""

    def newest_valid(self) -> tuple[Snapshot | None, list[DamagedSnapshot]]:
        """Read the directory without changing it: the newest that verifies, and those above it that do not.

        Raises:
            StorageError: the directory cannot be read.
        """
        damaged: list[DamagedSnapshot] = []
        with explained("list", self._path):
            names = self._files.listdir(self._path)
        for name in reversed([name for name in names if name.endswith(SNAPSHOT_SUFFIX)]):
            found = self._load(name)
            if isinstance(found, StoredSnapshot):
                self.newest = found
                break
            damaged.append(DamagedSnapshot(f"{self._path}/{name}", found))
        return self.newest, damaged

    def _load(self, name: str) -> StoredSnapshot | str:
        path = f"{self._path}/{name}"
        with explained("read", path):
            file = self._files.open(path, writable=False)
            meta = read_snapshot_header(file, self._seed)
            if isinstance(meta, str):
                file.close()
                return meta
        snapshot = StoredSnapshot(file, _body_begin(meta.header), meta)
        if name != snapshot_name(meta.viewstamp):
            reason = f"it is the snapshot at {meta.viewstamp} under another name"
        elif not snapshot.verify():
            reason = "its content is damaged"
        else:
            self._open.add(snapshot)
            return snapshot
        snapshot.close()
        return reason

    def examine(self, name: str) -> SnapshotMeta | str:
        """Verify the snapshot in the file `name`: return its meta, or what is wrong in a few words.

        Raises:
            StorageError: it cannot be read.
        """
        found = self._load(name)
        if isinstance(found, str):
            return found
        found.close()
        return found.meta

    def remove_remains(self) -> None:
        """Delete what a crash left half done."""
        with explained("clean up", self._path):
            for name in self._files.listdir(self._path):
                if not name.endswith(SNAPSHOT_SUFFIX):
                    self._files.unlink(f"{self._path}/{name}")
            self._files.sync_directory(self._path)

    def save(
        self, viewstamp: Viewstamp, header: bytes, parts: Iterable[bytes], versions: Versions = NEWEST
    ) -> Snapshot:
        """Make a durable snapshot out of these parts."""
        self._saves += 1
        name = f"save-{self._saves}.tmp"
        try:
            writer = SnapshotWriter(self._files, self._path, name, viewstamp, header, versions)
        except OSError as error:
            raise self._not_saved(error) from error
        try:
            for part in parts:
                writer.write(part)
            return self._commit(writer)
        except OSError as error:
            writer.abandon()
            raise self._not_saved(error) from error
        except BaseException:
            writer.abandon()
            raise

    def stage(self, token: SnapshotToken, meta: SnapshotMeta, offset: int, data: bytes) -> Staged | None:
        """Write a piece of a snapshot that is being received."""
        try:
            return self._stage(token, meta, offset, data)
        except OSError as error:
            self._drop_staging()
            raise self._not_saved(error) from error

    def _stage(self, token: SnapshotToken, meta: SnapshotMeta, offset: int, data: bytes) -> Staged | None:
        if offset == 0:
            self._drop_staging()
            self._staging = SnapshotWriter(
                self._files, self._path, "stage.tmp", meta.viewstamp, meta.header, meta.versions
            )
            self._staging_token = token
        elif token != self._staging_token:
            # It was on its way when the disk refused a piece before it, which was answered for all.
            return None
        writer = self._staging
        assert writer is not None
        assert offset == writer.size_bytes, "pieces of a snapshot are staged in order"
        writer.write(data)
        if writer.size_bytes < meta.size_bytes:
            return None
        if (writer.size_bytes, writer.digest) != (meta.size_bytes, meta.digest):
            self._drop_staging()
            return Staged(token, None)
        snapshot = self._commit(writer)
        self._staging = self._staging_token = None
        return Staged(token, snapshot)

    def _drop_staging(self) -> None:
        if self._staging is not None:
            self._staging.abandon()
        self._staging = self._staging_token = None

    def _commit(self, writer: SnapshotWriter) -> StoredSnapshot:
        with self._guard:
            snapshot = writer.commit(self._seed)
            self._open.add(snapshot)
            if self.newest is None or self.newest.meta.viewstamp <= snapshot.meta.viewstamp:
                self.newest = snapshot
            self._prune()
        return snapshot

    def _prune(self) -> None:
        names = [name for name in self._files.listdir(self._path) if name.endswith(SNAPSHOT_SUFFIX)]
        for name in names[:-SNAPSHOTS_KEPT]:
            self._files.unlink(f"{self._path}/{name}")

    def _not_saved(self, error: OSError) -> SnapshotNotSaved:
        return SnapshotNotSaved(str(explain(error, "save a snapshot in", self._path)))

    def close(self) -> None:
        """Close the snapshots handed out and drop what was being received."""
        self._drop_staging()
        self.newest = None
        for snapshot in list(self._open):
            snapshot.close()
