"""What a campaign of `viewstamp sim` shows while it runs, and how it ends when it cannot run to its end."""

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from textwrap import wrap
from threading import current_thread, main_thread
from time import monotonic
from typing import Final

import msgspec

from viewstamp.sim.judge.judge import RARE_STATES
from viewstamp.sim.run.campaign import CampaignSummary, WorkersLost, end_workers, run_campaign, run_chunk
from viewstamp.sim.run.plan import RunPlan, RunReport

_BAR_CHARACTERS: Final = 24
_REFRESH_S: Final = 0.5
_INTERRUPTIONS: Final = (signal.SIGINT, signal.SIGTERM)
_COLUMNS: Final = 158


class Show(msgspec.Struct):
    """How a campaign shows itself on a terminal: one line that is written over and over."""

    total: int
    started_s: float
    live: bool
    summary: CampaignSummary = msgspec.field(default_factory=CampaignSummary)
    shown_s: float = 0.0
    stopped: str = ""
    """Why it ended before all seeds had run, if it did, other than by a violation."""
    was_interrupted: bool = False
    first: RunReport | None = None
    """The first run that ended."""

    def report(self, report: RunReport) -> None:
        """Count a run; repaint when it is time."""
        self.first = self.first or report
        self.summary.add(report)
        now = monotonic()
        if self.live and now - self.shown_s > _REFRESH_S:
            self.shown_s = now
            print(f"\r{self.line(now)}", end="", file=sys.stderr, flush=True)

    def interrupt(self) -> None:
        """Record a signal; nothing else may be done in its handler."""
        self.was_interrupted = True

    def line(self, now_s: float) -> str:
        """Return the progress as a line."""
        done, elapsed = self.summary.seeds, max(1e-9, now_s - self.started_s)
        filled = _BAR_CHARACTERS * done // max(1, self.total)
        bar = "#" * filled + "-" * (_BAR_CHARACTERS - filled)
        rates = f"{done / elapsed:.1f} seeds/s  {self.summary.events / elapsed:,.0f} events/s"
        return f"[{bar}] {done}/{self.total}  {rates}  {self.summary.virtual_hours:.2f} simulated hours"


def run_and_show(
    plans: Iterable[RunPlan],
    total: int,
    executor: Executor,
    workers: int,
    chunk: Callable[[bytes], bytes] = run_chunk,
) -> Show:
    """Run a campaign to its end, or until it is interrupted or a worker is lost; never raises for these."""
    show = Show(total, monotonic(), sys.stderr.isatty())
    try:
        with signals_to(show.interrupt):
            run_campaign(
                plans,
                executor,
                workers=workers,
                chunk=chunk,
                on_report=show.report,
                stop=lambda: show.was_interrupted,
            )
    except WorkersLost as error:
        show.stopped = str(error)
    if show.was_interrupted:
        show.stopped = "interrupted"
        end_workers()
        executor.shutdown(wait=False)
    if show.live:
        print(file=sys.stderr)
    return show


@contextmanager
def signals_to(heed: Callable[[], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM call this, where they are not ignored, instead of raising or ending the process.

    An exception out of a signal may come while a lock of the executor is held, which is then never released.
    """
    if current_thread() is not main_thread():
        yield
        return
    numbers = [number for number in _INTERRUPTIONS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: heed()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def table(summary: CampaignSummary) -> str:
    """Return what a campaign did as text for people."""
    verdict = "no violation"
    if summary.failed:
        seeds = ", ".join(
            str(report.seed) for report in sorted(summary.failed, key=lambda failed: failed.seed)
        )
        verdict = f"{len(summary.failed)} violations (seeds {seeds})"
    lines = [f"{summary.seeds} seeds, {verdict}, {summary.committed:,} entries committed"]
    lines += counts("operations", summary.operations)
    lines += counts("faults", summary.faults)
    reached = ", ".join(
        f"{name} in {count} seeds ({summary.rare[name]})" for name, count in sorted(summary.reached.items())
    )
    lines += titled("rare", reached or "none")
    missed = [name for name in RARE_STATES if name not in summary.reached]
    return "\n".join([*lines, *(titled("never", ", ".join(missed)) if missed else ())])


def counts(title: str, numbers: dict[str, int]) -> Iterator[str]:
    """Yield counts by name as lines."""
    text = ", ".join(f"{name} {count}" for name, count in sorted(numbers.items()))
    yield from titled(title, text or "none")


def titled(title: str, text: str) -> Iterator[str]:
    """Yield a title and a text that may be long, in lines that fit a terminal."""
    for number, line in enumerate(wrap(text, _COLUMNS - 11, break_on_hyphens=False)):
        yield f"{title if number == 0 else '':<10} {line}"
