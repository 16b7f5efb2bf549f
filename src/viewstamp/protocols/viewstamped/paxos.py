"""Paxos, one instance for each view: acceptor and proposer as lab 6's pseudocode has them (Lamport 2001).

The instance number is the number of the view that is being agreed on. Neither class sends or writes:
`proposer` does both, and sends only what is durable. Rules beyond the pseudocode:

- An accept for another instance than the acceptor's current one never gets here
  (docs/requirements.md#b7): n_a and v_a of one instance cannot leak into the next.
- An accept raises n_h as well, so the acceptor never depends on having promised that very ballot.
- A proposer has one run at a time and one ballot a run; unanswered messages are sent again under the same
  ballot, so a node that waits alone for its majority does not fill its journal with promises.
"""

from collections.abc import Collection
from typing import Literal

from viewstamp.core.ids import Instant, NodeId, View
from viewstamp.core.quorum import has_majority
from viewstamp.protocols.viewstamped.membership import Membership
from viewstamp.protocols.viewstamped.messages import LOWEST, Ballot


class Acceptor:
    """The memory of one instance: n_h, n_a, v_a. Every change must be durable before it is spoken of."""

    __slots__ = ("accepted", "instance", "promised", "value")

    def __init__(
        self,
        instance: View,
        promised: Ballot = LOWEST,
        accepted: Ballot | None = None,
        value: Membership | None = None,
    ) -> None:
        assert (accepted is None) == (value is None)
        self.instance = instance
        self.promised = promised
        """n_h: nothing below it will be accepted; at least `accepted`."""
        self.accepted = accepted
        """n_a: the highest ballot accepted in this instance."""
        self.value = value
        """v_a: what was accepted with it."""

    def prepare(self, ballot: Ballot) -> bool:
        """Promise this ballot unless one as high was promised; return whether the promise is a new one."""
        # Lab 6: "if n > n_h: n_h = n". A repeated prepare is answered as before, with nothing to write.
        if ballot <= self.promised:
            return False
        self.promised = ballot
        return True

    def accept(self, ballot: Ballot, value: Membership) -> bool:
        """Accept this value unless a higher ballot was promised; return whether that is news."""
        # Lab 6: "if n >= n_h: n_a = n, v_a = v". A second accept of one ballot has the same value.
        if ballot < self.promised or ballot == self.accepted:
            return False
        self.promised = self.accepted = ballot
        self.value = value
        return True

    def begin(self, instance: View) -> None:
        """Forget the instance that was decided, and take part in the next."""
        assert instance > self.instance, (instance, self.instance)
        self.instance = instance
        self.promised = LOWEST
        self.accepted = self.value = None


class Proposal:
    """One run of the proposer: preparing, accepting, or standing back after a rejection."""

    __slots__ = (
        "accepters",
        "ballot",
        "best",
        "instance",
        "late",
        "phase",
        "promisers",
        "retry_at",
        "seen_number",
        "synchronised",
        "value",
    )

    def __init__(self) -> None:
        self.phase: Literal["idle", "preparing", "accepting", "standing back"] = "idle"
        self.instance = View(0)
        self.ballot = LOWEST
        """The ballot of this run; higher than every ballot this node has used in this instance."""
        self.seen_number = 0
        """The highest number seen in a ballot of the present instance."""
        self.promisers: set[NodeId] = set()
        self.accepters: set[NodeId] = set()
        self.late: set[NodeId] = set()
        """Members that said that they have much to execute before they could serve."""
        self.best: tuple[Ballot, Membership] | None = None
        """The value accepted under the highest ballot that a promise named: it must be proposed."""
        self.synchronised = False
        """A promise said that the current view completed its synchronisation."""
        self.value: Membership | None = None
        """What is proposed, None before phase 2."""
        self.retry_at: Instant | None = None

    def begin(self, instance: View, ballot: Ballot) -> None:
        """Start phase 1."""
        self.stop()
        self.phase = "preparing"
        self.instance = instance
        self.ballot = ballot
        self.saw(ballot)

    def end_instance(self) -> None:
        """The instance was decided: ballots of the next one begin at 1 again."""
        self.stop()
        self.seen_number = 0

    def stop(self) -> None:
        """Give up this run."""
        self.phase = "idle"
        self.promisers = set()
        self.accepters = set()
        self.late = set()
        self.best = self.value = self.retry_at = None
        self.synchronised = False

    def stand_back(self, until: Instant) -> None:
        """Leave the instance to a higher ballot until then."""
        self.stop()
        self.phase = "standing back"
        self.retry_at = until

    def saw(self, ballot: Ballot) -> None:
        """Record a number that is in use."""
        self.seen_number = max(self.seen_number, ballot.number)

    def promised_by(
        self,
        node: NodeId,
        accepted: Ballot | None,
        value: Membership | None,
        *,
        synchronised: bool,
        late: bool = False,
    ) -> None:
        """Count a promise, with what its acceptor had accepted."""
        self.promisers.add(node)
        if late:
            self.late.add(node)
        self.synchronised = self.synchronised or synchronised
        if accepted is not None and value is not None and (self.best is None or accepted > self.best[0]):
            self.best = (accepted, value)

    def may_propose(self, members: Collection[NodeId], forgot: Collection[NodeId] = ()) -> bool:
        """Return whether enough have promised and phase 2 has not begun (see `are_enough`)."""
        return self.phase == "preparing" and are_enough(self.promisers, members, forgot)

    def propose(self, value: Membership) -> None:
        """Start phase 2: with the value of `best` if there is one, else with one's own."""
        assert self.phase == "preparing", self.phase
        assert self.best is None or self.best[1] == value
        self.phase = "accepting"
        self.value = value

    def accepted_by(self, node: NodeId) -> None:
        """Count an acceptance."""
        self.accepters.add(node)

    def has_chosen(self, members: Collection[NodeId], forgot: Collection[NodeId] = ()) -> bool:
        """Return whether enough have accepted: the value is chosen and cannot change (see `are_enough`)."""
        return self.phase == "accepting" and are_enough(self.accepters, members, forgot)


def are_enough(
    supporters: Collection[NodeId], members: Collection[NodeId], forgot: Collection[NodeId]
) -> bool:
    """Return whether these decide: a majority of the members, or half of them where one forgot.

    A member that forgot, since its disk was lost, never promises or accepts again. So all that decide from
    now on are among the others, fewer than the members; two halves of those have one in common. And each
    majority that decided before has, without those that forgot, one in common with each such half.
    """
    if has_majority(supporters, members):
        return True
    standing = [node for node in members if node in supporters and node not in forgot]
    return any(node in forgot for node in members) and 2 * len(standing) >= len(members)
