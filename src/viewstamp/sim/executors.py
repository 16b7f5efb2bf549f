"""Where a campaign's chunks run: in processes of this machine, or on a Dask cluster (the extra `dask`).

Any `concurrent.futures.Executor` will do for `campaign.run_campaign`. Ray offers one of its own; see
docs/how-to/simulate.md.
"""

from concurrent.futures import Executor, ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from typing import Any

from viewstamp.core.errors import ConfigurationError


def local_executor(jobs: int) -> Executor:
    """Return an executor of `jobs` fresh processes; close it when the campaign is over."""
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))


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
