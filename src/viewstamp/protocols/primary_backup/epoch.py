"""Becoming primary: an epoch is granted by a majority, to one who has everything (PacificA 2.3).

Rules of this file:

- A candidate asks twice. The *trial* promises nothing and finds out whether a majority would grant, and
  whether the candidate is in the newest record that this majority knows; only then the epoch is really asked
  for. So a promotion that cannot succeed disturbs nobody.
- A grant counts in the incarnation that the newest record lists: what a node promised before it lost its disk
  is forgotten, however late the word of it arrives.
- Anything acknowledged in an older epoch is on the disks of all members of that epoch's record in force. The
  grants' majority meets those who stored it, so the candidate sees it or a newer one; being in it, it has
  everything.
- The operator promotes. The one exception is the primary itself: if the newest record that it knows names it,
  and nobody else is heard, it asks for the next epoch when it comes back, and gives way to whoever is heard.
"""

from collections.abc import Callable

from viewstamp.core.effects import Settled
from viewstamp.core.events import DirectiveToken
from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.primary_backup.bootstrap import is_sound_record
from viewstamp.protocols.primary_backup.journal import SyncRecord
from viewstamp.protocols.primary_backup.messages import Fence, Fenced, PromotionEnded
from viewstamp.protocols.primary_backup.state import NEVER, Role, State

Origin = DirectiveToken | tuple[NodeId, int]
"""Who wants the promotion: a directive of our own replica, or another node's request."""


