"""A user's class under everything: the lint, equal runs, and then disasters in a simulated cluster."""

from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any, Final, NamedTuple

from viewstamp.core.errors import ConfigurationError
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.lint.lint import lint_machine
from viewstamp.machine.rules import Finding, UnsoundMachine
from viewstamp.machine.state_machine import StateMachine
from viewstamp.protocols.registry import protocol_definition
from viewstamp.sim.run.finished import FinishedRun, UserInvariant, run_plan
from viewstamp.sim.run.plan import RunPlan
from viewstamp.sim.run.shrink import shrink
from viewstamp.sim.workloads.own_machine import OwnMachine
from viewstamp.sim.workloads.workload import Workload
from viewstamp.sim.world.options import LoadOptions
from viewstamp.testing.equal_runs import Difference, find_difference

SEEDS: Final = 50
SHRINK_ATTEMPTS: Final = 30
_EQUAL_RUNS_S: Final = 10
"""After this no further sequence is begun."""


class Failure(NamedTuple):
    """What was found in a class, by whichever net."""

    name: str
    """The rule's number and name, or the invariant's."""
    text: str
    machine: str
    """As MODULE:CLASS where it can be imported by that."""
    findings: tuple[Finding, ...] = ()
    """Of the lint."""
    difference: Difference | None = None
    run: FinishedRun | None = None
    plan: RunPlan | None = None
    replay: str = ""
    """The command that shows it again, where a seed file does not say everything."""


class Subject(NamedTuple):
    """A class, and how it is called."""

    machine: type[StateMachine]
    make: Callable[[LoadOptions], Workload]
    name: str | None
    """MODULE:CLASS where another process can import it."""

    @property
    def title(self) -> str:
        """Its name for people."""
        return self.name or f"{self.machine.__module__}:{self.machine.__qualname__}"

    def workload(self) -> OwnMachine:
        """Return a new workload of it."""
        made = self.make(LoadOptions())
        assert isinstance(made, OwnMachine)
        return made


def subject_of(target: type[Any]) -> Subject:
    """Return a class, or a subclass of `OwnMachine`, as what is examined.

    Raises:
        ConfigurationError: it is neither.
    """
    name = None if "<locals>" in target.__qualname__ else f"{target.__module__}:{target.__qualname__}"
    if issubclass(target, StateMachine):
        made = type(target.__name__, (OwnMachine,), {"machine": target})
        return Subject(target, made, name)
    if issubclass(target, OwnMachine):
        return Subject(target.machine, target, name)
    raise ConfigurationError(f"{target!r}: give a subclass of viewstamp.StateMachine, or of OwnMachine")


def examine_source(subject: Subject) -> Failure | None:
    """Return what the lint finds, or why the class is refused; None: nothing.

    Raises:
        ConfigurationError: the class cannot be used at all, by anybody.
    """
    findings = lint_machine(subject.machine)
    if findings:
        return Failure(str(findings[0].rule), str(findings[0]), subject.title, findings=tuple(findings))
    try:
        MachineDefinition.of(subject.machine)
    except UnsoundMachine as error:
        return Failure(str(error.rule), str(error), subject.title)
    return None


def examine_runs(subject: Subject, *, first_seed: int = 0, pythons: Sequence[str] = ()) -> Failure | None:
    """Return how equal runs differ; None: they do not."""
    ends = monotonic() + _EQUAL_RUNS_S
    found = find_difference(
        subject.workload(),
        subject.name,
        first_seed=first_seed,
        pythons=pythons,
        expired=lambda: monotonic() > ends,
    )
    if found is None:
        return None
    return Failure(str(found.rule), found.contradiction.text, subject.title, difference=found)


def plans_of(
    subject: Subject, protocol: str, nodes: int | None, first_seed: int, seeds: int
) -> Iterator[RunPlan]:
    """Yield the plan of each seed."""
    for seed in range(first_seed, first_seed + seeds):
        yield RunPlan(protocol, seed, nodes, workload=subject.title)


def examine_disaster(
    subject: Subject, plan: RunPlan, invariants: Sequence[UserInvariant] = ()
) -> tuple[FinishedRun, Failure | None]:
    """Run one plan, and return the run with what it violated, made small."""
    run = run_plan(plan, make=subject.make, invariants=invariants)
    if run.report.ok:
        return run, None
    return run, _shrunk(subject, plan, invariants)


def _shrunk(subject: Subject, plan: RunPlan, invariants: Sequence[UserInvariant]) -> Failure:
    definition = protocol_definition(plan.protocol)

    def again(smaller: RunPlan) -> Any:
        return run_plan(smaller, make=subject.make, invariants=invariants).report

    small, _ = shrink(plan, definition, again, SHRINK_ATTEMPTS)
    run = run_plan(small, make=subject.make, invariants=invariants, is_told=True)
    violation = run.report.violation
    assert violation is not None
    return Failure(violation.name, violation.explanation, subject.title, run=run, plan=small)


def examine(
    subject: Subject,
    *,
    protocol: str = "raft",
    nodes: int | None = 3,
    first_seed: int = 0,
    seeds: int = SEEDS,
    seconds: float | None = None,
    invariants: Sequence[UserInvariant] = (),
    pythons: Sequence[str] = (),
    on_run: Callable[[FinishedRun], None] = lambda _run: None,
) -> Failure | None:
    """Return the first failure of a class under everything; None: it withstood it.

    Args:
        subject: the class.
        protocol: of the simulated cluster.
        nodes: its size; None: each seed draws it.
        first_seed: where the seeds begin.
        seeds: how many disasters.
        seconds: begin no more of them after that; at least one is run.
        invariants: of the user's own.
        pythons: other interpreters for equal runs.
        on_run: called with each run that withstood its disasters; what it raises goes through.
    """
    ends = None if seconds is None else monotonic() + seconds
    failure = examine_source(subject) or examine_runs(subject, first_seed=first_seed, pythons=pythons)
    if failure is not None:
        return failure
    for plan in plans_of(subject, protocol, nodes, first_seed, seeds):
        run, failure = examine_disaster(subject, plan, invariants)
        if failure is not None:
            return failure
        on_run(run)
        if ends is not None and monotonic() > ends:
            break
    return None
