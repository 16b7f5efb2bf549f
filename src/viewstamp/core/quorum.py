"""Counting members. Two majorities of one set always share a member; that is all that is asked of them."""

from collections.abc import Collection

from viewstamp.core.ids import NodeId


def majority(size: int) -> int:
    """Return the smallest number of members of which no two disjoint sets exist among `size`."""
    assert size >= 1
    return size // 2 + 1


def has_majority(supporters: Collection[NodeId], members: Collection[NodeId]) -> bool:
    """Return whether the supporters that are members are a majority of the members. Others do not count."""
    return sum(member in supporters for member in members) >= majority(len(members))
