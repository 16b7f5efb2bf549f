"""One run: a safety phase with every fault that its seed drew, then a liveness phase, then the verdict.

A run is a pure function of its plan: `execute(plan)` in any process, on any machine, under any PYTHONHASHSEED
gives the same report and the same trace.
"""

import os
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, TextIO

import msgspec

from viewstamp.checker.linearizable import check
from viewstamp.checker.machine_model import MachineModel
from viewstamp.core.ids import MICROSECONDS_PER_SECOND
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.protocol import ProtocolDefinition
from viewstamp.protocols.registry import protocol_definition
from viewstamp.replica.events import Failed, Outcome
from viewstamp.sim.cluster.cluster import Cluster
from viewstamp.sim.cluster.hostile import Forger, HostileClient
from viewstamp.sim.cluster.operators import make_operator
from viewstamp.sim.faults.deploys import Deploys
from viewstamp.sim.faults.faults import FaultInjector
from viewstamp.sim.faults.stories import StoryRunner
from viewstamp.sim.run.contexts import final_machine, with_contexts
from viewstamp.sim.run.liveness import LivenessPhase
from viewstamp.sim.run.plan import RunPlan, RunReport, Violation
from viewstamp.sim.workloads.catalogue import drawn_workload, make_workload
from viewstamp.sim.workloads.clients import Plan, SimClient
from viewstamp.sim.workloads.own_machine import OwnMachine
from viewstamp.sim.workloads.workload import JudgesState, Workload
from viewstamp.sim.world.options import LoadOptions, SwarmOptions, draw_options, override
from viewstamp.sim.world.trace import Trace

_QUIET_SHARE: Final = 0.4
_BOOTSTRAP_US: Final = 60_000_000
_SHAKE_US: Final = 3_000_000

NOT_DETERMINISTIC: Final = "I22 Deterministic"
_RUN: Final = (
    "import sys; sys.path[:] = sys.argv[1:]; from viewstamp.sim.run.campaign import run_chunk; "
    "sys.stdout.buffer.write(run_chunk(sys.stdin.buffer.read()))"
)


def options_of(plan: RunPlan, definition: ProtocolDefinition) -> SwarmOptions:
    """Return the swarm options of a plan."""
    drawn = draw_options(
        plan.protocol, definition.guarantees, plan.seed, nodes=plan.nodes, duration_us=plan.duration_us
    )
    return override(drawn, plan.without)


def execute(
    plan: RunPlan, *, sink: TextIO | None = None, definition: ProtocolDefinition | None = None
) -> RunReport:
    """Run a plan and report. Never raises for what the cluster did.

    Args:
        plan: what to run.
        sink: where JSON lines of everything go, if anywhere.
        definition: judge this instead of the registered protocol of that name.

    Raises:
        ConfigurationError: the plan names a protocol, a workload or an option that does not exist.
    """
    definition = definition or protocol_definition(plan.protocol)
    return Run(plan, options_of(plan, definition), definition, Trace(sink)).execute()


