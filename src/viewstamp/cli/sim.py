"""`viewstamp sim`: one seed, or a campaign of many.

Exit codes: 0 every invariant held; 1 a violation was found, and the command that replays it printed; 2 an
option cannot be used.
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from itertools import takewhile
from pathlib import Path
from time import monotonic
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from viewstamp.cli.failures import explain_os_error
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.protocol import ProtocolDefinition
from viewstamp.protocols.registry import protocol_definition
from viewstamp.sim.campaign import CampaignSummary, run_campaign
from viewstamp.sim.executors import dask_executor, local_executor
from viewstamp.sim.ledger import append_to_ledger, next_seed
from viewstamp.sim.plan import RunPlan
from viewstamp.sim.report import RunReport
from viewstamp.sim.run import execute, options_of
from viewstamp.sim.shrink import shrink

OK: Final = 0
VIOLATION: Final = 1
BAD_INPUT: Final = 2
NEW_SEEDS_MAX: Final = 1_000_000
NODES_MAX: Final = 99
_BAR_CHARACTERS: Final = 24
_REFRESH_S: Final = 0.5


class Show(msgspec.Struct):
    """How a campaign shows itself on a terminal: one line that is written over and over."""

    total: int
    started_s: float
    live: bool
    summary: CampaignSummary = msgspec.field(default_factory=CampaignSummary)
    shown_s: float = 0.0

    def report(self, report: RunReport) -> None:
        """Count a run; repaint when it is time."""
        self.summary.add(report)
        now = monotonic()
        if self.live and now - self.shown_s > _REFRESH_S:
            self.shown_s = now
            print(f"\r{self.line(now)}", end="", file=sys.stderr, flush=True)

    def line(self, now_s: float) -> str:
        """Return the progress as a line."""
        done, elapsed = self.summary.seeds, max(1e-9, now_s - self.started_s)
        filled = _BAR_CHARACTERS * done // max(1, self.total)
        bar = "#" * filled + "-" * (_BAR_CHARACTERS - filled)
        rates = f"{done / elapsed:.1f} seeds/s  {self.summary.events / elapsed:,.0f} events/s"
        return f"[{bar}] {done}/{self.total}  {rates}  {self.summary.virtual_hours:.2f} simulated hours"


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
    cannot be used.

    Args:
        protocol: raft, viewstamped or primary_backup.
        seed: Run this one (0 where neither --seed nor --seeds is given).
        seeds: A campaign: FIRST..LAST, or "new" to the ledger.
        nodes: Number of servers; otherwise the seed draws it.
        duration_ms: Simulated time of the disasters; otherwise drawn.
        workload: kv, registers, tally, locks or locks-told; otherwise drawn.
        without: Leave out disk or network.loss or such; may repeat.
        trace: With one seed: write everything there as JSON lines.
        jobs: Processes of a campaign; otherwise one for each processor.
        dask: Run a campaign on the Dask scheduler at this address.
        keep: Do not shrink the first failing seed.
        minutes: Begin no more seeds after so long.
        ledger: Append what a campaign did to this file.
        json: Print a JSON object.
    """
    try:
        check_numbers(seed=seed, nodes=nodes, duration_ms=duration_ms, jobs=jobs, minutes=minutes)
        check_together(seed=seed, seeds=seeds, trace=trace, ledger=ledger)
        duration_us = None if duration_ms is None else duration_ms * 1_000
        template = RunPlan(protocol, seed or 0, nodes, duration_us, without, workload)
        definition = protocol_definition(protocol)
        options_of(template, definition)
        if seeds is None:
            return _one(template, trace, as_json=json)
        chosen = seed_range(seeds, protocol, ledger)
        ends_s = float("inf") if minutes is None else monotonic() + minutes * 60
        summary = _campaign(template, chosen, ends_s, dask, jobs or os.cpu_count() or 1)
        if ledger is not None:
            append_to_ledger(ledger, protocol, f"{chosen[0]}..{summary.last_seed}", summary)
    except (ConfigurationError, OSError) as error:
        why = explain_os_error(error) if isinstance(error, OSError) else error
        print(f"viewstamp sim: {why}", file=sys.stderr)
        return BAD_INPUT
    print(msgspec.json.encode(summary).decode() if json else _table(summary))
    return _explain(summary, definition, keep=keep) if summary.failed else OK


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
    print(msgspec.json.encode(report).decode() if as_json else describe(report, monotonic() - started))
    return OK if report.ok else VIOLATION


def _campaign(
    template: RunPlan, seeds: range, ends_s: float, dask: str | None, workers: int
) -> CampaignSummary:
    show = Show(len(seeds), monotonic(), sys.stderr.isatty())
    begun = takewhile(lambda _seed: monotonic() < ends_s, seeds)
    plans = (msgspec.structs.replace(template, seed=seed) for seed in begun)
    executor, workers = (local_executor(workers), workers) if dask is None else dask_executor(dask)
    holding: AbstractContextManager[Executor] = executor if dask is None else nullcontext(executor)
    with holding:
        run_campaign(plans, executor, workers=workers, on_report=show.report)
    if show.live:
        print(file=sys.stderr)
    print(show.line(monotonic()))
    return show.summary


def _explain(summary: CampaignSummary, definition: ProtocolDefinition, *, keep: bool) -> int:
    """Print the first failure, shrunk unless it is to be kept."""
    failed = min(summary.failed, key=lambda report: report.seed)
    print(describe(failed, 0.0))
    if not keep:
        plan = failed.plan
        smaller, report = shrink(plan, definition, execute)
        print("\nshrunk:" if smaller != plan else "\nit cannot be made smaller")
        if smaller != plan:
            print(describe(report, 0.0))
    return VIOLATION


def describe(report: RunReport, seconds: float) -> str:
    """Return a report as text for people."""
    lines = [
        f"seed {report.seed}: {'every invariant held' if report.ok else 'VIOLATION'}",
        f"options    {report.options}",
        f"time       {report.virtual_us / 1e6:.1f} s simulated, {report.events:,} events"
        + (f", {report.events / seconds:,.0f} a second" if seconds else ""),
        f"committed  {report.committed} entries",
        *_counts("operations", report.operations),
        *_counts("faults", report.faults),
        *_counts("rare", report.rare),
        f"trace      {report.trace_hash}",
    ]
    if report.violation is not None:
        at = report.violation.at_us / 1e6
        lines += [f"violation  {report.violation.name} at {at:.6f} s", f"  {report.violation.explanation}"]
        lines += report.violation.details.splitlines()
        lines += [f"replay     {report.replay}"]
    return "\n".join(lines)


def _counts(title: str, counts: dict[str, int]) -> Iterator[str]:
    text = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    yield f"{title:<10} {text or 'none'}"


def _table(summary: CampaignSummary) -> str:
    verdict = f"{len(summary.failed)} violations" if summary.failed else "no violation"
    lines = [f"{summary.seeds} seeds, {verdict}, {summary.committed:,} entries committed"]
    lines += _counts("operations", summary.operations)
    lines += _counts("faults", summary.faults)
    reached = ", ".join(
        f"{name} in {count} seeds ({summary.rare[name]})" for name, count in sorted(summary.reached.items())
    )
    return "\n".join([*lines, f"{'rare':<10} {reached}"])
