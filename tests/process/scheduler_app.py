"""A process with a scheduler of APScheduler whose job writes a line for each run: FOLDER INTERVAL_S TTL_S."""

import logging
import sys
from datetime import UTC
from pathlib import Path

from apscheduler.schedulers.blocking import BlockingScheduler

from viewstamp.adapters.apscheduler import ViewstampJobStore


def write(folder: str) -> None:
    with Path(folder, "runs").open("a", encoding="ascii") as runs:
        runs.write("run\n")


def main() -> None:
    folder, interval_s, ttl_s = sys.argv[1:]
    logging.basicConfig(level=logging.INFO)
    scheduler = BlockingScheduler(timezone=UTC, job_defaults={"misfire_grace_time": 600})
    where = Path(folder, "cluster.toml")
    scheduler.add_jobstore(ViewstampJobStore(where, modules=["tests.process"], ttl_s=float(ttl_s)))
    if not Path(folder, "runs").exists():
        scheduler.add_job(
            "tests.process.scheduler_app:write",
            "interval",
            [folder],
            id="write",
            seconds=float(interval_s),
            replace_existing=True,
        )
    scheduler.start()


if __name__ == "__main__":
    main()