class Run:
    """One run, from its first event to its verdict."""

    def __init__(
        self,
        plan: RunPlan,
        options: SwarmOptions,
        definition: ProtocolDefinition,
        trace: Trace,
        *,
        make: Callable[[LoadOptions], Workload] | None = None,
    ) -> None:
        """Prepare it. `make` makes the workload where the plan names none that can be imported."""
        self.plan = plan
        self.trace = trace
        self._make = make
        self.workload = self._make_workload(options.load)
        self.options = options = self.workload.fit(options)
        self.cluster = Cluster(
            definition, options, plan.seed, self.workload, trace, make_operator=make_operator
        )
        self.injector = FaultInjector(self.cluster)
        self.deploys = self._make_deploys()
        self.world = self.cluster.world
        self._thinking = self.cluster.tree.stream("load", "think")
        self._planning = self.cluster.tree.stream("load", "plan")
        self._think_mean_us = self._thinking_time()
        self._made = 0
        self._loading = True
        self._outcomes: Counter[str] = Counter()

    def _make_workload(self, load: LoadOptions) -> Workload:
        if self._make is not None:
            return self._make(load)
        return make_workload(self.plan.workload or drawn_workload(self.plan.seed), load)

    def _make_deploys(self) -> Deploys | None:
        later = self.workload.later if isinstance(self.workload, OwnMachine) else ()
        if not later:
            return None
        return Deploys(self.cluster, (self.workload.machine, *later), self.cluster.tree.stream("deploys"))

    def execute(self) -> RunReport:
        """Run all of it, and report what goes wrong."""
        violation = None
        try:
            self._safety()
            self._loading = False
            if self.deploys is not None:
                self.deploys.finish()
            LivenessPhase(self.cluster, self.injector).run()
            self._judge()
        except InvariantViolated as error:
            violation = self._violation(error.name, error.explanation)
        except AssertionError as error:
            violation = self._violation("Assertion", str(error), traceback.format_exc())
        except Exception as error:  # noqa: BLE001  what broke is the finding, and the seed repeats it
            violation = self._violation("Crash", f"{type(error).__name__}: {error}", traceback.format_exc())
        return self._report(violation)

    # Safety phase

    def _safety(self) -> None:
        cluster = self.cluster
        for node in cluster.members:
            cluster.start(node)
        self.injector.spoil_bootstrap()
        self._bootstrap()
        share = self.options.load.sessionless
        for _ in range(self.options.load.clients):
            exactly_once = self._thinking.random() >= share
            client = cluster.add_client(self, exactly_once=exactly_once)
            client.resend = self.options.load.resend if exactly_once else 0.0
            for _ in range(self.options.load.pipeline):
                self._think(client)
        hostile = HostileClient(self.cluster, self.options.load.hostile_rate)
        hostile.begin()
        forger = Forger(self.cluster, self.options.load.hostile_rate)
        forger.begin()
        self.injector.begin()
        if self.deploys is not None:
            self.deploys.begin()
        StoryRunner(self.injector).begin()
        self._pass(self.options.duration_us)
        self._shake()
        hostile.stopped = forger.stopped = True

    def _bootstrap(self) -> None:
        """Let the cluster bootstrap: most faults have nothing to spoil before that."""
        if not self.cluster.operator.bootstraps_alone:
            return
        committed = self.cluster.judge.ghosts.committed
        if not self.world.run_while(lambda: committed.length == 0, _BOOTSTRAP_US):
            raise InvariantViolated("I19 Liveness", "without any fault the cluster did not bootstrap")

    def _pass(self, length_us: int) -> None:
        """Let time pass, up to the limit of events."""
        end = self.world.now_us + length_us
        limit = self.world.events + self.plan.events_max
        self.world.run_while(lambda: self.world.events < limit, end)

    def _shake(self) -> None:
        """A run with faults in which the leader never changed shows too little: let the leader crash."""
        judge, options = self.cluster.judge, self.options
        if options.fault_free or options.nodes == 1 or judge.rare["leader elected"] > 1:
            return
        for leader in self.cluster.leaders()[:1]:
            if not self.cluster.operator.may_stop(leader):
                return
            self.cluster.crash(leader)
            self.injector.restart_later(leader)
        self._pass(_SHAKE_US)

    # Clients

    def _thinking_time(self) -> int:
        """Return how long clients think on average, in microseconds."""
        load = self.options.load
        if not load.spread:
            return load.think_mean_us
        whole = self.options.duration_us * load.clients * load.pipeline // max(1, self.plan.operations_max)
        return max(load.think_mean_us, whole)

    def _think(self, client: SimClient) -> None:
        delay = int(self._thinking.expovariate(1 / self._think_mean_us)) + 1
        quiet_from = self.options.duration_us * (1 - _QUIET_SHARE) / 2
        if (
            self.options.load.quiet
            and 0 <= self.world.now_us - quiet_from < self.options.duration_us * _QUIET_SHARE
        ):
            delay += int(quiet_from + self.options.duration_us * _QUIET_SHARE - self.world.now_us)
        self.world.after(delay, self._call, client)

    def _call(self, client: SimClient) -> None:
        if not self._loading or self._made >= self.plan.operations_max or client.closed:
            return
        self._made += 1
        plan = self.workload.plan(self._planning)
        timeout = self.options.load.call_timeout_us
        call = client.invoke(plan, timeout)
        if self.options.load.cancel and self._planning.random() < self.options.load.cancel:
            self.world.after(self._planning.randrange(timeout), self._cancel, client, call)

    def _cancel(self, client: SimClient, call: Any) -> None:
        if call in client.calls:
            client.cancel(call)
            self._outcomes["cancelled"] += 1
            self._think(client)

    def completed(self, client: SimClient, plan: Plan | None, outcome: Outcome) -> None:
        """A call ended: think, and make the next one."""
        if plan is not None:
            self._think(client)
            if isinstance(outcome, Failed):
                self._outcomes[f"{plan.kind} {outcome.outcome}"] += 1

    # Verdict

    def _judge(self) -> None:
        operations = self.cluster.history.operations()
        if not any(operation.answered for operation in operations):
            raise InvariantViolated("Vacuous", "no call was ever answered")
        check_messages(self.cluster, len(operations))
        if isinstance(self.workload.model, MachineModel):
            operations = with_contexts(self.cluster, operations)
        if isinstance(self.workload, JudgesState):
            self.workload.judge_state(final_machine(self.cluster))
        verdict = check(operations, self.workload.model)
        if verdict.outcome != "ok":
            raise InvariantViolated("I17 Linearizable", str(verdict))

    def _violation(self, name: str, explanation: str, details: str = "") -> Violation:
        return Violation(name, explanation, self.world.now_us, details)

    def _report(self, violation: Violation | None) -> RunReport:
        cluster = self.cluster
        outcomes: Counter[str] = Counter(operation.outcome for operation in cluster.history.operations())
        faults = Counter(cluster.counts)
        faults.update({name: count for name, count in cluster.network.counts.items() if name != "messages"})
        for process in cluster.processes.values():
            faults.update(process.fault_counts())
            if process.clock.drift_ppm:
                faults["clock drift"] += 1
        return RunReport(
            plan=self.plan,
            options=self.options.describe(),
            violation=violation,
            trace_hash=self.trace.digest,
            events=self.world.events,
            virtual_us=self.world.now_us,
            operations={**outcomes, **self._outcomes},
            faults=dict(sorted(faults.items())),
            rare=dict(sorted(cluster.judge.rare.items())),
            committed=cluster.judge.ghosts.committed.length,
        )


