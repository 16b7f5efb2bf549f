"""How far a cluster is from an outage, out of its nodes' own accounts: one word for people and monitors."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.core.quorum import majority

Account: TypeAlias = Status | str
"""What a node says of itself, or in one line why it says nothing."""

Word = Literal["healthy", "degraded", "one failure from outage", "down"]
"""All serve; one does not, and another one may fail; none may fail any longer; nobody serves."""


class Health(msgspec.Struct, frozen=True):
    """The state of a cluster."""

    word: Word
    leader: NodeId | None
    serving: tuple[NodeId, ...]
    """Voters that answer, follow the leader and wait for nothing."""
    voters: tuple[NodeId, ...]
    needed: int
    """Of the voters, for the service to go on."""

    @property
    def may_fail(self) -> int:
        """How many more voters may fail before the service stops."""
        return max(0, len(self.serving) - self.needed) if self.word != "down" else 0


def leader_of(accounts: Mapping[NodeId, Account]) -> NodeId | None:
    """Return the node that leads in the highest view that any node speaks of; None: nobody is known to."""
    known = [each for each in accounts.values() if isinstance(each, Status) and each.leader is not None]
    newest = max(known, key=lambda status: status.view, default=None)
    return None if newest is None else newest.leader


def assess(accounts: Mapping[NodeId, Account], *, tolerates: Literal["minority", "all_but_one"]) -> Health:
    """Return how far the cluster is from an outage. `tolerates` is the protocol's guarantee."""
    leader = leader_of(accounts)
    voters = _voters(accounts, leader)
    serving = tuple(node for node in voters if _serves(accounts.get(node), leader))
    needed = majority(len(voters)) if tolerates == "minority" else 1
    down = leader is None or leader not in serving or len(serving) < needed
    return Health(_word(down, len(serving), len(voters), needed), leader, serving, voters, needed)


def _word(down: bool, serving: int, voters: int, needed: int) -> Word:  # noqa: FBT001  a condition
    if down:
        return "down"
    if serving == voters:
        return "healthy"
    return "degraded" if serving > needed else "one failure from outage"


def _voters(accounts: Mapping[NodeId, Account], leader: NodeId | None) -> tuple[NodeId, ...]:
    """Return the voters by the leader's log; the nodes that were asked where that is not known."""
    account = None if leader is None else accounts.get(leader)
    if isinstance(account, Status) and account.membership is not None:
        return tuple(sorted(node for node, _ in account.membership.voters))
    return tuple(sorted(accounts))


def _serves(account: Account | None, leader: NodeId | None) -> bool:
    return isinstance(account, Status) and not account.waiting_for and account.leader == leader


def seconds_behind(account: Status, accounts: Mapping[NodeId, Account]) -> float:
    """Return how much log time others have executed that this node has not."""
    statuses = (each for each in accounts.values() if isinstance(each, Status))
    return max(0, max((each.log_time for each in statuses), default=0) - account.log_time) / 1e6
