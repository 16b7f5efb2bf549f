"""Admin requests: carried to their target, refused, or carried out here."""

from tests.protocols.primary_backup.fenced_world import bootstrapped
from viewstamp.core.events import (
    Directed,
    DirectiveToken,
    TakeSnapshot,
    TransferLeadership,
)
from viewstamp.core.ids import NodeId


def test_promotion_is_carried_to_its_target_when_another_member_is_asked() -> None:
    world = bootstrapped(3)
    world.promote(2, 5, asked=0)
    world.run(300)
    assert world.primary == 2
    assert world.nodes[NodeId(0)].settled == {5: None}
    world.promote(1, 6, asked=0)
    world.run(300)
    assert world.primary == 1
    assert world.nodes[NodeId(0)].settled == {5: None, 6: None}


def test_fittest_backup_is_promoted_when_the_primary_is_asked_for_any() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.feed(0, Directed(DirectiveToken(3), TransferLeadership()))
    world.run(300)
    assert world.primary in {1, 2}
    assert world.nodes[NodeId(0)].settled == {3: None}


def test_strangers_cannot_be_promoted_when_the_operator_names_one() -> None:
    world = bootstrapped(3)
    world.feed(0, Directed(DirectiveToken(1), TransferLeadership(NodeId(9))))
    assert world.nodes[NodeId(0)].settled == {1: "not promoted: node 9 is not a member of this cluster"}


def test_snapshot_is_taken_when_the_operator_wants_one() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.feed(0, Directed(DirectiveToken(2), TakeSnapshot()))
    assert world.nodes[NodeId(0)].settled == {2: None}
    assert world.core(0).status(world.now).snapshot == 2
