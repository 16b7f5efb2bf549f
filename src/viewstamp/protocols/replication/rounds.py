"""Whether a learner keeps up: the rounds of Ongaro's thesis, 4.2.1.

A round sends the learner all that is in the leader's log when the round begins. "The algorithm waits a fixed
number of rounds [...]. If the last round lasts less than an election timeout, then the leader adds the new
server to the cluster." Here it is never given up: a learner costs nobody a vote.

A share of the leader's log, such as nine tenths, would say nothing: of 10^8 entries a tenth is 10^7.
"""

from viewstamp.core.ids import Incarnation, Instant, NodeId
from viewstamp.protocols.replication.messages import Member


class CatchUpRounds:
    """The round of each learner that is to become a voter."""

    __slots__ = ("_limit_us", "_rounds")

    def __init__(self, limit_us: int) -> None:
        self._limit_us = limit_us
        """An election timeout: the time that clients may have to wait for the new voter."""
        self._rounds: dict[NodeId, tuple[Incarnation, int, Instant, bool]] = {}
        """(incarnation, last entry of the round, when it began, whether the round before was short)."""

    def is_short(self, member: Member, matched: int, last: int, now: Instant) -> bool:
        """Return whether the last round was short enough, and the one under way still is.

        `matched` is how far the learner has come, `last` the end of the leader's log. A round that is
        finished makes place for the next; the first call begins the first round.
        """
        node, incarnation = member
        known = self._rounds.get(node)
        if known is None or known[0] != incarnation:
            self._rounds[node] = (incarnation, last, now, False)
            return False
        _, target, began_at, short = known
        in_time = now - began_at < self._limit_us
        if matched < target:
            return short and in_time
        self._rounds[node] = (incarnation, last, now, in_time)
        return in_time

    def forget(self) -> None:
        """This node no longer leads."""
        self._rounds.clear()
