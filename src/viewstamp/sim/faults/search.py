"""A systematic search: one scenario is repeated, each time with a fault at another message.

After the fault nothing else goes wrong. Then the servers that are left must serve, where the protocol owes
that. When all are up they must agree on a leader, serve, and reach the end of the history in the same state.
All invariants are checked throughout.

Rules of this file: a trial is a pure function of its name; what is tried is listed before it is tried.
"""

import traceback
from collections.abc import Iterable, Iterator
from functools import cache
from random import Random
from typing import Final

import msgspec

from viewstamp.checker.linearizable import check
from viewstamp.checker.models import CounterModel
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.judge import InvariantViolated
from viewstamp.sim.faults.scenarios import SCENARIOS, FaultScenario, ScenarioStage
from viewstamp.sim.faults.single_faults import KINDS

NAME: Final = "I19 Liveness"
BOUND_S: Final = 15.0
"""To serve, to settle, and to level, each."""
_ANSWERS: Final = 4
_CLOSE: Final = 0.5
"""The share of second faults that happen to one of the next messages."""
_CLOSE_MAX: Final = 12
_WARM_UP_S: Final = 0.6
"""Long enough for a snapshot to be taken."""


class Trial(msgspec.Struct, frozen=True):
    """One scenario with its faults: all that has to be known to repeat it."""

    protocol: str
    scenario: str
    faults: tuple[tuple[int, str], ...] = ()
    """Numbers of messages, and the fault of each: keys of `KINDS`."""
    seed: int = 1


class Finding(msgspec.Struct, frozen=True):
    """A trial that did not end well."""

    trial: Trial
    injected: tuple[str, ...]
    """The faults in words, with their messages."""
    why: str

    def __str__(self) -> str:
        return "\n  ".join((f"{self.why}", *self.injected, f"replay: {self.trial}"))


class Outcome(msgspec.Struct, frozen=True):
    """How a trial ended."""

    messages: tuple[str, ...]
    """The messages of the scenario, in the order of their numbers."""
    trace_hash: str
    """Of all that happened."""
    view: int
    """The highest view at the end."""
    finding: Finding | None


def perform(trial: Trial) -> Outcome:
    """Perform a trial. Whatever the cluster does becomes a finding, not an exception.

    Raises:
        ConfigurationError: there is no such protocol.
    """
    scenario = SCENARIOS[trial.scenario]
    stage = ScenarioStage(trial.protocol, scenario.servers, dict(trial.faults), trial.seed)
    finding = None
    try:
        _run(scenario, stage)
    except AssertionError as error:
        why = str(error) or traceback.format_exc()
        finding = Finding(trial, tuple(stage.faults.injected), why)
    cores = [node.core for node in stage.cluster.judge.ghosts.nodes.values()]
    view = max((core.view for core in cores if core is not None), default=0)
    return Outcome(tuple(stage.faults.sent), stage.cluster.trace.digest, view, finding)


def _run(scenario: FaultScenario, stage: ScenarioStage) -> None:
    stage.settle(_WARM_UP_S)
    scenario.script(stage)
    stage.faults.end()
    _wait_for_faults(stage)
    _serve_with_the_rest(stage)
    serve_together(stage)
    level(stage)


def _wait_for_faults(stage: ScenarioStage) -> None:
    """Wait until the faults have had their effects."""
    world = stage.scenario.world
    world.run_until(max(world.now_us, stage.faults.ends_us))
    while stage.faults.ends_us > world.now_us:
        world.run_until(stage.faults.ends_us)
    stage.steady()


def _serve_with_the_rest(stage: ScenarioStage) -> None:
    """The servers that kept their disks must be enough: one that lost its disk needs them to come back."""
    running = stage.cluster.running
    kept = [node for node in running if node not in stage.lost]
    if len(running) < len(stage.scenario.members) and stage.cluster.owes_progress(kept):
        expect_answers(stage, f"nodes {running} are left")


