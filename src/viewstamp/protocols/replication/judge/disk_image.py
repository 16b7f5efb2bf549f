"""One node's disk as a restart would read it: what the oracles judge by."""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from viewstamp.core.ids import PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.replication.log import COMMAND, Log


class Replayed(Protocol):
    """A protocol's reading of a journal."""

    @property
    def log(self) -> Log:
        """The log as of the writes so far."""
        ...

    @property
    def view(self) -> View:
        """The highest view promised."""
        ...

    @property
    def promises(self) -> Mapping[str, Any]:
        """Its other promises by name."""
        ...

    def write(self, seq: PersistSeq, records: Sequence[bytes]) -> None:
        """Take in one atomic write."""
        ...


ReplayT = TypeVar("ReplayT", bound=Replayed)


class DiskImage(Generic[ReplayT]):
    """A durable image; satisfies `core.judge.DurableImage`."""

    __slots__ = ("_covered", "replay")

    def __init__(self, replay: ReplayT) -> None:
        self.replay = replay
        self._covered: Viewstamp | None = None
        """Position of the newest snapshot."""

    @property
    def view(self) -> View:
        """The highest view promised."""
        return self.replay.view

    @property
    def promises(self) -> Mapping[str, Any]:
        """The other promises by name."""
        return self.replay.promises

    @property
    def base(self) -> Viewstamp:
        """The last entry that only the snapshot holds."""
        return self._covered if self._covered is not None and self._gives_way() else self.replay.log.base

    @property
    def last(self) -> Viewstamp:
        """The last entry, or the base."""
        return self._covered if self._covered is not None and self._gives_way() else self.replay.log.last

    def write(self, seq: PersistSeq, records: Sequence[bytes]) -> None:
        """One more write became durable."""
        self.replay.write(seq, records)

    def snapshot(self, meta: SnapshotMeta) -> None:
        """A snapshot became durable."""
        if self._covered is None or meta.viewstamp.seqno > self._covered.seqno:
            self._covered = meta.viewstamp

    def holds(self, viewstamp: Viewstamp) -> bool:
        """Return whether the entry is in the log, or behind the snapshot."""
        if self._covered is not None and viewstamp.seqno <= self._covered.seqno:
            return True
        log = self.replay.log
        return viewstamp.seqno < log.base_seqno or log.view_at(viewstamp.seqno) == viewstamp.view

    def data(self, seqno: Seqno) -> bytes | None:
        """Return what was proposed; empty for an entry of the protocol's own, None outside the log."""
        log = self.replay.log
        if not log.base_seqno < seqno <= log.last_seqno:
            return None
        entry = log.entry(seqno)
        return entry.data if entry.kind == COMMAND else b""

    def _gives_way(self) -> bool:
        """Return whether a restart would replace the log by the snapshot."""
        covered, log = self._covered, self.replay.log
        if covered is None or covered.seqno < log.base_seqno:
            return False
        return log.view_at(covered.seqno) != covered.view
