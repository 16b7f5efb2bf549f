import pytest

from tests.protocols.raft.test_membership import THREE, member
from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.protocols.raft.membership import Membership
from viewstamp.protocols.replication.configuration import (
    REMOVED_MAX,
    Configuration,
    decode_configuration,
    encode_configuration,
)

AT = Viewstamp(View(3), Seqno(9))


def nodes(*numbers: int) -> set[NodeId]:
    return {NodeId(number) for number in numbers}


def swapped() -> Configuration:
    """Nodes 1 to 3 give their places to 4 to 6, all at once."""
    added = [member(node, 10 * node) for node in (4, 5, 6)]
    learning = THREE.learning(
        added, returning=(), successors=zip(nodes(4, 5, 6), nodes(1, 2, 3), strict=True)
    )
    return learning.changing(nodes(4, 5, 6), nodes(1, 2, 3), AT)


def test_joint_configuration_when_it_is_written_reads_the_same() -> None:
    joint = swapped()
    assert decode_configuration(encode_configuration(joint)) == joint
    assert [node for node, _ in joint.voters] == [4, 5, 6]
    assert joint.outgoing == THREE.voters
    assert not joint.successors
    assert not joint.learners


def test_quorum_when_the_configuration_is_joint_needs_both_halves() -> None:
    membership = Membership(swapped(), 1)
    assert membership.voters == nodes(1, 2, 3, 4, 5, 6)
    assert membership.staying == nodes(4, 5, 6)
    assert not membership.has_quorum(nodes(1, 2, 3, 4)), "one of the new half"
    assert not membership.has_quorum(nodes(1, 4, 5, 6)), "one of the old half"
    assert membership.has_quorum(nodes(1, 2, 4, 5))


def test_position_when_the_configuration_is_joint_is_that_of_the_slower_half() -> None:
    membership = Membership(swapped(), 1)
    fast_and_slow = {NodeId(node): at for node, at in enumerate((9, 9, 9, 4, 5, 6), start=1)}
    assert membership.reached(fast_and_slow, own=0) == 5
    assert membership.reached({node: 10 - at for node, at in fast_and_slow.items()}, own=0) == 1


def test_position_when_a_voter_is_not_among_the_others_is_that_of_this_node() -> None:
    membership = Membership(THREE, 1)
    others = {NodeId(2): 7, NodeId(3): 0}
    assert [membership.reached(others, own) for own in (0, 5, 9)] == [0, 5, 7]


def test_joint_configuration_when_it_is_left_remembers_who_went() -> None:
    left = swapped().leaving_joint(AT)
    assert not left.is_joint
    assert left.removed == tuple((NodeId(node), Incarnation(10 * node), AT) for node in (1, 2, 3))
    assert left.removed_at(NodeId(2), Incarnation(20)) == AT
    assert left.removed_at(NodeId(2), Incarnation(21)) is None, "another directory of that node"
    assert left.removed_at(NodeId(4), Incarnation(40)) is None


def test_removed_ones_when_they_are_many_are_the_last() -> None:
    many = THREE.remembering((member(node, node) for node in range(10, 11 + REMOVED_MAX)), AT)
    assert len(many.removed) == REMOVED_MAX
    assert many.removed_at(NodeId(10), Incarnation(10)) is None
    assert many.removed_at(NodeId(11), Incarnation(11)) == AT


def test_successor_when_the_one_before_it_is_removed_only_learns() -> None:
    learning = THREE.learning([member(4, 40)], returning=(), successors=[(NodeId(4), NodeId(3))])
    assert learning.removing(nodes(3), AT).successors == ()
    assert learning.removing(nodes(4), AT).successors == ()


@pytest.mark.parametrize(
    "configuration",
    [
        Configuration(outgoing=(member(1, 1),)),
        Configuration((member(1, 1),), outgoing=(member(1, 2),)),
        Configuration((member(1, 1),), outgoing=(member(2, 1), member(2, 2))),
        Configuration((member(1, 1),), successors=((NodeId(2), NodeId(1)),)),
        Configuration((member(1, 1),), removed=((NodeId(2), Incarnation(1), AT),) * (REMOVED_MAX + 1)),
    ],
    ids=["no new half", "two incarnations", "twice", "successor of nowhere", "too many removed"],
)
def test_configuration_when_its_parts_contradict_is_not_read(configuration: Configuration) -> None:
    assert decode_configuration(encode_configuration(configuration)) is None
