"""Journal and snapshots in memory, for embedded clusters and fast simulations; they pass the same suite.

A `MemoryMedium` is what survives: keep it, close the journal, and open another on it to restart a node.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import xxhash

from viewstamp.core.errors import ConfigurationError, StorageError
from viewstamp.core.events import SnapshotToken, Staged
from viewstamp.core.ids import Incarnation, NodeId, PersistSeq, Viewstamp
from viewstamp.core.protocol import Recovered
from viewstamp.core.snapshots import NEWEST, BytesSnapshot, Snapshot, SnapshotMeta, Versions
from viewstamp.storage.directory import DataDirectory
from viewstamp.storage.framing import Identity
from viewstamp.storage.identity import make_identity
from viewstamp.storage.journal import SyncJob


class MemoryMedium:
    """What a node in memory keeps over a restart: its identity, its durable writes, its newest snapshot."""

    def __init__(self) -> None:
        self.identity: Identity | None = None
        self.writes: deque[tuple[PersistSeq, tuple[bytes, ...]]] = deque()
        """The durable writes that are not released, in order."""
        self.written = PersistSeq(0)
        """Number of the last durable write."""
        self.snapshot: Snapshot | None = None
        """The one with the highest viewstamp."""


class MemoryJob:
    """See `journal.SyncJob`. Nothing is durable before `flush`."""

    __slots__ = ("flushed", "seq")

    def __init__(self, seq: PersistSeq) -> None:
        self.seq = seq
        self.flushed = False

    def write(self) -> None:
        """Do nothing: memory has no buffer."""

    def flush(self) -> None:
        """Record the call."""
        self.flushed = True

    def run(self) -> None:
        """Record the call."""
        self.flushed = True


class MemoryJournal:
    """A journal on a `MemoryMedium`. See `journal.Journal`."""

    def __init__(self, medium: MemoryMedium) -> None:
        self._medium = medium
        self.written = medium.written
        self.durable = medium.written
        self.live_bytes = sum(len(record) for _, records in medium.writes for record in records)
        self._pending: deque[tuple[PersistSeq, tuple[bytes, ...]]] = deque()
        """Appended and not durable."""
        self._releases: deque[tuple[PersistSeq, PersistSeq]] = deque()
        """(needs, before), ascending."""
        self._sizes = deque((seq, sum(map(len, records))) for seq, records in medium.writes)
        """(number, bytes) of each write that is not released."""
        self._job: MemoryJob | None = None
        self._closed = False

    def append(self, seq: PersistSeq, records: Sequence[bytes]) -> None:
        """Take in the atomic write number `written + 1`."""
        assert seq == self.written + 1, (seq, self.written)
        assert records
        self._refuse_when_closed()
        size = sum(map(len, records))
        self.written = seq
        self._pending.append((seq, tuple(records)))
        self._sizes.append((seq, size))
        self.live_bytes += size

    def sync(self) -> PersistSeq:
        """Make everything appended durable."""
        job = self.begin_sync()
        if job is None:
            return self.durable
        job.run()
        return self.finish_sync(job)

    def begin_sync(self) -> MemoryJob | None:
        """Return the job that makes everything appended so far durable."""
        self._refuse_when_closed()
        assert self._job is None, "a sync is under way"
        if not self._pending:
            return None
        self._job = MemoryJob(self.written)
        return self._job

    def finish_sync(self, job: SyncJob) -> PersistSeq:
        """Record that the open job has run."""
        assert job is self._job
        assert self._job.flushed
        self._job = None
        pending, writes = self._pending, self._medium.writes
        while pending and pending[0][0] <= job.seq:
            writes.append(pending.popleft())
        self.durable = self._medium.written = job.seq
        self._let_go()
        return self.durable

    def release(self, before: PersistSeq) -> None:
        """Allow the writes numbered lower than `before` to be forgotten."""
        assert before <= self.written + 1, (before, self.written)
        sizes = self._sizes
        while sizes and sizes[0][0] < before:
            self.live_bytes -= sizes.popleft()[1]
        self._releases.append((self.written, before))
        self._let_go()

    def _let_go(self) -> None:
        releases, writes = self._releases, self._medium.writes
        while releases and releases[0][0] <= self.durable:
            before = releases.popleft()[1]
            while writes and writes[0][0] < before:
                writes.popleft()

    def begin_upkeep(self) -> Callable[[], None] | None:
        """Return None: there is nothing to keep up."""
        return None

    def close(self) -> None:
        """Drop what was not synced."""
        self._closed = True

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise StorageError("the journal is closed")


class MemorySnapshotStore:
    """Keeps the newest snapshot on a `MemoryMedium`. See `snapshots.SnapshotStore`."""

    def __init__(self, medium: MemoryMedium) -> None:
        self._medium = medium
        self._token: SnapshotToken | None = None
        self._staged = bytearray()

    @property
    def newest(self) -> Snapshot | None:
        """The one with the highest viewstamp."""
        return self._medium.snapshot

    def save(
        self, viewstamp: Viewstamp, header: bytes, parts: Iterable[bytes], versions: Versions = NEWEST
    ) -> Snapshot:
        """Make a snapshot out of these parts."""
        return self._keep(BytesSnapshot(viewstamp, header, b"".join(parts), versions))

    def stage(self, token: SnapshotToken, meta: SnapshotMeta, offset: int, data: bytes) -> Staged | None:
        """Write a piece of a snapshot that is being received."""
        if offset == 0:
            self._token = token
            self._staged = bytearray()
        elif token != self._token:
            return None  # as on a disk: what it belonged to was dropped
        assert offset == len(self._staged), "pieces of a snapshot are staged in order"
        self._staged += data
        if len(self._staged) < meta.size_bytes:
            return None
        body = bytes(self._staged)
        self._token = None
        self._staged = bytearray()
        if (len(body), xxhash.xxh3_64_intdigest(body)) != (meta.size_bytes, meta.digest):
            return Staged(token, None)
        return Staged(token, self._keep(BytesSnapshot(meta.viewstamp, meta.header, body, meta.versions)))

    def _keep(self, snapshot: BytesSnapshot) -> Snapshot:
        newest = self._medium.snapshot
        if newest is None or newest.meta.viewstamp <= snapshot.meta.viewstamp:
            self._medium.snapshot = snapshot
        return snapshot

    def close(self) -> None:
        """Drop what was being received."""
        self._token = None
        self._staged = bytearray()


def open_memory_directory(
    medium: MemoryMedium, *, cluster_id: str, node: NodeId, incarnation: Incarnation
) -> DataDirectory:
    """Open what a node in memory keeps; `incarnation` is used only the first time.

    Raises:
        ConfigurationError: it is another node's.
    """
    wanted = make_identity(cluster_id, node, incarnation)
    identity = medium.identity or wanted
    if (identity.cluster_id, identity.node) != (cluster_id, node):
        raise ConfigurationError(
            f"this memory belongs to node {identity.node} of cluster {identity.cluster_id!r}"
        )
    medium.identity = identity
    journal = MemoryJournal(medium)
    recovered = Recovered(writes=tuple(medium.writes), written=medium.written, snapshot=medium.snapshot)
    return DataDirectory(identity, journal, MemorySnapshotStore(medium), recovered)
