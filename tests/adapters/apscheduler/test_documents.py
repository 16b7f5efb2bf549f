"""Jobs as JSON: all triggers of APScheduler come back as they were, and nothing else is read or written."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from apscheduler.job import Job
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from tests.adapters.apscheduler.jobs import Clerk, note
from viewstamp.adapters.apscheduler.documents import Document, document_of, state_of

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 10, 24, 23, 30, tzinfo=BERLIN)  # the clocks go back in the night
MODULES = ["tests.adapters"]
TRIGGERS = [
    DateTrigger(START),
    IntervalTrigger(hours=1, seconds=0.5, start_date=START, timezone=BERLIN),
    IntervalTrigger(minutes=7, start_date=START, end_date=START + timedelta(hours=3), timezone=UTC),
    CronTrigger(hour="*/2", minute="5,10-12", start_date=START, timezone=BERLIN),
    CronTrigger.from_crontab("30 2 * * sun", BERLIN),
    CronTrigger(day="last fri", timezone=BERLIN, end_date=START + timedelta(days=90)),
    CalendarIntervalTrigger(
        months=1, hour=2, minute=30, start_date=date(2026, 10, 25), end_date=date(2027, 5, 1), timezone=BERLIN
    ),
    AndTrigger([CronTrigger(hour="3,5", timezone=BERLIN)]),
    OrTrigger([CronTrigger(hour=3, timezone=BERLIN), DateTrigger(START)]),
]


def job(trigger: Any, func: Any = note, *, args: tuple[Any, ...] = ("a",), kwargs: Any = None) -> Job:
    made = BackgroundScheduler(timezone=BERLIN).add_job(func, trigger, args, kwargs, id="j", max_instances=2)
    made._modify(
        next_run_time=START, executor="default", misfire_grace_time=60, coalesce=True, max_instances=2
    )
    return made


def there_and_back(made: Job) -> Job:
    written = msgspec.json.decode(msgspec.json.encode(document_of(made, MODULES)), type=Document)
    read = Job.__new__(Job)
    read.__setstate__(state_of("j", written, MODULES, BERLIN))
    return read


def fire_times(trigger: Any, count: int = 40) -> list[str]:
    times: list[str] = []
    previous, now = None, START - timedelta(days=1)
    while len(times) < count and (following := trigger.get_next_fire_time(previous, now)) is not None:
        times.append(following.isoformat())
        previous = now = following
    return times


@pytest.mark.parametrize("trigger", TRIGGERS, ids=repr)
def test_a_job_comes_back_as_it_was(trigger: BaseTrigger) -> None:
    made = job(trigger, kwargs={})
    read = there_and_back(made)
    state, again = made.__getstate__(), read.__getstate__()
    del state["trigger"], again["trigger"]
    assert again == state
    assert fire_times(read.trigger) == fire_times(trigger)
    assert fire_times(trigger)


@pytest.mark.parametrize(
    "value",
    [object(), (1, 2), {1: 2}, {1, 2}, b"x", float("nan"), START, [[(1,)]]],
    ids=["an object", "a pair", "a number as key", "a set", "bytes", "nan", "a time", "nested"],
)
def test_an_argument_is_refused_when_it_would_come_back_as_another(value: Any) -> None:
    with pytest.raises(TypeError, match="nothing was stored"):
        document_of(job(TRIGGERS[0], args=(value,)), MODULES)


def test_arguments_that_are_json_come_back() -> None:
    values: tuple[Any, ...] = (1, 2.5, 1 << 70, "ü", None, True, [1, [2]], {"a": {"b": []}})
    assert there_and_back(job(TRIGGERS[0], lambda_free, args=values)).args == values


def lambda_free(*_: Any) -> None: ...


class Odd(DateTrigger):
    pass


@pytest.mark.parametrize(
    "trigger", [Odd(START), DateTrigger(START.astimezone(timezone(timedelta(hours=3))))], ids=repr
)
def test_a_trigger_is_refused_when_it_cannot_be_written(trigger: BaseTrigger) -> None:
    with pytest.raises(TypeError, match="nothing was stored"):
        document_of(job(trigger), MODULES)


@pytest.mark.parametrize("func", ["os:system", "tests_other:f", "tests.adaptersx:f"])
def test_a_function_is_not_looked_up_where_it_is_not_allowed(func: str) -> None:
    document = msgspec.structs.replace(document_of(job(TRIGGERS[0]), MODULES), func=func)
    with pytest.raises(ValueError, match="may run"):
        state_of("j", document, MODULES, BERLIN)
    with pytest.raises(ValueError, match="may run"):
        document_of(job(TRIGGERS[0]), ["shop"])


def test_a_method_of_an_object_is_refused() -> None:
    with pytest.raises((TypeError, ValueError)):
        document_of(job(TRIGGERS[0], Clerk().note, args=()), MODULES)


@pytest.mark.parametrize(
    "trigger",
    [
        {},
        {"kind": "eval"},
        {"kind": "date", "run_date": "x", "timezone": "UTC"},
        {"kind": "date", "run_date": "2026-01-01", "timezone": "../etc"},
        {"kind": "and", "triggers": [{"kind": "or"}], "jitter": None},
        {"kind": "interval", "timezone": "UTC", "start_date": None, "end_date": None, "jitter": None},
    ],
)
def test_a_trigger_that_makes_no_sense_is_an_error_of_its_job(trigger: dict[str, Any]) -> None:
    document = msgspec.structs.replace(document_of(job(TRIGGERS[0]), MODULES), trigger=trigger)
    with pytest.raises(ValueError, match=r".+"):
        state_of("j", document, MODULES, BERLIN)
