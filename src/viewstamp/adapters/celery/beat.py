"""A scheduler of Celery Beat of which any number may run: one leads and sends, the others take over.

    app.conf.beat_scheduler = "viewstamp.adapters.celery:BeatScheduler"
    app.conf.viewstamp_where = "prod.toml"  # or addresses

Rules of this file:

- the beat that leads writes a run down, sends it, and writes down that it was sent (`runs`). The next leader
  sends what was written down and not sent, under the same task id. Where a beat died between sending and
  writing that down, the message comes twice: `once.OnceTask` runs it once;
- an entry whose message cannot be sent is tried again at each tick; the others go on;
- whatever the cluster or the broker does, the beat pauses. It does not end.
"""

import os
import socket
from typing import Any, Final

from celery import beat
from celery.exceptions import ImproperlyConfigured
from celery.schedules import maybe_make_aware
from celery.utils.log import get_logger

from viewstamp.adapters.celery.runs import Deposed, Runs
from viewstamp.adapters.celery.settings import Settings
from viewstamp.adapters.leading import Leadership
from viewstamp.core.errors import ViewstampError

RUN_HEADER: Final = "viewstamp_run"
"""The header of a message that a beat sent: the number of the run. `OnceTask` looks for it."""
NAME_MAX: Final = 500
POLL_SHARE: Final = 1 / 5
POLL_S_MAX: Final = 1.0
_LOGGER: Final = get_logger(__name__)


class BeatScheduler(beat.Scheduler):
    """Sends what is due while it leads. See docs/how-to/use-from-frameworks.md.

    Settings of the app: `viewstamp_where` (required), `viewstamp_prefix` ("celery/"), `viewstamp_beat_ttl_s`
    (5.0: how long the lead outlives a beat that is dead), `viewstamp_options` (a dict of what
    `viewstamp.coordination` takes: `token`, `tls`, `part`, `timeout_s`).

    Raises:
        ImproperlyConfigured: a setting is missing or makes no sense. Nothing was started.
    """

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        self._settings = Settings(app.conf)
        self._poll_s = min(POLL_S_MAX, self._settings.ttl_s * POLL_SHARE)
        self._leadership: Leadership | None = None
        self._runs: Runs | None = None
        self._term = 0
        """The term in which the runs were read; 0: they have to be read."""
        self._unsent: dict[str, Any] = {}
        """Entries whose last run is written down and was not sent, as far as anybody knows."""
        self._trouble = ""
        super().__init__(app, *args, **kwargs)

    @property
    def info(self) -> str:
        """What `celery beat` prints when it starts."""
        return f"    . runs -> {self._settings.prefix} at {self._settings.where}"

    def setup_schedule(self) -> None:
        """Take the entries of the configuration. Their last runs are read by the beat that leads."""
        self.merge_inplace(self.app.conf.beat_schedule)
        self.install_default_entries(self.data)
        for name in self.schedule:
            if not name.isprintable() or len(name) > NAME_MAX:
                raise ImproperlyConfigured(
                    f"beat_schedule: the name {name[:80]!a} is not printable, or longer than {NAME_MAX}: "
                    "nothing was started"
                )

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due, if this beat leads; return after how many seconds to ask again."""
        try:
            if not self._is_ready():
                self._say("")
                return self._poll_s
            for entry in list(self._unsent.values()):
                self._send(entry)
            delay: float = super().tick(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  a beat that ends because of a cluster is of no use
            self._term = 0
            if isinstance(error, Deposed) and self._leadership is not None:
                self._leadership.resign()  # it may not have heard yet that its lease has ended
            self._say(f"{type(error).__name__}: {error}", error)
            return self._poll_s
        self._say("")
        return min(delay, self._poll_s)

    def reserve(self, entry: Any) -> Any:
        """Write the run that is due down, and return the entry as it is after it. Raises as `Runs.begin`."""
        assert self._runs is not None
        following = next(entry)
        self._runs.begin(entry.name, maybe_make_aware(following.last_run_at))
        self.schedule[entry.name] = following
        return following

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send the run that `reserve` wrote down."""
        del producer
        self._unsent[entry.name] = entry
        self._send(entry)

    def is_due(self, entry: Any) -> Any:
        """Return whether an entry is due; one whose last run cannot be read is not."""
        if self._runs is None or entry.name not in self._runs:
            return False, self.max_interval
        return super().is_due(entry)

    def close(self) -> None:
        """Give the lead back, so that another beat need not wait, and let the broker go."""
        try:
            super().close()
        finally:
            if self._leadership is not None:
                self._leadership.resign()
            self._leadership = self._runs = None

    def _is_ready(self) -> bool:
        """Return whether this beat leads, with the last runs of this term at hand."""
        if self._leadership is None:
            store, prefix = self._settings.store(), self._settings.prefix
            host = f"{socket.gethostname()} {os.getpid()}".encode()
            self._leadership = Leadership(store, f"{prefix}beat", value=host, ttl_s=self._settings.ttl_s)
            self._runs = Runs(store, self._leadership, f"{prefix}runs/")
        if not self._leadership.leads():
            self._term = 0
            return False
        assert self._runs is not None
        if self._term != self._leadership.term or not self.schedule.keys() <= self._runs.seen:
            self._load()
            self._term = self._leadership.term
        return True

    def _load(self) -> None:
        assert self._runs is not None
        first_seen = {name: maybe_make_aware(e.last_run_at) for name, e in self.schedule.items()}
        self._unsent.clear()
        for name, run in self._runs.load(first_seen).items():
            entry = self.schedule[name]
            entry.last_run_at = run.at.astimezone(self.app.timezone)
            entry.total_run_count = run.number
            if run.sent:
                continue
            if self._runs.was_sent(name):
                self._runs.sent(name)
            else:
                _LOGGER.warning("beat: run %d of %s was perhaps not sent: it is sent now", run.number, name)
                self._unsent[name] = entry
        self._heap = None  # made again of what was read

    def _send(self, entry: Any) -> None:
        """Send the last run that was written down, and write down that it was sent."""
        assert self._runs is not None
        assert self._leadership is not None
        name = entry.name
        producer = self.producer  # may wait for the broker longer than the lead lasts
        if not self._leadership.is_certain:
            raise Deposed(f"{name}: this beat is not certain to lead: it sends nothing")
        headers = {**(entry.options.get("headers") or {}), RUN_HEADER: self._runs.number(name)}
        options = {**entry.options, "task_id": self._runs.task_id(name), "headers": headers}
        message = self.Entry(**{**dict(entry), "options": options})
        _LOGGER.info("beat: sends run %d of %s (%s)", headers[RUN_HEADER], name, entry.task)
        try:
            self.apply_async(message, producer=producer, advance=False)
        except beat.SchedulingError as error:
            number = headers[RUN_HEADER]
            _LOGGER.error("beat: run %d of %s was not sent; tried again: %s", number, name, error)  # noqa: TRY400
            return
        self._unsent.pop(name, None)
        self._runs.sent(name)

    def _say(self, trouble: str, error: Exception | None = None) -> None:
        """Log what stops this beat once, and once that it is over."""
        if trouble == self._trouble:
            return
        known = isinstance(error, ViewstampError | Deposed) or error is None
        if trouble:
            _LOGGER.error("beat: pauses: %s", trouble, exc_info=None if known else error)
        else:
            _LOGGER.info("beat: goes on")
        self._trouble = trouble
