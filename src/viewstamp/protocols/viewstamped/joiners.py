"""Who asked the primary to be let in and still asks, lowest first."""

from collections.abc import Collection
from typing import Final

from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.viewstamped.membership import MEMBERS_MAX, Member, Membership
from viewstamp.protocols.viewstamped.state import State

_MEMORY_RETRIES: Final = 4
"""Who has not asked again for so many pauses between two questions is forgotten."""


class Joiners:
    """The primary's memory of them; bounded, and never of a member."""

    __slots__ = ("_asked", "_state")

    def __init__(self, state: State) -> None:
        self._state = state
        self._asked: dict[NodeId, tuple[Member, Instant]] = {}

    def __len__(self) -> int:
        return len(self._asked)

    def remember(self, member: Member) -> None:
        """Take note of a wish, unless too many wait."""
        if len(self) < self._state.options.joiners_max:
            self._asked[member.node] = (member, self._state.now)

    def forget(self, nodes: Collection[NodeId]) -> None:
        """These are members now."""
        for node in nodes:
            self._asked.pop(node, None)

    def waiting(self, current: Membership, broken: Collection[NodeId]) -> list[Member]:
        """Return who may be let in next; not those whose connection broke."""
        oldest = self._state.now - _MEMORY_RETRIES * self._state.options.join_retry_us
        self._asked = {
            node: (member, asked)
            for node, (member, asked) in self._asked.items()
            if asked >= oldest and node not in broken
        }
        if len(current.members) >= MEMBERS_MAX:
            return []
        return [self._asked[node][0] for node in sorted(self._asked)]
