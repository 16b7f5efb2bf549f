"""Admin requests: who is to lead. A request is carried to the node that it names, and the outcome back.

Rules of this file:

- A request is repeated until it is answered, so each has a number, and its target takes up a number once.
- The target gives up first and says why. The sender's own time limit is for a target that never answers.
- A target that leads in a later epoch has fulfilled the request, even if its answer is lost.
"""

from collections import deque
from typing import Final

import msgspec

from viewstamp.core.effects import Settled
from viewstamp.core.events import DirectiveToken
from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.primary_backup.epoch import EpochCampaign
from viewstamp.protocols.primary_backup.leader import Leader
from viewstamp.protocols.primary_backup.messages import Promote, PromoteResponse
from viewstamp.protocols.primary_backup.state import Role, State
from viewstamp.protocols.replication.node_state import NEVER

_REMEMBERED_MAX: Final = 64


class _PendingPromotion(msgspec.Struct, frozen=True):
    token: DirectiveToken | None
    """None: nobody asked, the primary is to leave the cluster."""
    target: NodeId
    epoch: int
    """The epoch in which it was requested: a later one led by the target fulfils it."""
    ends_at: Instant


class AdminRequests:
    """Promotions requested of other nodes, and those that other nodes requested of this one."""

    __slots__ = ("_campaign", "_handled", "_leader", "_number", "_pending", "_state", "ask_again_at")

    def __init__(self, state: State, leader: Leader, campaign: EpochCampaign) -> None:
        self._state = state
        self._leader = leader
        self._campaign = campaign
        self._pending: dict[int, _PendingPromotion] = {}
        self._number = state.rng.getrandbits(48)
        """Numbers the requests from a random start: an answer to an earlier process matches none of them."""
        self._handled: deque[tuple[NodeId, int]] = deque(maxlen=_REMEMBERED_MAX)
        """The latest requests of others that this node took up: a copy of one is not taken up again."""
        self.ask_again_at = NEVER

    def transfer(self, token: DirectiveToken, to: NodeId | None) -> None:
        """Promote a node: `to`, or this one where none is named, or from a primary the fittest other."""
        state = self._state
        leads = state.role is Role.PRIMARY
        if to is None:
            to = self._fittest() if leads else state.node
        if to is None:
            refusal = "not promoted: no other node has everything that was acknowledged; try again later"
            state.outbox.emit(Settled(token, refusal))
        elif to != state.node and to not in state.others:
            state.outbox.emit(Settled(token, f"not promoted: node {to} is not a member of this cluster"))
        elif to != state.node:
            self._send(token, to)
        elif leads:
            state.outbox.emit(Settled(token, None))
        else:
            self._campaign.begin(token)

    def hand_over(self) -> None:
        """The primary is to leave the cluster: let a member lead that stays; asked again until one does."""
        to = self._fittest()
        if self.target is None and to is not None:
            self._send(None, to)

    @property
    def target(self) -> NodeId | None:
        """A node that is to lead by a request of this one that is not answered yet; None: there is none."""
        return next((pending.target for pending in self._pending.values()), None)

    def ask_again(self) -> None:
        """Send the pending requests again, and give up those that have run out of time."""
        state = self._state
        for request, pending in list(self._pending.items()):
            if state.now >= pending.ends_at:
                self._settle(
                    request,
                    f"node {pending.target} did not answer in time, and may still become primary: "
                    f"look at its status before you promote another",
                )
            else:
                state.reply(pending.target, Promote(request))
        again = Instant(state.now + state.options.heartbeat_us)
        self.ask_again_at = again if self._pending else NEVER

    def on_promote(self, source: NodeId, message: Promote) -> None:
        """Take up another node's request that this one leads."""
        if self._state.role is Role.PRIMARY:
            self._state.reply(source, PromoteResponse(message.request, None))
        elif (source, message.request) not in self._handled:
            self._handled.append((source, message.request))
            self._campaign.begin((source, message.request))

    def on_promote_response(self, source: NodeId, answer: PromoteResponse) -> None:
        """Report the outcome that the target sent."""
        pending = self._pending.get(answer.request)
        if pending is not None and pending.target == source:
            self._settle(answer.request, answer.refusal)

    def on_leader_changed(self) -> None:
        """Report success where the node that is primary now was to be promoted."""
        state = self._state
        for request, pending in list(self._pending.items()):
            if state.leader == pending.target and state.epoch > pending.epoch:
                self._settle(request, None)

    def _send(self, token: DirectiveToken | None, target: NodeId) -> None:
        """Request that `target` leads."""
        state = self._state
        self._number += 1
        # Longer than the target's own limit: its answer says why it failed, and this one cannot.
        limit_us = state.options.promotion_timeout_us + state.options.silence_us
        ends_at = Instant(state.now + limit_us)
        self._pending[self._number] = _PendingPromotion(token, target, state.epoch, ends_at)
        self.ask_again()

    def _settle(self, request: int, refusal: str | None) -> None:
        pending = self._pending.pop(request)
        if pending.token is not None:
            self._state.outbox.emit(Settled(pending.token, refusal))
        if not self._pending:
            self.ask_again_at = NEVER

    def _fittest(self) -> NodeId | None:
        """Return the synchronous member, other than this node, that has most of the log and is to stay."""
        record = self._leader.synchronous_set.in_force
        if record is None:
            return None
        staying = {node for node, _ in record.configuration.voters} - {self._state.node}
        fit = [self._leader.progress[node] for node in record.members if node in staying]
        return max(fit, key=lambda progress: progress.matched).node if fit else None
