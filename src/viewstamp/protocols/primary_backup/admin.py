"""The operator's wish that another node leads, carried there and its outcome back.

What the operator wants of a fenced node: who is to lead.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from viewstamp.core.effects import Settled
from viewstamp.core.events import DirectiveToken
from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.primary_backup.messages import Promote, PromotionEnded
from viewstamp.protocols.primary_backup.state import NEVER, Role, State

if TYPE_CHECKING:
    from viewstamp.protocols.primary_backup.core import PrimaryBackupCore

_REMEMBERED_MAX: Final = 64


class _Errand(msgspec.Struct, frozen=True):
    token: DirectiveToken
    target: NodeId
    epoch: int
    """The epoch in which it was wished: a later one led by the target fulfils it."""
    ends_at: Instant


class Errands:
    """Wishes under way from here to others, and those that came from others."""

    __slots__ = ("_errands", "_handled", "_number", "_state", "ask_again_at")

    def __init__(self, state: State) -> None:
        self._state = state
        self._errands: dict[int, _Errand] = {}
        self._number = state.rng.getrandbits(48)
        """Numbers the requests, from a random start: no answer to an earlier life fits one of this."""
        self._handled: deque[tuple[NodeId, int]] = deque(maxlen=_REMEMBERED_MAX)
        """The latest requests of others that this node took up: a copy of one is not taken up again."""
        self.ask_again_at = NEVER

    def send(self, token: DirectiveToken, target: NodeId) -> None:
        """Ask `target` to lead."""
        state = self._state
        self._number += 1
        # The target gives up first, and says why; this end is for the case that it is never heard.
        patience = state.options.promotion_timeout_us + state.options.silence_us
        ends_at = Instant(state.now + patience)
        self._errands[self._number] = _Errand(token, target, state.epoch, ends_at)
        self.ask_again()

    def ask_again(self) -> None:
        """Send what is open (again), and give up what took too long."""
        state = self._state
        for request, errand in list(self._errands.items()):
            if state.now >= errand.ends_at:
                self._settle(request, f"node {errand.target} did not answer in time")
            else:
                state.reply(errand.target, Promote(request))
        again = Instant(state.now + state.options.heartbeat_us)
        self.ask_again_at = again if self._errands else NEVER

    def is_new(self, source: NodeId, request: int) -> bool:
        """Tell whether this request of another node was not taken up yet."""
        if (source, request) in self._handled:
            return False
        self._handled.append((source, request))
        return True

    def on_ended(self, source: NodeId, answer: PromotionEnded) -> None:
        """The target says what became of it."""
        errand = self._errands.get(answer.request)
        if errand is not None and errand.target == source:
            self._settle(answer.request, answer.refusal)

    def on_led(self) -> None:
        """A primary is known: whoever wished for it has it."""
        state = self._state
        for request, errand in list(self._errands.items()):
            if state.leader == errand.target and state.epoch > errand.epoch:
                self._settle(request, None)

    def _settle(self, request: int, refusal: str | None) -> None:
        errand = self._errands.pop(request)
        self._state.outbox.emit(Settled(errand.token, refusal))
        if not self._errands:
            self.ask_again_at = NEVER


def transfer(core: "PrimaryBackupCore", token: DirectiveToken, to: NodeId | None) -> None:
    """Promote a server: this one where none is named, or from a primary the fittest other."""
    state = core.state
    leads = state.role is Role.PRIMARY
    if to is None:
        to = _fittest(core) if leads else state.node
    if to is None:
        state.outbox.emit(Settled(token, "no other member has everything: try again later"))
    elif to not in state.members:
        state.outbox.emit(Settled(token, f"node {to} is no member"))
    elif to != state.node:
        core.errands.send(token, to)
    elif leads:
        state.outbox.emit(Settled(token, None))
    else:
        core.campaign.begin(token)


def _fittest(core: "PrimaryBackupCore") -> NodeId | None:
    """Return the synchronous member, other than this one, that has most of the log."""
    record = core.replication.syncset.in_force
    if record is None:
        return None
    fit = [core.replication.progress[node] for node in record.members if node != core.state.node]
    return max(fit, key=lambda progress: progress.matched).node if fit else None
