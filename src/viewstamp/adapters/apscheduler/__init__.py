"""A job store of APScheduler 3 that several schedulers share: one of them runs the jobs.

`store` is the job store, `documents` how a job is written: as JSON, not as a pickle.
"""

from viewstamp.adapters.apscheduler.store import ViewstampJobStore

__all__ = ["ViewstampJobStore"]
