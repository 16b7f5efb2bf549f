"""I12 and what leaders believe: each way to go wrong is planted, and the way to go right keeps quiet."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from tests.sim.fakes import MEMBERS, RAFT_LIKE, FakeCore, FakeImage, FakeOracle, entry, stamp
from viewstamp.core.effects import Apply, Effect, Send
from viewstamp.core.events import Woke
from viewstamp.core.ids import Incarnation, Instant, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.judge import Configured, DurableImage, InvariantViolated
from viewstamp.core.protocol import Core
from viewstamp.sim.judge.judge import Judge

Voters = tuple[tuple[NodeId, Incarnation], ...]


def voters(**lives: int) -> Voters:
    """Voters by node: `voters(n0=1)` is node 0 in its life 1."""
    return tuple((NodeId(int(name[1:])), Incarnation(life)) for name, life in lives.items())


FOUNDERS = voters(n0=1, n1=1, n2=1)
WITHOUT_2 = voters(n0=1, n1=1)
AGAIN = voters(n0=1, n1=1, n2=2)


class KnowingCore(FakeCore):
    """A core that says which configuration it decides by and whom it believes."""

    def __init__(self) -> None:
        super().__init__()
        self.configured = Configured(Seqno(0), View(0), FOUNDERS, 0, Seqno(0))
        self.believed: list[tuple[NodeId, Incarnation, Seqno, View | None]] = []


class KnowingOracle(FakeOracle):
    def configured(self, core: KnowingCore) -> Configured:
        return core.configured

    def listed(self, images: Mapping[NodeId, DurableImage]) -> Mapping[NodeId, Incarnation]:
        return {}

    def acknowledged(self, message: Any) -> tuple[Incarnation, Viewstamp] | None:
        return message if isinstance(message, tuple) else None

    def believed(self, core: KnowingCore) -> Iterable[tuple[NodeId, Incarnation, Seqno, View | None]]:
        return core.believed


class Stage:
    """Three members, of which the first few have bootstrapped."""

    def __init__(self, bootstrapped: int = 3) -> None:
        self.judge = Judge(MEMBERS, KnowingOracle(), RAFT_LIKE)
        self.cores: list[KnowingCore] = []
        self.watched: list[Core] = []
        for node in MEMBERS:
            self.judge.recovered(node, FakeImage(), lost=False)
            core = KnowingCore()
            self.cores.append(core)
            self.watched.append(self.judge.watch(node, core))
            if node < bootstrapped:
                self.step(node)

    def step(self, node: int, *effects: Effect) -> None:
        self.cores[node].effects = list(effects)
        self.watched[node].step(Woke(), Instant(0))

    def decide(
        self, node: int, seqno: int, by: Voters, *, view: int | None = 1, pending: int = 1, base: int = 0
    ) -> None:
        """Let a node decide by the configuration of this entry."""
        place = None if view is None else View(view)
        self.cores[node].configured = Configured(Seqno(seqno), place, by, pending, Seqno(base))
        self.step(node)

    def lead(self, node: int) -> None:
        self.cores[node].leader = NodeId(node)
        self.step(node)

    def commit(self, seqno: int) -> None:
        """Let a majority hold an entry, and nodes 0 and 1 apply it."""
        for node in (0, 1):
            image = self.judge.ghosts.nodes[NodeId(node)].image
            assert isinstance(image, FakeImage)
            image.put(entry(1, seqno))
            self.judge.wrote(NodeId(node), [(PersistSeq(seqno), (b"",))])
        for node in (0, 1):
            self.step(node, Apply(entry(1, seqno)))


def two_configurations_of_one_entry(stage: Stage) -> None:
    stage.decide(0, 1, WITHOUT_2)
    stage.decide(1, 1, AGAIN)


def two_bootstraps(stage: Stage) -> None:
    stage.decide(2, 0, AGAIN, pending=0)


def change_while_one_is_uncommitted(stage: Stage) -> None:
    stage.lead(0)
    stage.decide(0, 1, WITHOUT_2)
    stage.decide(0, 2, AGAIN, pending=2)


def quorums_that_do_not_meet(stage: Stage) -> None:
    stage.lead(0)
    stage.decide(0, 1, voters(n2=1))


def configuration_of_an_entry_that_was_cut_off(stage: Stage) -> None:
    stage.decide(0, 1, WITHOUT_2)
    stage.decide(0, 1, WITHOUT_2, view=None)


def configuration_that_was_forgotten(stage: Stage) -> None:
    stage.decide(0, 1, WITHOUT_2)
    stage.decide(1, 1, WITHOUT_2)
    stage.commit(1)
    stage.decide(1, 0, FOUNDERS, pending=0)


def another_configuration_in_a_snapshot(stage: Stage) -> None:
    stage.decide(0, 1, WITHOUT_2)
    stage.decide(1, 1, WITHOUT_2)
    stage.commit(1)
    stage.decide(2, 1, FOUNDERS, pending=0, base=1)


PLANTED: tuple[Callable[[Stage], None], ...] = (
    two_configurations_of_one_entry,
    two_bootstraps,
    change_while_one_is_uncommitted,
    quorums_that_do_not_meet,
    configuration_of_an_entry_that_was_cut_off,
    configuration_that_was_forgotten,
    another_configuration_in_a_snapshot,
)


@pytest.mark.parametrize("plant", PLANTED, ids=[plant.__name__ for plant in PLANTED])
def test_configuration_is_unsafe_when(plant: Callable[[Stage], None]) -> None:
    with pytest.raises(InvariantViolated) as caught:
        plant(Stage())
    assert caught.value.name == "I12 ConfigSafety"


def test_configuration_is_safe_when_an_incarnation_ends_and_the_next_is_admitted() -> None:
    stage = Stage()
    stage.lead(0)
    for seqno, by in ((1, WITHOUT_2), (2, AGAIN)):
        stage.decide(0, seqno, by)
        stage.decide(1, seqno, by)
        stage.commit(seqno)
        stage.decide(0, seqno, by, pending=0)
    stage.decide(2, 0, WITHOUT_2, pending=0)  # told by a member, before it has a log
    stage.decide(2, 2, AGAIN, pending=0, base=2)


def test_bootstraps_may_differ_in_an_incarnation_that_ended_before_the_first_commit() -> None:
    stage = Stage(bootstrapped=1)
    stage.judge.crashed(NodeId(2))
    stage.judge.recovered(NodeId(2), FakeImage(), lost=True)
    stage.decide(1, 0, AGAIN, pending=0)
    stage.decide(2, 0, AGAIN, pending=0)
    for node in (0, 1):
        stage.decide(node, 1, FOUNDERS)
    stage.commit(1)
    with pytest.raises(InvariantViolated, match="I12 ConfigSafety"):
        stage.decide(2, 0, voters(n0=1, n1=1, n2=3), pending=0)


def test_acknowledgement_of_another_incarnation_is_not_believed() -> None:
    stage = Stage()
    stage.lead(0)
    stage.step(1, Send(NodeId(0), (Incarnation(1), stamp(1, 5))))
    stage.cores[0].believed = [(NodeId(1), Incarnation(1), Seqno(5), View(1))]
    stage.step(0)
    stage.cores[0].believed = [(NodeId(1), Incarnation(2), Seqno(5), View(1))]
    with pytest.raises(InvariantViolated, match="I5 AckBelieved"):
        stage.step(0)


@pytest.mark.parametrize(("seqno", "view"), [(6, 1), (5, 2), (6, None)])
def test_acknowledgement_that_no_member_sent_is_not_believed(seqno: int, view: int | None) -> None:
    stage = Stage()
    stage.lead(0)
    stage.step(1, Send(NodeId(0), (Incarnation(1), stamp(1, 5))))
    place = None if view is None else View(view)
    stage.cores[0].believed = [(NodeId(1), Incarnation(1), Seqno(seqno), place)]
    with pytest.raises(InvariantViolated, match="I5 AckBelieved"):
        stage.step(0)
