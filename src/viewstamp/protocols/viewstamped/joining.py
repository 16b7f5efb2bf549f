"""How a node that is in no view gets into one: it bootstraps view 1, or asks to join.

A member that does not hear others may be in no view either, and not know it: the others removed it, and those
that it still counts as members have gone. Nobody calls it, so it asks nodes outside its view for later views.

View 1 is not agreed on by anybody, so a lowest node whose disk was wiped must not make it a second time: it
bootstraps only after every other configured member said that it knows no view. Any member that was ever
admitted has the history on its disk and answers with it instead. The other nodes ask all they know, in turn.
Each that is asked asks the others on its behalf and passes on their answers, since it may not reach them all.
"""

from typing import Final

from viewstamp.core.ids import Instant, NodeId, View
from viewstamp.protocols.viewstamped.membership import MEMBERS_MAX
from viewstamp.protocols.viewstamped.messages import BootstrapQuery, Join, NotBootstrapped, WantViews
from viewstamp.protocols.viewstamped.state import State
from viewstamp.protocols.viewstamped.views import DecidedViews

_SHORT_RETRIES: Final = 25
"""A membership is short if it ends within N pauses between two questions."""
_PAUSE_RETRIES_MAX: Final = 16


class Joining:
    """Asks while this node is outside, or may be; silent while it is a member of a live view."""

    __slots__ = (
        "_answered",
        "_ask_at",
        "_asked",
        "_asks",
        "_callers",
        "_not_bootstrapped",
        "_pause_us",
        "_state",
        "_turn",
        "_views",
        "_was_member",
    )

    def __init__(self, state: State, views: DecidedViews) -> None:
        self._state = state
        self._views = views
        self._ask_at = state.now
        self._turn = 0
        self._asked: set[NodeId] = set()
        """Nodes that were asked since this one is outside."""
        self._answered: set[NodeId] = set()
        """Nodes that answered since this one is outside: they and it hear one another."""
        self._was_member: Instant | None = None
        """Since when this node has been a member, None while it is outside."""
        self._pause_us = state.options.join_retry_us
        """Between two rounds of asking: longer after each short membership, so that a bad link does not cost
        the others a view twice a second."""
        self._asks = state.me.incarnation
        """The incarnation that wants to know whether there is a view: this node's, or the lowest member's."""
        self._callers: set[NodeId] = set()
        """Nodes that addressed this one while it knew no view: it may know none of those that are left."""
        self._not_bootstrapped: set[NodeId] = set()
        """Other configured members that said, to that incarnation, that they know no view."""

    @property
    def _bootstraps_together(self) -> bool:
        state = self._state
        lowest = all(state.node < node for node in state.others)
        return lowest and state.options.bootstrap == "together" and not state.joining

    def tick(self) -> None:
        """Ask again when it is time."""
        views, state = self._views, self._state
        if views.is_member:
            self._note_membership()
            self._look_around()
            return
        self._note_removal()
        if state.now < self._ask_at:
            return
        self._ask_at = Instant(state.now + self._pause_us)
        if not views.history and (state.options.bootstrap == "alone" or self._may_bootstrap()):
            views.bootstrap()
        elif not views.history and self._bootstraps_together:
            for node in state.others:
                state.outbox.send_early(node, BootstrapQuery(state.me.incarnation))
        else:
            self._ask_to_join()

    def _note_membership(self) -> None:
        if self._was_member is None:
            self._was_member = self._state.now
            self._answered.clear()
            self._asked.clear()

    def _look_around(self) -> None:
        views, state = self._views, self._state
        current = views.current
        assert current is not None
        if state.now < self._ask_at or not views.heartbeats.removable(current):
            return
        self._ask_at = Instant(state.now + state.options.join_retry_us)
        node = self._next_of(set(self._candidates()) - set(current.nodes))
        if node is not None:
            state.outbox.send_early(node, WantViews(group=state.group, after=views.view))

    def _next_of(self, candidates: set[NodeId]) -> NodeId | None:
        """Return one of them, another one each time; None where there are none."""
        if not candidates:
            return None
        turn, self._turn = self._turn, self._turn + 1
        return sorted(candidates)[turn % len(candidates)]

    def _note_removal(self) -> None:
        if self._was_member is None:
            return
        state = self._state
        short = state.now - self._was_member < _SHORT_RETRIES * state.options.join_retry_us
        longer_us = min(2 * self._pause_us, _PAUSE_RETRIES_MAX * state.options.join_retry_us)
        self._pause_us = longer_us if short else state.options.join_retry_us
        self._ask_at = Instant(state.now + (self._pause_us if short else 0))
        self._was_member = None

    def _may_bootstrap(self) -> bool:
        return self._bootstraps_together and self._not_bootstrapped >= set(self._state.others)

    def _ask_to_join(self) -> None:
        state = self._state
        current = self._views.current
        asked = set() if current is None else {current.primary}
        one = self._next_of(self._candidates())
        if one is not None:
            asked.add(one)
        for node in sorted(asked - {state.node}):
            # Early: a request promises nothing.
            self._ask(node)

    def _ask(self, node: NodeId) -> None:
        state = self._state
        message = Join(
            group=state.group,
            member=state.me,
            view=self._views.view,
            answered=node in self._answered,
            waits=state.joining,
        )
        self._asked.add(node)
        state.outbox.send_early(node, message)

    def on_called(self, source: NodeId) -> None:
        """A member addresses this node, which knows no view: ask it as well."""
        if len(self._callers) < MEMBERS_MAX:
            self._callers.add(source)

    def on_answer(self, source: NodeId) -> None:
        """A node has shown its views. The first time, ask it again at once: it can hear that we heard it."""
        known = source in self._answered
        if self._views.is_member or known or source not in self._asked:
            return
        self._answered.add(source)
        self._ask(source)

    def _candidates(self) -> set[NodeId]:
        current = self._views.current
        known = {*self._state.others, *self._callers} | (set() if current is None else set(current.nodes))
        if current is not None and current.configuration is not None:
            known |= current.configuration.electors.keys()
        if self._state.options.contact is not None:
            known.add(self._state.options.contact)
        return known - {self._state.node}

    def on_bootstrap_query(self, source: NodeId, message: BootstrapQuery) -> None:
        """Say that no view is known here, or send those that are."""
        if self._views.history:
            self._views.send_views(source, View(0))
            return
        others = self._ask_for(source, message) if not message.forwarded else ()
        self._state.outbox.send(source, NotBootstrapped(message.incarnation, others))

    def _ask_for(self, lowest: NodeId, message: BootstrapQuery) -> tuple[NodeId, ...]:
        """Ask the other members on behalf of the lowest; return those that have answered already."""
        state = self._state
        if self._bootstraps_together or lowest not in state.others:
            return ()
        if self._asks != message.incarnation:
            self._asks = message.incarnation
            self._not_bootstrapped.clear()
        for node in sorted(set(state.others) - {lowest} - self._not_bootstrapped):
            state.outbox.send_early(node, BootstrapQuery(message.incarnation, forwarded=True))
        return tuple(sorted(self._not_bootstrapped))

    def on_not_bootstrapped(self, source: NodeId, message: NotBootstrapped) -> None:
        """Count an answer; bootstrap view 1 when all have come."""
        views, state = self._views, self._state
        if message.asked != self._asks or views.history or source not in state.others:
            return
        self._not_bootstrapped |= {source, *message.others} & set(state.others)
        if self._may_bootstrap():
            views.bootstrap()

    def waiting_for(self) -> str:
        """Say in one line why this node is outside; empty for a member."""
        views = self._views
        if views.is_member:
            return ""
        if views.removed_at is not None:
            return "this data directory was removed from the cluster: it will never serve again"
        if self._state.joining and views.configuration is None:
            return "not a member yet: waiting until `viewstamp member add` names this node"
        if views.is_follower:
            return self._waiting_as_learner()
        if views.history and not views.may_join(self._state.me):
            return "not a member yet: waiting until `viewstamp member add` names this node"
        if views.history:
            return f"the primary of view {views.view} or a later one to admit this node"
        if self._bootstraps_together:
            silent = sorted(set(self._state.others) - self._not_bootstrapped)
            names = ", ".join(str(node) for node in silent)
            return f"nodes {names} to say whether they know a view"
        return "a member to admit this node"

    def _waiting_as_learner(self) -> str:
        configuration = self._views.configuration
        assert configuration is not None
        stays = configuration.members.keys() - configuration.electors.keys() - {*configuration.promised}
        return "" if self._state.node in stays else "catching up: a learner until it has everything"
