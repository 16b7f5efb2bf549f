"""The configuration layer: which view should be next, and getting it decided (lab 6, config and paxos).

Every member is proposer and acceptor of the next view, so both halves of the pseudocode stand here, with its
lines at the code that they became; `paxos` holds what each half remembers. Rules of this file:

- One member a view, decided by a majority of the view before it. The primary proposes joins, when its view
  is synchronised, one after the other.
- A view is never proposed without an eligible member (`membership`): rather than lose what was acknowledged,
  the service waits for one to come back, and says so.
- Nor without a majority of members that promised: a member that was silent for a while may have come back to
  promise, and removing it would keep one that is gone for good. A joiner does not count, it may have died
  since it asked; only a lone member cannot do without.
- A primary that restarts in a view which it may have served lost the entries that it had sent and not yet
  written. It asks for a renewal, the same members under a new number, so that no viewstamp is used twice.
"""

from collections.abc import Collection, Iterable

from viewstamp.core.ids import Instant, NodeId, PersistSeq, View
from viewstamp.core.quorum import has_majority
from viewstamp.protocols.replication.configuration import Changed
from viewstamp.protocols.replication.node_state import LEAP_MAX
from viewstamp.protocols.viewstamped.journal import ENCODER, AcceptedValue, Promised
from viewstamp.protocols.viewstamped.log_positions import LogPositions
from viewstamp.protocols.viewstamped.membership import NUMBER_MAX, Member, Membership, successor, without
from viewstamp.protocols.viewstamped.messages import Accept, Accepted, Ballot, Join, Prepare, Prepared
from viewstamp.protocols.viewstamped.state import Point, State
from viewstamp.protocols.viewstamped.views import DecidedViews


