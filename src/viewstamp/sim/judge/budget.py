"""I31: a run may not need more messages between members than its work explains.

A storm (each answer makes two questions) breaks no safety property, and hides in any test that only waits for
the result. The budget is generous: half of all runs use a fifth of it.
"""

from typing import Final

from viewstamp.core.ids import MICROSECONDS_PER_SECOND
from viewstamp.core.judge import InvariantViolated
from viewstamp.sim.world.cluster import Cluster

NAME: Final = "I31 RpcBudget"
_FOUNDING: Final = 1_000
_PER_LINK_AND_SECOND: Final = 45
"""Heartbeats, their answers, elections and introductions."""
_PER_COMMIT: Final = 6
_PER_CALL: Final = 3
_PER_PIECE: Final = 8
"""For each piece of a snapshot that was staged: sent, answered, lost, doubled, sent again."""


def messages_allowed(cluster: Cluster, calls: int) -> int:
    """Return how many messages between members this run may have needed."""
    others = cluster.options.nodes - 1
    seconds = cluster.world.now_us / MICROSECONDS_PER_SECOND
    standing = others * cluster.options.nodes * seconds * _PER_LINK_AND_SECOND
    work = others * (cluster.judge.ghosts.committed.length * _PER_COMMIT + calls * _PER_CALL)
    pieces = cluster.judge.rare["snapshot piece staged"] * _PER_PIECE
    return int(_FOUNDING + standing + work + pieces)


def check_messages(cluster: Cluster, calls: int) -> None:
    """Raise `InvariantViolated` where there were more."""
    sent, allowed = cluster.network.counts["messages"], messages_allowed(cluster, calls)
    if sent > allowed:
        raise InvariantViolated(NAME, f"{sent} messages between members; what was done explains {allowed}")