NAME: Final = "I31 RpcBudget"
_BOOTSTRAP_MESSAGES: Final = 1_000
_PER_LINK_AND_SECOND: Final = 45
"""Heartbeats, their answers, elections and introductions."""
_PER_COMMIT: Final = 6
_PER_CALL: Final = 3
_PER_PIECE: Final = 8
"""For each piece of a snapshot that was staged: sent, answered, lost, duplicated, sent again."""


def messages_allowed(cluster: Cluster, calls: int) -> int:
    """Return how many messages between members this run may have needed."""
    others = len(cluster.members) - 1
    seconds = cluster.world.now_us / MICROSECONDS_PER_SECOND
    standing = others * len(cluster.members) * seconds * _PER_LINK_AND_SECOND
    work = others * (cluster.judge.ghosts.committed.length * _PER_COMMIT + calls * _PER_CALL)
    pieces = cluster.judge.rare["snapshot piece staged"] * _PER_PIECE
    return int(_BOOTSTRAP_MESSAGES + standing + work + pieces)


def check_messages(cluster: Cluster, calls: int) -> None:
    """Raise `InvariantViolated` where there were more."""
    sent, allowed = cluster.network.counts["messages"], messages_allowed(cluster, calls)
    if sent > allowed:
        raise InvariantViolated(
            NAME, f"{sent} messages between members; the work done explains at most {allowed}"
        )


def checked_elsewhere(report: RunReport) -> RunReport:
    """Run the plan of this report again in another process; return the report, or that the runs differ (I22).

    Code that iterates over a set of strings, or reads anything of its host, gives another run there.
    """
    if not report.ok:
        return report
    second = run_elsewhere(report.plan)
    if second is not None and second.trace_hash == report.trace_hash:
        return report
    how = "ended differently" if second is None or not second.ok else f"has the trace {second.trace_hash}"
    explanation = (
        f"the same run {how} in a process with another PYTHONHASHSEED: does the machine depend on the order "
        "of a set, on a clock, or on anything else that is not its state?"
    )
    return msgspec.structs.replace(
        report, violation=Violation(NOT_DETERMINISTIC, explanation, report.virtual_us)
    )


def run_elsewhere(plan: RunPlan) -> RunReport | None:
    """Return the report of a fresh process with other hashes; None: it ended without one."""
    hashes = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    done = subprocess.run(  # noqa: S603  this interpreter, and nothing that comes from outside
        [sys.executable, "-P", "-c", _RUN, *sys.path],  # -P: else it begins in the current directory
        input=msgspec.json.encode([plan]),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": hashes},
        check=False,
    )
    return msgspec.json.decode(done.stdout, type=list[RunReport])[0] if done.returncode == 0 else None
