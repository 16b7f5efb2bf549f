"""A client's locks without input or output: what is kept, who of the process has it, what is asked for.

Rules of this file:

- a lock that came is kept until it is revoked: who wants it again in this process gets it without a message;
- the tasks of the process get a lock in the order of asking; once it is revoked it goes back when the one
  that has it leaves, and those who still wait for it stand in the service's queue like everybody else;
- of each lock at most one call is under way; a lock goes back only when no question for it is open;
- each acquisition draws a number of its own: what is told of another number than the present one is
  late and ignored;
- nothing is given out of the cache while the session is in doubt: the service is asked again, under the same
  number, and says whether the lock is still held.

The states of a lock, and how they follow each other, are `TRANSITIONS`. Source: MIT 6.824 (2012), labs 4, 7.
"""

from collections import OrderedDict
from typing import Final, Literal, TypeAlias, assert_never

from viewstamp.core.events import Woke
from viewstamp.core.ids import MICROSECONDS_PER_SECOND, Instant
from viewstamp.services.lock_events import (
    Abandoned,
    Answered,
    Ask,
    AskId,
    CacheOptions,
    Closing,
    Enter,
    Failure,
    Finished,
    Flush,
    Flushed,
    Grant,
    Left,
    LockEffect,
    LockEvent,
    Lost,
    Observed,
    Refused,
    Ticket,
    Told,
    Wanted,
)
from viewstamp.services.locks import Acquired, Notice, Released, Revoke

State: TypeAlias = Literal["none", "acquiring", "free", "locked", "releasing"]

TRANSITIONS: Final[dict[State, tuple[State, ...]]] = {
    "none": ("acquiring",),
    "acquiring": ("locked", "free", "releasing", "none"),
    "free": ("locked", "acquiring", "releasing"),
    "locked": ("locked", "free", "acquiring", "releasing"),
    "releasing": ("acquiring", "none"),
}
"""acquiring: asked for, or asked whether it is still held. free: held, and nobody of the process has it.
locked: held, and a task has it. releasing: on its way back."""

RELEASE_AGAIN_US: Final = MICROSECONDS_PER_SECOND
"""A release of which nobody knows how it ended is repeated so much later."""

DOUBT_PAUSE_US: Final = MICROSECONDS_PER_SECOND // 10
"""A lock that came while the session is in doubt is asked for again so much later, if it still is."""

CLOSED: Final = Failure("not_executed", "", "the lock client is closed")


