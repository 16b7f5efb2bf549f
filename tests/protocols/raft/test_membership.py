import pytest

from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.raft.membership import Membership
from viewstamp.protocols.replication.configuration import (
    Configuration,
    decode_configuration,
    encode_configuration,
    first_configuration,
)
from viewstamp.protocols.replication.messages import Member


def member(node: int, incarnation: int) -> Member:
    return NodeId(node), Incarnation(incarnation)


THREE = first_configuration(
    {NodeId(3): Incarnation(30), NodeId(1): Incarnation(10), NodeId(2): Incarnation(20)}
)


def test_configuration_when_it_is_written_reads_the_same() -> None:
    assert decode_configuration(encode_configuration(THREE)) == THREE


@pytest.mark.parametrize(
    "configuration",
    [
        Configuration((member(2, 1), member(1, 1))),
        Configuration((member(1, 1), member(1, 1))),
        Configuration((member(1, 1),), (member(1, 2),)),
        Configuration((member(-1, 1),)),
        Configuration((member(1, 1),), (), (NodeId(1),)),
    ],
    ids=["order", "duplicated", "voter and learner", "negative", "returning voter"],
)
def test_configuration_when_it_is_not_canonical_is_not_read(configuration: Configuration) -> None:
    assert decode_configuration(encode_configuration(configuration)) is None


def test_configuration_when_bytes_are_anything_is_not_read() -> None:
    assert [decode_configuration(data) for data in (b"", b"\xff", b"\x93", b"\xa1x")] == [None] * 4


def test_node_when_it_forgot_learns_and_then_votes() -> None:
    learning = THREE.without_promises(NodeId(2), Incarnation(21))
    assert [node for node, _ in learning.voters] == [1, 3]
    assert learning.learners == (member(2, 21),)
    assert learning.returning == (2,)
    assert not learning.is_voter(NodeId(2), Incarnation(21))
    voting = learning.promoting(NodeId(2))
    assert voting.is_voter(NodeId(2), Incarnation(21))
    assert not voting.lists(NodeId(2), Incarnation(20))
    assert not voting.learners
    assert not voting.returning


def test_membership_when_entries_come_and_go() -> None:
    membership = Membership(THREE, 0)
    learning = THREE.without_promises(NodeId(2), Incarnation(21))
    membership.append(5, learning)
    membership.append(9, learning.promoting(NodeId(2)))
    assert membership.at(4) == THREE
    assert membership.at(8) == learning
    membership.truncate(8)
    assert (membership.current, membership.changed_at) == (learning, 5)
    membership.compact(6)
    assert membership.at(6) == learning
    membership.truncate(6)
    assert membership.current == learning
    assert not membership.has_quorum({NodeId(1), NodeId(2)}), "a learner does not count"
    assert membership.has_quorum({NodeId(1), NodeId(3)})
