"""Introductions of members that have no log yet: what each has heard of the others."""

import pytest

from tests.protocols.raft.harness import Cluster
from viewstamp.core.ids import Incarnation, Instant, NodeId
from viewstamp.protocols.raft.messages import Introduce
from viewstamp.protocols.raft.state import State
from viewstamp.protocols.replication.introductions import Introductions, name_nodes
from viewstamp.protocols.replication.messages import Member

ALL: tuple[Member, ...] = tuple((NodeId(node), Incarnation(100 * node)) for node in (1, 2, 3))


class Beginning(Introductions):
    """The introductions of a node that only remembers what was sent, and when it might bootstrap."""

    __slots__ = ("agreed", "bootstraps", "sent")

    def __init__(self, state: State) -> None:
        super().__init__(state, 1)
        self.agreed: tuple[NodeId, ...] = ()
        self.bootstraps: list[tuple[Member, ...]] = []
        self.sent: list[tuple[NodeId, tuple[Member, ...]]] = []

    def _send_introduction(self, peer: NodeId) -> None:
        super()._send_introduction(peer)
        self.sent.append((peer, self.known))

    def _introduction(self, known: tuple[Member, ...], agreed: tuple[NodeId, ...]) -> Introduce:
        self.agreed = agreed
        return said(*known, incarnation=100)

    def _bootstrap(self, known: tuple[Member, ...]) -> None:
        self.bootstraps.append(known)


@pytest.fixture
def beginning() -> Beginning:
    return Beginning(Cluster(3).core(1).state)


def said(
    *known: Member, incarnation: int, bootstrapped: bool = False, agreed: tuple[int, ...] = ()
) -> Introduce:
    return Introduce(
        incarnation=Incarnation(incarnation),
        bootstrapped=bootstrapped,
        known=known,
        agreed=tuple(map(NodeId, agreed)),
    )


def test_nodes_when_there_is_one_are_named_as_one() -> None:
    assert name_nodes([NodeId(1)]) == "node 1"
    assert name_nodes([NodeId(1), NodeId(2)]) == "nodes 1, 2"


def test_members_bootstrap_when_each_has_heard_the_same(beginning: Beginning) -> None:
    assert beginning.missing() == [2, 3]
    beginning.on_introduce(NodeId(2), said(*ALL[:2], incarnation=200))
    beginning.on_introduce(NodeId(3), said(*ALL, incarnation=300))
    assert beginning.sent == [(2, ALL), (3, ALL)], "a member that has heard less is told"
    assert beginning.bootstraps == []
    beginning.on_introduce(NodeId(2), said(*ALL, incarnation=200))
    assert (beginning.missing(), beginning.bootstraps) == ([], [ALL])


def test_member_with_a_log_when_it_is_heard_prevents_a_second_bootstrap(beginning: Beginning) -> None:
    beginning.on_introduce(NodeId(2), said(*ALL, incarnation=200))
    beginning.on_introduce(NodeId(3), said(*ALL, incarnation=300, bootstrapped=True))
    beginning.on_introduce(NodeId(2), said(*ALL, incarnation=200))
    assert beginning.bootstraps == []


def test_member_when_its_disk_is_wiped_meanwhile_begins_again(beginning: Beginning) -> None:
    beginning.on_introduce(NodeId(2), said(*ALL, incarnation=200))
    beginning.on_introduce(NodeId(3), said(*ALL, incarnation=300))
    assert beginning.bootstraps == [ALL]
    wiped = (*ALL[:2], (NodeId(3), Incarnation(301)))
    beginning.on_introduce(NodeId(3), said(*wiped, incarnation=301))
    assert beginning.bootstraps == [ALL], "node 2 spoke before"
    beginning.on_introduce(NodeId(2), said(*wiped, incarnation=200))
    assert beginning.bootstraps == [ALL, wiped]


def test_node_introduces_itself_soon_when_a_leader_addresses_another_incarnation(
    beginning: Beginning,
) -> None:
    beginning.introduce_at = Instant(1 << 40)
    beginning.on_passed_over(NodeId(2))
    assert beginning.introduce_at == 1


def test_members_bootstrap_when_one_pair_has_heard_of_each_other_by_the_third_only(
    beginning: Beginning,
) -> None:
    beginning.on_introduce(NodeId(2), said(*ALL, incarnation=200))
    assert beginning.missing() == [], "node 2 had heard node 3"
    assert beginning.bootstraps == [], "node 3 may not have heard of this one"
    beginning.on_introduce(NodeId(2), said(*ALL, incarnation=200, agreed=(3,)))
    assert beginning.bootstraps == [ALL]


def test_member_when_it_has_spoken_itself_is_not_contradicted_by_another(beginning: Beginning) -> None:
    wiped = (NodeId(3), Incarnation(301))
    beginning.on_introduce(NodeId(3), said(wiped, incarnation=301))
    beginning.on_introduce(NodeId(2), said(*ALL, incarnation=200, agreed=(3,)))
    assert beginning.known == (*ALL[:2], wiped)
    assert beginning.bootstraps == []


def test_member_with_a_log_when_another_tells_what_it_said_before_does_not_count(
    beginning: Beginning,
) -> None:
    beginning.on_introduce(NodeId(3), said(*ALL, incarnation=300, bootstrapped=True))
    beginning.on_introduce(NodeId(2), said(*ALL, incarnation=200, agreed=(3,)))
    assert beginning.bootstraps == []


def test_member_when_it_has_said_something_else_since_is_not_agreed(beginning: Beginning) -> None:
    other = (*ALL[:1], (NodeId(2), Incarnation(201)), ALL[2])
    beginning.on_introduce(NodeId(3), said(*other, incarnation=300))
    beginning.on_introduce(NodeId(2), said(*ALL, incarnation=200, agreed=(3,)))
    assert beginning.bootstraps == []


def test_member_tells_which_members_have_heard_the_same(beginning: Beginning) -> None:
    beginning.on_introduce(NodeId(3), said(*ALL, incarnation=300))
    beginning.on_peer_up(NodeId(2))
    assert beginning.agreed == (3,)
