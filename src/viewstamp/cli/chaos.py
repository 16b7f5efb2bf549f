"""`viewstamp chaos`: real servers of a staging cluster under disasters, and what clients saw, judged.

Exit codes: 0 the history is linearizable and the cluster answered in the end; 1 it is not, or it did not; 3
the judgement was not finished; 78 the cluster does not allow it; 130 interrupted, and healed.
"""

import asyncio
import tempfile
from pathlib import Path
from time import monotonic
from typing import Annotated, Final, get_args

from cyclopts import Parameter

from viewstamp.checker.drawing import draw_html
from viewstamp.checker.history import write_history
from viewstamp.cli.target import CLUSTER_FILE, load_cluster
from viewstamp.core.errors import ConfigurationError
from viewstamp.testkit.chaos import FAULTS, Chaos, Fault, NotHealed, judge

OK: Final = 0
VIOLATION: Final = 1
UNKNOWN: Final = 3
_MINUTES_MAX: Final = 24 * 60
_DRAWN_MAX: Final = 200


def chaos(
    *,
    cluster: Annotated[Path, Parameter(help="Cluster file; it must say chaos = true.")] = Path(CLUSTER_FILE),
    minutes: Annotated[float, Parameter(help="How long.")] = 1.0,
    only: Annotated[str, Parameter(help="Faults, separated by commas.")] = ",".join(FAULTS),
    seed: Annotated[int, Parameter(help="Draws the faults.")] = 0,
    history: Annotated[Path | None, Parameter(help="Write what clients were told there.")] = None,
    draw: Annotated[Path | None, Parameter(help="Write a drawing (.html) of a violation there.")] = None,
) -> int:
    """Start the servers of a staging cluster here, disturb them under load, and judge what clients saw.

    Everything is healed and stopped in the end, on Ctrl-C too. The servers keep their data in a temporary
    folder.
    """
    faults = _chosen(only)
    if not 0 < minutes <= _MINUTES_MAX:
        raise ConfigurationError(f"--minutes {minutes}: give more than 0, and at most {_MINUTES_MAX}")
    config = load_cluster(cluster)
    with tempfile.TemporaryDirectory(prefix="viewstamp-chaos-") as folder:
        play = Chaos(cluster.absolute(), config, Path(folder), seed, _Said())
        return asyncio.run(_play(play, minutes * 60, faults, history, draw))


class _Said:
    def __init__(self) -> None:
        self._began_s = monotonic()

    def __call__(self, text: str) -> None:
        print(f"[{monotonic() - self._began_s:6.1f} s] {text}", flush=True)


def _chosen(only: str) -> list[Fault]:
    chosen = [name.strip() for name in only.split(",") if name.strip()]
    unknown = sorted(set(chosen) - set(FAULTS))
    if unknown or not chosen:
        raise ConfigurationError(f"--only {only}: choose from {', '.join(FAULTS)}")
    return [fault for fault in get_args(Fault) if fault in chosen]


async def _play(
    play: Chaos, seconds: float, faults: list[Fault], history: Path | None, draw: Path | None
) -> int:
    say = _Said()
    try:
        async with play:
            operations = await play.play(seconds, faults)
    except NotHealed as error:
        say(f"FAILED: {error}")
        return VIOLATION
    done = ", ".join(f"{name} {count}" for name, count in sorted(play.counts.items()))
    say(f"healed; {len(operations)} calls; faults: {done or 'none'}")
    if history is not None:
        with history.open("wb") as file:
            write_history(operations, file)
    verdict = judge(operations)
    say(f"the history: {verdict}")
    if draw is not None and verdict.counterexample is not None:
        found = verdict.counterexample
        text = draw_html(found.prefix[-_DRAWN_MAX:], "viewstamp chaos", str(verdict), [found.failing])
        await asyncio.to_thread(draw.write_text, text, encoding="utf-8")
    return {"ok": OK, "violation": VIOLATION}.get(verdict.outcome, UNKNOWN)
