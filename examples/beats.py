"""Two Celery Beats and three replicas in this process: one beat sends, and another goes on where it ends."""

from datetime import UTC, datetime, timedelta

from celery import Celery
from celery.schedules import schedule

import viewstamp
from viewstamp.adapters.celery import BeatScheduler
from viewstamp.services.stock import StockService

NOW = [datetime(2026, 1, 1, tzinfo=UTC)]


def turn(beat: BeatScheduler) -> None:
    """Let a beat send what is due; `celery beat` does so by itself."""
    while beat.tick() == 0:
        pass


def main() -> None:
    app = Celery("shop", broker="memory://", set_as_current=False)
    every_hour = schedule(timedelta(hours=1), app=app, nowfun=lambda: NOW[0])
    app.conf.beat_schedule = {"report": {"task": "report", "schedule": every_hour}}
    with viewstamp.local_cluster(StockService) as cluster:
        cluster.leader()
        app.conf.viewstamp_where = cluster.config
        first, second = BeatScheduler(app), BeatScheduler(app)
        for beat in (first, second):
            turn(beat)
        for hour in range(1, 4):
            NOW[0] += timedelta(hours=1, seconds=1)
            if hour == 2:
                cluster.kill(cluster.leader())
                first.close()
            for beat in (first, second)[hour // 2 :]:
                turn(beat)
            run = second.schedule["report"].total_run_count or first.schedule["report"].total_run_count
            print(f"hour {hour}: run {run} was sent, once")
        second.close()


if __name__ == "__main__":
    main()
