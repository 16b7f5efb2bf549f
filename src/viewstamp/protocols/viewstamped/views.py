"""The views that were decided, the members' heartbeats in the newest one, and the nodes that ask to join.

Members that are behind get decided views, never another member's promises: what a node learns here it has
not promised. What the next view should be, and the way to its decision, stands in `proposer`.
"""

from collections.abc import Collection, Mapping
from typing import Final, Protocol

from viewstamp.core.ids import Incarnation, Instant, NodeId, View, Viewstamp
from viewstamp.protocols.replication.configuration import Changed, Configuration
from viewstamp.protocols.viewstamped.heartbeats import Heartbeats
from viewstamp.protocols.viewstamped.journal import ENCODER, Decided, Replay, Synchronised
from viewstamp.protocols.viewstamped.membership import (
    MEMBERS_MAX,
    Member,
    Membership,
    first_view_of,
    follows,
    is_first_view,
    may_enter,
    well_formed,
)
from viewstamp.protocols.viewstamped.messages import NO_GROUP, Ping, Pong, Views, WantViews
from viewstamp.protocols.viewstamped.paxos import Proposal
from viewstamp.protocols.viewstamped.state import State

VIEWS_PER_MESSAGE_MAX: Final = 512
_MEMORY_RETRIES: Final = 4
"""Forget a joiner after N retry intervals without a request."""


class Follower(Protocol):
    """What this layer asks of a node that a primary keeps up to date; the primary's own part knows more."""

    @property
    def matched(self) -> int:
        """Everything up to here is on its disk and equal to the primary's log."""


class Joiners:
    """The nodes that asked the primary to join and still ask; bounded, and never a member."""

    __slots__ = ("_asked", "_state")

    def __init__(self, state: State) -> None:
        self._state = state
        self._asked: dict[NodeId, tuple[Member, Instant]] = {}

    def __len__(self) -> int:
        return len(self._asked)

    def remember(self, member: Member) -> None:
        """Record a request, unless too many wait."""
        if len(self) < self._state.options.joiners_max:
            self._asked[member.node] = (member, self._state.now)

    def forget(self, nodes: Collection[NodeId]) -> None:
        """These are members now."""
        for node in nodes:
            self._asked.pop(node, None)

    def waiting(self, current: Membership, broken: Collection[NodeId]) -> list[Member]:
        """Return the nodes that may be admitted next, lowest first; not those whose connection broke."""
        oldest = self._state.now - _MEMORY_RETRIES * self._state.options.join_retry_us
        self._asked = {
            node: (member, asked)
            for node, (member, asked) in self._asked.items()
            if asked >= oldest and node not in broken
        }
        if len(current.members) >= MEMBERS_MAX:
            return []
        return [self._asked[node][0] for node in sorted(self._asked)]


