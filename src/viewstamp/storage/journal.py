"""What a journal promises: a queue of numbered atomic writes that forgets from the front.

`conformance.py` holds every implementation to this page.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from viewstamp.core.ids import PersistSeq


class SyncJob(Protocol):
    """The blocking half of a sync. It may run in another thread; nothing else of the journal is touched.

    `run` is `write` followed by `flush`. A simulator calls the two apart, with a crash in between.
    """

    @property
    def seq(self) -> PersistSeq:
        """Every write up to this one is durable when the job has run."""
        ...

    def write(self) -> None:
        """Hand the bytes to the disk. Raises `StorageError`; the process must end."""
        ...

    def flush(self) -> None:
        """Wait until they are durable. Raises `StorageError`; the process must end."""
        ...

    def run(self) -> None:
        """Do both."""
        ...


class Journal(Protocol):
    """An append-only log of atomic writes numbered 1, 2, 3, ... over the life of a data directory.

    One thread uses it, apart from the jobs that it hands out. After any `StorageError` it refuses everything.
    """

    @property
    def written(self) -> PersistSeq:
        """Number of the last write appended; 0 where there is none."""
        ...

    @property
    def durable(self) -> PersistSeq:
        """Number of the last write known to be durable; durable <= written."""
        ...

    @property
    def live_bytes(self) -> int:
        """Bytes of the records of all writes that are not released."""
        ...

    def append(self, seq: PersistSeq, records: Sequence[bytes]) -> None:
        """Take in the atomic write number `written + 1`, of one record or more. Does not block.

        It is durable once a sync that began later has finished. After a crash it is there as a whole or not
        at all, and never without every write before it.
        """
        ...

    def sync(self) -> PersistSeq:
        """Make everything appended durable, in this thread, and return `durable`."""
        ...

    def begin_sync(self) -> SyncJob | None:
        """Return the job that makes everything appended so far durable; None: it is already.

        At most one job is open: it ends with `finish_sync`. Appends go on meanwhile, for the next job.
        """
        ...

    def finish_sync(self, job: SyncJob) -> PersistSeq:
        """Record that the open job has run without an exception, and return `durable`."""
        ...

    def release(self, before: PersistSeq) -> None:
        """Allow the writes numbered lower than `before` to be forgotten. Does not block.

        They are forgotten no sooner than everything appended up to this call is durable: what replaces them
        may still be on its way.
        """
        ...

    def begin_upkeep(self) -> Callable[[], None] | None:
        """Return slow work that is worth doing in another thread now; None: there is none.

        It prepares space and deletes what was released. At most one at a time; a journal whose upkeep is
        never called does the same inside a sync. The work may raise `StorageError`; the process must end.
        """
        ...

    def close(self) -> None:
        """Give everything back. What was not synced may be lost. Closing twice is allowed."""
        ...
