"""The Celery app of `benchmarks.beats`: one entry, whose runs are lines of a file. Messages are files too."""

import os
from pathlib import Path
from time import monotonic
from typing import Any

from celery import Celery

from viewstamp.adapters.celery import OnceTask
from viewstamp.adapters.celery.beat import RUN_HEADER

FOLDER = Path(os.environ["BEATS_FOLDER"])
BROKER = FOLDER / "broker"
RUNS = FOLDER / "runs"

app = Celery("beats", broker="filesystem://", task_cls=OnceTask)
app.conf.update(
    {
        "viewstamp_where": FOLDER / "cluster.toml",
        "viewstamp_beat_ttl_s": float(os.environ["BEATS_TTL_S"]),
        "beat_scheduler": "viewstamp.adapters.celery:BeatScheduler",
        "beat_schedule": {
            "count": {"task": "benchmarks.beat_app.count", "schedule": float(os.environ["BEATS_INTERVAL_S"])}
        },
        "broker_transport_options": {
            "data_folder_in": str(BROKER),
            "data_folder_out": str(BROKER),
            "control_folder": str(FOLDER / "control"),
            "polling_interval": 0.02,
        },
        "result_expires": None,
        "task_ignore_result": True,
    }
)


@app.task(bind=True)  # type: ignore[untyped-decorator]
def count(self: Any) -> None:
    """Write down which run this is, under which id, and when."""
    with RUNS.open("a", encoding="ascii") as runs:
        runs.write(f"{self.request.get(RUN_HEADER)} {self.request.id} {monotonic():.3f}\n")