class EpochCampaign:
    """This node's attempt to become primary; at most one at a time."""

    __slots__ = (
        "_answers",
        "_asked",
        "_by_operator",
        "_lead",
        "_number",
        "_origins",
        "_seat",
        "_state",
        "ask_again_at",
        "ends_at",
        "trial",
    )

    def __init__(self, state: State, lead: Callable[[SyncRecord], None]) -> None:
        self._state = state
        self._lead = lead
        self._number = state.rng.getrandbits(48)
        """Numbers the questions, from a random start: no answer to an earlier life fits one of this."""
        self._asked = 0
        """The epoch asked for."""
        self.trial = True
        self._by_operator = False
        self._answers: dict[NodeId, Fenced] = {}
        """What the others said to the present question."""
        self._origins: list[Origin] = []
        """Who waits for the outcome."""
        self._seat: str = ""
        """Why the last question of this campaign failed."""
        self.ask_again_at = NEVER
        self.ends_at = NEVER

    @property
    def is_under_way(self) -> bool:
        """Whether this node tries to become primary."""
        return self.ends_at < NEVER

    def begin(self, origin: Origin | None) -> None:
        """Try to become primary, because the operator wants it (`origin`) or because it was primary."""
        state = self._state
        if origin is not None:
            self._origins.append(origin)
        if not state.counts:
            self.fail(f"node {state.node} has lost what it promised: it must be let back in first")
            return
        self._by_operator = self._by_operator or origin is not None
        if not self.is_under_way or origin is not None:
            self.ends_at = Instant(state.now + state.options.promotion_timeout_us)
        self._seat = "no majority answered"
        state.resume_at = NEVER
        self._ask(trial=True)

    def ask_again(self) -> None:
        """What was asked may be lost: ask those who have not answered; start anew after a refusal."""
        state = self._state
        if any(not answer.granted for answer in self._answers.values()):
            self._ask(trial=True)  # with a higher epoch, after a look at who leads
            return
        self.ask_again_at = Instant(state.now + state.options.heartbeat_us)
        for peer in sorted(state.peers - self._answers.keys()):
            self._ask_one(peer)

    def on_fenced(self, source: NodeId, answer: Fenced) -> None:
        """A member's answer to the present question; any other is old."""
        state = self._state
        state.seen_epoch = max(state.seen_epoch, answer.epoch)
        stale = (answer.campaign, answer.asked, answer.trial) != (self._number, self._asked, self.trial)
        if not self.is_under_way or stale or not is_sound_record(answer.record, state):
            state.drop("answer to no question")
            return
        self._answers[source] = answer
        if not answer.granted:
            self._on_refusal(source, answer)
        self.check()

    def check(self) -> None:
        """See whether a majority has granted, and go on to what follows."""
        state = self._state
        if not self.is_under_way:
            return
        if not self.trial and state.promise_write > state.outbox.durable:
            return  # what others granted is of no use before the own promise is durable
        newest = self._newest()
        if self._count_grants(newest) < state.quorum:
            return
        if state.node not in newest.members:
            names = ", ".join(map(str, newest.members))
            self.fail(f"node {state.node} may lack what was acknowledged: promote one of {names}")
        elif self.trial:
            self._ask(trial=False)
        else:
            self._end()
            self._lead(newest)

    def fail(self, reason: str) -> None:
        """Give up, and say why to whoever asked for it."""
        state = self._state
        self._end()
        self._settle(reason)
        if state.role is Role.CANDIDATE:
            state.role = Role.BACKUP
        state.resume_later()

    def time_out(self) -> None:
        """It took too long."""
        self.fail(f"node {self._state.node} was not promoted in time: {self._seat}")

    def give_way(self) -> None:
        """Another epoch, or its primary, is heard of: this campaign is over."""
        if self.is_under_way:
            self.fail(f"epoch {self._state.epoch} was granted to node {self._state.candidate} meanwhile")

    def succeed(self) -> None:
        """This node leads: tell whoever asked for it."""
        self._settle(None)

    def _ask(self, *, trial: bool) -> None:
        """Ask everybody a new question."""
        state = self._state
        self.trial = trial
        self._number += 1
        self._answers = {}
        self._asked = max(state.epoch, state.seen_epoch) + 1
        if not trial:
            state.enter(self._asked, state.node, granted=True)
            state.role, state.leader = Role.CANDIDATE, None
        self.ask_again_at = Instant(state.now + state.options.heartbeat_us)
        for peer in sorted(state.peers):
            self._ask_one(peer)
        if trial and not state.peers:
            self.check()

    def _ask_one(self, peer: NodeId) -> None:
        fence = Fence(self._asked, self.trial, self._by_operator, self._number)
        if self.trial:
            self._state.reply(peer, fence)
        else:
            self._state.outbox.send(peer, fence)  # it speaks of the own promise, which must be durable

    def _newest(self) -> SyncRecord:
        """Return the newest record that anybody who answered knows of."""
        assert self._state.record is not None
        known = [self._state.record, *(answer.record for answer in self._answers.values())]
        return max(known, key=lambda record: record.age)

    def _count_grants(self, newest: SyncRecord) -> int:
        """Count those who granted, in the incarnation that the newest record lists; itself too."""
        state = self._state
        granted = [
            node
            for node, answer in self._answers.items()
            if answer.granted and newest.lists(node, answer.incarnation)
        ]
        return len(granted) + newest.lists(state.node, state.incarnation)

    def _on_refusal(self, source: NodeId, answer: Fenced) -> None:
        if answer.epoch >= self._asked:
            self._seat = f"node {source} had promised epoch {answer.epoch}"
            if not self.trial:
                self._stand_back()
        else:
            self._seat = f"node {source} hears a primary"

    def _stand_back(self) -> None:
        """Begin anew only after a while: a majority may grant this epoch yet, or another one's.

        Two candidates that outbid each other at once would go on with that as fast as their disks allow.
        """
        pause_us = self._state.rng.randrange(self._state.options.heartbeat_us) + 1
        self.ask_again_at = Instant(self._state.now + pause_us)

    def _end(self) -> None:
        self.ends_at = self.ask_again_at = NEVER
        self._by_operator = False
        self._answers = {}

    def _settle(self, refusal: str | None) -> None:
        state = self._state
        origins, self._origins = self._origins, []
        for origin in origins:
            if isinstance(origin, tuple):
                state.reply(origin[0], PromotionEnded(origin[1], refusal))
            else:
                state.outbox.emit(Settled(origin, refusal))


def answer_fence(state: State, source: NodeId, fence: Fence) -> bool:
    """Answer a candidate. Return whether its epoch was entered just now: then an old primary is one no more.

    Who does not count gives no answer: it may have promised this epoch to somebody else.
    """
    if not state.counts:
        state.drop("fence before this node counts")
        return False
    assert state.record is not None
    protected = not fence.by_operator and state.hears_leader and state.leader != source
    if fence.trial:
        granted = fence.epoch > state.epoch and not protected
    else:
        again = fence.epoch == state.epoch and state.candidate == source
        granted = again or (fence.epoch > state.epoch and not protected)
    entered = granted and not fence.trial and fence.epoch > state.epoch
    if entered:
        state.enter(fence.epoch, source, granted=True)
    answer = Fenced(
        state.epoch,
        state.incarnation,
        fence.epoch,
        fence.trial,
        granted,
        fence.campaign,
        state.record,
    )
    state.outbox.send(source, answer)  # the promise and the record in it must be on disk
    return entered
