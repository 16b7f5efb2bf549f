"""Counting members. Two majorities of one set always share a member; that is all that is asked of them."""

from collections.abc import Collection, Mapping

from viewstamp.core.ids import NodeId


def majority(size: int) -> int:
    """Return the smallest number of members of which no two disjoint sets exist among `size`."""
    assert size >= 1
    return size // 2 + 1


def has_majority(supporters: Collection[NodeId], members: Collection[NodeId]) -> bool:
    """Tell whether the supporters that are members are a majority of the members. Others do not count."""
    return sum(member in supporters for member in members) >= majority(len(members))


def majority_position(positions: Mapping[NodeId, int], members: Collection[NodeId]) -> int:
    """Return the highest position that a majority of the members has reached; absent members count as 0."""
    reached = sorted((positions.get(member, 0) for member in members), reverse=True)
    return reached[majority(len(members)) - 1]
