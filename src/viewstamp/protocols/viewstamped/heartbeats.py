"""Which members are alive: the ones that answer pings (lab 6, config; docs/labs/6.824.md#checks).

Rules of this file:

- The lowest member pings all others, who answer. So only the lowest can find another member silent, and
  starts its removal; the others find the lowest silent, one after the other by rank.
- Unanswered heartbeats are counted, not time: a node that was itself paused misses one, not a hundred.
- A member that sends but receives nothing is of no use. So a member counts as heard from only when it
  answers, or when its ping says that the last answer has come. A member that misses this sends a ping itself.
- Only the member's own incarnation counts: a node whose disk was wiped is not that member.
- A primary that is not the lowest tells it who does not answer: a link may be cut that no ping goes over.
"""

from collections.abc import Iterable
from typing import Final

from viewstamp.core.ids import MICROSECONDS_PER_MS, Instant, NodeId
from viewstamp.protocols.viewstamped.membership import Membership
from viewstamp.protocols.viewstamped.state import State

BUSY_MS_MAX: Final = 60_000
_RANK_MISSES: Final = 2
"""Extra missed pings allowed per surviving lower-ranked member, so that one proposes before the others."""
_REPORT_TICKS: Final = 3
"""Heartbeats for which a report of the primary is believed."""


class Heartbeats:
    """What one member knows of those that it pings."""

    __slots__ = ("_busy_until", "_heard", "_misses", "_reported", "_state", "broken")

    def __init__(self, state: State) -> None:
        self._state = state
        self._misses: dict[NodeId, int] = {}
        """Heartbeats in a row in which a member was not heard from."""
        self._reported: dict[NodeId, int] = {}
        """Members that the primary does not hear, and for how many heartbeats that is believed."""
        self._heard: set[NodeId] = set()
        """Members heard from since the last tick."""
        self.broken: set[NodeId] = set()
        """Nodes whose connection broke, and that were not heard since."""
        self._busy_until: dict[NodeId, Instant] = {}
        """Members that said why they would be silent, and for how long that is believed."""

    def begin_view(self, membership: Membership) -> None:
        """Start counting again; every member counts as alive."""
        self._misses = {}
        self._reported = {}
        self._heard = set(membership.nodes)

    def heard_from(self, node: NodeId) -> None:
        """Record that a member was heard from."""
        self._heard.add(node)
        self._misses[node] = 0

    def was_heard(self, node: NodeId) -> bool:
        """Return whether this member was heard from before the last tick."""
        return self._misses.get(node) == 0

    def forget_heard(self) -> None:
        """Count from the next tick on: what was heard until now stands for the tick that is left out."""
        self._heard.clear()

    def excuse(self, node: NodeId, busy_ms: int) -> None:
        """A member restores a state and cannot answer for `busy_ms`; at most a minute is believed."""
        busy_us = max(0, min(busy_ms, BUSY_MS_MAX)) * MICROSECONDS_PER_MS
        self._busy_until[node] = Instant(self._state.now + busy_us)

    def is_busy(self, node: NodeId) -> bool:
        """Return whether a member has said that it would be silent now."""
        return self._busy_until.get(node, self._state.now) > self._state.now

    def suspect(self, node: NodeId) -> None:
        """The connection to this node broke: fewer further pings decide."""
        self._busy_until.pop(node, None)
        known = self._misses.get(node, 0)
        self._misses[node] = max(known, self._state.options.heartbeat_misses_max - 2)
        self._heard.discard(node)
        self.broken.add(node)

    def report(self, nodes: Iterable[NodeId]) -> None:
        """The primary does not hear these members: they count as dead in this view."""
        for node in nodes:
            self._reported[node] = _REPORT_TICKS

    def is_reported(self, node: NodeId) -> bool:
        """Return whether the primary has lately said that it does not hear this member."""
        return node in self._reported

    def watched(self, current: Membership) -> tuple[NodeId, ...]:
        """Return the members whose answers this one counts."""
        mine = self._state.node
        if current.lowest == mine:
            return tuple(node for node in current.nodes if node != mine)
        return (current.lowest,)

    def to_ping(self, current: Membership, *, has_news: bool) -> tuple[NodeId, ...]:
        """Return the members to ping after counting: the lowest pings all, the others a silent lowest."""
        calm = current.lowest != self._state.node and self.was_heard(current.lowest) and not has_news
        return () if calm else self.watched(current)

    def count(self, current: Membership) -> None:
        """A heartbeat's time has passed."""
        self._busy_until = {node: at for node, at in self._busy_until.items() if at > self._state.now}
        self._heard.update(self._busy_until)
        self._misses = {
            node: 0 if node in self._heard else self._misses.get(node, 0) + 1
            for node in self.watched(current)
        }
        self._heard.clear()
        self._reported = {node: left - 1 for node, left in self._reported.items() if left > 1}

    def removable(self, current: Membership) -> list[NodeId]:
        """Return the members that this one should propose to remove, lowest first."""
        limit = self._state.options.heartbeat_misses_max
        mine = self._state.node
        if current.lowest != mine:
            survivors = sorted(node for node in current.nodes if node != current.lowest)
            limit += _RANK_MISSES * survivors.index(mine)
        reported = self._reported if current.lowest == mine else {}
        return sorted(
            node for node in self.watched(current) if self._misses.get(node, 0) >= limit or node in reported
        )
