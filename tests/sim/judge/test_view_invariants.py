"""The invariants of agreed views fire on planted violations of themselves, and keep quiet without one."""

from collections.abc import Callable

import pytest

from tests.sim.fakes import VIEWS_AGREED, FakeImage, FakeView, entry, stamp
from tests.sim.judge.test_invariants import Stage
from viewstamp.core.effects import Answer
from viewstamp.core.events import Queried, ReadToken
from viewstamp.core.ids import NodeId, View
from viewstamp.core.judge import InvariantViolated
from viewstamp.sim.judge.invariants import ALL


def agreed(number: int, *members: int, leader: int | None = None) -> FakeView:
    nodes = tuple(map(NodeId, members))
    return FakeView(View(number), nodes, NodeId(members[0] if leader is None else leader))


FIRST = agreed(1, 0)
SECOND = agreed(2, 0, 1)
THIRD = agreed(3, 0, 1, 2)


def accept(stage: Stage, view: FakeView, *nodes: int) -> None:
    for node in nodes:
        stage.image(node).agreed.add(view)


def learn(stage: Stage, node: int, *views: FakeView) -> None:
    core = stage.cores[NodeId(node)]
    core.history = [*core.history, *views]
    stage.step(node)


def come_to_three(stage: Stage) -> None:
    """Let all nodes know three views, the last one synchronised at node 0 and opened by entry 3.1."""
    accept(stage, SECOND, 0)
    accept(stage, THIRD, 0, 1)
    for node in (0, 1, 2):
        learn(stage, node, FIRST, SECOND, THIRD)
        stage.image(node).view = View(3)
        stage.write(node, entry(3, 1))
    stage.cores[NodeId(0)].view = View(3)
    stage.cores[NodeId(0)].opening = stamp(3, 1)


def lead(stage: Stage, node: int) -> None:
    stage.cores[NodeId(node)].leader = NodeId(node)
    stage.step(node)


def two_memberships_of_one_view(stage: Stage) -> None:
    accept(stage, SECOND, 0)
    learn(stage, 0, FIRST, SECOND)
    learn(stage, 1, FIRST, agreed(2, 0, 2))


def view_of_another_founder(stage: Stage) -> None:
    learn(stage, 0, FIRST)
    learn(stage, 1, agreed(1, 1))


def view_that_a_minority_accepted(stage: Stage) -> None:
    come_to_three(stage)
    fourth = agreed(4, 0, 1)
    accept(stage, fourth, 0)
    learn(stage, 0, fourth)


def primary_from_outside_the_synchronised_view(stage: Stage) -> None:
    accept(stage, SECOND, 0)
    learn(stage, 0, FIRST, SECOND)
    stage.cores[NodeId(0)].synchronised = View(2)
    stage.step(0)
    third = agreed(3, 0, 1, 2, leader=2)
    accept(stage, third, 0, 1)
    learn(stage, 0, third)


def synchronisation_that_a_later_view_did_not_heed(stage: Stage) -> None:
    third = agreed(3, 0, 1, 2, leader=2)
    accept(stage, SECOND, 0)
    accept(stage, third, 0, 1)
    learn(stage, 0, FIRST, SECOND, third)
    stage.cores[NodeId(1)].synchronised = View(2)
    learn(stage, 1, FIRST, SECOND)


def view_that_serves_before_all_hold_its_beginning(stage: Stage) -> None:
    come_to_three(stage)
    stage.image(2).entries.clear()
    lead(stage, 0)


def view_that_serves_while_a_member_is_in_an_older_one(stage: Stage) -> None:
    come_to_three(stage)
    stage.image(2).view = View(2)
    lead(stage, 0)


def leader_without_a_view_of_its_own(stage: Stage) -> None:
    come_to_three(stage)
    stage.cores[NodeId(0)].opening = None
    lead(stage, 0)


def read_answered_in_a_view_that_does_not_serve(stage: Stage) -> None:
    come_to_three(stage)
    stage.image(2).view = View(2)
    stage.step(0, event=Queried(ReadToken(1)))
    stage.step(0, Answer(ReadToken(1)))


PLANTED: tuple[tuple[str, Callable[[Stage], None]], ...] = (
    ("I24 ViewAgreement", two_memberships_of_one_view),
    ("I24 ViewAgreement", view_of_another_founder),
    ("I24 ViewAgreement", view_that_a_minority_accepted),
    ("I25 PrimaryContinuity", primary_from_outside_the_synchronised_view),
    ("I25 PrimaryContinuity", synchronisation_that_a_later_view_did_not_heed),
    ("I26 SyncBeforeServe", view_that_serves_before_all_hold_its_beginning),
    ("I26 SyncBeforeServe", view_that_serves_while_a_member_is_in_an_older_one),
    ("I26 SyncBeforeServe", leader_without_a_view_of_its_own),
    ("I26 SyncBeforeServe", read_answered_in_a_view_that_does_not_serve),
)


@pytest.mark.parametrize(("name", "plant"), PLANTED, ids=[plant.__name__ for _, plant in PLANTED])
def test_invariant_fires_when_it_is_violated(name: str, plant: Callable[[Stage], None]) -> None:
    with pytest.raises(InvariantViolated) as caught:
        plant(Stage(VIEWS_AGREED))
    assert caught.value.name == name


def test_every_invariant_of_views_is_planted_when_it_exists() -> None:
    names = {kind.name for kind in ALL if kind.applies(VIEWS_AGREED)}
    assert {"I24 ViewAgreement", "I25 PrimaryContinuity", "I26 SyncBeforeServe"} == {
        name for name, _ in PLANTED
    }
    assert names >= {name for name, _ in PLANTED}


def test_invariants_of_views_keep_quiet_when_nothing_is_wrong() -> None:
    stage = Stage(VIEWS_AGREED)
    come_to_three(stage)
    stage.cores[NodeId(0)].synchronised = View(3)
    lead(stage, 0)
    stage.step(0, event=Queried(ReadToken(1)))
    stage.step(0, Answer(ReadToken(1)))
    stage.judge.crashed(NodeId(0))
    stage.restart(1, stage.image(1))
    learn(stage, 1, FIRST, SECOND, THIRD)
    fourth = agreed(4, 1, 2)
    accept(stage, fourth, 1, 2)
    learn(stage, 2, fourth)


def test_view_stands_when_a_disk_was_lost_after_it_had_accepted() -> None:
    stage = Stage(VIEWS_AGREED)
    come_to_three(stage)
    fourth = agreed(4, 0, 1)
    accept(stage, fourth, 0, 2)
    stage.restart(2, FakeImage(), lost=True)
    learn(stage, 0, fourth)