def expect_answers(stage: ScenarioStage, when: str) -> None:
    """Wait until some more calls are answered; `when` says why they must be."""
    wanted = stage.answered + _ANSWERS
    if not stage.scenario.wait(lambda: stage.answered >= wanted, BOUND_S):
        raise InvariantViolated(NAME, f"calls are not answered although {when}{describe(stage)}")


def serve_together(stage: ScenarioStage) -> None:
    """All servers are up."""
    stage.start(*stage.scenario.members)
    if not stage.scenario.wait(stage.is_settled, BOUND_S):
        raise InvariantViolated(NAME, f"the servers do not settle although all are up{describe(stage)}")
    expect_answers(stage, "all are up and settled")


def level(stage: ScenarioStage) -> None:
    """The load ends: all reach the same entry and state, and the history is linearizable."""
    stage.loading = False
    cluster, members = stage.cluster, stage.scenario.members
    reached = stage.scenario.wait(
        lambda: stage.calls == 0 and stage.is_settled() and not any(map(stage.behind, members)), BOUND_S
    )
    if not reached:
        raise InvariantViolated(
            NAME, f"the servers do not reach the same entry after the load ended{describe(stage)}"
        )
    for node in members:
        process = cluster.processes[node]
        assert process.replica is not None
        cluster.judge.state(node, process.replica.applied, process.state_digest())
    verdict = check(cluster.history.operations(), CounterModel())
    if verdict.outcome != "ok":
        raise InvariantViolated("I17 Linearizable", str(verdict))


def describe(stage: ScenarioStage) -> str:
    """Return the state of each member, a line for each."""
    lines = [f"\n  committed: {stage.cluster.judge.ghosts.committed.length} entries"]
    for node, process in stage.cluster.processes.items():
        core = stage.cluster.judge.ghosts.nodes[node].core
        if core is None or process.replica is None:
            lines.append(f"node {node} is down")
            continue
        status = core.status(process.now)
        place = f"view {core.view}, led by {core.leader}, applied {process.replica.applied.seqno}"
        lines.append(f"node {node}: {place}; waiting for {status.waiting_for!r}")
    return "\n  ".join(lines)


def singles(
    protocol: str, scenario: str, *, of: str = "", among: Iterable[str] = KINDS, seed: int = 1
) -> list[Trial]:
    """Return a trial for each of these faults at each message whose name begins with `of`.

    Raises:
        ConfigurationError: there is no such scenario.
        InvariantViolated: the scenario fails without any fault.
    """
    numbers = [
        number for number, name in enumerate(_messages(protocol, scenario, seed)) if name.startswith(of)
    ]
    return [Trial(protocol, scenario, ((number, kind),), seed) for number in numbers for kind in among]


def drawn(protocol: str, scenario: str, rng: Random, seed: int = 1) -> Iterator[Trial]:
    """Draw trials endlessly, in turn with one fault and with two; half of the second ones follow closely.

    Messages that are rare in the scenario, such as those of a snapshot, are drawn as often as frequent ones.

    Raises:
        ConfigurationError, InvariantViolated: as `singles`.
    """
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(_messages(protocol, scenario, seed)):
        numbers.setdefault(name, []).append(number)
    names, kinds = list(numbers), list(KINDS)
    while True:
        first = rng.choice(numbers[rng.choice(names)])
        yield Trial(protocol, scenario, ((first, rng.choice(kinds)),), seed)
        second = rng.choice(numbers[rng.choice(names)])
        if rng.random() < _CLOSE:
            second = first + rng.randint(1, _CLOSE_MAX)
        if first != second:
            yield Trial(protocol, scenario, ((first, rng.choice(kinds)), (second, rng.choice(kinds))), seed)


@cache
def _messages(protocol: str, scenario: str, seed: int) -> tuple[str, ...]:
    """Return the messages of a scenario without any fault."""
    if scenario not in SCENARIOS:
        raise ConfigurationError(f"there is no scenario {scenario!r}: choose one of {', '.join(SCENARIOS)}")
    outcome = perform(Trial(protocol, scenario, (), seed))
    if outcome.finding is not None:
        raise InvariantViolated("Scenario", str(outcome.finding))
    return outcome.messages
