"""Seed files: one short command shows a failure again, and a class of one's own gets a report in words."""

from pathlib import Path
from typing import Final

import msgspec

from viewstamp.cli.failures import explain_os_error
from viewstamp.cli.serve import load_machine_or
from viewstamp.core.errors import ConfigurationError
from viewstamp.sim.run.plan import RunPlan
from viewstamp.sim.workloads.own_machine import OwnMachine
from viewstamp.testing.disasters import folder
from viewstamp.testing.equal_runs import Difference, replay
from viewstamp.testing.examination import (
    Failure,
    Subject,
    examine_disaster,
    examine_runs,
    examine_source,
    subject_of,
)
from viewstamp.testing.report import SeedFile, read_seed_file, report, write_seed_file

OK: Final = 0
VIOLATION: Final = 1


def command_for(plan: RunPlan) -> str:
    """Return the command that repeats a run; its seed file is written if that can be done."""
    try:
        return write_seed_file(SeedFile(plan.workload or "", plan), folder())
    except OSError:
        return plan.replay


def read(path: Path) -> SeedFile:
    """Return what a seed file says.

    Raises:
        ConfigurationError: it cannot be read, or is not one.
    """
    try:
        return read_seed_file(path)
    except OSError as error:
        raise ConfigurationError(f"--replay {path}: {explain_os_error(error)}") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigurationError(f"--replay {path}: this is not a seed file: {error}") from error


def subject(workload: str) -> Subject:
    """Return the class at MODULE:CLASS as what is examined.

    Raises:
        ConfigurationError: there is none, or it cannot be used.
    """
    return subject_of(load_machine_or(workload, OwnMachine))._replace(name=workload)


def examine_first(workload: str) -> int:
    """Print what the lint and equal runs find in a class of the user's; return the exit code."""
    chosen = subject(workload)
    failure = examine_source(chosen) or examine_runs(chosen)
    if failure is None:
        return OK
    print(report(failure, folder()))
    return VIOLATION


def explain(plan: RunPlan) -> int:
    """Run a failing plan of a user's class again, and print its report, made small."""
    assert plan.workload is not None
    _, failure = examine_disaster(subject(plan.workload), plan)
    if failure is None:
        return OK
    print(report(failure, folder()))
    return VIOLATION


def replay_difference(seed: SeedFile) -> int:
    """Show again how equal runs of a class differ."""
    chosen = subject(seed.machine)
    found = replay(chosen.workload(), seed.machine, seed.seed, seed.drawn, seed.kept)
    if found is None:
        print(f"{seed.machine}: nothing differs any longer")
        return OK
    from viewstamp.testing.elsewhere import steps_of

    steps = tuple(steps_of(chosen.workload(), seed.seed, seed.drawn, seed.kept))
    difference = Difference(found, seed.seed, seed.drawn, seed.kept, steps)
    print(report(Failure(str(found.rule), found.text, seed.machine, difference=difference), folder()))
    return VIOLATION
