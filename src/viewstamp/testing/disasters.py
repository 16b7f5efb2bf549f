"""`@disasters(Shop)`: a pytest test that is called with each run that withstood its disasters."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from viewstamp.sim.run.finished import FinishedRun, UserInvariant
from viewstamp.testing.examination import SEEDS, Failure, examine, subject_of
from viewstamp.testing.report import FOLDER, report
from viewstamp.testing.settings import settings

Test = Callable[[FinishedRun], None]


class DisasterFailure(AssertionError):
    """A class did not withstand. The text is the whole report; no traceback says more."""

    __tracebackhide__ = True

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"\n{report(failure, folder())}")
        self.failure = failure


def folder() -> Path:
    """Return where seed files and drawings go."""
    return Path(os.environ.get("VIEWSTAMP_REPORTS", FOLDER))


def again(seed: int) -> str:
    """Return the command that runs the test that runs now, with one seed."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
    return f"pytest {test} --viewstamp-seed {seed}"


def _judge(test: Test, run: FinishedRun) -> None:
    """Let the user's function judge a run; what it raises names the seed."""
    __tracebackhide__ = True
    try:
        test(run)
    except Exception as error:
        error.add_note(f"in the run of seed {run.seed}; replay: {again(run.seed)}")
        raise


def disasters(
    machine: type[Any],
    *,
    seeds: int = SEEDS,
    seconds: float | None = None,
    protocol: str = "raft",
    nodes: int | None = 3,
    invariants: Sequence[UserInvariant] = (),
    pythons: Sequence[str] = (),
) -> Callable[[Test], Callable[[], None]]:
    """Make a test of a function that gets each finished run.

    The class is linted, run several times in equal ways, and then put into a simulated cluster, once for each
    seed. The function is called with each run in which every invariant held: it asserts what should be true
    of the final state and of what clients were told.

    Args:
        machine: a subclass of `StateMachine`, or of `OwnMachine`, which says how arguments are drawn.
        seeds: how many disasters; `--viewstamp-seeds` says otherwise for one run of pytest.
        seconds: begin no more of them after that.
        protocol: raft, viewstamped or primary_backup.
        nodes: servers; None: each seed draws it.
        invariants: functions of a replica's machine, asked after each step; False or an `AssertionError` is
            a violation.
        pythons: other interpreters, in which this library and the class can be imported, for equal runs.
    """

    def decorate(test: Test) -> Callable[[], None]:
        @functools.wraps(test)
        def disaster_test() -> None:
            __tracebackhide__ = True
            chosen = settings()
            failure = examine(
                subject_of(machine),
                protocol=protocol,
                nodes=nodes,
                first_seed=chosen.seed or 0,
                seeds=1 if chosen.seed is not None else chosen.seeds or seeds,
                seconds=chosen.seconds or seconds,
                invariants=invariants,
                pythons=(*pythons, *chosen.pythons),
                on_run=functools.partial(_judge, test),
            )
            if failure is not None:
                replay = again(failure.plan.seed) if failure.plan is not None and invariants else ""
                raise DisasterFailure(failure._replace(replay=replay))

        del disaster_test.__wrapped__  # else pytest looks for a fixture `run`
        return disaster_test

    return decorate
