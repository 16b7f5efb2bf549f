"""An operator's request for another primary: the next view has the same members and that one as primary.

The primary prefers the node in what it proposes until a view is decided. If no view with that primary comes
about in time, the request is refused and nothing else has changed.
"""

from collections.abc import Collection

from viewstamp.core.effects import Settled
from viewstamp.core.events import DirectiveToken
from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.viewstamped.membership import Membership
from viewstamp.protocols.viewstamped.proposer import Proposer
from viewstamp.protocols.viewstamped.role import Role
from viewstamp.protocols.viewstamped.state import State
from viewstamp.protocols.viewstamped.views import DecidedViews


class LeadershipTransfer:
    """At most one transfer at a time."""

    __slots__ = ("_deadline", "_proposer", "_role", "_state", "_target", "_token", "_views")

    def __init__(self, state: State, views: DecidedViews, proposer: Proposer, role: Role) -> None:
        self._state = state
        self._views = views
        self._proposer = proposer
        self._role = role
        self._token: DirectiveToken | None = None
        self._target = state.node
        """The node that shall be primary."""
        self._deadline = Instant(0)
        """When the request is refused, unless the target leads by then."""

    @property
    def is_under_way(self) -> bool:
        """Whether a request waits for its view."""
        return self._token is not None

    def direct(self, token: DirectiveToken, to: NodeId | None, leader: NodeId | None) -> None:
        """An operator wants this primary; None: any other member. `leader` is the node that leads now."""
        state, current = self._state, self._views.current
        refusal = self._refusal(current, to)
        if refusal is not None or current is None:
            state.outbox.emit(Settled(token, refusal))
            return
        others = [node for node in current.nodes if node != state.node]
        options = state.options
        patience_us = 4 * options.paxos_timeout_us + options.heartbeat_misses_max * options.heartbeat_us
        self._token = token
        self._target = to if to is not None else min(others, default=state.node)
        self._deadline = Instant(state.now + patience_us)
        if self._target != state.node:
            self._views.preferred_primary = self._target
            self._proposer.pursue()
        else:
            self.settle(leader)

    @property
    def target(self) -> NodeId | None:
        """The node that is to be primary; None: no transfer is under way."""
        return self._target if self._token is not None else self._views.preferred_primary

    def hand_over(self, staying: Collection[NodeId]) -> None:
        """The primary is to leave the cluster: prefer a member that stays; asked again until one leads."""
        current = self._views.current
        assert current is not None
        fit = [node for node in current.nodes if node in staying and node != self._state.node]
        if fit and self.target is None:
            self._views.preferred_primary = min(fit)
            self._proposer.pursue()

    def _refusal(self, current: Membership | None, to: NodeId | None) -> str | None:
        primary = self._role.primary
        if current is None or primary is None or not primary.is_synchronised:
            return "this node is not the primary of a synchronised view: ask the primary"
        if self.is_under_way:
            return "another transfer is in progress: wait for it"
        if to is not None and to not in current.nodes:
            return f"node {to} is not a member of view {current.view}"
        return None

    def settle(self, leader: NodeId | None) -> None:
        """Answer the operator if the target leads, or if the time is over."""
        token = self._token
        if token is None or (leader != self._target and self._state.now < self._deadline):
            return
        refusal = None
        if leader != self._target:
            refusal = f"no view with node {self._target} as primary was agreed on: node {leader} still leads"
            self._views.preferred_primary = None
        self._token = None
        self._state.outbox.emit(Settled(token, refusal))
