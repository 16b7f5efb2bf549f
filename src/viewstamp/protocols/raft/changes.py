"""Changes of the members, one after the other, proposed by the leader (Raft 6; thesis 4, with its erratum).

Rules of this file:

- No change is begun before an entry of the leader's own term is committed and the last configuration is.
- One voter more or less is a simple change; more at once, and the removal of the leader, go through a joint
  configuration (`Configuration.outgoing`).
- Nobody remembers that a joint configuration must be left: the leader that has a committed joint
  configuration leaves it. A leader that is to go hands over first, so that the cluster is never without one.
- A learner votes when it keeps up, by the rounds of thesis 4.2.1, and was asked to. A voter is never made a
  learner or removed because it is slow or silent; only a disk that forgot its promises (`without_promises`).
- What would leave no majority that was heard lately is refused, with the reason.

A node that forgot (thesis 4.4): first a configuration without its earlier incarnation, in which the new one
learns; then one in which the new one votes. The majority of the first has a member in common with every
majority that the forgotten promises were part of, even without the member that forgot.
"""

from viewstamp.core.effects import Settled
from viewstamp.core.events import ChangeMembers, DirectiveToken
from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.protocols.raft.configuration import Configuration
from viewstamp.protocols.raft.leader import Leader
from viewstamp.protocols.raft.leadership_transfer import LeadershipTransfer
from viewstamp.protocols.raft.membership import Half
from viewstamp.protocols.raft.rounds import CatchUpRounds
from viewstamp.protocols.raft.state import Role, State
from viewstamp.protocols.replication.introductions import name_nodes


