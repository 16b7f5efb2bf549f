"""Counting members."""

from itertools import combinations

import pytest

from viewstamp.core.ids import NodeId
from viewstamp.core.quorum import has_majority, majority


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
