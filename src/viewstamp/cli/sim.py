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
from textwrap import wrap
from time import monotonic
from typing import Annotated, Final, NamedTuple, TypeVar

import msgspec
from cyclopts import Parameter

from viewstamp.checker.history import write_history
from viewstamp.cli.campaign import Show, counts, run_and_show, table, titled
from viewstamp.cli.failures import INTERRUPTED, explain_os_error
from viewstamp.cli.sim_replay import command_for, examine_first, explain, read, replay_difference
from viewstamp.cli.sim_runner import runner_of
from viewstamp.cli.sim_trace import FilteredSink, TraceFilter, last_events, told
from viewstamp.cli.target import look_here
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.protocol import ProtocolDefinition
from viewstamp.protocols.registry import protocol_definition
from viewstamp.sim.run.campaign import CampaignSummary, dask_executor, local_executor
from viewstamp.sim.run.ledger import append_to_ledger, next_seed
from viewstamp.sim.run.plan import RunPlan, RunReport
from viewstamp.sim.run.run import NOT_DETERMINISTIC, checked_elsewhere
from viewstamp.sim.run.shrink import shrink
from viewstamp.sim.workloads.catalogue import make_workload
from viewstamp.sim.world.options import LoadOptions

OK: Final = 0
VIOLATION: Final = 1
BAD_INPUT: Final = 2
UNFINISHED: Final = 3
NEW_SEEDS_MAX: Final = 1_000_000
ENDLESS: Final = f"0..{NEW_SEEDS_MAX - 1}"
NODES_MAX: Final = 99


_T = TypeVar("_T")
Unusual = Annotated[_T, Parameter(show=False, negative="")]
"""A flag that only docs/reference/cli.md tells of: the help fits a screen."""


