"""A client's claims without input or output: what is asked for, what is held, and how certain that is.

Rules of this file:

- of each claim at most one call is under way, so that the service executes them in the order in which they
  were meant; a claim is given back only when no question for it is open, and that is repeated until a service
  has confirmed it: a task that gives up leaves nothing behind that waits, or is granted, in its name;
- a grant counts only by an answer under the session that lives, while that is certain: a notice only says
  that it is worth asking;
- what is held is certain as long as the session is, and as the lease of the grant: nine tenths of it from the
  moment at which the question was sent. After that it is doubtful until the service has confirmed it;
- with the session all that was granted under it is lost. What waits is asked for again under the next one.

The states of a claim, and how they follow each other, are `TRANSITIONS`.
"""

from heapq import heappop, heappush
from typing import Any, Final, Literal, TypeAlias, assert_never

from viewstamp.core.events import Woke
from viewstamp.core.ids import MICROSECONDS_PER_SECOND, Instant
from viewstamp.services.lock_events import Failure
from viewstamp.services.locks import Revoke
from viewstamp.services.recipes.keeper_events import (
    Answered,
    Call,
    CallNumber,
    ClaimId,
    Closing,
    Entered,
    Finished,
    Forget,
    KeeperEffect,
    KeeperEvent,
    Leave,
    Left,
    Lost,
    Observed,
    Refused,
    Renew,
    Renewed,
    Request,
    Standing,
    Stands,
    Told,
    Want,
)

State: TypeAlias = Literal["asking", "waiting", "held", "leaving", "none"]

TRANSITIONS: Final[dict[State, tuple[State, ...]]] = {
    "asking": ("waiting", "held", "leaving", "none"),
    "waiting": ("asking", "leaving"),
    "held": ("leaving", "none"),
    "leaving": ("none",),
}
"""asking: a question is under way. waiting: it is asked again later. held: it was granted. leaving: it is
given back, once no question is open."""

RELEASE_AGAIN_US: Final = MICROSECONDS_PER_SECOND
"""A call of which nobody knows how it ended is repeated so much later."""
DOUBT_PAUSE_US: Final = MICROSECONDS_PER_SECOND // 10
"""A grant that came while the session is in doubt is asked for again so much later."""
_SURE_PARTS, _LEASE_PARTS = 9, 10
_RENEWALS_PER_LEASE: Final = 3

CLOSED: Final = Failure("not_executed", "", "the client is closed")
_SESSION_GONE: Final = "its session is gone"


class _Claim:
    """One claim."""

    __slots__ = (
        "asked_at",
        "call",
        "doubted",
        "due",
        "number",
        "parting",
        "request",
        "standing",
        "state",
        "told",
        "until",
    )

    def __init__(self, number: ClaimId, request: Request) -> None:
        self.number = number
        self.request = request
        self.state: State = "waiting"
        self.call: Call | None = None
        """What is under way."""
        self.asked_at = Instant(0)
        """When that was sent."""
        self.doubted = False
        """It was sent under a session that is gone: its answer says nothing of now."""
        self.told = False
        """The service said since that it is worth asking."""
        self.due: Instant | None = None
        """When to ask again."""
        self.until: Instant | None = None
        """Until when its lease is certain; None: as long as the session is."""
        self.standing: Standing = "held"
        self.parting: tuple[Any, ...] = ()
        """What its release says."""

    def move(self, state: State) -> None:
        assert state in TRANSITIONS[self.state], (self.number, self.state, state)
        self.state = state


