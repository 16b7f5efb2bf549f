"""A run that is over, as its user looks at it: what the clients were told, and the state that it ended in."""

import json
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

from viewstamp.checker.history import Operation
from viewstamp.core.judge import InvariantViolated
from viewstamp.machine.state_machine import StateMachine
from viewstamp.protocols.registry import protocol_definition
from viewstamp.replica.replica import Replica
from viewstamp.sim.judge.ghosts import Ghosts, NodeGhost
from viewstamp.sim.judge.invariants import Invariant
from viewstamp.sim.run.contexts import Replay
from viewstamp.sim.run.plan import RunPlan, RunReport
from viewstamp.sim.run.run import Run, options_of
from viewstamp.sim.workloads.workload import Workload
from viewstamp.sim.world.options import LoadOptions
from viewstamp.sim.world.trace import Trace
from viewstamp.sim.world.tuning import replica_options

UserInvariant = Callable[[Any], object]
"""Gets a replica's machine after each step that changed it. False, or an `AssertionError`, is a violation."""


class FinishedRun:
    """What a run did. Its history and state are those of the whole cluster."""

    def __init__(self, run: Run, report: RunReport, trace: str) -> None:
        self._cluster = run.cluster
        self.report = report
        self.history: list[Operation] = run.cluster.history.operations()
        """What clients called and were told, in the order in which the calls ended."""
        self.events: list[dict[str, Any]] = [json.loads(line) for line in trace.splitlines()]
        """Everything that happened, where it was asked for."""

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.report.seed

    def state(self) -> Any:
        """Return a machine that has executed everything that was committed."""
        cluster = self._cluster
        limits = replica_options(cluster.options.tuning).sessions
        replay = Replay(cluster.host.machine, limits, cluster.judge.ghosts.committed)
        return replay.runner.machine

    def replicas(self) -> list[StateMachine]:
        """Return the machines of the replicas that are up at the end."""
        replicas = [process.replica for process in self._cluster.processes.values()]
        return [replica.machine for replica in replicas if replica is not None]

    def calls(self, method: str) -> list[Operation]:
        """Return the calls of a method, however they ended."""
        return [operation for operation in self.history if operation.op == method]

    def acknowledged(self, method: str) -> int:
        """Return how many calls of a method returned a result to their client."""
        return sum(operation.outcome == "ok" for operation in self.calls(method))

    def unknown(self, method: str) -> int:
        """Return of how many calls of a method nobody knows whether they were executed."""
        return sum(operation.outcome == "unknown" for operation in self.calls(method))


def run_plan(
    plan: RunPlan,
    *,
    make: Callable[[LoadOptions], Workload] | None = None,
    invariants: Sequence[UserInvariant] = (),
    is_told: bool = False,
) -> FinishedRun:
    """Run a plan, and return the run when it is over.

    Args:
        plan: what to run.
        make: makes the workload; None: the plan names it.
        invariants: of the user's own, asked at each replica.
        is_told: keep all events.
    """
    definition = protocol_definition(plan.protocol)
    sink = StringIO() if is_told else None
    run = Run(plan, options_of(plan, definition), definition, Trace(sink), make=make)
    for check in invariants:
        run.cluster.judge.listen(_OfUser(run.cluster.judge.ghosts, check))
    report = run.execute()
    return FinishedRun(run, report, "" if sink is None else sink.getvalue())


class _OfUser(Invariant):
    """An invariant of the user's own."""

    def __init__(self, ghosts: Ghosts, check: UserInvariant) -> None:
        super().__init__(ghosts)
        self._check = check
        self._title = f"invariant {getattr(check, '__name__', 'of the user')}"

    def served(self, node: NodeGhost, replica: Replica) -> None:
        """Ask it."""
        try:
            holds = self._check(replica.machine)
        except AssertionError as error:
            raise InvariantViolated(self._title, f"{self._where(node)}: {error}") from None
        if holds is False:
            raise InvariantViolated(self._title, f"{self._where(node)}: it returned False")

    def _where(self, node: NodeGhost) -> str:
        return self.ghosts.where(node.node)
