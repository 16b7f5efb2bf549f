"""When and where the journal is synced: on the loop's thread while the disk is fast, beside it otherwise.

Rules of this file:

- One sync is in flight; what is appended meanwhile gathers for the next one, so completions cannot overtake.
- A sync that fails is never repeated and nothing it covered is ever called durable (docs/faults.md#rule-2).
- The choice is measured (`SyncPolicy`). A slow disk must not hold up heartbeats, and a fast one should not
  pay for a change of threads.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from threading import Event
from typing import Final

from viewstamp.core.ids import PersistSeq
from viewstamp.runtime.config import Placement
from viewstamp.runtime.metrics import Metrics
from viewstamp.runtime.system import Clock
from viewstamp.storage.journal import Journal, SyncJob

_WINDOW: Final = 9
"""Syncs on the loop's thread that decide together."""
_DECIDING: Final = 4
"""Of this many the quickest decides: what the disk needs, without the wait for a busy processor."""
_RETURN_FRACTION: Final = 0.5
"""Back to the loop's thread below this part of the limit, so that the choice does not flutter."""
_BLOCKING_US: Final = 20_000
"""A sync this slow may never happen on the loop's thread: it leaves at once, and nothing is tried there."""
_TRIAL_EVERY: Final = 16
"""Beside the loop, one sync in this many is made on it to see how fast it would be."""


class SyncPolicy:
    """Decides where the next sync runs, by the lower quartile of those on the loop's thread.

    What a sync takes in another thread says little: that thread also waits for the interpreter, and the more
    so the busier the loop is. So a few are made on the loop's thread while that can do no harm. The quartile
    is not moved by syncs during which the machine did something else; one that blocks long counts at once.
    """

    __slots__ = ("_inline_us_max", "_placement", "_since_trial", "_took_us", "off_loop")

    def __init__(self, placement: Placement, inline_us_max: int) -> None:
        self._placement = placement
        self._inline_us_max = inline_us_max
        self._took_us: deque[int] = deque(maxlen=_WINDOW)
        """The newest syncs on the loop's thread."""
        self._since_trial = 0
        self.off_loop = placement != "inline"
        """Where the next sync runs. The first runs beside the loop: a disk is slow until proven fast."""

    def measured(self, took_us: int) -> None:
        """Record how long a sync took that ran where `off_loop` said."""
        if self._placement != "auto":
            return
        if took_us >= _BLOCKING_US:
            self._took_us.clear()
            self._since_trial = 0
            self.off_loop = True
        elif self.off_loop:
            self._since_trial += 1
            # The very first trial comes soon; it decides nothing by itself.
            self.off_loop = bool(self._took_us) and self._since_trial < _TRIAL_EVERY - 1
        else:
            self._measured_inline(took_us)

    def _measured_inline(self, took_us: int) -> None:
        was_trial = self._since_trial > 0 and bool(self._took_us)
        self._since_trial = 0
        self._took_us.append(took_us)
        if took_us <= self._inline_us_max and not was_trial:
            return  # one more below the limit: those that decide were below it, and still are
        limit = self._inline_us_max * (_RETURN_FRACTION if was_trial else 1.0)
        self.off_loop = sorted(self._took_us)[len(self._took_us) // _DECIDING] > limit


class Syncer:
    """Makes a journal durable. `finished` and `failed` are called on the loop's thread."""

    def __init__(
        self,
        journal: Journal,
        *,
        placement: Placement,
        inline_us_max: int,
        executor: Executor,
        clock: Clock,
        metrics: Metrics,
        finished: Callable[[PersistSeq], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._journal = journal
        self._policy = SyncPolicy(placement, inline_us_max)
        self._executor = executor
        self._clock = clock
        self._metrics = metrics
        self._finished = finished
        self._failed = failed
        self._in_flight = False
        self._upkeep = False
        self.running: SyncJob | None = None
        """The sync that runs now, on whichever thread; read by another one (`disk_hang`)."""

    delay_s: float = 0.0
    """For `viewstamp chaos`: each sync takes this much longer, beside the loop."""

    @property
    def off_loop(self) -> bool:
        """Whether the next sync runs beside the loop's thread."""
        return self._policy.off_loop

    @property
    def busy(self) -> bool:
        """Whether a sync is in flight in the executor."""
        return self._in_flight

    def sync(self) -> PersistSeq | None:
        """Make everything appended durable: return its number, or None where `finished` will be told later.

        Raises:
            StorageError: the disk failed. The process must end.
        """
        if self._in_flight:
            return None
        job = self._journal.begin_sync()
        if job is None:
            return None
        self.running = job
        if not self._policy.off_loop and not self.delay_s:
            return self._conclude(job, _run_timed(job, self._clock))
        self._in_flight = True
        self._metrics.syncs_off_loop += 1
        future = asyncio.get_running_loop().run_in_executor(
            self._executor, _run_timed, job, self._clock, self.delay_s
        )
        future.add_done_callback(lambda done: self._on_done(job, done))
        return None

    def _on_done(self, job: SyncJob, done: "asyncio.Future[int]") -> None:
        self._in_flight = False
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._failed(error)
            return
        self._finished(self._conclude(job, done.result()))

    def _conclude(self, job: SyncJob, took_us: int) -> PersistSeq:
        metrics, journal = self._metrics, self._journal
        self.running = None
        metrics.syncs += 1
        metrics.sync_us += took_us
        metrics.sync_time.observe(took_us)
        self._policy.measured(took_us)
        before, durable = journal.durable, journal.finish_sync(job)
        metrics.persisted += durable - before
        if not self._upkeep and (work := journal.begin_upkeep()) is not None:
            self._begin_upkeep(work)
        return durable

    def _begin_upkeep(self, work: Callable[[], None]) -> None:
        self._upkeep = True
        future = asyncio.get_running_loop().run_in_executor(None, work)
        future.add_done_callback(self._on_upkeep)

    def _on_upkeep(self, done: "asyncio.Future[None]") -> None:
        self._upkeep = False
        if not done.cancelled() and (error := done.exception()) is not None:
            self._failed(error)


def _run_timed(job: SyncJob, clock: Clock, delay_s: float = 0.0) -> int:
    """Run a sync and return how long it took, in microseconds."""
    begun = clock()
    if delay_s:
        Event().wait(delay_s)
    job.run()
    return clock() - begun
