"""Many seeds over any `concurrent.futures.Executor`: threads of one process, cores of a machine, a cluster.

What travels to a worker is JSON and what comes back is JSON, so an executor only has to carry bytes. A
campaign stops at the first violation; what was under way then is finished, and nothing new is begun.

The chunks run in processes of this machine, or on a Dask cluster (the extra `dask`). Ray offers an
executor of its own; see docs/how-to/simulate.md.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from multiprocessing import active_children, parent_process
from multiprocessing.connection import wait as wait_for_end
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Thread
from typing import Any, Final

import msgspec

from viewstamp.core.errors import ConfigurationError, ViewstampError
from viewstamp.sim.run.plan import RunPlan, RunReport
from viewstamp.sim.run.run import execute

_PLANS = msgspec.json.Decoder(list[RunPlan])
_REPORTS = msgspec.json.Decoder(list[RunReport])
_ENCODE = msgspec.json.Encoder().encode

CHUNK_SEEDS = 4
_SAFE_PATH: Final = "PYTHONSAFEPATH"
CHUNKS_AHEAD = 8
_POLL_S: Final = 0.2


class WorkersLost(ViewstampError):
    """A worker ended by itself: killed, or out of memory. Nothing is known of the seeds it had."""


class CampaignSummary(msgspec.Struct):
    """What a campaign did, added up."""

    seeds: int = 0
    events: int = 0
    virtual_us: int = 0
    committed: int = 0
    last_seed: int = 0
    operations: Counter[str] = msgspec.field(default_factory=Counter)
    faults: Counter[str] = msgspec.field(default_factory=Counter)
    rare: Counter[str] = msgspec.field(default_factory=Counter)
    reached: Counter[str] = msgspec.field(default_factory=Counter)
    """In how many seeds each rare state was reached at all."""
    failed: list[RunReport] = msgspec.field(default_factory=list)

    def add(self, report: RunReport) -> None:
        """Count one run."""
        self.seeds += 1
        self.events += report.events
        self.virtual_us += report.virtual_us
        self.committed += report.committed
        self.last_seed = max(self.last_seed, report.seed)
        self.operations.update(report.operations)
        self.faults.update(report.faults)
        self.rare.update(report.rare)
        self.reached.update(report.rare.keys())
        if not report.ok:
            self.failed.append(report)

    @property
    def virtual_hours(self) -> float:
        """How long the simulated clusters lived, all together."""
        return self.virtual_us / 3.6e9


def run_chunk(plans: bytes) -> bytes:
    """Run encoded plans one after the other, up to the first violation; return the encoded reports."""
    reports = []
    for plan in _PLANS.decode(plans):
        report = execute(plan)
        reports.append(report)
        if not report.ok:
            break
    return _ENCODE(reports)


def run_campaign(
    plans: Iterable[RunPlan],
    executor: Executor,
    *,
    workers: int,
    chunk: Callable[[bytes], bytes] = run_chunk,
    on_report: Callable[[RunReport], None] = lambda _report: None,
    stop: Callable[[], bool] = lambda: False,
) -> CampaignSummary:
    """Run all plans, each chunk of them wherever the executor likes, and add up what they report.

    Args:
        plans: consumed lazily; it may be endless if `on_report` raises to stop.
        executor: anything that runs `chunk(bytes) -> bytes`.
        workers: how many chunks it runs at once; a few more are kept waiting.
        chunk: runs encoded plans, as `run_chunk` does; a function of a module.
        on_report: called in this thread for each run, in the order in which they finish.
        stop: asked several times a second; once it says so nothing more is begun or waited for, and it is the
            caller to end what still runs.

    Raises:
        WorkersLost: the executor broke; what had finished was reported, and the text names the other seeds.
    """
    summary = CampaignSummary()
    encoded = _chunks(plans)
    waiting: dict[Future[bytes], bytes] = {}
    try:
        while not stop():
            if not summary.failed:
                room = max(1, workers + min(workers, CHUNKS_AHEAD)) - len(waiting)
                waiting.update((executor.submit(chunk, sent), sent) for sent in islice(encoded, room))
            if not waiting:
                break
            for future in wait(waiting, timeout=_POLL_S, return_when=FIRST_COMPLETED).done:
                for report in _REPORTS.decode(future.result()):
                    summary.add(report)
                    on_report(report)
                del waiting[future]
            if summary.failed:
                waiting = {future: sent for future, sent in waiting.items() if not future.cancel()}
        waiting.clear()
    except BrokenExecutor:
        raise WorkersLost(_lost(waiting.values())) from None
    finally:
        for future in waiting:
            future.cancel()
    return summary


def _lost(chunks: Iterable[bytes]) -> str:
    seeds = [plan.seed for chunk in chunks for plan in _PLANS.decode(chunk)]
    named = f"{min(seeds)} to {max(seeds)}" if seeds else "to come"
    return (
        f"a worker ended by itself (killed? out of memory?); nothing is known of the seeds {named}: "
        "run them again, with fewer --jobs if memory was short"
    )


def _chunks(plans: Iterable[RunPlan]) -> Iterator[bytes]:
    iterator = iter(plans)
    while chunk := list(islice(iterator, CHUNK_SEEDS)):
        yield _ENCODE(chunk)


def local_executor(jobs: int) -> Executor:
    """Return an executor of `jobs` fresh processes; close it when the campaign is over."""
    with _safe_path():  # it starts a process of its own for what its workers share
        return ProcessPoolExecutor(jobs, mp_context=_WorkerContext(), initializer=_begin_work)


@contextmanager
def _safe_path() -> Iterator[None]:
    """Let no interpreter that is started meanwhile look for its first modules in the current directory."""
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        os.environ.pop(_SAFE_PATH)
        if before is not None:
            os.environ[_SAFE_PATH] = before


class _Worker(SpawnProcess):
    """A fresh process, started whenever the executor needs one more."""

    def start(self) -> None:
        """Start it, whatever files the current directory holds."""
        with _safe_path():
            super().start()


class _WorkerContext(SpawnContext):
    Process = _Worker


def end_workers() -> None:
    """End this process's workers at once, even in the middle of a run; the executor is broken then."""
    for worker in active_children():
        worker.terminate()


def _begin_work() -> None:
    """Leave Ctrl-C to the process that runs the campaign, and never outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait_for_end([parent.sentinel])
    os._exit(1)


def dask_executor(address: str) -> tuple[Executor, int]:
    """Return an executor over the workers of a Dask scheduler, such as tcp://10.0.0.1:8786, and their number.

    Every worker needs this version of viewstamp installed.

    Raises:
        ConfigurationError: the extra is not installed, or nothing answers at the address.
    """
    try:
        distributed: Any = import_module("distributed")  # an extra: most installations do not have it
    except ImportError:
        raise ConfigurationError("dask is not installed: pip install 'viewstamp[dask]'") from None
    try:
        client = distributed.Client(address)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigurationError(f"no dask scheduler answers at {address}: {error}") from None
    executor: Executor = client.get_executor(pure=False)
    return executor, max(1, len(client.nthreads()))
