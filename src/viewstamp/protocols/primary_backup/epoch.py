"""Becoming primary: a majority grants an epoch, to a node that has everything (PacificA 2.4).

Rules of this file:

- A candidate asks twice. The *trial* promises nothing. It finds out whether a majority would grant, and
  whether the candidate is in the newest record that this majority knows. Only then the candidate asks for the
  epoch. So a promotion that cannot succeed disturbs nobody.
- A grant counts in the incarnation that the newest record lists. What a node promised before it lost its disk
  does not count, however late it arrives.
- Anything acknowledged in an older epoch is on the disks of all members of that epoch's record in force. The
  majority that grants has a node in common with the majority that stored the record, so the candidate sees
  that record or a newer one. It is a member of it, so it has everything.
- The operator promotes. The one exception is the primary itself: if the newest record that it knows names it,
  and no other primary is heard, it asks for the next epoch when it comes back. It gives way to any other.
"""

from collections.abc import Callable

from viewstamp.core.effects import Settled
from viewstamp.core.events import DirectiveToken
from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.primary_backup.bootstrap import is_sound_record
from viewstamp.protocols.primary_backup.journal import SyncRecord
from viewstamp.protocols.primary_backup.messages import Fence, FenceResponse, PromoteResponse
from viewstamp.protocols.primary_backup.state import Role, State
from viewstamp.protocols.replication.node_state import NEVER
from viewstamp.protocols.replication.quorums import Quorums

Requester = DirectiveToken | tuple[NodeId, int]
"""Where the promotion was requested: by our own replica's directive, or by another node, with its number."""


