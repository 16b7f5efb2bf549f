"""A Celery app whose messages stay in memory, and beats of it whose clock the test sets."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from celery import Celery
from celery.schedules import schedule

from tests.adapters.conftest import Stock
from viewstamp.adapters.celery.beat import RUN_HEADER, BeatScheduler
from viewstamp.clients.coordination_blocking import BlockingCoordination

START = datetime(2026, 1, 1, tzinfo=UTC)
EVERY_S = 10.0
_QUEUES = count(1)


class Clock:
    """The time as the schedules see it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float = EVERY_S + 0.1) -> None:
        self.now += timedelta(seconds=seconds)


def make_app(stock: Stock, clock: Clock, names: Sequence[str] = ("report",), **settings: Any) -> Celery:
    """Return an app with entries of these names, due every ten seconds."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    every = schedule(EVERY_S, app=app, nowfun=clock)
    app.conf.update(
        {
            "viewstamp_where": stock.config,
            "viewstamp_beat_ttl_s": 60,
            "result_expires": None,
            "task_default_queue": f"queue-{next(_QUEUES)}",  # the messages in memory are the process's
            **settings,
        },
        beat_schedule={name: {"task": "count", "schedule": every, "args": [name]} for name in names},
    )
    return app


def depose(store: BlockingCoordination) -> None:
    """End the lease of the beat that leads, as the cluster does when nothing is heard of it."""
    item = store.kv.get("celery/beat")
    assert item is not None
    store.revoke(item.lease)


def turn(beat: BeatScheduler, ticks: int = 3) -> None:
    """Let a beat do what is due."""
    for _ in range(ticks):
        beat.tick()


def sent(app: Celery) -> list[tuple[str, int, str]]:
    """Take the messages that wait, each as its entry, the number of its run and its id."""
    messages: list[tuple[str, int, str]] = []
    with (
        app.connection_for_read() as connection,
        connection.SimpleQueue(app.conf.task_default_queue) as queue,
    ):
        while True:
            try:
                message = queue.get_nowait()
            except queue.Empty:
                return messages
            message.ack()
            (name, *_), _, _ = message.payload
            messages.append((name, message.headers[RUN_HEADER], message.headers["id"]))


def numbers(app: Celery) -> list[int]:
    """Take the messages that wait, each as the number of its run."""
    return [number for _, number, _ in sent(app)]
