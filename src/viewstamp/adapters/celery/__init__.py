"""Celery Beat on several machines, and tasks that run once however often their message comes.

`beat` is the scheduler, `runs` what it keeps in the store, `once` the class of tasks, `settings` what both
read of an app's configuration.
"""

from viewstamp.adapters.celery.beat import BeatScheduler
from viewstamp.adapters.celery.once import OnceTask

__all__ = ["BeatScheduler", "OnceTask"]