class ClaimKeeper:
    """The claims of one client. `step` takes an event in and returns what must be done, in order."""

    __slots__ = (
        "_calls",
        "_claims",
        "_closing",
        "_dues",
        "_effects",
        "_last_call",
        "_now",
        "_retry_us",
        "_session",
        "_until",
    )

    def __init__(self, retry_us: int | None = 3 * MICROSECONDS_PER_SECOND) -> None:
        """`retry_us`: how often a claim that waits is asked for again. None: only when it is told."""
        self._retry_us = retry_us
        self._claims: dict[ClaimId, _Claim] = {}
        """None of them is in state none."""
        self._calls: dict[CallNumber, _Claim] = {}
        """Of each call under way its claim, which has it as `call`."""
        self._dues: list[tuple[Instant, ClaimId]] = []
        """A heap of when to look at which claim; some are out of date."""
        self._last_call = 0
        self._session: int | None = None
        self._until: Instant | None = None
        self._now = Instant(0)
        self._closing = False
        self._effects: list[KeeperEffect] = []

    def __len__(self) -> int:
        """Return how many claims it has, wants or gives back."""
        return len(self._claims)

    @property
    def asked(self) -> int:
        """How many calls it has asked for so far."""
        return self._last_call

    def state_of(self, claim: ClaimId) -> State:
        """Return the state of a claim, for tests and inspection."""
        return self._claims[claim].state if claim in self._claims else "none"

    @property
    def deadline(self) -> Instant | None:
        """The next moment at which it wants to be woken; None: never."""
        while self._dues:
            at, number = self._dues[0]
            claim = self._claims.get(number)
            if claim is not None and at in (claim.due, self._end_of(claim)):
                return at
            heappop(self._dues)
        return None

    def is_sure(self, now: Instant) -> bool:
        """Return whether the session lives for certain."""
        return self._session is not None and self._until is not None and now < self._until

    def standing_of(self, number: ClaimId, now: Instant) -> Literal["held", "doubtful", "lost"]:
        """Return what is known of a claim that was granted."""
        claim = self._claims.get(number)
        if claim is None or claim.state != "held":
            return "lost"
        end = self._end_of(claim)
        return "held" if self._session is not None and end is not None and now < end else "doubtful"

    def step(self, event: KeeperEvent, now: Instant) -> list[KeeperEffect]:
        """Take in one event and return what must be done, in order. `now` never goes back."""
        self._now = now
        match event:
            case Want():
                self._want(event)
            case Renew():
                self._renew(event)
            case Leave():
                self._leave(event)
            case Forget():
                self._forget(event.claim)
            case Answered():
                self._answered(event)
            case Told():
                self._told(event)
            case Observed():
                self._observed(event)
            case Woke():
                self._woke()
            case Closing():
                self._close()
            case _:
                assert_never(event)
        effects, self._effects = self._effects, []
        return effects

    # What the process wants

    def _want(self, event: Want) -> None:
        assert event.claim not in self._claims, event.claim
        if self._closing:
            self._effects.append(Refused(event.claim, CLOSED))
            return
        claim = self._claims[event.claim] = _Claim(event.claim, event.request)
        claim.move("asking")
        self._call(claim, "acquire")

    def _renew(self, event: Renew) -> None:
        claim = self._claims.get(event.claim)
        if claim is None or claim.state != "held":
            return
        claim.request = event.request
        if claim.call is None:
            self._call(claim, "acquire")
        else:
            claim.told = True

    def _leave(self, event: Leave) -> None:
        claim = self._claims.get(event.claim)
        if claim is None:
            self._effects.append(Left(event.claim))
        elif claim.state != "leaving":
            claim.parting = event.arguments
            self._give_back(claim)

    def _forget(self, number: ClaimId) -> None:
        claim = self._claims.get(number)
        if claim is None:
            return
        if claim.call is None:
            self._drop(claim)
        elif claim.state != "leaving":
            self._give_back(claim)  # a question that is open may be executed later, and claim it again

    def _give_back(self, claim: _Claim) -> None:
        claim.move("leaving")
        claim.due = claim.until = None
        if claim.call is None:
            self._call(claim, "release")

    # What the services say

    def _answered(self, event: Answered) -> None:
        claim = self._calls.pop(event.call)
        call, claim.call = claim.call, None
        assert call is not None, claim.number
        answer = event.answer
        if call.method == "release":
            self._release_ended(claim, answer)
        elif claim.state == "leaving":
            self._call(claim, "release")
        elif isinstance(answer, Failure):
            self._failed(claim, answer)
        elif claim.doubted:
            self._call(claim, "acquire")
        elif answer.state == "granted":
            self._granted(claim, answer)
        else:
            self._not_granted(claim, answer)

    def _granted(self, claim: _Claim, answer: Any) -> None:
        lease = claim.request.lease_us
        claim.until = Instant(claim.asked_at + lease * _SURE_PARTS // _LEASE_PARTS) if lease else None
        if claim.state == "asking" and not self._is_certain(claim):
            claim.move("waiting")
            self._ask_at(claim, DOUBT_PAUSE_US)
            return
        if claim.state == "asking":
            claim.move("held")
            self._effects.append(Entered(claim.number, answer.token, answer))
            self._watch_end(claim)
        else:
            self._effects.append(Renewed(claim.number, answer))
            self._look_at(claim)
        if claim.told:
            self._call(claim, "acquire")
        elif claim.request.renews and lease:
            self._ask_at(claim, max(0, claim.asked_at + lease // _RENEWALS_PER_LEASE - self._now))

    def _not_granted(self, claim: _Claim, answer: Any) -> None:
        if claim.state == "held":
            self._lose(claim, "the service no longer knows it")
        elif answer.state != "waiting":
            self._refuse(claim, Failure("raised", "Late", "the service has seen a later number"))
        elif claim.told:
            self._call(claim, "acquire")
        else:
            claim.move("waiting")
            self._ask_at(claim, self._retry_us)

    def _failed(self, claim: _Claim, failure: Failure) -> None:
        if failure.outcome in {"session_expired", "unknown"} and claim.state == "asking":
            self._call(claim, "acquire")
        elif claim.state == "asking":
            self._refuse(claim, failure)
        elif failure.outcome in {"raised", "session_expired"}:
            self._lose(claim, failure.explanation, failure.kind)
        else:
            self._ask_at(claim, RELEASE_AGAIN_US)

    def _release_ended(self, claim: _Claim, answer: Any) -> None:
        if isinstance(answer, Failure) and answer.outcome in {"unknown", "not_executed"}:
            self._ask_at(claim, RELEASE_AGAIN_US)
        else:
            self._drop(claim)

    def _told(self, event: Told) -> None:
        notice = event.notice
        claim = self._claims.get(ClaimId(notice.sequence))
        if isinstance(notice, Revoke) or claim is None or claim.request.name != notice.name:
            return
        if claim.state == "leaving":
            return
        if claim.call is not None:
            claim.told = True
            return
        if claim.state == "waiting":
            claim.move("asking")
        self._call(claim, "acquire")

    def _refuse(self, claim: _Claim, failure: Failure) -> None:
        self._effects.append(Refused(claim.number, failure))
        claim.move("none")
        self._remove(claim)

    def _lose(self, claim: _Claim, why: str, kind: str = "") -> None:
        """It is held no longer. What is still open for it may be executed: then it is given back."""
        self._effects.append(Lost(claim.number, why, kind))
        if claim.call is None:
            claim.move("none")
            self._remove(claim)
        else:
            self._give_back(claim)

    def _drop(self, claim: _Claim) -> None:
        """The service no longer has it."""
        self._effects.append(Left(claim.number))
        claim.move("none")
        self._remove(claim)

    def _remove(self, claim: _Claim) -> None:
        del self._claims[claim.number]
        self._finish()

    # The session

    def _observed(self, event: Observed) -> None:
        before, self._session, self._until = self._session, event.session, event.until
        if before is not None and before != event.session:
            for claim in list(self._claims.values()):
                self._lose_session(claim)
        for claim in list(self._claims.values()):
            if claim.state == "held":
                self._look_at(claim)

    def _lose_session(self, claim: _Claim) -> None:
        claim.doubted = claim.call is not None
        if claim.state == "held":
            self._lose(claim, _SESSION_GONE)
        elif claim.state == "waiting":
            claim.move("asking")
            self._call(claim, "acquire")
        elif claim.state == "leaving" and claim.call is None:
            self._drop(claim)  # its session gave it back

    def _end_of(self, claim: _Claim) -> Instant | None:
        """Until when a claim that is held is held for certain."""
        if claim.until is None or self._until is None:
            return self._until
        return min(claim.until, self._until)

    def _is_certain(self, claim: _Claim) -> bool:
        end = self._end_of(claim)
        return self._session is not None and end is not None and self._now < end

    def _look_at(self, claim: _Claim) -> None:
        """Say so if what is known of a claim that is held has changed."""
        standing: Standing = "held" if self._is_certain(claim) else "doubtful"
        if standing != claim.standing:
            claim.standing = standing
            self._effects.append(Stands(claim.number, standing))
        self._watch_end(claim)

    def _watch_end(self, claim: _Claim) -> None:
        end = self._end_of(claim)
        if end is not None and end > self._now:
            heappush(self._dues, (end, claim.number))

    # Time and the end

    def _woke(self) -> None:
        while (at := self.deadline) is not None and at <= self._now:
            _, number = heappop(self._dues)
            claim = self._claims[number]
            if claim.due is not None and claim.due <= self._now and claim.call is None:
                claim.due = None
                if claim.state == "waiting":
                    claim.move("asking")
                self._call(claim, "release" if claim.state == "leaving" else "acquire")
            elif claim.state == "held":
                self._look_at(claim)

    def _close(self) -> None:
        self._closing = True
        for claim in list(self._claims.values()):
            if claim.state in {"asking", "waiting"}:
                self._effects.append(Refused(claim.number, CLOSED))
            if claim.state != "leaving":
                self._give_back(claim)
        self._finish()

    def _finish(self) -> None:
        if self._closing and not self._claims:
            self._effects.append(Finished())

    # Small things

    def _call(self, claim: _Claim, method: Literal["acquire", "release"]) -> None:
        assert claim.call is None, claim.number
        self._last_call += 1
        arguments = claim.request.arguments if method == "acquire" else claim.parting
        claim.call = Call(CallNumber(self._last_call), method, claim.number, claim.request, arguments)
        claim.asked_at, claim.due = self._now, None
        claim.doubted = claim.told = False
        self._calls[claim.call.call] = claim
        self._effects.append(claim.call)

    def _ask_at(self, claim: _Claim, pause_us: int | None) -> None:
        if pause_us is not None:
            claim.due = Instant(self._now + pause_us)
            heappush(self._dues, (claim.due, claim.number))
