"""A task that a beat started runs once, also where its message comes twice.

    @app.task(base=OnceTask)
    def report(): ...

Rules of this file:

- the guard is a key of the store by the task's id. While the task runs the key is under a lease that this
  worker keeps alive; when it has run the key stays for `viewstamp_once_keep_s` (an hour);
- a second message of a run that is over is dropped. One that comes while the first still runs waits for its
  outcome: where that worker dies, the task is run by this one;
- a retry of the same task has the same id and its own number, and is a run of its own.
"""

from contextlib import closing, suppress
from typing import Any, Final

from celery import Task
from celery.exceptions import Ignore
from celery.utils.log import get_logger

from viewstamp.adapters.celery.beat import RUN_HEADER
from viewstamp.adapters.celery.settings import Settings
from viewstamp.clients.conditions import get, missing, put
from viewstamp.clients.coordination_blocking import BlockingCoordination
from viewstamp.core.errors import CallError
from viewstamp.services.store.types import Found, LeaseNotFound

DONE: Final = b"done"
RUNNING: Final = b"running"
_LOGGER: Final = get_logger(__name__)


class OnceTask(Task):
    """A base class for tasks: what a `BeatScheduler` sent runs once. Other calls run as ever.

    Settings of the app: those of `BeatScheduler`, and `viewstamp_once_keep_s` (3600.0).

    Raises:
        Ignore: the run is over: another worker did it. Nothing was run here.
        NotExecuted, OutcomeUnknown: the cluster did not answer before the task began: nothing was run here.
    """

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task, or raise `Ignore` because another worker has run it."""
        request = self.request
        if request.get(RUN_HEADER) is None and RUN_HEADER not in (request.headers or {}):
            return super().__call__(*args, **kwargs)
        settings = Settings(self.app.conf)
        store = settings.store()
        key = f"{settings.prefix}once/{request.id}/{request.retries}"
        lease = store.lease(settings.ttl_s)
        try:
            _claim(store, key, lease.number)
            try:
                return super().__call__(*args, **kwargs)
            finally:
                _write_down(store, key, settings.keep_s)
        finally:
            with suppress(CallError, LeaseNotFound):  # it ends by itself
                lease.revoke()


def _write_down(store: BlockingCoordination, key: str, keep_s: float) -> None:
    """Write down that the run is over. It is, also where that cannot be written."""
    try:
        store.kv.put(key, DONE, lease=store.grant(round(keep_s * 1000)))
    except (CallError, LeaseNotFound) as error:
        _LOGGER.warning("%s: the run is over; a second message may run it again: %s", key, error)


def _claim(store: BlockingCoordination, key: str, lease: int) -> None:
    """Return when the run is this worker's; raise `Ignore` where it is over."""
    while True:
        done = store.kv.txn([missing(key)], [put(key, RUNNING, lease=lease)], [get(key)])
        if done.succeeded:
            return
        found = done.results[0]
        assert isinstance(found, Found)
        if found.items and found.items[0].value == DONE:
            _LOGGER.info("%s: this run is over: the message is dropped", key)
            raise Ignore
        with closing(store.kv.watch(key=key, after=done.revision)) as watching:
            next(watching)
