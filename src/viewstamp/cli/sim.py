"""`viewstamp sim`: one seed, or a campaign of many.

Exit codes: 0 every invariant held; 1 a violation was found, and the command that replays it printed; 2 an
option cannot be used; 3 a campaign lost a worker process and could not be finished; 130 it was interrupted.
"""

import os
import sys
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from io import StringIO
from itertools import takewhile
from pathlib import Path
from time import monotonic
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from viewstamp.cli.campaign import Show, counts, last_events, run_and_show, table
from viewstamp.cli.failures import INTERRUPTED, explain_os_error
from viewstamp.cli.target import look_here
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.protocol import ProtocolDefinition
from viewstamp.protocols.registry import protocol_definition
from viewstamp.sim.run.campaign import CampaignSummary, dask_executor, local_executor
from viewstamp.sim.run.ledger import append_to_ledger, next_seed
from viewstamp.sim.run.plan import RunPlan, RunReport
from viewstamp.sim.run.run import NOT_DETERMINISTIC, checked_elsewhere, execute, options_of
from viewstamp.sim.run.shrink import shrink
from viewstamp.sim.workloads.catalogue import make_workload
from viewstamp.sim.world.options import LoadOptions

OK: Final = 0
VIOLATION: Final = 1
BAD_INPUT: Final = 2
UNFINISHED: Final = 3
NEW_SEEDS_MAX: Final = 1_000_000
NODES_MAX: Final = 99


