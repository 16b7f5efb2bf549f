"""A systematic search: one play again and again, each time with one other message that goes wrong.

After the mishap nothing else does. Then those who are left must serve, where the protocol owes that; and when
all are up they must agree on who leads, serve, and reach the end of the history in the same state. Every
invariant looks on all the time.

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
from viewstamp.sim.faults.scenarios import PLAYS, Play, Stage
from viewstamp.sim.faults.single_faults import KINDS

NAME: Final = "I19 Liveness"
BOUND_S: Final = 15.0
"""To serve, to settle, and to level, each."""
_ANSWERS: Final = 4
_CLOSE: Final = 0.5
"""How many second mishaps befall one of the next messages."""
_CLOSE_MAX: Final = 12
_WARM_UP_S: Final = 0.6
"""Long enough for a snapshot to be taken."""


class Trial(msgspec.Struct, frozen=True):
    """One play with its mishaps: all that has to be known to repeat it."""

    protocol: str
    play: str
    mishaps: tuple[tuple[int, str], ...] = ()
    """Numbers of messages, and what befalls each: keys of `KINDS`."""
    seed: int = 1


class Finding(msgspec.Struct, frozen=True):
    """A trial that did not end well."""

    trial: Trial
    befell: tuple[str, ...]
    """The mishaps in words, with their messages."""
    why: str

    def __str__(self) -> str:
        return "\n  ".join((f"{self.why}", *self.befell, f"replay: {self.trial}"))


class Outcome(msgspec.Struct, frozen=True):
    """What came of a trial."""

    messages: tuple[str, ...]
    """What messages the play had, in the order of their numbers."""
    trace_hash: str
    """Of all that happened."""
    view: int
    """The highest view at the end."""
    finding: Finding | None


def perform(trial: Trial) -> Outcome:
    """Perform a trial. Raises for nothing that the cluster did.

    Raises:
        ConfigurationError: there is no such protocol.
    """
    play = PLAYS[trial.play]
    stage = Stage(trial.protocol, play.servers, dict(trial.mishaps), trial.seed)
    finding = None
    try:
        _tell(play, stage)
    except AssertionError as error:
        why = str(error) or traceback.format_exc()
        finding = Finding(trial, tuple(stage.mishaps.befell), why)
    cores = [node.core for node in stage.cluster.judge.ghosts.nodes.values()]
    view = max((core.view for core in cores if core is not None), default=0)
    return Outcome(tuple(stage.mishaps.sent), stage.cluster.trace.digest, view, finding)


def _tell(play: Play, stage: Stage) -> None:
    stage.settle(_WARM_UP_S)
    play.tell(stage)
    stage.mishaps.end()
    _come_to_rest(stage)
    _serve_without_the_dead(stage)
    _serve_together(stage)
    _level(stage)


def _come_to_rest(stage: Stage) -> None:
    """Wait until the mishaps have had their effects."""
    world = stage.scenario.world
    world.run_until(max(world.now_us, stage.mishaps.ends_us))
    while stage.mishaps.ends_us > world.now_us:
        world.run_until(stage.mishaps.ends_us)
    stage.steady()


def _serve_without_the_dead(stage: Stage) -> None:
    """Those with their memory must be enough: who lost it needs them to come back."""
    running = stage.cluster.running
    kept = [node for node in running if node not in stage.lost]
    if len(running) < len(stage.scenario.members) and stage.cluster.owes_progress(kept):
        _expect_answers(stage, f"nodes {running} are left")


def _expect_answers(stage: Stage, when: str) -> None:
    wanted = stage.answered + _ANSWERS
    if not stage.scenario.wait(lambda: stage.answered >= wanted, BOUND_S):
        raise InvariantViolated(NAME, f"calls have no answers though {when}{describe(stage)}")


def _serve_together(stage: Stage) -> None:
    """Everybody is up."""
    stage.start(*stage.scenario.members)
    if not stage.scenario.wait(stage.is_settled, BOUND_S):
        raise InvariantViolated(NAME, f"they do not settle though all are up{describe(stage)}")
    _expect_answers(stage, "all are up and settled")


def _level(stage: Stage) -> None:
    """The load ends: all reach the same place and state, and every call was answered rightly."""
    stage.loading = False
    cluster, members = stage.cluster, stage.scenario.members
    level = stage.scenario.wait(
        lambda: stage.calls == 0 and stage.is_settled() and not any(map(stage.behind, members)), BOUND_S
    )
    if not level:
        raise InvariantViolated(NAME, f"they do not reach one place without load{describe(stage)}")
    for node in members:
        process = cluster.processes[node]
        assert process.replica is not None
        cluster.judge.state(node, process.replica.applied, process.state_digest())
    verdict = check(cluster.history.operations(), CounterModel())
    if verdict.outcome != "ok":
        raise InvariantViolated("I17 Linearizable", str(verdict))


def describe(stage: Stage) -> str:
    """Return how each member stands, a line for each."""
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
    protocol: str, play: str, *, of: str = "", among: Iterable[str] = KINDS, seed: int = 1
) -> list[Trial]:
    """Return a trial for each message of a play whose name begins with `of`, and each of these mishaps.

    Raises:
        ConfigurationError: there is no such play.
        InvariantViolated: the play ends badly without any mishap.
    """
    numbers = [number for number, name in enumerate(_messages(protocol, play, seed)) if name.startswith(of)]
    return [Trial(protocol, play, ((number, kind),), seed) for number in numbers for kind in among]


def drawn(protocol: str, play: str, rng: Random, seed: int = 1) -> Iterator[Trial]:
    """Draw trials without end, in turn with one mishap and with two; half of the second follow closely.

    Messages that are rare in the play, as those of a snapshot are, are drawn as often as the frequent ones.

    Raises:
        ConfigurationError, InvariantViolated: as `singles`.
    """
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(_messages(protocol, play, seed)):
        numbers.setdefault(name, []).append(number)
    names, kinds = list(numbers), list(KINDS)
    while True:
        first = rng.choice(numbers[rng.choice(names)])
        yield Trial(protocol, play, ((first, rng.choice(kinds)),), seed)
        second = rng.choice(numbers[rng.choice(names)])
        if rng.random() < _CLOSE:
            second = first + rng.randint(1, _CLOSE_MAX)
        if first != second:
            yield Trial(protocol, play, ((first, rng.choice(kinds)), (second, rng.choice(kinds))), seed)


@cache
def _messages(protocol: str, play: str, seed: int) -> tuple[str, ...]:
    """Return the messages of a play without any mishap."""
    if play not in PLAYS:
        raise ConfigurationError(f"no play is called {play!r}: there are {', '.join(PLAYS)}")
    outcome = perform(Trial(protocol, play, (), seed))
    if outcome.finding is not None:
        raise InvariantViolated("Play", str(outcome.finding))
    return outcome.messages