def sim(
    *,
    protocol: str = "raft",
    seed: int | None = None,
    seeds: str | None = None,
    until_failure: Annotated[bool, Parameter(negative="")] = False,
    replay: Path | None = None,
    nodes: int | None = None,
    duration_ms: Unusual[int | None] = None,
    workload: str | None = None,
    runtime: Annotated[bool, Parameter(negative="")] = False,
    tokens: Unusual[bool] = False,
    without: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    trace: Path | None = None,
    tell: Annotated[bool, Parameter(negative="")] = False,
    node: Annotated[tuple[int, ...], Parameter(negative="", show_default=False)] = (),
    kind: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    between: Annotated[tuple[float, float], Parameter(negative="", show_default=False)] = (0.0, 1e9),
    history: Path | None = None,
    jobs: Unusual[int | None] = None,
    dask: Unusual[str | None] = None,
    keep: Unusual[bool] = False,
    minutes: Unusual[float | None] = None,
    ledger: Unusual[Path | None] = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Run a cluster in a simulated world of disasters, and judge it.

    Args:
        protocol: raft, viewstamped or primary_backup.
        seed: Run this one.
        seeds: Run 5, or 3..7, or "new" to the ledger.
        until_failure: Run seeds until one fails.
        replay: Show the failure in this seed file.
        nodes: Number of servers.
        duration_ms: Simulated time of the disasters.
        workload: kv, locks, ... or MODULE:CLASS.
        runtime: Run whole servers, clients and files.
        tokens: With --runtime: clients show tokens.
        without: Leave out disk or network.loss.
        trace: Write all events as JSON lines.
        tell: Print the events in words.
        node: Only events of this node.
        kind: Only events such as role or crash.
        between: Only events of these seconds.
        history: Write the calls for `check`.
        jobs: Processes of a campaign.
        dask: Run a campaign on this Dask scheduler.
        keep: Do not shrink the first failing seed.
        minutes: Begin no more seeds after that.
        ledger: Append what a campaign did.
        json: Print a JSON object.
    """
    looks = Looks.chosen(trace, TraceFilter(node, kind, *between), history, is_told=tell)
    many = Many(seeds or (ENDLESS if until_failure else None), jobs, dask, minutes, ledger)
    plan = RunPlan(
        protocol, seed or 0, nodes, _us(duration_ms), without, workload, runtime=runtime, tokens=tokens
    )
    return _dispatch(replay, plan, looks, many, seed=seed, keep=keep, as_json=json)


def _us(milliseconds: int | None) -> int | None:
    return milliseconds and milliseconds * 1_000


def _dispatch(
    replay: Path | None,
    plan: RunPlan,
    looks: "Looks",
    many: "Many",
    *,
    seed: int | None,
    keep: bool,
    as_json: bool,
) -> int:
    """Show a seed file again, or run what the flags ask for, if they fit together."""
    length_ms = None if plan.duration_us is None else plan.duration_us // 1_000
    try:
        check_numbers(
            seed=seed, nodes=plan.nodes, duration_ms=length_ms, jobs=many.jobs, minutes=many.minutes
        )
        _check_tokens(plan)
        check_together(seed=seed, seeds=many.seeds, looks=looks, ledger=many.ledger)
        shown_again = None if replay is None else _replay(replay, looks, as_json=as_json)
        return _begin(plan, looks, many, keep=keep, as_json=as_json) if shown_again is None else shown_again
    except (ConfigurationError, OSError) as error:
        return _refused(error)


def _check_tokens(plan: RunPlan) -> None:
    if plan.tokens and not plan.runtime:
        raise ConfigurationError("--tokens needs --runtime: the cores know no hello; nothing was run")


def _refused(error: Exception) -> int:
    why = explain_os_error(error) if isinstance(error, OSError) else error
    print(f"viewstamp sim: {why}", file=sys.stderr)
    return BAD_INPUT


class Many(NamedTuple):
    """A campaign, where `seeds` says so."""

    seeds: str | None
    jobs: int | None
    dask: str | None
    minutes: float | None
    ledger: Path | None


def _begin(plan: RunPlan, looks: "Looks", many: Many, *, keep: bool, as_json: bool) -> int:
    """Run one seed, or many; of a class of the user's only after its source and equal runs."""
    definition = protocol_definition(plan.protocol)
    require_workload(plan.workload)
    runner = runner_of(plan)
    runner.check(plan, definition)
    if plan.is_of_own_machine and not as_json and examine_first(plan.workload or "") == VIOLATION:
        return VIOLATION
    if many.seeds is None:
        return _one(plan, looks, as_json=as_json)
    numbers = seed_range(many.seeds, runner.label(plan), many.ledger)
    ends_s = float("inf") if many.minutes is None else monotonic() + many.minutes * 60
    show = _campaign(plan, numbers, ends_s, many.dask, many.jobs or os.cpu_count() or 1)
    if many.ledger is not None and show.summary.seeds:
        ran = f"{numbers[0]}..{show.summary.last_seed}"
        append_to_ledger(many.ledger, runner.label(plan), ran, show.summary)
    return _conclude(show, definition, keep=keep, as_json=as_json)


class Looks(NamedTuple):
    """What is looked at beside the verdict of one run."""

    trace: Path | None = None
    told: TraceFilter | None = None
    """Print the trace in words, what passes."""
    history: Path | None = None

    @classmethod
    def chosen(
        cls, trace: Path | None, wanted: TraceFilter, history: Path | None, *, is_told: bool
    ) -> "Looks":
        """Return what the flags ask for: where some events are chosen, they are told."""
        return cls(trace, wanted if is_told or not wanted.is_open else None, history)

    @property
    def names(self) -> list[str]:
        """Return the flags that were given."""
        given = {"--trace": self.trace, "--tell": self.told, "--history": self.history}
        return [name for name, value in given.items() if value is not None]


def _replay(path: Path, looks: Looks, *, as_json: bool) -> int:
    """Show again what a seed file holds."""
    seed = read(path)
    look_here()
    if seed.plan is None:
        return replay_difference(seed)
    if seed.plan.is_of_own_machine and not looks.names and not as_json:
        return explain(seed.plan)
    return _one(seed.plan, looks, as_json=as_json)


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


def check_together(*, seed: int | None, seeds: str | None, looks: Looks, ledger: Path | None) -> None:
    """Refuse flags of which one would be ignored, and a ledger that a long campaign could not write.

    Raises:
        ConfigurationError: they cannot be used together, or the ledger cannot be written.
    """
    if seeds is None:
        if ledger is not None:
            raise ConfigurationError("--ledger is for campaigns: give --seeds FIRST..LAST as well")
        return
    for name in [*(["--seed"] if seed is not None else []), *looks.names]:
        raise ConfigurationError(f"{name} is for a single run and --seeds for a campaign: give one of them")
    if ledger is not None and not os.access(ledger if ledger.exists() else ledger.parent, os.W_OK):
        raise ConfigurationError(f"--ledger {ledger}: it cannot be written")


def seed_range(seeds: str, protocol: str, ledger: Path | None) -> range:
    """Return the seeds that a number or FIRST..LAST stands for, or "new" together with a ledger.

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
        first, last = (int(first_text), int(last_text)) if dots else (0, int(first_text) - 1)
    except ValueError:
        raise ConfigurationError(
            f"--seeds {seeds}: write how many, or FIRST..LAST, two whole numbers"
        ) from None
    if not 0 <= first <= last:
        raise ConfigurationError(f"--seeds {seeds}: the first must be 0 or more and not above the last")
    return range(first, last + 1)


def _one(plan: RunPlan, looks: Looks, *, as_json: bool) -> int:
    started = monotonic()
    sink = FilteredSink(looks.told or TraceFilter())
    is_told = bool(looks.trace or looks.told)
    if looks.history is not None:
        report, history = runner_of(plan).with_history(plan)
        with looks.history.open("wb") as file:
            write_history(history, file)
    else:
        report = runner_of(plan).execute(plan)
    if is_told:
        report = runner_of(plan).execute(plan, sink=sink)
    if looks.trace is not None:
        looks.trace.write_text(sink.getvalue(), encoding="utf-8")
    if plan.is_of_own_machine:
        report = checked_elsewhere(report)
    if looks.told is not None and not as_json:
        for line in told(sink.getvalue()):
            print(line)
    print(msgspec.json.encode(report).decode() if as_json else describe(report, monotonic() - started))
    return OK if report.ok else VIOLATION


def _campaign(template: RunPlan, seeds: range, ends_s: float, dask: str | None, workers: int) -> Show:
    begun = takewhile(lambda _seed: monotonic() < ends_s, seeds)
    plans = (msgspec.structs.replace(template, seed=seed) for seed in begun)
    executor, workers = (local_executor(workers), workers) if dask is None else dask_executor(dask)
    holding: AbstractContextManager[Executor] = executor if dask is None else nullcontext(executor)
    with holding:
        show = run_and_show(plans, len(seeds), executor, workers, runner_of(template).chunk)
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
    if failed.plan.is_of_own_machine and not keep and explain(failed.plan) == VIOLATION:
        return VIOLATION
    print(describe(failed, 0.0))
    plan, execute = failed.plan, runner_of(failed.plan).execute
    if not keep and failed.violation is not None and failed.violation.name != NOT_DETERMINISTIC:
        plan, report = shrink(plan, definition, execute)
        print("\nshrunk:" if plan != failed.plan else "\nit cannot be made smaller")
        if plan != failed.plan:
            print(describe(report, 0.0))
    sink = StringIO()
    execute(plan, sink=sink)
    print("\nits end (all of it: the command above, with --tell):")
    print(last_events(sink.getvalue()))
    return VIOLATION


def _wrapped(text: str) -> list[str]:
    """Return a text as indented lines that fit a terminal."""
    return [
        part
        for line in text.splitlines()
        for part in wrap(line, 158, initial_indent="  ", subsequent_indent="    ")
    ]


def describe(report: RunReport, seconds: float) -> str:
    """Return a report as text for people."""
    lines = [
        f"seed {report.seed}: {'every invariant held' if report.ok else 'VIOLATION'}",
        *titled("options", report.options),
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
        lines += [
            f"violation  {report.violation.name} at {at:.6f} s",
            *_wrapped(report.violation.explanation),
        ]
        lines += report.violation.details.splitlines()
        lines += [f"replay     {command_for(report.plan)}"]
    return "\n".join(lines)
