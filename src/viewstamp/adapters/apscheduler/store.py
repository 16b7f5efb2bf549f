"""A job store that several schedulers share. One of them leads and runs what is due.

Rules of this file:

- a job that is due is claimed before it is run: its next run time and the claim are written in one command,
  whose conditions are the lead and that nobody changed the job. When it was submitted the claim is cleared;
- a claim that is left by a scheduler that died says that a run may have begun: `on_doubt` says what follows;
- what a user changes holds only on top of what was read: a change by another process is never undone;
- what is called in the middle of a round of the scheduler raises nothing: it would end that thread;
- a job that cannot be read is left where it is, and named in the log.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from threading import Event, Thread
from typing import Any, Final, Literal

import msgspec
from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore, ConflictingIdError, JobLookupError

from viewstamp.adapters.apscheduler.documents import Document, document_of, state_of
from viewstamp.adapters.leading import Leadership
from viewstamp.clients.conditions import delete, exists, missing, modified, put
from viewstamp.clients.coordination import Conflict
from viewstamp.clients.coordination_blocking import BlockingCoordination
from viewstamp.core.errors import CallError, CommandFailed, ConfigurationError
from viewstamp.runtime.discovery import Where
from viewstamp.services.store.types import Compare, KeyValue
from viewstamp.services.store.watching import Progress

TTL_S: Final = 5.0
POLL_SHARE: Final = 1 / 5
POLL_S_MAX: Final = 1.0


class Kept(msgspec.Struct, frozen=True):
    """A job that was read, and where it was."""

    job: Job
    mod: int
    document: Document


class ViewstampJobStore(BaseJobStore):
    """Jobs in the coordination store of a cluster. See docs/how-to/use-from-frameworks.md."""

    def __init__(
        self,
        where: Where,
        *,
        modules: Sequence[str],
        prefix: str = "apscheduler/",
        ttl_s: float = TTL_S,
        on_doubt: Literal["skip", "run"] = "skip",
        **options: Any,
    ) -> None:
        """Prepare a job store; the scheduler starts it.

        Args:
            where: an address, several of them, or a cluster file, as for `viewstamp.coordination`.
            modules: where the functions of jobs are, such as ["shop.jobs"]: others are refused.
            prefix: begins all keys; schedulers that share jobs have the same.
            ttl_s: how long the lead outlives a scheduler of which nothing is heard.
            on_doubt: a scheduler died when it had claimed a run and perhaps begun it. skip: it is not run
                again. run: it is.
            options: what else `viewstamp.coordination` takes.

        Raises:
            ConfigurationError: an argument makes no sense.
        """
        super().__init__()
        if isinstance(modules, str) or not modules or on_doubt not in {"skip", "run"} or not ttl_s > 0:
            raise ConfigurationError(
                "a job store takes `modules`, a list of names of modules whose functions it may run, "
                "`ttl_s` above 0, and `on_doubt`, 'skip' or 'run'"
            )
        self._make = partial(BlockingCoordination, where, **{"timeout_s": ttl_s, **options})
        self._modules = tuple(modules)
        self._prefix = prefix
        self._ttl_s = ttl_s
        self._poll = timedelta(seconds=min(POLL_S_MAX, ttl_s * POLL_SHARE))
        self._on_doubt = on_doubt
        self._kept: dict[str, Kept] = {}
        self._claims: dict[str, Kept] = {}
        """Jobs that the scheduler was given to run and has not come back with."""
        self._submitted: dict[str, int] = {}
        """Claims that were submitted and could not be cleared, by their `mod`."""
        self._now: datetime | None = None
        self._next: datetime | None = None
        self._changed = Event()
        self._changed.set()

    # Its life

    def start(self, scheduler: Any, alias: str) -> None:
        """Find the cluster, and hear of what others change.

        Raises:
            ConfigurationError: `where` names no cluster, or an option makes no sense.
            NotExecuted: only addresses were given, and none of them answered in time.
        """
        super().start(scheduler, alias)
        self._store = self._make()
        self._leadership = Leadership(self._store, f"{self._prefix}leader", ttl_s=self._ttl_s)
        self._ended = False
        self._pause = Event()
        Thread(target=self._watch, name="viewstamp-jobs", daemon=True).start()

    def shutdown(self) -> None:
        """Give the lead back, and let the cluster go."""
        self._ended = True
        self._pause.set()
        self._leadership.resign()
        self._store.close()

    @property
    def leads(self) -> bool:
        """Whether this scheduler is the one that runs the jobs, for certain."""
        return self._leadership.is_certain

    # What the scheduler runs

    def get_due_jobs(self, now: datetime) -> list[Job]:
        """Claim and return what is due, if this scheduler leads.

        Raises:
            NotExecuted, OutcomeUnknown: the cluster did not answer; the scheduler asks again.
        """
        self._now, self._next = now, None
        self._claims.clear()
        term = self._leadership.term
        if not self._leadership.leads():
            return []
        if self._leadership.term != term:
            self._changed.set()
        if not self._changed.is_set() and not any(_is_due(kept, now) for kept in self._kept.values()):
            self._look_ahead()
            return []
        self._changed.clear()
        try:
            due = [job for kept in self._read() if (job := self._claim(self._settled(kept), now)) is not None]
        except BaseException:
            self._changed.set()
            raise
        self._look_ahead()
        return sorted(due, key=lambda job: job.next_run_time)

    def get_next_run_time(self) -> datetime | None:
        """Return when the scheduler is to look again: for what is due, or for the lead. Asks nobody."""
        if self._now is None:
            return None
        later = self._now + self._poll
        return later if self._next is None else min(self._next, later)

    def _look_ahead(self) -> None:
        times = [kept.document.next_run_time for kept in self._kept.values() if kept.document.next_run_time]
        self._next = min(times, default=None)

    def _settled(self, kept: Kept) -> Kept:
        """Decide what follows from a claim that was not cleared."""
        document = kept.document
        if not document.claimed or self._submitted.pop(kept.job.id, 0) == kept.mod:
            return kept
        is_mine = document.term == self._leadership.term  # and it was never given to the scheduler
        if is_mine or self._on_doubt == "run":
            first = document.claimed[0]
            kept.job.next_run_time = first.astimezone(self._scheduler.timezone)
            return Kept(kept.job, kept.mod, msgspec.structs.replace(document, next_run_time=first))
        text = (
            "job %r: its scheduler died with the run of %s claimed: it may have begun, and is not run again"
        )
        self._logger.warning(text, kept.job.id, document.claimed[0])
        return kept

    def _claim(self, kept: Kept, now: datetime) -> Job | None:
        """Write down that a job is about to be run, if it is due; None: it is not to be run here."""
        job, document = kept.job, kept.document
        is_due = _is_due(kept, now)
        if not is_due and not document.claimed:
            return None
        times = job._get_run_times(now) if is_due else []  # noqa: SLF001  as the scheduler does
        following = job.trigger.get_next_fire_time(times[-1], now) if times else document.next_run_time
        claim = msgspec.structs.replace(
            document, next_run_time=following, claimed=times, term=self._leadership.term
        )
        # A job that was claimed for its last run is over.
        change = self._put(job.id, claim) if is_due or following else delete(self._key(job.id))
        when = [self._leadership.in_term, modified(self._key(job.id)) == kept.mod]
        done = self._store.kv.txn(when, [change])
        if not done.succeeded:
            self._changed.set()  # changed meanwhile, or another scheduler leads: look again
            return None
        if not is_due:
            self._kept.pop(job.id, None)
            self._changed.set()
            return None
        self._kept[job.id] = self._claims[job.id] = Kept(job, done.revision, claim)
        return job

    # What users ask for

    def lookup_job(self, job_id: str) -> Job | None:
        """Return a job; None: it does not exist, or cannot be read here."""
        item = self._store.kv.get(self._key(job_id))
        kept = self._decoded(item) if item is not None else None
        return kept.job if kept is not None else None

    def get_all_jobs(self) -> list[Job]:
        """Return all jobs that can be read, those that are due first."""
        jobs: list[Job] = sorted((kept.job for kept in self._read()), key=_order)
        return jobs

    def add_job(self, job: Job) -> None:
        """Add a job.

        Raises:
            ConflictingIdError: there is one with this id.
            TypeError, ValueError: it cannot be stored. Nothing was changed.
            NotExecuted, OutcomeUnknown: look it up before you add it again.
        """
        if not self._write(job, missing(self._key(job.id))):
            raise ConflictingIdError(job.id)

    def update_job(self, job: Job) -> None:
        """Replace a job.

        Raises:
            JobLookupError: it does not exist.
            Conflict: another process changed it since it was read. Nothing was changed.
            TypeError, ValueError: it cannot be stored. Nothing was changed.
        """
        claimed = self._claims.get(job.id)
        if claimed is not None and claimed.job is job:
            self._clear(claimed)
            return
        kept = self._kept.get(job.id)
        is_read = kept is not None and kept.job is job
        unchanged = modified(self._key(job.id)) == kept.mod if kept is not None and is_read else None
        if self._write(job, *([unchanged] if unchanged is not None else [exists(self._key(job.id))])):
            return
        if is_read and self._store.kv.get(self._key(job.id)) is not None:
            raise Conflict(f"job {job.id!r} was changed by another process: nothing was written; do it again")
        raise JobLookupError(job.id)

    def remove_job(self, job_id: str) -> None:
        """Remove a job.

        Raises:
            JobLookupError: it does not exist.
        """
        claimed = self._claims.pop(job_id, None)
        try:
            count = self._store.kv.delete(self._key(job_id))
        except (CallError, CommandFailed) as error:
            if claimed is None:
                raise
            self._left(claimed, error)
            return
        self._kept.pop(job_id, None)
        if not count:
            raise JobLookupError(job_id)

    def remove_all_jobs(self) -> None:
        """Remove all jobs."""
        for kept in self._read():
            self._store.kv.delete(self._key(kept.job.id))
        self._kept.clear()

    # Underneath

    def _clear(self, claimed: Kept) -> None:
        """Write down that a claimed job was submitted. Raises nothing: the scheduler's thread calls it."""
        job = claimed.job
        del self._claims[job.id]
        cleared = msgspec.structs.replace(
            claimed.document, next_run_time=job.next_run_time, claimed=[], term=0
        )
        try:
            when = [self._leadership.in_term, modified(self._key(job.id)) == claimed.mod]
            done = self._store.kv.txn(when, [self._put(job.id, cleared)])
        except (CallError, CommandFailed, AssertionError) as error:
            self._left(claimed, error)
            return
        if done.succeeded:
            self._kept[job.id] = Kept(job, done.revision, cleared)
        else:
            self._changed.set()

    def _left(self, claimed: Kept, error: BaseException) -> None:
        self._submitted[claimed.job.id] = claimed.mod
        self._changed.set()
        self._logger.warning(
            "job %r was submitted, and that is written down later: %s", claimed.job.id, error
        )

    def _write(self, job: Job, *when: Compare) -> bool:
        operation = self._put(job.id, document_of(job, self._modules))
        self._changed.set()
        return self._store.kv.txn(when, [operation]).succeeded

    def _read(self) -> list[Kept]:
        items = self._store.kv.range(prefix=self._key("")).items
        found = [kept for item in items if (kept := self._decoded(item)) is not None]
        self._kept = {kept.job.id: kept for kept in found}
        return found

    def _decoded(self, item: KeyValue) -> Kept | None:
        job_id = item.name.removeprefix(self._key(""))
        job = Job.__new__(Job)
        try:
            document = msgspec.json.decode(item.value, type=Document)
            job.__setstate__(state_of(job_id, document, self._modules, self._scheduler.timezone))
        except Exception as error:  # noqa: BLE001  whatever a function's module raises when it is imported
            self._logger.error("job %r cannot be run here, and is left as it is: %s", job_id, error)  # noqa: TRY400
            return None
        job._scheduler, job._jobstore_alias = self._scheduler, self._alias  # noqa: SLF001  as every job store does
        self._kept[job_id] = kept = Kept(job, item.mod, document)
        return kept

    def _key(self, job_id: str) -> str:
        return f"{self._prefix}jobs/{job_id}"

    def _put(self, job_id: str, document: Document) -> Any:
        return put(self._key(job_id), msgspec.json.encode(document))

    def _watch(self) -> None:
        """Wake the scheduler when somebody changes a job."""
        while not self._ended:
            try:
                after = self._store.kv.range(prefix=self._key(""), limit=1).revision
                self._changed.set()  # what came before the watch
                for told in self._store.kv.watch(self._key(""), after=after):
                    if not isinstance(told, Progress) and not self._ended:
                        self._changed.set()
                        self._scheduler.wakeup()
            except (CallError, CommandFailed) as error:
                if not self._ended:
                    self._logger.warning("changes by others are not heard: %s", error)
                    self._pause.wait(self._ttl_s)


def _is_due(kept: Kept, now: datetime) -> bool:
    due = kept.document.next_run_time
    return due is not None and due <= now


def _order(job: Job) -> tuple[bool, float]:
    return job.next_run_time is None, job.next_run_time.timestamp() if job.next_run_time else 0.0