class DecidedViews:
    """The history of views, and what Paxos remembers of the next one."""

    __slots__ = (
        "_state",
        "acceptor",
        "current",
        "followers",
        "forgot",
        "heartbeats",
        "history",
        "is_member",
        "joiners",
        "preferred_primary",
        "proposal",
        "renewal_wanted",
        "synchronised_view",
        "view",
        "wanted_change",
    )

    def __init__(self, state: State, replay: Replay) -> None:
        self._state = state
        self.history = history = replay.history
        """Decided views from view 1 without a gap."""
        self.current = current = history[-1] if history else None
        """The newest decided view; None: this node knows none."""
        self.view = View(len(history))
        """Its number, 0 where there is none."""
        self.is_member = current is not None and state.me in current.members
        """Whether this node, in this incarnation, is in the newest view."""
        if history:
            state.group = history[0].members[0].incarnation
        self.acceptor = replay.acceptor()
        """Always of the instance after the newest view."""
        self.proposal = Proposal()
        """This node's own run for that instance."""
        self.synchronised_view = replay.synchronised
        """The highest view known to have completed its synchronisation; never higher than the newest."""
        self.preferred_primary: NodeId | None = None
        """The node that an operator wants as primary of the next view; None: no such request."""
        self.wanted_change: Changed | None = None
        """The configured members that the next view is to have, at its primary; None: as they are."""
        self.followers: Mapping[NodeId, Follower] = {}
        """At a primary: configured nodes outside the view that it keeps up to date, and how far they are."""
        self.forgot: set[NodeId] = set()
        """Nodes of the newest view that came back without what they promised in it."""
        self.heartbeats = Heartbeats(state)
        self.joiners = Joiners(state)
        self.renewal_wanted = (
            current is not None
            and current.primary == state.node
            and self.is_member
            and replay.synchronised == current.view
        )
        """This node must not go on as primary of this view, which it may have served before it restarted:
        entries that it had sent and not yet written are lost (see `proposer`)."""

    @property
    def is_synchronised(self) -> bool:
        """Whether the newest view is known to have completed its synchronisation."""
        return self.synchronised_view == self.view

    @property
    def configuration(self) -> Configuration | None:
        """The configured members; None: no operator has changed them."""
        return None if self.current is None else self.current.configuration

    @property
    def is_follower(self) -> bool:
        """Whether this node is configured and outside the view: it learns, also with a new disk."""
        me, configuration = self._state.me, self.configuration
        if self.is_member or configuration is None or me.node not in configuration.members:
            return False
        return configuration.removed_at(me.node, me.incarnation) is None

    @property
    def removed_at(self) -> Viewstamp | None:
        """Where this incarnation was removed; None: it was not, or is in the view still."""
        me, configuration = self._state.me, self.configuration
        return (
            None
            if configuration is None or self.is_member
            else configuration.removed_at(me.node, me.incarnation)
        )

    def may_join(self, member: Member) -> bool:
        """Return whether the configured members let this node into a view; without any, all may come."""
        configuration = self.configuration
        return configuration is None or may_enter(member, configuration)

    def is_peer(self, node: NodeId) -> bool:
        """Return whether this is another node of the newest view."""
        current = self.current
        return current is not None and node in current.nodes and node != self._state.node

    def note_forgotten(self, member: Member, view: View) -> bool:
        """A node that knows this view asks to join; return whether it is one that forgot a promise in it.

        It knows a view in which its node is a member under another incarnation: so it began after that one,
        whose disk is gone.
        """
        current = self.current
        if current is None or view != current.view or member in current.members:
            return False
        if member.node not in current.nodes or member.node in self.forgot:
            return False
        self.forgot.add(member.node)
        return True

    def may_follow(self, value: Membership) -> bool:
        """Return whether a view that a peer names may be the one after the newest."""
        current = self.current
        return current is not None and well_formed(value) and follows(current, value)

    # Deciding

    def bootstrap(self) -> None:
        """Make view 1 of this node alone. Only for a node that knows no view and may be the first."""
        assert not self.history, self.current
        self._state.group = self._state.me.incarnation
        self.decide(first_view_of(self._state.me))

    def decide(self, membership: Membership) -> None:
        """Enter the next view (lab 6: the acceptor's decide handler)."""
        assert membership.view == self.view + 1, (membership.view, self.view)
        assert not self.history or follows(self.history[-1], membership), membership
        self.history.append(membership)
        self.current, self.view = membership, membership.view
        self.is_member = self._state.me in membership.members
        self._state.outbox.persist(ENCODER.encode(Decided(membership)))
        self.acceptor.begin(View(membership.view + 1))
        self.proposal.end_instance()
        self.renewal_wanted = False
        self.preferred_primary = None
        before = None if membership.view == 1 else self.history[-2].changed
        leads = self.is_member and membership.primary == self._state.node
        if not leads or _place(membership.changed) != _place(before):
            self.wanted_change = None  # it is decided, or overtaken
        self.followers = {}
        self.forgot.clear()
        self.heartbeats.begin_view(membership)
        self.joiners.forget(membership.nodes)

    def mark_synchronised(self) -> None:
        """The newest view has completed its synchronisation: remember it, and admit joiners from now on."""
        if self.is_synchronised:
            return
        self.synchronised_view = self.view
        self._state.outbox.persist(ENCODER.encode(Synchronised(self.view)))

    # Telling and learning what was decided

    def on_views(self, source: NodeId, message: Views) -> None:
        """Learn what was decided. A node that is behind catches up; it never asserts anything of it."""
        for membership in message.memberships:
            if membership.view > self.view + 1:
                break
            if membership.view == self.view + 1 and not self._learn(message, membership):
                return
        if message.latest > self.view:
            self.want_views(source)

    def _learn(self, message: Views, membership: Membership) -> bool:
        if not self.history:
            group = membership.members[0].incarnation if membership.members else NO_GROUP
            valid = well_formed(membership) and is_first_view(membership) and message.group == group
            self._state.group = group if valid else NO_GROUP
        else:
            valid = self.may_follow(membership)
        if not valid:
            self._state.drop("decided view that does not follow the newest")
            return False
        self.decide(membership)
        return True

    def on_want_views(self, source: NodeId, message: WantViews) -> None:
        """Send decided views."""
        if 0 <= message.after < self.view:
            self.send_views(source, message.after)

    def compare_views(self, source: NodeId, theirs: View) -> None:
        """Bring a node in an older view up to date, or ask one in a newer view for what is missing."""
        if 0 <= theirs < self.view:
            self.send_views(source, theirs)
        elif theirs > self.view:
            self.want_views(source)

    def send_views(self, to: NodeId, after: View) -> None:
        """Send the decided views that follow `after`, as many as one message holds."""
        memberships = tuple(self.history[after : after + VIEWS_PER_MESSAGE_MAX])
        message = Views(group=self._state.group, memberships=memberships, latest=self.view)
        self._state.outbox.send(to, message)

    def want_views(self, source: NodeId) -> None:
        """Ask a node for the views that are missing here."""
        # Early: a question promises nothing.
        self._state.outbox.send_early(source, WantViews(group=self._state.group, after=self.view))

    # Heartbeats

    def tick(self, unheard: tuple[NodeId, ...]) -> None:
        """A heartbeat's time has passed: count the members that are silent, and ping.

        `unheard` are backups that do not answer this node, if it is the primary.
        """
        current, heartbeats, state = self.current, self.heartbeats, self._state
        if current is None or not self.is_member:
            return
        heartbeats.count(current)
        heartbeats.report(unheard)
        for node in heartbeats.to_ping(current, has_news=bool(unheard)):
            heard = heartbeats.was_heard(node)
            # Early: a ping promises nothing, and must not wait for the disk or it would look like a death.
            ping = Ping(
                group=state.group,
                view=self.view,
                incarnation=state.me.incarnation,
                unheard=unheard,
                heard=heard,
            )
            state.outbox.send_early(node, ping)

    def on_ping(self, source: NodeId, message: Ping) -> None:
        """Answer a heartbeat, and bring the one of us that is behind up to date."""
        current = self.current
        from_primary = current is not None and (message.view, source) == (current.view, current.primary)
        if message.unheard and from_primary:
            self.heartbeats.report(message.unheard)
        if message.heard and self._is_from_member(source, message.incarnation):
            self.heartbeats.heard_from(source)
        # Early: it says that this node is alive, and promises nothing.
        pong = Pong(group=self._state.group, view=self.view, incarnation=self._state.me.incarnation)
        self._state.outbox.send_early(source, pong)
        self.compare_views(source, message.view)

    def on_pong(self, source: NodeId, message: Pong) -> None:
        """Record that a member was heard from."""
        if self._is_from_member(source, message.incarnation):
            self.heartbeats.heard_from(source)
            if message.busy_ms:
                self.heartbeats.excuse(source, message.busy_ms)
        self.compare_views(source, message.view)

    def _is_from_member(self, source: NodeId, incarnation: Incarnation) -> bool:
        current = self.current
        # A wiped node forgot its promises: in another incarnation it is not this member.
        return current is not None and Member(source, incarnation) in current.members


def _place(changed: Changed | None) -> Viewstamp | None:
    return None if changed is None else changed.at
