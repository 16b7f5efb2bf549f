"""Two schedulers of APScheduler that share jobs on three replicas: one runs them, the other takes over."""

from datetime import UTC
from threading import Event

from apscheduler.schedulers.background import BackgroundScheduler

import viewstamp
from viewstamp.adapters.apscheduler import ViewstampJobStore
from viewstamp.services.stock import StockService

RAN = Event()


def report(what: str) -> None:
    """Stand for the work."""
    print("reported", what)
    RAN.set()


def main() -> None:
    with viewstamp.local_cluster(StockService) as cluster:
        cluster.leader()
        stores = [ViewstampJobStore(cluster.config, modules=[__name__], ttl_s=2.0) for _ in range(2)]
        schedulers = []
        for store in stores:
            scheduler = BackgroundScheduler(timezone=UTC, job_defaults={"misfire_grace_time": 60})
            scheduler.add_jobstore(store)
            scheduler.start()
            schedulers.append(scheduler)
        first, second = schedulers
        first.add_job(report, "interval", ["sales"], seconds=0.2, id="report", replace_existing=True)
        RAN.wait(30)
        leader, other = (first, second) if stores[0].leads else (second, first)
        leader.shutdown()
        RAN.clear()
        print("the leader is gone:", "another one ran the job" if RAN.wait(30) else "nobody ran the job")
        other.shutdown()


if __name__ == "__main__":
    main()
