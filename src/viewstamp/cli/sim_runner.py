"""What `viewstamp sim` runs: the cores in their simulated world, or the whole runtime in another one."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from viewstamp.checker.history import Operation
from viewstamp.core.protocol import ProtocolDefinition
from viewstamp.sim.run import run as of_cores
from viewstamp.sim.run.campaign import run_chunk
from viewstamp.sim.run.finished import run_plan
from viewstamp.sim.run.plan import RunPlan, RunReport


class Runner(NamedTuple):
    """One of the two."""

    execute: Callable[..., RunReport]
    chunk: Callable[[bytes], bytes]
    with_history: Callable[[RunPlan], tuple[RunReport, Sequence[Operation]]]
    check: Callable[[RunPlan, ProtocolDefinition], Any]
    """Raises `ConfigurationError` where the plan names what does not exist."""
    suffix: str
    """What a ledger adds to the protocol's name."""

    def label(self, plan: RunPlan) -> str:
        """Return under which name a ledger has the seeds."""
        return plan.protocol + self.suffix


def runner_of(plan: RunPlan) -> Runner:
    """Return what runs a plan."""
    if not plan.runtime:
        return Runner(of_cores.execute, run_chunk, _with_history, of_cores.options_of, "")
    from viewstamp.simruntime import run as of_runtime  # late: it imports servers and clients

    return Runner(
        of_runtime.execute,
        of_runtime.run_chunk,
        of_runtime.run_with_history,
        of_runtime.check_plan,
        " runtime",
    )


def _with_history(plan: RunPlan) -> tuple[RunReport, Sequence[Operation]]:
    run = run_plan(plan)
    return run.report, run.history
