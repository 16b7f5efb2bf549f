"""Introductions of members that have no log yet: who has heard whom."""

import pytest

from tests.protocols.raft.harness import Cluster
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.raft.messages import Introduce
from viewstamp.protocols.raft.state import State
from viewstamp.protocols.replication.introductions import Introductions, name_nodes
from viewstamp.protocols.replication.messages import Member

ALL: tuple[Member, ...] = tuple((NodeId(node), Incarnation(100 * node)) for node in (1, 2, 3))


@pytest.fixture
def state() -> State:
    return Cluster(3).core(1).state


def said(*known: Member, incarnation: int, bootstrapped: bool = False) -> Introduce:
    return Introduce(incarnation=Incarnation(incarnation), bootstrapped=bootstrapped, known=known)


def test_nodes_when_there_is_one_are_named_as_one() -> None:
    assert name_nodes([NodeId(1)]) == "node 1"
    assert name_nodes([NodeId(1), NodeId(2)]) == "nodes 1, 2"


def test_members_have_all_heard_the_same_when_each_has_heard_everybody(state: State) -> None:
    sent: list[tuple[NodeId, tuple[Member, ...]]] = []
    introductions = Introductions(state, lambda peer, known: sent.append((peer, known)))
    assert introductions.missing() == [2, 3]
    assert not introductions.on_introduce(NodeId(2), said(*ALL[:2], incarnation=200))
    assert not introductions.on_introduce(NodeId(3), said(*ALL, incarnation=300))
    assert sent == [(2, ALL), (3, ALL)], "whoever has heard less is told"
    assert introductions.on_introduce(NodeId(2), said(*ALL, incarnation=200))
    assert (introductions.missing(), introductions.known) == ([], ALL)


def test_member_with_a_log_when_it_speaks_prevents_a_second_beginning(state: State) -> None:
    introductions = Introductions(state, lambda peer, known: None)
    introductions.on_introduce(NodeId(2), said(*ALL, incarnation=200))
    assert not introductions.on_introduce(NodeId(3), said(*ALL, incarnation=300, bootstrapped=True))
    assert not introductions.on_introduce(NodeId(2), said(*ALL, incarnation=200))


def test_member_when_its_disk_is_wiped_meanwhile_begins_again(state: State) -> None:
    introductions = Introductions(state, lambda peer, known: None)
    introductions.on_introduce(NodeId(2), said(*ALL, incarnation=200))
    assert introductions.on_introduce(NodeId(3), said(*ALL, incarnation=300))
    wiped = (*ALL[:2], (NodeId(3), Incarnation(301)))
    assert not introductions.on_introduce(NodeId(3), said(*wiped, incarnation=301)), "node 2 spoke before"
    assert introductions.on_introduce(NodeId(2), said(*wiped, incarnation=200))