def sim(
    *,
    protocol: str = "raft",
    seed: int | None = None,
    seeds: str | None = None,
    nodes: int | None = None,
    duration_ms: int | None = None,
    workload: str | None = None,
    without: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    trace: Path | None = None,
    jobs: int | None = None,
    dask: str | None = None,
    keep: Annotated[bool, Parameter(negative="")] = False,
    minutes: float | None = None,
    ledger: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Run a cluster in a simulated world of disasters, and judge it.

    Exit code 0: every invariant held. 1: one did not; the command that replays it is printed. 2: an option
    cannot be used. 3: a worker process was lost. 130: it was interrupted; what it had done is printed.

    Args:
        protocol: raft, viewstamped or primary_backup.
        seed: Run this one (0 where neither --seed nor --seeds is given).
        seeds: A campaign: FIRST..LAST, or "new" to the ledger.
        nodes: Number of servers; otherwise the seed draws it.
        duration_ms: Simulated time of the disasters; otherwise drawn.
        workload: kv, hostile, registers, tally, locks, locks-notified, MODULE:CLASS; otherwise drawn.
        without: Leave out disk or network.loss or such; may repeat.
        trace: With one seed: write everything there as JSON lines.
        jobs: Processes of a campaign; otherwise one for each processor.
        dask: Run a campaign on the Dask scheduler at this address.
        keep: Do not shrink the first failing seed.
        minutes: Begin no more seeds after this number of minutes.
        ledger: Append what a campaign did to this file.
        json: Print a JSON object.
    """
    try:
        check_numbers(seed=seed, nodes=nodes, duration_ms=duration_ms, jobs=jobs, minutes=minutes)
        check_together(seed=seed, seeds=seeds, trace=trace, ledger=ledger)
        duration_us = None if duration_ms is None else duration_ms * 1_000
        template = RunPlan(protocol, seed or 0, nodes, duration_us, without, workload)
        definition = protocol_definition(protocol)
        require_workload(workload)
        options_of(template, definition)
        if seeds is None:
            return _one(template, trace, as_json=json)
        chosen = seed_range(seeds, protocol, ledger)
        ends_s = float("inf") if minutes is None else monotonic() + minutes * 60
        show = _campaign(template, chosen, ends_s, dask, jobs or os.cpu_count() or 1)
        if ledger is not None and show.summary.seeds:
            append_to_ledger(ledger, protocol, f"{chosen[0]}..{show.summary.last_seed}", show.summary)
    except (ConfigurationError, OSError) as error:
        why = explain_os_error(error) if isinstance(error, OSError) else error
        print(f"viewstamp sim: {why}", file=sys.stderr)
        return BAD_INPUT
    return _conclude(show, definition, keep=keep, as_json=json)


def check_numbers(
    *, seed: int | None, nodes: int | None, duration_ms: int | None, jobs: int | None, minutes: float | None
) -> None:
    """Refuse what no run can have.

    Raises:
        ConfigurationError: a number is out of its range; the text says which.
    """
    if seed is not None and seed < 0:
        raise ConfigurationError(f"--seed {seed}: give 0 or more")
    if nodes is not None and not 1 <= nodes <= NODES_MAX:
        raise ConfigurationError(f"--nodes {nodes}: give 1 to {NODES_MAX}")
    for name, value in (("duration-ms", duration_ms), ("jobs", jobs)):
        if value is not None and value < 1:
            raise ConfigurationError(f"--{name} {value}: give 1 or more")
    if minutes is not None and not minutes > 0:
        raise ConfigurationError(f"--minutes {minutes}: give more than 0")


def require_workload(name: str | None) -> None:
    """Refuse a workload that no run could be given; one's own module may be in the current directory.

    Raises:
        ConfigurationError: there is none of this name, or its class cannot be used.
    """
    if name is not None:
        look_here()
        make_workload(name, LoadOptions())


def check_together(*, seed: int | None, seeds: str | None, trace: Path | None, ledger: Path | None) -> None:
    """Refuse flags of which one would be ignored, and a ledger that a long campaign could not write.

    Raises:
        ConfigurationError: they cannot be used together, or the ledger cannot be written.
    """
    if seeds is None:
        if ledger is not None:
            raise ConfigurationError("--ledger is for campaigns: give --seeds FIRST..LAST as well")
        return
    for name, value in (("--seed", seed), ("--trace", trace)):
        if value is not None:
            raise ConfigurationError(
                f"{name} is for a single run and --seeds for a campaign: give one of them"
            )
    if ledger is not None and not os.access(ledger if ledger.exists() else ledger.parent, os.W_OK):
        raise ConfigurationError(f"--ledger {ledger}: it cannot be written")


def seed_range(seeds: str, protocol: str, ledger: Path | None) -> range:
    """Return the seeds that FIRST..LAST stands for, or "new" together with a ledger.

    Raises:
        ConfigurationError: it stands for none.
    """
    if seeds == "new":
        if ledger is None:
            raise ConfigurationError("--seeds new: name the --ledger that says which are not new")
        first = next_seed(ledger, protocol)
        return range(first, first + NEW_SEEDS_MAX)
    first_text, dots, last_text = seeds.partition("..")
    try:
        first, last = int(first_text), int(last_text) if dots else int(first_text)
    except ValueError:
        raise ConfigurationError(f"--seeds {seeds}: write FIRST..LAST, two whole numbers") from None
    if not 0 <= first <= last:
        raise ConfigurationError(f"--seeds {seeds}: the first must be 0 or more and not above the last")
    return range(first, last + 1)


def _one(plan: RunPlan, trace: Path | None, *, as_json: bool) -> int:
    started = monotonic()
    if trace is None:
        report = execute(plan)
    else:
        with trace.open("w", encoding="utf-8") as sink:
            report = execute(plan, sink=sink)
    if plan.is_of_own_machine:
        report = checked_elsewhere(report)
    print(msgspec.json.encode(report).decode() if as_json else describe(report, monotonic() - started))
    return OK if report.ok else VIOLATION


def _campaign(template: RunPlan, seeds: range, ends_s: float, dask: str | None, workers: int) -> Show:
    begun = takewhile(lambda _seed: monotonic() < ends_s, seeds)
    plans = (msgspec.structs.replace(template, seed=seed) for seed in begun)
    executor, workers = (local_executor(workers), workers) if dask is None else dask_executor(dask)
    holding: AbstractContextManager[Executor] = executor if dask is None else nullcontext(executor)
    with holding:
        show = run_and_show(plans, len(seeds), executor, workers)
    if template.is_of_own_machine and show.first is not None and not show.summary.failed:
        compared = checked_elsewhere(show.first)
        show.summary.failed += [] if compared.ok else [compared]
    return show


def _conclude(show: Show, definition: ProtocolDefinition, *, keep: bool, as_json: bool) -> int:
    """Say what a campaign did and how it ended; what is not the JSON object goes to standard error then."""
    summary = show.summary
    print(show.line(monotonic()), file=sys.stderr if as_json else sys.stdout)
    print(msgspec.json.encode(summary).decode() if as_json else table(summary))
    if show.stopped:
        print(f"viewstamp sim: {show.stopped}", file=sys.stderr)
    if summary.failed:
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            return _explain(summary, definition, keep=keep or show.was_interrupted)
    if show.was_interrupted:
        return INTERRUPTED
    return UNFINISHED if show.stopped else OK


def _explain(summary: CampaignSummary, definition: ProtocolDefinition, *, keep: bool) -> int:
    """Print the first failure, shrunk unless it is to be kept."""
    failed = min(summary.failed, key=lambda report: report.seed)
    print(describe(failed, 0.0))
    plan = failed.plan
    if not keep and failed.violation is not None and failed.violation.name != NOT_DETERMINISTIC:
        plan, report = shrink(plan, definition, execute)
        print("\nshrunk:" if plan != failed.plan else "\nit cannot be made smaller")
        if plan != failed.plan:
            print(describe(report, 0.0))
    sink = StringIO()
    execute(plan, sink=sink)
    print("\nits end (all of it: the command above, with --trace FILE):")
    print(last_events(sink.getvalue()))
    return VIOLATION


def describe(report: RunReport, seconds: float) -> str:
    """Return a report as text for people."""
    lines = [
        f"seed {report.seed}: {'every invariant held' if report.ok else 'VIOLATION'}",
        f"options    {report.options}",
        f"time       {report.virtual_us / 1e6:.1f} s simulated, {report.events:,} events"
        + (f", {report.events / seconds:,.0f} a second" if seconds else ""),
        f"committed  {report.committed} entries",
        *counts("operations", report.operations),
        *counts("faults", report.faults),
        *counts("rare", report.rare),
        f"trace      {report.trace_hash}",
    ]
    if report.violation is not None:
        at = report.violation.at_us / 1e6
        lines += [f"violation  {report.violation.name} at {at:.6f} s", f"  {report.violation.explanation}"]
        lines += report.violation.details.splitlines()
        lines += [f"replay     {report.replay}"]
    return "\n".join(lines)
