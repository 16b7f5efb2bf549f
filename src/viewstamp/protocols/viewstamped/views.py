"""The configuration layer: which view should come next, and getting it decided (lab 6, config).

Rules of this file:

- One member a view, decided by a majority of the view before it. The primary proposes joins, when its view
  is synchronised, one after the other.
- A view is never proposed without an eligible member (`membership`): rather than lose what was acknowledged,
  the service waits for one to come back, and says so.
- Nor without a majority of members that promised: who was silent for a while may have come back to promise,
  and in its place one would stay who is gone for good. A joiner does not count, it may have died since it
  asked; only a lone member cannot do without.
- A primary that restarts in a view which it may have served lost the entries that it had sent and not yet
  written. It asks for a renewal, the same members under a new number, so that no viewstamp is used twice.
- Members that are behind get decided views, never anybody's promises.
"""

from collections.abc import Collection, Iterable
from typing import Final

from viewstamp.core.ids import Incarnation, Instant, NodeId, PersistSeq, View
from viewstamp.core.quorum import has_majority
from viewstamp.protocols.viewstamped.heartbeats import Heartbeats
from viewstamp.protocols.viewstamped.joiners import Joiners
from viewstamp.protocols.viewstamped.journal import (
    ENCODER,
    AcceptedValue,
    Decided,
    Promised,
    Replay,
    Synchronised,
)
from viewstamp.protocols.viewstamped.log_positions import LogPositions
from viewstamp.protocols.viewstamped.membership import (
    NUMBER_MAX,
    Member,
    Membership,
    first_view_of,
    follows,
    is_first_view,
    successor,
    well_formed,
    without,
)
from viewstamp.protocols.viewstamped.messages import (
    NO_GROUP,
    Accept,
    Accepted,
    Ballot,
    Join,
    Ping,
    Pong,
    Prepare,
    Prepared,
    Views,
    WantViews,
)
from viewstamp.protocols.viewstamped.paxos import Proposer
from viewstamp.protocols.viewstamped.state import Point, State

VIEWS_PER_MESSAGE_MAX: Final = 512