class _Lock:
    """One lock that this client has, wants or gives back."""

    __slots__ = (
        "asking",
        "doubted",
        "flushing",
        "name",
        "queue",
        "revoked",
        "sequence",
        "state",
        "task",
        "token",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: State = "none"
        self.sequence = 0
        """The present acquisition."""
        self.token = 0
        """Its fencing token; 0: not granted, as far as is known."""
        self.task: Ticket | None = None
        """The task that has it; set exactly while it is locked."""
        self.queue: OrderedDict[Ticket, None] = OrderedDict()
        """The tasks that wait for it in this process, first come first."""
        self.revoked = False
        """Others want it, by the service."""
        self.asking: Ask | None = None
        """The call that is under way."""
        self.doubted = False
        """It was made under a session that is gone: an answer may be of that one, and say nothing of now."""
        self.flushing = False
        """The hook runs."""

    def move(self, state: State) -> None:
        assert state in TRANSITIONS[self.state], (self.name, self.state, state)
        self.state = state
        assert (self.task is not None) == (state == "locked"), (self.name, state, self.task)

    @property
    def grant(self) -> Grant:
        return Grant(self.name, self.token, self.sequence)


class LockCache:
    """The locks of one client. `step` takes an event in and returns what must be done, in order."""

    __slots__ = (
        "_again",
        "_asks",
        "_by_ticket",
        "_closing",
        "_effects",
        "_last_ask",
        "_last_sequence",
        "_locks",
        "_now",
        "_options",
        "_session",
        "_until",
    )

    def __init__(self, options: CacheOptions | None = None) -> None:
        self._options = options or CacheOptions()
        self._locks: dict[str, _Lock] = {}
        """None of them is in state none."""
        self._by_ticket: dict[Ticket, _Lock] = {}
        """Tickets that wait or are inside."""
        self._asks: dict[AskId, _Lock] = {}
        """Of each call under way its lock, which has it as `asking`."""
        self._again: dict[str, Instant] = {}
        """When to ask again, by name; of no lock of which a call is under way."""
        self._last_ask = 0
        self._last_sequence = 0
        """Never goes back, so that a later acquisition has a higher number, whatever the lock."""
        self._session: int | None = None
        self._until: Instant | None = None
        self._now = Instant(0)
        self._closing = False
        self._effects: list[LockEffect] = []

    def __len__(self) -> int:
        """Return how many locks it has, wants or gives back."""
        return len(self._locks)

    @property
    def asked(self) -> int:
        """How many calls it has asked for so far."""
        return self._last_ask

    def state_of(self, name: str) -> State:
        """Return the state of a lock, for tests and inspection."""
        lock = self._locks.get(name)
        return "none" if lock is None else lock.state

    @property
    def deadline(self) -> Instant | None:
        """The next moment at which it wants to be woken; None: never."""
        return min(self._again.values(), default=None)

    def is_sure(self, now: Instant) -> bool:
        """Return whether what is held is held for certain."""
        return self._session is not None and self._until is not None and now < self._until

    def step(self, event: LockEvent, now: Instant) -> list[LockEffect]:
        """Take in one event and return what must be done, in order. `now` never goes back."""
        self._now = now
        match event:
            case Wanted():
                self._wanted(event)
            case Left():
                self._left(event.ticket)
            case Abandoned():
                self._abandoned(event.ticket)
            case Answered():
                self._answered(event)
            case Told():
                self._told(event.notice)
            case Observed():
                self._observed(event)
            case Flushed():
                self._flushed(event.name)
            case Woke():
                self._woke()
            case Closing():
                self._close()
            case _:
                assert_never(event)
        effects, self._effects = self._effects, []
        return effects

    # What the process wants

    def _wanted(self, event: Wanted) -> None:
        assert event.ticket not in self._by_ticket, event.ticket
        if self._closing:
            self._effects.append(Refused(event.ticket, CLOSED))
            return
        lock = self._locks.get(event.name)
        if lock is None:
            lock = self._locks[event.name] = _Lock(event.name)
        lock.queue[event.ticket] = None
        self._by_ticket[event.ticket] = lock
        if lock.state in {"none", "free"}:
            self._serve(lock)

    def _left(self, ticket: Ticket) -> None:
        lock = self._by_ticket.pop(ticket)
        assert lock.task == ticket, (lock.name, lock.task, ticket)
        lock.task = None
        if lock.revoked or self._closing or not lock.token:
            self._give_back(lock)
        else:
            self._serve(lock)

    def _abandoned(self, ticket: Ticket) -> None:
        lock = self._by_ticket.pop(ticket)
        del lock.queue[ticket]
        if lock.state == "acquiring" and not lock.queue and lock.asking is None:
            self._give_back(lock)  # nobody here wants it: keeping it would only make others wait

    def _serve(self, lock: _Lock) -> None:
        """Let the next task in, out of the cache if that is safe; or keep the lock if there is none."""
        if not lock.token:
            self._acquire(lock)
        elif not lock.queue:
            lock.move("free")
        elif self.is_sure(self._now):
            self._enter(lock)
        else:
            lock.move("acquiring")
            if lock.asking is None:
                self._ask(lock, "acquire")

    def _enter(self, lock: _Lock) -> None:
        lock.task, _ = lock.queue.popitem(last=False)
        lock.move("locked")
        self._effects.append(Enter(lock.task, lock.grant))

    # What the service says

    def _answered(self, event: Answered) -> None:
        lock = self._asks.pop(event.ask)
        ask, lock.asking = lock.asking, None
        assert ask is not None, lock.name
        answer = event.answer
        if ask.method == "release":
            self._release_ended(lock, answer)
        elif lock.state == "releasing":
            self._send_back(lock)
        elif isinstance(answer, Failure):
            self._acquire_failed(lock, answer)
        elif lock.doubted and lock.state == "acquiring" and lock.queue:
            self._ask(lock, "acquire")
        elif isinstance(answer, Acquired):
            self._acquire_answered(lock, answer)

    def _acquire_answered(self, lock: _Lock, answer: Acquired) -> None:
        if answer.state == "granted":
            self._granted(lock, answer.token, wanted=answer.wanted)
        elif lock.state != "acquiring":
            return  # the grant overtook this answer
        elif answer.state == "late":
            # What the service remembers under a higher number can only be of a session before this one.
            self._forget_grant(lock)
            self._start_anew(lock)
        elif lock.token:
            self._ask(lock, "acquire")  # the question was older than the grant
        elif not lock.queue:
            self._give_back(lock)
        else:
            self._ask_after(lock, self._options.retry_us)

    def _acquire_failed(self, lock: _Lock, failure: Failure) -> None:
        if lock.state != "acquiring":
            return
        if failure.outcome == "session_expired":
            self._forget_grant(lock)
            self._start_anew(lock)
        elif failure.outcome == "unknown":
            if lock.queue:
                self._ask(lock, "acquire")
            else:
                self._give_back(lock)
        else:
            self._forget_grant(lock)
            for ticket in lock.queue:
                del self._by_ticket[ticket]
                self._effects.append(Refused(ticket, failure))
            lock.queue.clear()
            self._drop(lock)

    def _release_ended(self, lock: _Lock, answer: Acquired | Released | Failure) -> None:
        if isinstance(answer, Failure) and answer.outcome in {"unknown", "not_executed"}:
            self._ask_after(lock, RELEASE_AGAIN_US)
        else:
            self._start_anew(lock)

    def _told(self, notice: Notice) -> None:
        lock = self._locks.get(notice.name)
        if lock is None or notice.sequence != lock.sequence:
            return
        if isinstance(notice, Revoke):
            self._revoke(lock)
        else:
            self._granted(lock, notice.token, wanted=notice.wanted)

    def _granted(self, lock: _Lock, token: int, *, wanted: bool) -> None:
        if lock.state == "acquiring":
            lock.token = token
            self._again.pop(lock.name, None)
            lock.revoked = lock.revoked or wanted
            if lock.queue:
                self._let_in(lock)
            elif lock.revoked or self._closing:
                self._give_back(lock)
            else:
                lock.move("free")
        elif wanted:
            self._revoke(lock)

    def _let_in(self, lock: _Lock) -> None:
        """Let the first task in, unless this grant is so old that another may have the lock since."""
        if self.is_sure(self._now):
            self._enter(lock)
        elif lock.asking is None:
            self._ask_after(lock, DOUBT_PAUSE_US)

    def _revoke(self, lock: _Lock) -> None:
        """Record that others want it. Before the grant, too: the two may overtake each other."""
        lock.revoked = True
        if lock.state == "free":
            self._give_back(lock)

    # The way back

    def _give_back(self, lock: _Lock) -> None:
        lock.move("releasing")
        self._again.pop(lock.name, None)
        if self._options.hooked and lock.token:
            lock.flushing = True
            self._effects.append(Flush(lock.grant))
        else:
            self._send_back(lock)

    def _flushed(self, name: str) -> None:
        lock = self._locks[name]
        assert lock.flushing, name
        lock.flushing = False
        self._send_back(lock)

    def _send_back(self, lock: _Lock) -> None:
        # An acquisition still under way could be executed after the release, and hold the lock permanently.
        if lock.asking is None and not lock.flushing:
            self._ask(lock, "release")

    def _start_anew(self, lock: _Lock) -> None:
        """It is no longer held: acquire it again if somebody wants it, or forget it."""
        if lock.queue:
            self._acquire(lock)
        else:
            self._drop(lock)

    def _acquire(self, lock: _Lock) -> None:
        self._last_sequence += 1
        lock.sequence, lock.token = self._last_sequence, 0
        lock.revoked = False
        if lock.state != "acquiring":
            lock.move("acquiring")
        self._ask(lock, "acquire")

    def _drop(self, lock: _Lock) -> None:
        lock.move("none")
        del self._locks[lock.name]
        self._again.pop(lock.name, None)
        self._finish()

    # The session

    def _observed(self, event: Observed) -> None:
        before, self._session, self._until = self._session, event.session, event.until
        if before is not None and before != event.session:
            for lock in self._open():
                self._lose(lock)
        elif self.is_sure(self._now):
            for lock in [self._locks[name] for name in self._again]:
                if lock.state == "acquiring" and lock.token:
                    self._granted(lock, lock.token, wanted=lock.revoked)

    def _lose(self, lock: _Lock) -> None:
        """Its session is gone, and with it whatever was granted under it.

        A call under way ends by itself. It may still be executed, under the next session: until it has ended,
        and where it may have been, the lock is given back as if it were held.
        """
        if lock.state == "releasing":
            return
        self._forget_grant(lock)
        lock.revoked = False
        lock.doubted = lock.asking is not None
        if lock.state == "free":
            lock.move("acquiring")
        if lock.state == "acquiring" and lock.asking is None:
            self._start_anew(lock)

    def _forget_grant(self, lock: _Lock) -> None:
        if lock.token:
            self._effects.append(Lost(lock.task, lock.grant))
            lock.token = 0

    # Time and the end

    def _woke(self) -> None:
        for name in [name for name, due in self._again.items() if due <= self._now]:
            lock = self._locks[name]
            self._ask(lock, "release" if lock.state == "releasing" else "acquire")

    def _close(self) -> None:
        self._closing = True
        for lock in self._open():
            for ticket in lock.queue:
                del self._by_ticket[ticket]
                self._effects.append(Refused(ticket, CLOSED))
            lock.queue.clear()
            if lock.state == "free" or (lock.state == "acquiring" and lock.asking is None):
                self._give_back(lock)
        self._finish()

    def _finish(self) -> None:
        if self._closing and not self._locks:
            self._effects.append(Finished())

    # Small things

    def _open(self) -> list[_Lock]:
        return list(self._locks.values())

    def _ask(self, lock: _Lock, method: Literal["acquire", "release"]) -> None:
        assert lock.asking is None, lock.name
        self._last_ask += 1
        self._again.pop(lock.name, None)
        label = self._options.label if method == "acquire" else ""
        lock.asking = Ask(AskId(self._last_ask), method, lock.name, lock.sequence, label)
        lock.doubted = False
        self._asks[lock.asking.ask] = lock
        self._effects.append(lock.asking)

    def _ask_after(self, lock: _Lock, pause_us: int | None) -> None:
        if pause_us is not None:
            self._again[lock.name] = Instant(self._now + pause_us)
