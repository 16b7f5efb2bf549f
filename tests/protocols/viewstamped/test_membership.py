"""Which view may follow which, and who may lead it."""

import pytest

from viewstamp.core.ids import Incarnation, NodeId, View
from viewstamp.protocols.viewstamped.membership import (
    NUMBER_MAX,
    Member,
    Membership,
    first_view_of,
    follows,
    is_first_view,
    successor,
    well_formed,
    without,
)


def members(*nodes: int) -> tuple[Member, ...]:
    return tuple(Member(NodeId(node), Incarnation(100 + node)) for node in nodes)


def view(number: int, nodes: tuple[int, ...], eligible: tuple[int, ...], primary: int) -> Membership:
    of = tuple(NodeId(node) for node in eligible)
    return Membership(View(number), members(*nodes), of, NodeId(primary))


THREE = view(5, (1, 2, 3), (1, 2), 1)


def test_everybody_is_eligible_when_the_view_before_was_synchronised() -> None:
    following = successor(THREE, members(2, 3), synchronised=True)
    assert following == view(6, (2, 3), (2, 3), 2)


def test_the_lowest_that_has_little_to_execute_follows_when_the_primary_is_gone() -> None:
    following = successor(THREE, members(2, 3), synchronised=True, late={NodeId(2)})
    assert following is not None
    assert following.primary == 3
    all_late = successor(THREE, members(2, 3), synchronised=True, late={NodeId(2), NodeId(3)})
    assert all_late is not None
    assert all_late.primary == 2
    staying = successor(THREE, members(1, 2), synchronised=True, late={NodeId(1)})
    assert staying is not None
    assert staying.primary == 1


def test_only_the_trusted_are_eligible_when_the_view_before_was_not_synchronised() -> None:
    following = successor(THREE, members(2, 3), synchronised=False)
    assert following == view(6, (2, 3), (2,), 2)


def test_no_view_follows_when_nobody_eligible_is_left() -> None:
    alone = view(6, (2, 3), (2,), 2)
    assert successor(alone, members(3), synchronised=False) is None


def test_a_joiner_is_not_eligible_when_it_has_just_joined() -> None:
    following = successor(THREE, members(1, 2, 3, 0), synchronised=True)
    assert following == view(6, (1, 2, 3, 0), (1, 2, 3), 1)


def test_a_wiped_node_is_not_eligible_when_it_returns_as_another_member() -> None:
    wiped = (*members(1, 2), Member(NodeId(3), Incarnation(999)))
    following = successor(view(5, (1, 2, 3), (3,), 3), wiped, synchronised=False)
    assert following is None


def test_the_primary_stays_when_it_is_eligible() -> None:
    current = view(5, (3, 1, 2), (3, 1, 2), 3)
    following = successor(current, members(3, 1), synchronised=True)
    assert following is not None
    assert following.primary == 3


def test_the_lowest_eligible_leads_when_the_primary_is_gone_whatever_the_order_of_joining() -> None:
    current = view(5, (3, 2, 1), (3, 2, 1), 3)
    following = successor(current, members(2, 1), synchronised=True)
    assert following is not None
    assert following.primary == 1


def test_the_wanted_primary_leads_when_it_is_eligible() -> None:
    following = successor(THREE, THREE.members, synchronised=True, primary=NodeId(3))
    assert following is not None
    assert following.primary == 3
    refused = successor(THREE, THREE.members, synchronised=False, primary=NodeId(3))
    assert refused is not None
    assert refused.primary == 1


@pytest.mark.parametrize(
    "candidate",
    [
        view(6, (1, 2), (1, 2), 1),
        view(6, (1, 2, 3, 4), (1, 2, 3), 2),
        view(6, (1, 2, 3), (3,), 3),
    ],
)
def test_a_view_follows_when_one_member_or_none_differs(candidate: Membership) -> None:
    assert well_formed(candidate)
    assert follows(THREE, candidate)


@pytest.mark.parametrize(
    "candidate",
    [
        view(7, (1, 2), (1, 2), 1),
        view(5, (1, 2), (1, 2), 1),
        view(6, (1,), (1,), 1),
        view(6, (2, 3, 4), (2, 3), 2),
        view(6, (2, 1, 3), (1,), 1),
        view(6, (1, 2, 3, 4), (4,), 4),
    ],
)
def test_a_view_does_not_follow_when_more_than_one_member_differs(candidate: Membership) -> None:
    assert not follows(THREE, candidate)


@pytest.mark.parametrize(
    "malformed",
    [
        view(0, (1,), (1,), 1),
        view(NUMBER_MAX, (1,), (1,), 1),
        view(1, (), (), 1),
        view(1, (1, 1), (1,), 1),
        view(1, (1,), (), 1),
        view(1, (1,), (2,), 2),
        view(1, (1, 2), (1,), 2),
        view(1, (1, 2), (1, 1), 1),
        view(1, (-1,), (-1,), -1),
        view(1, tuple(range(65)), (1,), 1),
    ],
)
def test_a_view_is_refused_when_it_breaks_a_rule_of_its_own(malformed: Membership) -> None:
    assert not well_formed(malformed)


def test_the_first_view_is_of_one_member_when_bootstrapped() -> None:
    first = first_view_of(members(4)[0])
    assert well_formed(first)
    assert is_first_view(first)
    assert not is_first_view(view(1, (1, 2), (1,), 1))
    assert (first.lowest, first.primary) == (4, 4)


def test_without_drops_one_member_when_it_is_named() -> None:
    assert without(THREE, NodeId(2)) == members(1, 3)
    assert THREE.member(NodeId(9)) is None