class MemberChanges:
    """What the leader changes: for operators, for nodes that forgot, for learners that have caught up."""

    __slots__ = ("_pending", "_replication", "_rounds", "_state", "_transfer", "waiting")

    def __init__(self, state: State, replication: Leader, transfer: LeadershipTransfer) -> None:
        self._state = state
        self._replication = replication
        self._transfer = transfer
        self._rounds = CatchUpRounds(state.options.election_timeout_us)
        self._pending: DirectiveToken | None = None
        """The directive whose configuration is not committed yet."""
        self.waiting: dict[NodeId, Incarnation] = {}
        """Incarnations that introduced themselves in the place of a listed one."""

    @property
    def is_due(self) -> bool:
        """Whether there is anything to do that an acknowledgement or a heartbeat may bring about."""
        return self._state.membership.unfinished or bool(self.waiting) or self._pending is not None

    # What is asked for.

    def on_introduce(self, source: NodeId, incarnation: Incarnation) -> None:
        """A listed member introduced itself in an incarnation that may be unknown."""
        state = self._state
        listed = state.membership.incarnations.get(source)
        if state.role is not Role.LEADER or listed is None or listed == incarnation:
            return
        if state.membership.current.removed_at(source, incarnation) is not None:
            state.drop("introduction from a removed incarnation")
            return
        if self._is_heard(source):
            state.drop("introduction from an old incarnation")
            return
        self.waiting[source] = incarnation
        self.proceed()

    def direct(self, token: DirectiveToken, change: ChangeMembers) -> None:
        """An operator wants other members."""
        refusal = self._refusal(change)
        wanted = None if refusal is not None else self._configuration_for(change)
        if wanted is None or wanted == self._state.membership.current:
            self._state.outbox.emit(Settled(token, refusal))
            return
        self._pending = token
        self._replication.configure(wanted)

    def forget(self) -> None:
        """This node no longer leads: nodes that wait introduce themselves again."""
        self.waiting.clear()
        self._rounds.forget()
        self._settle("it lost leadership before that was committed; it may still come: see `member list`")

    # What follows.

    def proceed(self) -> None:
        """Make the next change, if one is wanted and may be begun (thesis 4.1 and its erratum of 2015)."""
        state = self._state
        if state.role is not Role.LEADER or not self.is_due:
            return
        if not self._replication.has_committed or state.membership.changed_at > state.committed:
            return
        self._settle(None)
        if state.membership.current.is_joint:
            self._leave_joint()
        elif not self._begin_learning() and not self._succeed():
            self._promote()

    def _leave_joint(self) -> None:
        """The joint configuration is committed: go on with its new half, or let a node of it do that."""
        state = self._state
        if state.node in state.membership.staying:
            self._replication.configure(state.membership.current.leaving_joint(self._next()))
        else:
            self._transfer.hand_over()

    def _begin_learning(self) -> bool:
        state = self._state
        for node, incarnation in sorted(self.waiting.items()):
            del self.waiting[node]
            if state.membership.incarnations.get(node) not in {None, incarnation}:
                current = state.membership.current
                self._replication.configure(current.without_promises(node, incarnation))
                return True
        return False

    def _succeed(self) -> bool:
        """Let the successors take their places, when all of them keep up."""
        current = self._state.membership.current
        pairs = current.successors
        new, old = [pair[0] for pair in pairs], {pair[1] for pair in pairs}
        keeping_up = [self._keeps_up(node) for node in new]  # all of them: each has a round to go on with
        if not pairs or not all(keeping_up):
            return False
        wanted = current.changing(new, old, self._next())
        if self._would_stop(wanted):
            return False
        self._replication.configure(wanted)
        return True

    def _promote(self) -> None:
        current = self._state.membership.current
        for node in current.returning:
            if self._keeps_up(node):
                wanted = current.promoting(node)
                if not self._would_stop(wanted):
                    self._replication.configure(wanted)
                    return

    def _keeps_up(self, node: NodeId) -> bool:
        """Return whether a learner was heard lately and its last round of catching up was short."""
        state = self._state
        progress = self._replication.progress.get(node)
        return (
            progress is not None
            and self._rounds.is_short(progress, state.log.last_seqno, state.now)
            and progress.matched >= state.committed
            and self._is_heard(node)
        )

    def _is_heard(self, node: NodeId) -> bool:
        """Return whether the listed incarnation is alive: an introduction of another is an old one."""
        return self._replication.is_heard(node, self._state.options.election_timeout_us)

    def _next(self) -> Viewstamp:
        """Return where the next entry will stand."""
        state = self._state
        return Viewstamp(View(state.term), Seqno(state.log.last_seqno + 1))

    def _settle(self, refusal: str | None) -> None:
        if self._pending is not None:
            self._state.outbox.emit(Settled(self._pending, refusal))
            self._pending = None

    # An operator's change.

    def _configuration_for(self, change: ChangeMembers) -> Configuration:
        """Return the next configuration on the way to a change that was not refused."""
        state = self._state
        current = state.membership.current
        added = [member for member in change.add if member[0] not in state.membership.incarnations]
        learning = {node for node, _ in (*current.learners, *added)}
        gone = {node for node in change.remove if node in state.membership.incarnations}
        if not gone:
            return current.learning(
                added,
                returning=(node for node in change.promote if node in learning),
                successors=(
                    (new, old) for old, new in change.replace if new in learning and old in current.members
                ),
            )
        voters_gone = gone & state.membership.voters
        if len(voters_gone) > 1 or state.node in gone:
            return current.changing((), gone, self._next())
        return current.removing(gone, self._next())

    def _refusal(self, change: ChangeMembers) -> str | None:
        """Return why this change is not begun, and what it would break; None: it may be."""
        state = self._state
        if state.role is not Role.LEADER:
            leader = "nobody" if state.leader is None else f"node {state.leader}"
            return f"node {state.node} does not lead: {leader} does"
        if self._transfer.target is not None:
            return f"leadership is being transferred to node {self._transfer.target}: try again"
        if not self._replication.has_committed:
            return "the leader has not committed an entry of its term yet: try again"
        if state.membership.current.is_joint or state.membership.changed_at > state.committed:
            return "another change of the members is under way: try again when it is done"
        return self._contradiction(change) or self._refuse_removal(change)

    def _contradiction(self, change: ChangeMembers) -> str | None:
        current = self._state.membership.current
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
            if old not in known and new not in current.members:
                return f"node {old} is not a member: there is nothing to replace"
            if new not in known and new not in added:
                return f"node {new} is not a member: add it first"
        return None

    def _refuse_removal(self, change: ChangeMembers) -> str | None:
        current = self._state.membership.current
        gone = {node for node in change.remove if node in current.members}
        if not gone:
            return None
        if not {node for node, _ in current.voters} - gone:
            return "no voter would be left: replace members, or add others before"
        silent = self._would_stop(current.changing((), gone, self._next()))
        if silent:
            return (
                f"without {name_nodes(sorted(gone))} the cluster would stop, since {name_nodes(silent)} "
                "did not answer lately: bring them back, or remove those first"
            )
        return None

    def _would_stop(self, wanted: Configuration) -> list[NodeId]:
        """Return the voters not heard lately, if those that were are not a majority of the new voters."""
        within_us = 2 * self._state.options.election_timeout_us
        half = Half(wanted.voters)
        heard = frozenset(node for node in half.voters if self._replication.is_heard(node, within_us))
        return [] if half.agrees(heard) else sorted(half.voters - heard)
