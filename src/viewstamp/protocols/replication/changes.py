"""Changes of the members, one after the other: what should come next (Raft 6; thesis 4, with its erratum).

A protocol's own part says what the configuration is, puts the next one into effect in its own way, and knows
when it may count on one. The rules are the same for all, and stand here:

- No change is begun before an entry of the leader's own view is committed and the last configuration is.
- One voter more or less is a simple change; more at once, and the removal of the leader, go through a joint
  configuration (`Configuration.outgoing`).
- Nobody remembers that a joint configuration must be left: the leader that has a committed joint
  configuration leaves it. A leader that is to go hands over first, so that the cluster is never without one.
- A learner votes when it keeps up, by the rounds of thesis 4.2.1, and was asked to. A voter is never made a
  learner or removed because it is slow or silent.
- What would leave no majority that was heard lately is refused, with the reason.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

from viewstamp.core.effects import Settled
from viewstamp.core.events import ChangeMembers, DirectiveToken
from viewstamp.core.ids import Instant, NodeId, Viewstamp
from viewstamp.core.outbox import Outbox
from viewstamp.protocols.replication.configuration import Configuration
from viewstamp.protocols.replication.introductions import name_nodes
from viewstamp.protocols.replication.quorums import Half
from viewstamp.protocols.replication.rounds import CatchUpRounds


class Node(Protocol):
    """What is needed of the node on which changes are made."""

    node: NodeId
    now: Instant
    outbox: Outbox


class MemberChanges(ABC):
    """What the leader changes: for operators, and for learners that have caught up."""

    __slots__ = ("_node", "_patience_us", "_pending", "_rounds")
    _UNFIT: ClassVar = "did not answer lately"
    """What is said of voters that are not fit."""

    def __init__(self, node: Node, patience_us: int) -> None:
        self._node = node
        self._patience_us = patience_us
        """An election timeout, or what corresponds to it: a member that keeps up was heard within it."""
        self._rounds = CatchUpRounds(patience_us)
        self._pending: DirectiveToken | None = None
        """The directive whose configuration is not committed yet."""

    # The protocol's own part.

    @property
    @abstractmethod
    def current(self) -> Configuration:
        """The configuration in force, committed or not."""

    @property
    @abstractmethod
    def _leads(self) -> bool:
        """Whether this node leads."""

    @property
    @abstractmethod
    def _leader(self) -> NodeId | None:
        """The node that leads, as far as this one knows."""

    @property
    @abstractmethod
    def _has_committed(self) -> bool:
        """Whether an entry of the leader's own view is committed."""

    @property
    @abstractmethod
    def _is_committed(self) -> bool:
        """Whether the configuration in force is."""

    @property
    @abstractmethod
    def _successor(self) -> NodeId | None:
        """The node to which leadership is being handed over; None: to nobody."""

    @property
    @abstractmethod
    def _last(self) -> int:
        """Seqno of the last entry of the log."""

    @property
    @abstractmethod
    def _committed(self) -> int:
        """Up to where entries are committed."""

    @abstractmethod
    def _next(self) -> Viewstamp:
        """Return where the next entry will stand."""

    @abstractmethod
    def _matched(self, node: NodeId) -> int | None:
        """Return up to where a member has the log, in the incarnation that is listed; None: not known."""

    @abstractmethod
    def _is_heard(self, node: NodeId, within_us: int) -> bool:
        """Return whether the listed incarnation of a member answered within this time."""

    @abstractmethod
    def _configure(self, configuration: Configuration) -> None:
        """Put a configuration into effect. The caller knows that the one before it is committed."""

    @abstractmethod
    def _hand_over(self) -> None:
        """Let a member lead that stays when this change is done; asked again until one does."""

    # What is asked for.

    @property
    def is_due(self) -> bool:
        """Whether there is anything to do that an acknowledgement or a heartbeat may bring about."""
        return self.current.is_unfinished or self._pending is not None

    def direct(self, token: DirectiveToken, change: ChangeMembers) -> None:
        """An operator wants other members."""
        refusal = self._refusal(change)
        wanted = None if refusal is not None else self._configuration_for(change)
        if wanted is None or wanted == self.current:
            self._node.outbox.emit(Settled(token, refusal))
            return
        self._pending = token
        self._configure(wanted)

    def forget(self) -> None:
        """This node no longer leads."""
        self._rounds.forget()
        self._settle("it lost leadership before that was committed; it may still come: see `member list`")

    # What follows.

    def proceed(self) -> None:
        """Make the next change, if one is wanted and may be begun (thesis 4.1 and its erratum of 2015)."""
        if not self._leads or not self.is_due:
            return
        if not self._has_committed or not self._is_committed:
            return
        self._settle(None)
        if self.current.is_joint:
            self._leave_joint()
        elif not self._readmit() and not self._succeed():
            self._promote()

    def _leave_joint(self) -> None:
        """The joint configuration is committed: go on with its new half, or let a node of it do that."""
        if any(node == self._node.node for node, _ in self.current.voters):
            self._configure(self.current.leaving_joint(self._next()))
        else:
            self._hand_over()

    def _readmit(self) -> bool:
        """Make the change that a node needs which lost its disk; return whether there is one."""
        return False

    def _succeed(self) -> bool:
        """Let the successors take their places, when all of them keep up."""
        pairs = self.current.successors
        new, old = [pair[0] for pair in pairs], {pair[1] for pair in pairs}
        keeping_up = [self._keeps_up(node) for node in new]  # all of them: each has a round to go on with
        if not pairs or not all(keeping_up):
            return False
        wanted = self.current.changing(new, old, self._next())
        if self._would_stop(wanted):
            return False
        self._configure(wanted)
        return True

    def _promote(self) -> None:
        for node in self.current.returning:
            if self._keeps_up(node):
                wanted = self.current.promoting(node)
                if not self._would_stop(wanted):
                    self._configure(wanted)
                    return

    def _keeps_up(self, node: NodeId) -> bool:
        """Return whether a learner was heard lately and its last round of catching up was short."""
        matched, incarnation = self._matched(node), self.current.incarnation_of(node)
        return (
            matched is not None
            and incarnation is not None
            and self._rounds.is_short((node, incarnation), matched, self._last, self._node.now)
            and matched >= self._committed
            and self._is_heard(node, self._patience_us)
        )

    def _settle(self, refusal: str | None) -> None:
        if self._pending is not None:
            self._node.outbox.emit(Settled(self._pending, refusal))
            self._pending = None

    # An operator's change.

    def _configuration_for(self, change: ChangeMembers) -> Configuration:
        """Return the next configuration on the way to a change that was not refused."""
        current = self.current
        listed = current.members
        added = [member for member in change.add if member[0] not in listed]
        learning = {node for node, _ in (*current.learners, *added)}
        gone = {node for node in change.remove if node in listed}
        if not gone:
            return current.learning(
                added,
                returning=(node for node in change.promote if node in learning),
                successors=((new, old) for old, new in change.replace if new in learning and old in listed),
            )
        voters_gone = gone & {node for node, _ in current.voters}
        if len(voters_gone) > 1 or self._node.node in gone:
            return current.changing((), gone, self._next())
        return current.removing(gone, self._next())

    def _refusal(self, change: ChangeMembers) -> str | None:
        """Return why this change is not begun, and what it would break; None: it may be."""
        if not self._leads:
            leader = "nobody" if self._leader is None else f"node {self._leader}"
            return f"node {self._node.node} does not lead: {leader} does"
        if self._successor is not None:
            return f"leadership is being transferred to node {self._successor}: try again"
        if not self._has_committed:
            return "the leader has not committed an entry of its term yet: try again"
        if self.current.is_joint or not self._is_committed:
            return "another change of the members is under way: try again when it is done"
        return self._contradiction(change) or self._refuse_removal(change)

    def _contradiction(self, change: ChangeMembers) -> str | None:
        current = self.current
        known = current.members
        added = dict(change.add)
        if change.remove and (change.add or change.promote or change.replace):
            return "remove members in a change of their own, or replace them"
        for node, incarnation in change.add:
            if (at := current.removed_at(node, incarnation)) is not None:
                return f"that data directory of node {node} was removed at {at}: start it with an empty one"
            if known.get(node, incarnation) != incarnation:
                return f"node {node} is a member with another data directory: choose another id, or remove it"
        for node in change.promote:
            if node not in known and node not in added:
                return f"node {node} is not a member: add it first"
        for old, new in change.replace:
            if old not in known and new not in known:
                return f"node {old} is not a member: there is nothing to replace"
            if new not in known and new not in added:
                return f"node {new} is not a member: add it first"
        return None

    def _refuse_removal(self, change: ChangeMembers) -> str | None:
        current = self.current
        gone = {node for node in change.remove if node in current.members}
        if not gone:
            return None
        if not {node for node, _ in current.voters} - gone:
            return "no voter would be left: replace members, or add others before"
        silent = self._would_stop(current.changing((), gone, self._next()))
        if silent:
            return (
                f"without {name_nodes(sorted(gone))} the cluster would stop, since {name_nodes(silent)} "
                f"{self._UNFIT}: bring them back, or remove those first"
            )
        return None

    def _would_stop(self, wanted: Configuration) -> list[NodeId]:
        """Return the voters not heard lately, if those that were are not a majority of the new voters."""
        half = Half(wanted.voters)
        heard = frozenset(node for node in half.voters if self._is_fit(node))
        return [] if half.agrees(heard) else sorted(half.voters - heard)

    def _is_fit(self, node: NodeId) -> bool:
        """Return whether a voter may be counted on."""
        return self._is_heard(node, 2 * self._patience_us)