class EpochCampaign:
    """This node's attempt to become primary; at most one at a time."""

    __slots__ = (
        "_answers",
        "_asked",
        "_by_operator",
        "_last_failure",
        "_lead",
        "_number",
        "_requesters",
        "_state",
        "ask_again_at",
        "ends_at",
        "trial",
    )

    def __init__(self, state: State, lead: Callable[[SyncRecord], None]) -> None:
        self._state = state
        self._lead = lead
        self._number = state.rng.getrandbits(48)
        """Numbers the questions from a random start: an answer to an earlier process matches none of them."""
        self._asked = 0
        """The epoch asked for."""
        self.trial = True
        """Whether the present question promises nothing."""
        self._by_operator = False
        """The operator asked for it: the others do not protect the primary that they hear."""
        self._answers: dict[NodeId, FenceResponse] = {}
        """What the others said to the present question."""
        self._requesters: list[Requester] = []
        """Those that wait for the outcome."""
        self._last_failure: str = ""
        """Why the last question of this campaign failed."""
        self.ask_again_at = NEVER
        self.ends_at = NEVER

    @property
    def is_under_way(self) -> bool:
        """Whether this node is trying to become primary."""
        return self.ends_at < NEVER

    def begin(self, requester: Requester | None) -> None:
        """Try to become primary: for `requester`, or with none because this node was primary before."""
        state = self._state
        assert state.role is not Role.PRIMARY, "a primary has nothing to ask for"
        if requester is not None:
            self._requesters.append(requester)
        if not state.counts:
            reason = f"the disk of node {state.node} was wiped, and it is not re-admitted yet"
            if state.is_listed:
                reason = f"node {state.node} is a learner"
            self.fail(
                f"not promoted: {reason}; "
                f"promote another node, or wait until its status no longer says 'catching up'"
            )
            return
        self._by_operator = self._by_operator or requester is not None
        if not self.is_under_way or requester is not None:
            self.ends_at = Instant(state.now + state.options.promotion_timeout_us)
        self._last_failure = "no majority answered"
        state.resume_at = NEVER
        self._ask(trial=True)

    def ask_again(self) -> None:
        """Ask the nodes that have not answered, as messages may be lost; after a refusal, start again."""
        state = self._state
        if any(not answer.granted for answer in self._answers.values()):
            self._ask(trial=True)  # for a higher epoch, and only if no primary is heard
            return
        self.ask_again_at = Instant(state.now + state.options.heartbeat_us)
        for peer in sorted(self._asks() - self._answers.keys()):
            self._ask_one(peer)

    def _asks(self) -> set[NodeId]:
        """Return the other nodes of which a majority must grant, by the newest record known."""
        return {node for node, _ in self._newest().roster} - {self._state.node}

    def on_fence_response(self, source: NodeId, answer: FenceResponse) -> None:
        """Count a member's answer to the present question; any other is old."""
        state = self._state
        # Whatever it answers: the next epoch asked for must be higher than any that was promised.
        state.seen_epoch = max(state.seen_epoch, answer.epoch)
        stale = (answer.campaign, answer.asked, answer.trial) != (self._number, self._asked, self.trial)
        if not self.is_under_way or stale or not is_sound_record(answer.record, state):
            state.drop("grant or refusal of an earlier promotion attempt")
            return
        asked_before = self._asks()
        self._answers[source] = answer
        if not answer.granted:
            self._on_refusal(source, answer)
        for peer in sorted(self._asks() - asked_before):
            self._ask_one(peer)  # the answer knows of members that this node had not heard of
        self.check()

    def check(self) -> None:
        """Where a majority has granted: ask for the epoch after the trial, then lead."""
        state = self._state
        if not self.is_under_way:
            return
        if not self.trial and state.promise_write > state.outbox.durable:
            return  # leading before the own promise is durable would let this node grant the epoch twice
        newest = self._newest()
        if not Quorums(newest.configuration).agree(self._granted(newest)):
            return
        if state.node not in newest.members:
            names = ", ".join(map(str, newest.members))
            self.fail(
                f"not promoted: node {state.node} may lack acknowledged entries; promote one of {names}"
            )
        elif self.trial:
            self._ask(trial=False)
        else:
            self._lead(newest)

    def fail(self, reason: str) -> None:
        """Give up, and report the reason to those that requested it."""
        state = self._state
        self._end()
        self._settle(reason)
        if state.role is Role.CANDIDATE:
            state.become(Role.BACKUP)
        state.resume_later()

    def time_out(self) -> None:
        """Give up: `promotion_timeout_ms` has passed."""
        self.fail(f"not promoted in time: {self._last_failure}")

    def give_way(self) -> None:
        """Give up, as another node has the epoch or a later one."""
        if self.is_under_way:
            self.fail(
                f"not promoted: epoch {self._state.epoch} went to node {self._state.candidate} meanwhile"
            )

    def succeed(self) -> None:
        """End the campaign and report success: this node leads."""
        self._end()
        self._settle(None)

    def _ask(self, *, trial: bool) -> None:
        """Ask every other member a new question."""
        state = self._state
        self.trial = trial
        self._number += 1
        self._answers = {}
        self._asked = max(state.epoch, state.seen_epoch) + 1
        if not trial:
            state.enter(self._asked, state.node, granted=True)
            state.become(Role.CANDIDATE)
        self.ask_again_at = Instant(state.now + state.options.heartbeat_us)
        asked = self._asks()
        for peer in sorted(asked):
            self._ask_one(peer)
        if trial and not asked:
            self.check()

    def _ask_one(self, peer: NodeId) -> None:
        fence = Fence(
            epoch=self._asked, trial=self.trial, by_operator=self._by_operator, campaign=self._number
        )
        if self.trial:
            self._state.reply(peer, fence)
        else:
            self._state.outbox.send(peer, fence)  # it tells of the own promise, which must be on disk first

    def _newest(self) -> SyncRecord:
        """Return the newest record that this node or one that answered knows of."""
        assert self._state.record is not None
        known = [self._state.record, *(answer.record for answer in self._answers.values())]
        return max(known, key=lambda record: record.age)

    def _granted(self, newest: SyncRecord) -> list[NodeId]:
        """Return the nodes that grant in the incarnation that the newest record lists, with this one."""
        state = self._state
        granted = [
            node
            for node, answer in self._answers.items()
            if answer.granted and newest.lists(node, answer.incarnation)
        ]
        return [*granted, state.node] if newest.lists(state.node, state.incarnation) else granted

    def _on_refusal(self, source: NodeId, answer: FenceResponse) -> None:
        if answer.epoch >= self._asked:
            self._last_failure = f"node {source} had already promised epoch {answer.epoch}"
            if not self.trial:
                self._back_off()
        else:
            self._last_failure = f"node {source} still hears a primary"

    def _back_off(self) -> None:
        """Begin again only after a random pause: a majority may still grant this epoch.

        Two candidates that outbid each other at once would continue as fast as their disks allow.
        """
        pause_us = self._state.rng.randrange(self._state.options.heartbeat_us) + 1
        self.ask_again_at = Instant(self._state.now + pause_us)

    def _end(self) -> None:
        self.ends_at = self.ask_again_at = NEVER
        self._by_operator = False
        self._answers = {}

    def _settle(self, refusal: str | None) -> None:
        state = self._state
        requesters, self._requesters = self._requesters, []
        for requester in requesters:
            if isinstance(requester, tuple):
                state.reply(requester[0], PromoteResponse(requester[1], refusal))
            else:
                state.outbox.emit(Settled(requester, refusal))


def answer_fence(state: State, source: NodeId, fence: Fence) -> bool:
    """Answer a candidate. Return whether its epoch was entered just now: then this node leads no longer."""
    if not state.is_listed:
        # Before its disk was wiped, this node may have promised the epoch to another candidate. A learner
        # answers: it may vote by a record that it has not heard of, and counts only by such a one.
        state.drop("fence while this node is not re-admitted")
        return False
    assert state.record is not None
    assert state.record.epoch <= state.epoch, (state.record, state.epoch)
    protected = not fence.by_operator and state.has_live_leader and state.leader != source
    if fence.trial:
        # A trial of the present epoch would succeed and then be refused: that epoch has its candidate.
        granted = fence.epoch > state.epoch and not protected
    else:
        # The same candidate again: its first answer was lost, and to repeat a promise is harmless.
        again = fence.epoch == state.epoch and state.candidate == source
        granted = again or (fence.epoch > state.epoch and not protected)
    entered = granted and not fence.trial and fence.epoch > state.epoch
    if entered:
        state.enter(fence.epoch, source, granted=True)
    answer = FenceResponse(
        epoch=state.epoch,
        incarnation=state.incarnation,
        asked=fence.epoch,
        trial=fence.trial,
        granted=granted,
        campaign=fence.campaign,
        record=state.record,
    )
    # Not early: a grant that a crash could undo might be given twice.
    state.outbox.send(source, answer)
    return entered
