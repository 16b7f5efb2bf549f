"""All sequences of a few outages: servers stop, lose their disks or are cut off, and return, in every order.

Random faults rarely do what an unlucky night does: the second server goes while the first is still out, with
its disk, and the first comes back before it. Here every order is listed and tried. After each step the
servers that are there must serve, where the protocol owes that; when all are back they must settle on one
leader, serve, and reach the end of the history in the same state. All invariants are checked throughout.

Rules of this file: a trial is a pure function of its name; each outage ends with the server's return; a step
that goes beyond what the protocol promises ends the trial, which then shows nothing and is counted apart.
"""

import traceback
from collections.abc import Iterator
from random import Random
from typing import Final, Literal, TypeAlias

import msgspec

from viewstamp.core.ids import NodeId
from viewstamp.sim.faults.faults import Atlas
from viewstamp.sim.faults.scenarios import ScenarioStage
from viewstamp.sim.faults.search import expect_answers, level, serve_together

Kind: TypeAlias = Literal["stop", "lose", "cut"]
KINDS: Final[tuple[Kind, ...]] = ("stop", "lose", "cut")
"""How a server goes: it crashes, it crashes and its disk is lost, it is cut off from the other servers."""
Step: TypeAlias = tuple[Kind | Literal["return"], int]
"""What happens to which server."""
PACES: Final = {"quick": 0.03, "as elections": 0.45, "settled": 1.5}
"""How long each step is let work, in seconds: less than a heartbeat's patience, about as long, longer."""
_WARM_UP_S: Final = 0.6
"""Long enough for a snapshot to be taken."""


class Outages(msgspec.Struct, frozen=True):
    """One trial: all that has to be known to repeat it."""

    protocol: str
    servers: int
    steps: tuple[Step, ...]
    pace: str = "settled"
    seed: int = 1

    def __str__(self) -> str:
        words = ", ".join(f"{what} {node}" for what, node in self.steps)
        return f"{self.protocol}, {self.servers} servers, {self.pace}, seed {self.seed}: {words}"


class Verdict(msgspec.Struct, frozen=True):
    """How a trial ended."""

    trace_hash: str
    """Of all that happened."""
    beyond: Step | None = None
    """The step that the protocol does not promise to survive; the trial ended before it."""
    why: str = ""
    """What went wrong; empty: nothing."""


def sequences(servers: int, outages: int, kinds: tuple[Kind, ...] = KINDS) -> Iterator[tuple[Step, ...]]:
    """List every order in which this number of outages can begin and end, with every server and kind."""
    yield from _continued((), frozenset(), servers, outages, kinds)


def _continued(
    steps: tuple[Step, ...], out: frozenset[int], servers: int, left: int, kinds: tuple[Kind, ...]
) -> Iterator[tuple[Step, ...]]:
    if not left and not out:
        yield steps
        return
    if left:
        for node in sorted(set(range(servers)) - out):
            for kind in kinds:
                yield from _continued((*steps, (kind, node)), out | {node}, servers, left - 1, kinds)
    for node in sorted(out):
        yield from _continued((*steps, ("return", node)), out - {node}, servers, left, kinds)


def drawn(protocol: str, servers: int, outages: int, rng: Random) -> Iterator[Outages]:
    """Draw trials endlessly, each sequence and pace as likely as any other; the seeds count up from 1."""
    known, paces, seed = list(sequences(servers, outages)), list(PACES), 0
    while True:
        seed += 1
        yield Outages(protocol, servers, rng.choice(known), rng.choice(paces), seed)


def perform(trial: Outages) -> Verdict:
    """Perform a trial. Whatever the cluster does becomes a verdict, not an exception.

    Raises:
        ConfigurationError: there is no such protocol.
    """
    stage = ScenarioStage(trial.protocol, trial.servers, {}, trial.seed)
    beyond, why = None, ""
    try:
        beyond = _run(trial, stage)
    except AssertionError as error:
        why = f"{str(error) or traceback.format_exc()}\nreplay: {trial!r}"
    return Verdict(stage.cluster.trace.digest, beyond, why)


def _run(trial: Outages, stage: ScenarioStage) -> Step | None:
    """Return the step that is beyond the promises, None where all were performed."""
    stage.settle(_WARM_UP_S)
    atlas = Atlas(trial.servers, stage.cluster.definition.guarantees)
    for step in trial.steps:
        what, node = step[0], NodeId(step[1])
        if what == "return":
            stage.scenario.connect(node)
            stage.start(node)
        elif not _is_promised(stage, atlas, what, node):
            return step
        elif what == "cut":
            stage.scenario.disconnect(node)
        else:
            stage.crash(node, wipe=what == "lose")
            if what == "lose":
                atlas.lose(node)
        stage.run(PACES[trial.pace])
        _serve_with_the_rest(stage)
        if stage.is_settled() and len(stage.scenario.connected) == trial.servers:
            # All hold everything again: a disk that is lost from now on is the first one.
            stage.lost.clear()
            atlas.lost.clear()
    serve_together(stage)
    level(stage)
    return None


def _is_promised(stage: ScenarioStage, atlas: Atlas, what: str, node: NodeId) -> bool:
    """Return whether the protocol promises to go on after this outage, once all are back."""
    cluster = stage.cluster
    if not cluster.operator.may_stop(node):
        return False
    others = [other for other in cluster.members if other != node and other not in stage.lost]
    return what != "lose" or (atlas.may_lose(node) and cluster.owes_progress(others))


def _serve_with_the_rest(stage: ScenarioStage) -> None:
    """The connected servers that kept their disks must be enough, where the protocol owes it."""
    there = [node for node in stage.cluster.running if node in stage.scenario.connected]
    kept = [node for node in there if node not in stage.lost]
    if stage.cluster.owes_progress(kept):
        expect_answers(stage, f"nodes {there} are there")
