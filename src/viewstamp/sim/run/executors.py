"""Where a campaign's chunks run: in processes of this machine, or on a Dask cluster (the extra `dask`).

Any `concurrent.futures.Executor` will do for `campaign.run_campaign`. Ray offers one of its own; see
docs/how-to/simulate.md.
"""

import os
import signal
from concurrent.futures import Executor, ProcessPoolExecutor
from importlib import import_module
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread
from typing import Any

from viewstamp.core.errors import ConfigurationError


def local_executor(jobs: int) -> Executor:
    """Return an executor of `jobs` fresh processes; close it when the campaign is over."""
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_begin_work)


def end_workers() -> None:
    """End this process's workers at once, whatever they do; the executor is broken then."""
    for worker in active_children():
        worker.terminate()


def _begin_work() -> None:
    """Leave Ctrl-C to the process that runs the campaign, and never outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def dask_executor(address: str) -> tuple[Executor, int]:
    """Return an executor over the workers of a Dask scheduler, such as tcp://10.0.0.1:8786, and their number.

    Every worker needs this version of viewstamp installed.

    Raises:
        ConfigurationError: the extra is not installed, or nothing answers at the address.
    """
    try:
        distributed: Any = import_module("distributed")
    except ImportError:
        raise ConfigurationError("dask is not installed: pip install 'viewstamp[dask]'") from None
    try:
        client = distributed.Client(address)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigurationError(f"no dask scheduler answers at {address}: {error}") from None
    executor: Executor = client.get_executor(pure=False)
    return executor, max(1, len(client.nthreads()))
