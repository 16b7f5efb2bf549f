"""A job of APScheduler as JSON, and back.

Rules of this file:

- nothing is pickled: a job's arguments are JSON, and its trigger is one of APScheduler's own;
- a function is named, and looked up only in the modules that the program allows. A client that can write
  into the store cannot choose from all that Python can import;
- what cannot be written is refused before anything is stored.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from apscheduler.job import Job
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, BaseCombiningTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

KINDS: Final[dict[str, type]] = {
    "and": AndTrigger,
    "calendar": CalendarIntervalTrigger,
    "cron": CronTrigger,
    "date": DateTrigger,
    "interval": IntervalTrigger,
    "or": OrTrigger,
}
_NAMES: Final = {kind: name for name, kind in KINDS.items()}
_CALENDAR: Final = ("years", "months", "weeks", "days")


class Document(msgspec.Struct, frozen=True):
    """A job as the store has it."""

    func: str
    trigger: dict[str, Any]
    next_run_time: datetime | None
    executor: str
    args: list[Any]
    kwargs: dict[str, Any]
    name: str
    misfire_grace_time: int | None
    coalesce: bool
    max_instances: int
    claimed: list[datetime] = []
    """The run times for which the job was claimed, until it is known that they were submitted."""
    term: int = 0
    """The term of the scheduler that claimed it."""


_STATE: Final = tuple(name for name in Document.__struct_fields__ if name not in {"claimed", "term"})


def document_of(job: Job, modules: Iterable[str]) -> Document:
    """Return a job as the store has it.

    Raises:
        TypeError: an argument is not JSON, or the trigger none of APScheduler's own. Nothing was stored.
        ValueError: the function has no name, or its module is not allowed. Nothing was stored.
    """
    state = job.__getstate__()
    _check_allowed(state["func"], modules)
    kept = {name: state[name] for name in _STATE}
    kept["args"], kept["kwargs"] = list(state["args"]), dict(state["kwargs"])
    for value in (kept["args"], kept["kwargs"]):
        _check_json(job.id, value)
    return Document(**{**kept, "trigger": _written(state["trigger"])})


def state_of(job_id: str, document: Document, modules: Iterable[str], timezone: tzinfo) -> dict[str, Any]:
    """Return what `Job.__setstate__` takes.

    Raises:
        ValueError: the function's module is not allowed, or the trigger makes no sense.
    """
    _check_allowed(document.func, modules)
    state = {name: getattr(document, name) for name in _STATE}
    try:
        trigger = _read(document.trigger)
    except (TypeError, LookupError, OSError) as error:
        raise ValueError(f"the trigger makes no sense: {error!r}") from error
    due = document.next_run_time
    return {
        **state,
        "version": 1,
        "id": job_id,
        "trigger": trigger,
        "args": tuple(document.args),
        "next_run_time": due.astimezone(timezone) if due is not None else None,
    }


def _check_allowed(func: str, modules: Iterable[str]) -> None:
    module = func.partition(":")[0]
    if not any(module == one or module.startswith(f"{one}.") for one in modules):
        raise ValueError(f"the function {func!r} is not in a module that this job store may run")


def _check_json(job_id: str, value: Any) -> None:
    try:
        read = msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError, RecursionError):
        read = None
    if repr(read) != repr(value):
        raise TypeError(f"job {job_id!r}: its arguments are not plain JSON values: nothing was stored")


# Triggers


def _written(trigger: Any) -> dict[str, Any]:
    name = _NAMES.get(type(trigger))
    if name is None:
        raise TypeError(f"a trigger {type(trigger).__name__} cannot be stored: nothing was stored")
    if isinstance(trigger, BaseCombiningTrigger):
        inner = [_written(one) for one in trigger.triggers]
        return {"kind": name, "triggers": inner, "jitter": trigger.jitter}
    if isinstance(trigger, DateTrigger):
        return {
            "kind": name,
            "run_date": _moment(trigger.run_date),
            "timezone": _zone(trigger.run_date.tzinfo),
        }
    common = {
        "kind": name,
        "timezone": _zone(trigger.timezone),
        "start_date": _moment(trigger.start_date),
        "end_date": _moment(trigger.end_date),
        "jitter": trigger.jitter,
    }
    if isinstance(trigger, IntervalTrigger):
        return {**common, "seconds": trigger.interval.total_seconds()}
    if isinstance(trigger, CronTrigger):
        return {**common, "fields": {f.name: str(f) for f in trigger.fields if not f.is_default}}
    at = trigger._time  # noqa: SLF001  the trigger has no other name for it
    fields = {each: getattr(trigger, each) for each in _CALENDAR}
    return {**common, **fields, "hour": at.hour, "minute": at.minute, "second": at.second}


def _read(written: Mapping[str, Any]) -> Any:
    arguments = dict(written)
    kind = arguments.pop("kind")
    if kind in {"and", "or"}:
        return KINDS[kind]([_read(one) for one in arguments["triggers"]], arguments["jitter"])
    arguments["timezone"] = zone = ZoneInfo(arguments["timezone"])
    if kind == "date":
        return DateTrigger(datetime.fromisoformat(arguments["run_date"]).astimezone(zone), zone)
    parse: Callable[[str], date] = date.fromisoformat if kind == "calendar" else _moment_in(zone)
    for name in ("start_date", "end_date"):
        text = arguments[name]
        arguments[name] = parse(text) if text is not None else None
    arguments.update(arguments.pop("fields", {}))
    if kind == "interval":
        arguments["seconds"] = timedelta(seconds=arguments["seconds"]).total_seconds()
    return KINDS[kind](**arguments)


def _moment(moment: date | None) -> str | None:
    return moment.isoformat() if moment is not None else None


def _moment_in(zone: tzinfo) -> Callable[[str], datetime]:
    return lambda text: datetime.fromisoformat(text).astimezone(zone)


def _zone(zone: tzinfo | None) -> str:
    name = str(zone)
    try:
        return ZoneInfo(name).key
    except (OSError, KeyError, ValueError) as error:
        raise TypeError(
            f"the time zone {name!r} has no name that can be stored: nothing was stored"
        ) from error
