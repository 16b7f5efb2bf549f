"""Bootstrap, and members whose disk was wiped."""

from tests.protocols.primary_backup.fenced_world import FencedWorld, bootstrapped, members_in_force
from viewstamp.core.events import (
    Received,
)
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.primary_backup.messages import (
    Fence,
    FenceResponse,
    Introduce,
)


def test_lowest_is_primary_and_all_are_synchronous_when_all_begin_empty() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.run(100)
    assert members_in_force(world, 0) == (0, 1, 2)
    assert [world.nodes[node].commands for node in world.members] == [[b"a"]] * 3


def test_a_cluster_of_one_serves_when_it_begins() -> None:
    world = bootstrapped(1)
    world.write(0, b"a")
    assert world.nodes[NodeId(0)].commands == [b"a"]


def test_nothing_is_bootstrapped_when_a_member_is_missing() -> None:
    world = FencedWorld(3, start=False)
    world.start(0)
    world.start(1)
    world.run(1_000)
    assert world.primary is None
    assert "not heard from node 2" in world.core(0).status(world.now).waiting_for


def test_wiped_backup_does_not_count_until_it_is_recorded_again() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.wipe(2)
    world.run(700)
    world.start(2)
    world.isolate(2)
    world.run(50)
    assert not world.core(2).state.counts
    world.feed(2, Received(NodeId(1), Fence(9, trial=False, by_operator=True, campaign=1)))
    assert not [letter for letter in world.letters if isinstance(letter.message, FenceResponse)]
    world.heal()
    world.run(1_500)
    assert world.core(2).state.counts
    assert members_in_force(world, 0) == (0, 1, 2)
    assert world.nodes[NodeId(2)].commands == [b"a"]


def test_backup_is_brought_up_when_a_late_introduction_of_its_former_incarnation_came_last() -> None:
    world = bootstrapped(3)
    world.isolate(2)
    world.write(0, b"a")
    world.run(2_000)
    world.feed(
        0,
        Received(
            NodeId(2),
            Introduce(incarnation=Incarnation(7), bootstrapped=False, known=((NodeId(2), Incarnation(7)),)),
        ),
    )
    assert world.core(0).replication.progress[NodeId(2)].incarnation == 7
    world.heal()
    world.run(2_500)
    assert world.nodes[NodeId(2)].commands == [b"a"]
    assert members_in_force(world, 0) == (0, 1, 2)


def test_wiped_backup_is_not_readmitted_when_no_majority_of_the_others_is_there() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.crash(1)
    world.wipe(2)
    world.run(100)
    world.start(2)
    world.run(5_000)
    assert not world.core(2).state.counts
    assert world.primary is None
    world.start(1)
    world.promote(0, 1)
    world.run(2_500)
    assert world.core(2).state.counts


def test_lowest_leads_once_when_it_is_promoted_before_the_bootstrap_is_on_its_disk() -> None:
    """Its trial must not go on while it leads: the primary would become a candidate and send as primary."""
    world = FencedWorld(3)
    world.nodes[NodeId(0)].disk.held = True
    world.settle()
    world.promote(0, 7)
    world.nodes[NodeId(0)].disk.held = False
    world.sync(0)
    assert world.nodes[NodeId(0)].settled == {7: None}
    world.settle()
    world.write(0, b"a")
    world.run(200)
    assert (world.primary, world.core(0).state.epoch) == (0, 1)
    assert world.nodes[NodeId(2)].commands == [b"a"]
