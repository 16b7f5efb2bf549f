"""The Celery app of `benchmarks.beats`: one entry, whose runs are lines of a file. Messages are files too."""

import json
import os
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

from celery import Celery
from kombu.transport import TRANSPORT_ALIASES, filesystem

from viewstamp.adapters.celery import OnceTask
from viewstamp.adapters.celery.beat import RUN_HEADER

FOLDER = Path(os.environ["BEATS_FOLDER"])
BROKER = FOLDER / "broker"
RUNS = FOLDER / "runs"


class Channel(filesystem.Channel):
    """Messages as files that appear whole: kombu's own are read, and lost, while they are written."""

    _made = count(1)

    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]
        name = f"{round(monotonic() * 1e6):018}_{os.getpid()}_{next(self._made)}.{queue}.msg"
        unseen = FOLDER / "unseen" / name
        unseen.write_text(json.dumps(payload), encoding="utf-8")
        unseen.rename(BROKER / name)


class Transport(filesystem.Transport):
    Channel = Channel


TRANSPORT_ALIASES["whole-files"] = "benchmarks.beat_app:Transport"
app = Celery("beats", broker="whole-files://", task_cls=OnceTask)
app.conf.update(
    {
        "viewstamp_where": FOLDER / "cluster.toml",
        "viewstamp_beat_ttl_s": float(os.environ["BEATS_TTL_S"]),
        "beat_scheduler": "viewstamp.adapters.celery:BeatScheduler",
        "beat_schedule": {
            "count": {"task": "benchmarks.beat_app.write", "schedule": float(os.environ["BEATS_INTERVAL_S"])}
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


@app.task(bind=True)
def write(self: Any) -> None:
    """Write down which run this is, under which id, and when."""
    with RUNS.open("a", encoding="ascii") as runs:
        runs.write(f"{self.request.get(RUN_HEADER)} {self.request.id} {monotonic():.3f}\n")
