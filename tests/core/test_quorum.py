"""Counting members."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viewstamp.core.ids import NodeId
from viewstamp.core.quorum import has_majority, majority, majority_position


def nodes(count: int) -> list[NodeId]:
    return [NodeId(number) for number in range(1, count + 1)]


@pytest.mark.parametrize(("size", "expected"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_majority_is_the_smallest_when_size_is(size: int, expected: int) -> None:
    assert majority(size) == expected


@pytest.mark.parametrize("size", range(1, 8))
def test_any_two_majorities_share_a_member_when_size_is(size: int) -> None:
    groups = [set(group) for group in combinations(range(size), majority(size))]
    assert all(one & other for one in groups for other in groups)


def test_majority_of_nobody_is_our_own_fault() -> None:
    with pytest.raises(AssertionError):
        majority(0)


def test_supporters_do_not_count_when_they_are_not_members() -> None:
    members = nodes(3)
    assert not has_majority({NodeId(1), NodeId(8), NodeId(9)}, members)
    assert has_majority({NodeId(1), NodeId(3), NodeId(9)}, members)


def test_position_counts_as_nothing_when_a_member_is_silent() -> None:
    members = nodes(5)
    assert majority_position({NodeId(1): 9, NodeId(2): 9}, members) == 0
    assert majority_position({NodeId(1): 9, NodeId(2): 9, NodeId(3): 4}, members) == 4


def test_positions_of_strangers_do_not_count() -> None:
    assert majority_position({NodeId(7): 9, NodeId(8): 9, NodeId(1): 3}, nodes(3)) == 0


@given(st.lists(st.integers(min_value=0, max_value=20), min_size=1, max_size=9))
def test_majority_has_reached_the_position_and_not_the_next_when_positions_are(reached: list[int]) -> None:
    members = nodes(len(reached))
    positions = dict(zip(members, reached, strict=True))
    position = majority_position(positions, members)
    assert has_majority({node for node in members if positions[node] >= position}, members)
    assert not has_majority({node for node in members if positions[node] > position}, members)