class DecidedViews:
    """The history of views, the acceptor and the proposer of the next one, and the heartbeats."""

    __slots__ = (
        "_accept_write",
        "_joiners",
        "_positions",
        "_state",
        "acceptor",
        "current",
        "heartbeats",
        "history",
        "is_member",
        "preferred_primary",
        "proposer",
        "renewal_wanted",
        "synchronised_view",
        "view",
    )

    def __init__(self, state: State, positions: LogPositions, replay: Replay) -> None:
        self._state = state
        self._positions = positions
        self.history = history = replay.history
        """Decided views from view 1 without a gap."""
        self.current = current = history[-1] if history else None
        """The newest decided view; None: this node knows of none."""
        self.view = View(len(history))
        """Its number, 0 where there is none."""
        self.is_member = current is not None and state.me in current.members
        """Whether this node, with this memory, is in the newest view."""
        if history:
            state.group = history[0].members[0].incarnation
        self.acceptor = replay.acceptor()
        """Always of the instance after the newest view."""
        self.proposer = Proposer()
        self.synchronised_view = replay.synchronised
        """The highest view known to have completed its synchronisation; never higher than the newest."""
        self.preferred_primary: NodeId | None = None
        """Whom an operator wants to lead; None: no wish."""
        self._accept_write = PersistSeq(0)
        """The write with this proposer's own acceptance of what it proposes."""
        self.heartbeats = Heartbeats(state)
        self._joiners = Joiners(state)
        self.renewal_wanted = (
            current is not None
            and current.primary == state.node
            and self.is_member
            and replay.synchronised == current.view
        )
        """This node must not go on as primary of this view: see the rules."""

    @property
    def is_synchronised(self) -> bool:
        """Whether the newest view is known to have completed its synchronisation."""
        return self.synchronised_view == self.view

    # What happens of itself

    def bootstrap(self) -> None:
        """Make view 1 of this node alone. Only for a node that knows of no view and may be the first."""
        assert not self.history
        self._state.group = self._state.me.incarnation
        self._decide(first_view_of(self._state.me))

    def synchronised(self) -> None:
        """The newest view has completed its synchronisation: remember it, and let joiners in."""
        if self.is_synchronised:
            return
        self.synchronised_view = self.view
        self._state.outbox.persist(ENCODER.encode(Synchronised(self.view)))

    def tick(self, unheard: tuple[NodeId, ...]) -> None:
        """A heartbeat's time has passed: count who is silent, ping, and pursue the next view.

        `unheard` are backups that do not answer this node, if it is the primary.
        """
        current = self.current
        if not self.is_member:
            return
        assert current is not None
        state, heartbeats = self._state, self.heartbeats
        heartbeats.count(current)
        heartbeats.report(unheard)
        for node in heartbeats.to_ping(current, has_news=bool(unheard)):
            heard = heartbeats.was_heard(node)
            # Early: a ping promises nothing, and must not wait for the disk or it would look like a death.
            ping = Ping(state.group, self.view, state.me.incarnation, unheard, heard)
            state.outbox.send_early(node, ping)
        self.pursue()

    # Which view should be next

    def pursue(self) -> None:
        """Start, repeat or give up proposing, as the moment asks for."""
        proposer, current = self.proposer, self.current
        if current is None or not self.is_member:
            proposer.stop()
            return
        overdue = proposer.retry_at is None or self._state.now >= proposer.retry_at
        if proposer.phase == "accepting":
            if overdue:
                self._send_accepts()
        elif self._wish() is None:
            proposer.stop()
        elif overdue and (proposer.phase != "preparing" or proposer.promisers.issuperset(current.nodes)):
            self._start()  # anew, where all have promised and none may be removed: one has died since
        else:
            if overdue:
                self._send_prepares()
            self._propose_if_promised()

    def _wish(self, promisers: Collection[NodeId] | None = None) -> Membership | None:
        """Return the view that should be next; with promisers, only one that they can carry."""
        current = self.current
        assert current is not None
        for members in self._wanted_members(current, promisers or ()):
            synchronised = self.is_synchronised or self.proposer.synchronised
            wanted, late = self.preferred_primary, self.proposer.late
            wish = successor(current, members, synchronised=synchronised, primary=wanted, late=late)
            if wish is not None and (promisers is None or _can_be_carried(wish, current, promisers)):
                return wish
        return None

    def _wanted_members(
        self, current: Membership, promisers: Collection[NodeId]
    ) -> Iterable[tuple[Member, ...]]:
        # Who promised lives, however much it missed: it was paused, or cut off for a while. But another
        # primary may not hear it.
        leads = current.primary == self._state.node
        for node in self.heartbeats.removable(current):
            if node not in promisers or (not leads and self.heartbeats.is_reported(node)):
                yield without(current, node)
        if self.renewal_wanted or self.preferred_primary is not None:
            yield current.members
        if current.primary == self._state.node and self.is_synchronised:
            for joiner in self._joiners.waiting(current, self.heartbeats.broken):
                yield (*current.members, joiner)

    def waiting_for(self) -> str:
        """Say in one line what keeps the next view from being decided; empty where nothing is wanted."""
        current = self.current
        if current is None or not self.is_member:
            return ""
        removable = self.heartbeats.removable(current)
        if removable and self._wish() is None:
            return f"one of nodes {_listed(current.eligible)}: only they hold all that was acknowledged"
        if self.proposer.phase == "idle":
            return ""
        silent = set(current.nodes) - self.proposer.promisers - self.proposer.accepters
        return f"a majority of view {current.view} to agree on the next view; silent: {_listed(silent)}"

    # Proposing it

    def _start(self) -> None:
        acceptor, proposer = self.acceptor, self.proposer
        highest = max(proposer.seen_number, acceptor.promised.number)
        if highest + 1 >= NUMBER_MAX:
            return
        ballot = Ballot(highest + 1, self._state.node)
        promised = acceptor.prepare(ballot)
        assert promised
        self._state.outbox.persist(ENCODER.encode(Promised(acceptor.instance, ballot)))
        proposer.begin(acceptor.instance, ballot)
        known = {"synchronised": self.is_synchronised, "late": self._positions.is_behind}
        proposer.promised_by(ballot.node, acceptor.accepted, acceptor.value, **known)
        self._send_prepares()
        self._propose_if_promised()

    def _send_prepares(self) -> None:
        proposer = self.proposer
        self._set_retry()
        message = Prepare(self._state.group, proposer.instance, proposer.ballot)
        self._send_to_others(proposer.promisers, message)

    def _send_accepts(self) -> None:
        proposer = self.proposer
        assert proposer.value is not None
        self._set_retry()
        message = Accept(self._state.group, proposer.instance, proposer.ballot, proposer.value)
        self._send_to_others(proposer.accepters, message)

    def _send_to_others(self, done: set[NodeId], message: Prepare | Accept) -> None:
        current = self.current
        assert current is not None
        for node in current.nodes:
            if node not in done and node != self._state.node:
                self._state.outbox.send(node, message)

    def _set_retry(self) -> None:
        self.proposer.retry_at = Instant(self._state.now + self._state.options.paxos_timeout_us)

    def _propose_if_promised(self) -> None:
        current, proposer = self.current, self.proposer
        assert current is not None
        if not proposer.may_propose(current.nodes):
            return
        if self.acceptor.promised > proposer.ballot:
            # Another proposer reached this node's own acceptor meanwhile.
            self._beaten_by(self.acceptor.promised)
            return
        value = proposer.best[1] if proposer.best is not None else self._wish(proposer.promisers)
        if value is None:
            # Others may promise yet, or what was wished for is not wished for any more.
            if self._wish() is None:
                proposer.stop()
            return
        self._state.reach(Point.PREPARED)
        accepted = self.acceptor.accept(proposer.ballot, value)
        assert accepted
        record = AcceptedValue(proposer.instance, proposer.ballot, value)
        self._accept_write = self._state.outbox.persist(ENCODER.encode(record))
        proposer.propose(value)
        self._send_accepts()

    def persisted(self) -> None:
        """Writes became durable: this node's own acceptance counts from then on, like everybody else's."""
        proposer = self.proposer
        if proposer.phase == "accepting" and self._state.outbox.durable >= self._accept_write:
            proposer.accepted_by(self._state.node)
            self._decide_if_accepted()

    def _decide_if_accepted(self) -> None:
        current, value = self.current, self.proposer.value
        assert current is not None
        if not self.proposer.has_chosen(current.nodes):
            return
        assert value is not None
        self._state.reach(Point.CHOSEN)
        self._decide(value)
        for node in {*current.nodes, *value.nodes} - {self._state.node}:
            self._send_views(node, current.view)

    def _beaten_by(self, ballot: Ballot) -> None:
        self.proposer.saw(ballot)
        pause_us = self._state.rng.randrange(self._state.options.paxos_timeout_us) + 1
        self.proposer.stand_back(Instant(self._state.now + pause_us))

    def _decide(self, membership: Membership) -> None:
        assert membership.view == self.view + 1
        assert not self.history or follows(self.history[-1], membership)
        self.history.append(membership)
        self.current, self.view = membership, membership.view
        self.is_member = self._state.me in membership.members
        self._state.outbox.persist(ENCODER.encode(Decided(membership)))
        self.acceptor.begin(View(membership.view + 1))
        self.proposer.stop()
        self.renewal_wanted = False
        self.preferred_primary = None
        self.heartbeats.begin_view(membership)
        self._joiners.forget(membership.nodes)

    # What others say

    def on_prepare(self, source: NodeId, message: Prepare) -> None:
        """Phase 1 at the acceptor; a proposer of an old instance gets what was decided (oldinstance)."""
        if not self._at_my_instance(source, message.instance) or not _plausible(message.ballot, source):
            return
        acceptor = self.acceptor
        self.proposer.saw(message.ballot)
        if acceptor.prepare(message.ballot):
            self._state.outbox.persist(ENCODER.encode(Promised(message.instance, message.ballot)))
        answer = Prepared(
            self._state.group,
            message.instance,
            message.ballot,
            acceptor.promised,
            acceptor.accepted,
            acceptor.value,
            self.is_synchronised,
            self._positions.is_behind,
        )
        self._state.outbox.send(source, answer)

    def on_accept(self, source: NodeId, message: Accept) -> None:
        """Phase 2 at the acceptor, for its own instance only."""
        if not self._at_my_instance(source, message.instance) or not _plausible(message.ballot, source):
            return
        if not self._acceptable(message.value):
            self._state.drop("accept of an impossible view")
            return
        acceptor = self.acceptor
        self.proposer.saw(message.ballot)
        if acceptor.accept(message.ballot, message.value):
            record = AcceptedValue(message.instance, message.ballot, message.value)
            self._state.outbox.persist(ENCODER.encode(record))
        answer = Accepted(self._state.group, message.instance, message.ballot, acceptor.promised)
        self._state.outbox.send(source, answer)

    def on_prepared(self, source: NodeId, message: Prepared) -> None:
        """Count a promise, or stand back after a rejection."""
        proposer = self.proposer
        if proposer.phase != "preparing" or not self._mine(source, message.instance, message.ballot):
            return
        if message.promised > message.ballot:
            if _plausible(message.promised, message.promised.node):
                self._beaten_by(message.promised)
            return
        if message.value is not None and not self._acceptable(message.value):
            self._state.drop("promise that names an impossible view")
            return
        self.heartbeats.heard_from(source)  # who promised lives, and is given time anew before it is removed
        known = {"synchronised": message.synchronised, "late": message.late}
        proposer.promised_by(source, message.accepted, message.value, **known)
        self._propose_if_promised()

    def on_accepted(self, source: NodeId, message: Accepted) -> None:
        """Count an acceptance, or stand back after a rejection."""
        if self.proposer.phase != "accepting" or not self._mine(source, message.instance, message.ballot):
            return
        if message.promised > message.ballot:
            if _plausible(message.promised, message.promised.node):
                self._beaten_by(message.promised)
            return
        self.proposer.accepted_by(source)
        self._decide_if_accepted()

    def on_views(self, source: NodeId, message: Views) -> None:
        """Learn what was decided. A node that is behind catches up; it never asserts anything of it."""
        for membership in message.memberships:
            if membership.view > self.view + 1:
                break
            if membership.view == self.view + 1 and not self._learn(message, membership):
                return
        if message.latest > self.view:
            self._state.outbox.send_early(source, WantViews(self._state.group, self.view))

    def _learn(self, message: Views, membership: Membership) -> bool:
        if not self.history:
            group = membership.members[0].incarnation if membership.members else NO_GROUP
            valid = well_formed(membership) and is_first_view(membership) and message.group == group
            self._state.group = group if valid else NO_GROUP
        else:
            valid = self._acceptable(membership)
        if not valid:
            self._state.drop("decided view that does not follow the newest")
            return False
        self._decide(membership)
        return True

    def show_from_start(self, node: NodeId) -> None:
        """Send all decided views to a node that asked whether there are any."""
        self._send_views(node, View(0))

    def on_want_views(self, source: NodeId, message: WantViews) -> None:
        """Send decided views."""
        if 0 <= message.after < self.view:
            self._send_views(source, message.after)

    def on_ping(self, source: NodeId, message: Ping) -> None:
        """Answer a heartbeat, and bring whichever of us is behind up to date."""
        current = self.current
        from_primary = current is not None and (message.view, source) == (current.view, current.primary)
        if message.unheard and from_primary:
            self.heartbeats.report(message.unheard)
            self.pursue()
        if message.heard and self._is_from_member(source, message.incarnation):
            self.heartbeats.heard_from(source)
        # Early: it says that this node lives, and promises nothing.
        pong = Pong(self._state.group, self.view, self._state.me.incarnation)
        self._state.outbox.send_early(source, pong)
        self.compare_views(source, message.view)

    def on_pong(self, source: NodeId, message: Pong) -> None:
        """Take note of a sign of life."""
        if self._is_from_member(source, message.incarnation):
            self.heartbeats.heard_from(source)
            if message.busy_ms:
                self.heartbeats.excuse(source, message.busy_ms)
        self.compare_views(source, message.view)

    def _is_from_member(self, source: NodeId, incarnation: Incarnation) -> bool:
        current = self.current
        return current is not None and Member(source, incarnation) in current.members

    def on_join(self, source: NodeId, message: Join) -> None:
        """Bring a node that wants in up to date; at the primary, remember its wish."""
        current = self.current
        if message.member.node != source or current is None or not message.view >= 0:
            return
        self._send_views(source, min(message.view, self.view))
        if current.primary == self._state.node and source not in current.nodes and message.answered:
            self._joiners.remember(message.member)
            self.pursue()

    def compare_views(self, source: NodeId, theirs: View) -> None:
        """Bring a node in an older view up to date, or ask one in a newer view for what is missing."""
        if 0 <= theirs < self.view:
            self._send_views(source, theirs)
        elif theirs > self.view:
            self._state.outbox.send_early(source, WantViews(self._state.group, self.view))

    def _send_views(self, to: NodeId, after: View) -> None:
        memberships = tuple(self.history[after : after + VIEWS_PER_MESSAGE_MAX])
        self._state.outbox.send(to, Views(self._state.group, memberships, self.view))

    def _at_my_instance(self, source: NodeId, instance: View) -> bool:
        if 1 <= instance <= self.view:
            self._send_views(source, View(instance - 1))
            return False
        if instance > self.view + 1:
            self._state.outbox.send_early(source, WantViews(self._state.group, self.view))
            return False
        return instance == self.view + 1 and self.is_member and self._is_peer(source)

    def _mine(self, source: NodeId, instance: View, ballot: Ballot) -> bool:
        proposer = self.proposer
        return instance == proposer.instance and ballot == proposer.ballot and self._is_peer(source)

    def _is_peer(self, source: NodeId) -> bool:
        current = self.current
        return current is not None and source in current.nodes and source != self._state.node

    def _acceptable(self, value: Membership) -> bool:
        current = self.current
        return current is not None and well_formed(value) and follows(current, value)


def _can_be_carried(wish: Membership, current: Membership, promisers: Collection[NodeId]) -> bool:
    trusted = wish.nodes if len(current.nodes) == 1 else promisers
    return has_majority(trusted, wish.nodes)


def _plausible(ballot: Ballot, proposer: NodeId) -> bool:
    return 0 < ballot.number < NUMBER_MAX and ballot.node == proposer


def _listed(nodes: Iterable[NodeId]) -> str:
    return ", ".join(str(node) for node in sorted(nodes)) or "none"
