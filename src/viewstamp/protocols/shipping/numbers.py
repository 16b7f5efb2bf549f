"""Which numbers a message may hold at all."""

from typing import Final

NUMBER_MAX: Final = 1 << 53
"""No view, seqno, round or size is larger in any life of a cluster; larger ones are refused unread."""


def in_range(*numbers: int) -> bool:
    """Tell whether all of these could be a view, a seqno, an offset or a round."""
    return min(numbers) >= 0 and max(numbers) <= NUMBER_MAX