class Proposer:
    """Proposes the next view where one is wanted, and answers other members' proposals."""

    __slots__ = ("_accept_write", "_positions", "_state", "_views")

    def __init__(self, state: State, views: DecidedViews, positions: LogPositions) -> None:
        self._state = state
        self._views = views
        self._positions = positions
        self._accept_write = PersistSeq(0)
        """The write with this node's own acceptance of what it proposes."""

    # Which view should be next

    def pursue(self) -> None:
        """Start, repeat or give up a proposal, as the moment asks for."""
        proposal, current = self._views.proposal, self._views.current
        if current is None or not self._views.is_member:
            proposal.stop()
            return
        overdue = proposal.retry_at is None or self._state.now >= proposal.retry_at
        if proposal.phase == "accepting":
            if overdue:
                self._send_accepts()
        elif self._wanted_view() is None:
            proposal.stop()
        elif overdue and (proposal.phase != "preparing" or proposal.promisers.issuperset(current.nodes)):
            # Also where all have promised and none may be removed: one of them has died since.
            self._start()
        else:
            if overdue:
                self._send_prepares()
            self._propose_if_promised()

    def on_join(self, source: NodeId, message: Join) -> None:
        """Bring a node that asks to join up to date; at the primary, propose a view with it."""
        views = self._views
        current = views.current
        if message.member.node != source or current is None or not message.view >= 0:
            return
        views.send_views(source, min(message.view, views.view))
        if views.note_forgotten(message.member, message.view):
            self.pursue()
        # A member that asks has not heard yet that it was admitted: remembered, it would be admitted again
        # right after its removal.
        leads = current.primary == self._state.node
        admitted = views.may_join(message.member) if views.configuration is not None else not message.waits
        if leads and source not in current.nodes and message.answered and admitted:
            views.joiners.remember(message.member)
            self.pursue()

    def _wanted_view(self, promisers: Collection[NodeId] | None = None) -> Membership | None:
        """Return the view that should be next; with promisers, only one that they can carry."""
        views, proposal = self._views, self._views.proposal
        current = views.current
        assert current is not None
        for members, changed in self._changes(current, promisers or ()):
            synchronised = views.is_synchronised or proposal.synchronised
            wanted = successor(
                current,
                members,
                synchronised=synchronised,
                primary=views.preferred_primary,
                late=proposal.late,
                changed=changed,
            )
            if wanted is not None and (promisers is None or _can_be_carried(wanted, current, promisers)):
                return wanted
        return None

    def _changes(
        self, current: Membership, promisers: Collection[NodeId]
    ) -> Iterable[tuple[tuple[Member, ...], Changed | None]]:
        """Return what may be next, the most urgent first: members, and the configured ones if they change."""
        views, heartbeats = self._views, self._views.heartbeats
        leads = current.primary == self._state.node
        for node in heartbeats.removable(current):
            # A member that promised is alive, however many pings it missed: it was paused, or cut off for a
            # while. But another primary may not hear it.
            if node not in promisers or (not leads and heartbeats.is_reported(node)):
                yield without(current, node), None
        if views.renewal_wanted or views.preferred_primary is not None:
            yield current.members, None
        if leads and views.is_synchronised:
            if views.wanted_change is not None:
                yield current.members, views.wanted_change
            for joiner in views.joiners.waiting(current, heartbeats.broken):
                if self._may_admit(joiner):
                    yield (*current.members, joiner), None
            # One after the other, and not while the view would be too small to serve without it.
            if len(current.members) > self._state.members_min(current):
                going = (node for node in current.leaving if node != current.primary)
                yield from ((without(current, node), None) for node in going)

    def _may_admit(self, joiner: Member) -> bool:
        """Return whether this node may be admitted, and a view with it would soon be synchronised."""
        views, positions = self._views, self._positions
        if not views.may_join(joiner):
            return False
        if views.configuration is None:
            return True
        follower = views.followers.get(joiner.node)
        window = self._state.options.uncommitted_entries_max
        return follower is not None and follower.matched + window >= positions.log.last_seqno

    # proposer run(instance, v)

    @property
    def _seen_number(self) -> int:
        """The highest number seen in a ballot of this instance."""
        return max(self._views.proposal.seen_number, self._views.acceptor.promised.number)

    def _start(self) -> None:
        """Begin a run: promise its ballot to itself, and ask the others for theirs."""
        views, proposal, acceptor = self._views, self._views.proposal, self._views.acceptor
        # Lab 6: "choose n, unique and higher than any n seen so far"
        if self._seen_number + 1 >= NUMBER_MAX:
            return
        ballot = Ballot(self._seen_number + 1, self._state.node)
        promised = acceptor.prepare(ballot)
        assert promised, (ballot, acceptor.promised)
        self._state.outbox.persist(ENCODER.encode(Promised(acceptor.instance, ballot)))
        proposal.begin(acceptor.instance, ballot)
        known = {"synchronised": views.is_synchronised, "late": self._positions.is_behind}
        proposal.promised_by(ballot.node, acceptor.accepted, acceptor.value, **known)
        self._send_prepares()
        self._propose_if_promised()

    def _send_prepares(self) -> None:
        # Lab 6: "send prepare(instance, n) to all servers including self"; to itself in `_start`
        proposal = self._views.proposal
        message = Prepare(group=self._state.group, instance=proposal.instance, ballot=proposal.ballot)
        self._send_to_others(proposal.promisers, message)

    def _send_accepts(self) -> None:
        proposal = self._views.proposal
        assert proposal.value is not None
        message = Accept(
            group=self._state.group,
            instance=proposal.instance,
            ballot=proposal.ballot,
            value=proposal.value,
        )
        self._send_to_others(proposal.accepters, message)

    def _send_to_others(self, done: set[NodeId], message: Prepare | Accept) -> None:
        current = self._views.current
        assert current is not None
        self._views.proposal.retry_at = Instant(self._state.now + self._state.options.paxos_timeout_us)
        for node in current.nodes:
            if node not in done and node != self._state.node:
                self._state.outbox.send(node, message)

    def _propose_if_promised(self) -> None:
        current, proposal, acceptor = self._views.current, self._views.proposal, self._views.acceptor
        assert current is not None
        # Lab 6: "else if prepare_ok(n_a, v_a) from majority in current view"
        if not proposal.may_propose(current.nodes, self._views.forgot):
            return
        if acceptor.promised > proposal.ballot:
            # Another proposer reached this node's own acceptor meanwhile.
            self._stand_back_for(acceptor.promised)
            return
        # Lab 6: "v' = v_a with highest n_a; choose own v otherwise"
        value = proposal.best[1] if proposal.best is not None else self._wanted_view(proposal.promisers)
        if value is None:
            # Others may promise yet; unless no other view is wanted any longer.
            if self._wanted_view() is None:
                proposal.stop()
            return
        self._state.reach(Point.PREPARED)
        accepted = acceptor.accept(proposal.ballot, value)
        assert accepted, (proposal.ballot, acceptor.promised)
        record = AcceptedValue(proposal.instance, proposal.ballot, value)
        self._accept_write = self._state.outbox.persist(ENCODER.encode(record))
        proposal.propose(value)
        # Lab 6: "send accept(instance, n, v') to all"
        self._send_accepts()

    def persisted(self) -> None:
        """Writes became durable: this node's own acceptance counts from then on, like any other."""
        proposal = self._views.proposal
        if proposal.phase == "accepting" and self._state.outbox.durable >= self._accept_write:
            proposal.accepted_by(self._state.node)
            self._decide_if_accepted()

    def _decide_if_accepted(self) -> None:
        views, proposal = self._views, self._views.proposal
        current, value = views.current, proposal.value
        assert current is not None
        # Lab 6: "if accept_ok(n) from majority"
        if not proposal.has_chosen(current.nodes, views.forgot):
            return
        assert value is not None
        self._state.reach(Point.CHOSEN)
        views.decide(value)
        # Lab 6: "send decided(instance, v') to all"; a member that was removed gets it, too, and asks to join
        concerned = {*current.nodes, *value.nodes}
        for membership in (current, value):
            if membership.configuration is not None:
                concerned |= membership.configuration.members.keys()
        for node in concerned - {self._state.node}:
            views.send_views(node, current.view)

    def _stand_back_for(self, ballot: Ballot) -> None:
        """Leave the instance to a higher ballot for a random while, so that two proposers do not duel."""
        self._views.proposal.saw(ballot)
        pause_us = self._state.rng.randrange(self._state.options.paxos_timeout_us) + 1
        self._views.proposal.stand_back(Instant(self._state.now + pause_us))

    # acceptor prepare(instance, n) handler, acceptor accept(instance, n, v) handler

    def on_prepare(self, source: NodeId, message: Prepare) -> None:
        """Phase 1 at the acceptor; a proposer of an old instance gets what was decided (oldinstance)."""
        views, acceptor = self._views, self._views.acceptor
        # Lab 6: "if instance <= instance_h: reply oldinstance(instance, instance_value)"
        if not self._at_my_instance(source, message.instance) or not self._is_sound(source, message.ballot):
            return
        assert acceptor.instance == message.instance, (acceptor.instance, message)
        views.proposal.saw(message.ballot)
        # Lab 6: "else if n > n_h: n_h = n"
        if acceptor.prepare(message.ballot):
            self._state.outbox.persist(ENCODER.encode(Promised(message.instance, message.ballot)))
        # Lab 6: "reply prepare_ok(n_a, v_a)", "else reply prepare_reject": one answer, `promised` tells which
        answer = Prepared(
            group=self._state.group,
            instance=message.instance,
            ballot=message.ballot,
            promised=acceptor.promised,
            accepted=acceptor.accepted,
            value=acceptor.value,
            synchronised=views.is_synchronised,
            late=self._positions.is_behind,
        )
        # Held back until n_h is durable: a restart must not forget the promise.
        self._state.outbox.send(source, answer)

    def on_accept(self, source: NodeId, message: Accept) -> None:
        """Phase 2 at the acceptor, for its own instance only."""
        views, acceptor = self._views, self._views.acceptor
        if not self._at_my_instance(source, message.instance) or not self._is_sound(source, message.ballot):
            return
        if not views.may_follow(message.value):
            self._state.drop("accept of an impossible view")
            return
        assert acceptor.instance == message.instance, (acceptor.instance, message)
        views.proposal.saw(message.ballot)
        # Lab 6: "if n >= n_h: n_a = n, v_a = v"
        if acceptor.accept(message.ballot, message.value):
            record = AcceptedValue(message.instance, message.ballot, message.value)
            self._state.outbox.persist(ENCODER.encode(record))
        # Lab 6: "reply accept_ok(n)", "else reply accept_reject": one answer, `promised` tells which
        answer = Accepted(
            group=self._state.group,
            instance=message.instance,
            ballot=message.ballot,
            promised=acceptor.promised,
        )
        self._state.outbox.send(source, answer)

    def _at_my_instance(self, source: NodeId, instance: View) -> bool:
        views = self._views
        if 1 <= instance <= views.view:
            views.send_views(source, View(instance - 1))
            return False
        if instance > views.view + 1:
            # It knows views that were decided: they come first, and what it proposes after them.
            views.want_views(source)
            return False
        return instance == views.view + 1 and views.is_member and views.is_peer(source)

    def _is_sound(self, source: NodeId, ballot: Ballot) -> bool:
        plausible = _plausible(ballot, source, self._seen_number)
        if not plausible:
            self._state.drop("ballot that nobody can have come to")
        return plausible

    # What acceptors answer

    def on_prepared(self, source: NodeId, message: Prepared) -> None:
        """Count a promise, or stand back after a rejection."""
        views, proposal = self._views, self._views.proposal
        if proposal.phase != "preparing" or not self._is_mine(source, message):
            return
        if message.promised > message.ballot:
            self._on_rejected(message.promised)
            return
        if message.value is not None and not views.may_follow(message.value):
            self._state.drop("promise that names an impossible view")
            return
        # A member that promised is alive: it gets all its heartbeats again before it is removed.
        views.heartbeats.heard_from(source)
        known = {"synchronised": message.synchronised, "late": message.late}
        proposal.promised_by(source, message.accepted, message.value, **known)
        self._propose_if_promised()

    def on_accepted(self, source: NodeId, message: Accepted) -> None:
        """Count an acceptance, or stand back after a rejection."""
        proposal = self._views.proposal
        if proposal.phase != "accepting" or not self._is_mine(source, message):
            return
        if message.promised > message.ballot:
            self._on_rejected(message.promised)
            return
        proposal.accepted_by(source)
        self._decide_if_accepted()

    def _on_rejected(self, promised: Ballot) -> None:
        if _plausible(promised, promised.node, self._seen_number):
            self._stand_back_for(promised)

    def _is_mine(self, source: NodeId, message: Prepared | Accepted) -> bool:
        proposal = self._views.proposal
        answers_it = (message.instance, message.ballot) == (proposal.instance, proposal.ballot)
        return answers_it and self._views.is_peer(source)

    def waiting_for(self) -> str:
        """Say in one line what keeps the next view from being decided; empty where nothing is wanted."""
        current, proposal = self._views.current, self._views.proposal
        if current is None or not self._views.is_member:
            return ""
        removable = self._views.heartbeats.removable(current)
        if removable and self._wanted_view() is None:
            return f"one of nodes {_listed(current.eligible)}: only they hold all that was acknowledged"
        if proposal.phase == "idle":
            return ""
        silent = set(current.nodes) - proposal.promisers - proposal.accepters
        return f"a majority of view {current.view} to agree on the next view; silent: {_listed(silent)}"


def _can_be_carried(wanted: Membership, current: Membership, promisers: Collection[NodeId]) -> bool:
    """Return whether enough members of the wanted view have shown that they are alive."""
    trusted = wanted.nodes if len(current.nodes) == 1 else promisers
    return has_majority(trusted, wanted.nodes)


def _plausible(ballot: Ballot, proposer: NodeId, seen: int) -> bool:
    """Return whether this proposer can have come to this ballot, where `seen` is the highest number here.

    Ballots of each instance begin at 1, and a proposer that is alone repeats its own.
    """
    return 0 < ballot.number <= min(seen + LEAP_MAX, NUMBER_MAX - 1) and ballot.node == proposer


def _listed(nodes: Iterable[NodeId]) -> str:
    return ", ".join(str(node) for node in sorted(nodes)) or "none"
