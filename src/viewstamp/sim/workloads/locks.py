"""The lock service under the simulator: caching clients as in production, whose tasks hold locks for a while.

Everything between a task and the network is production code: `LockCache` above `ClientCore`.
"""

from collections import deque
from collections.abc import Callable, Hashable
from random import Random
from typing import Any, ClassVar, Final

import msgspec

from viewstamp.checker.history import Operation
from viewstamp.checker.models import ILLEGAL, KeyedModel, Model
from viewstamp.core.effects import Send
from viewstamp.core.events import Woke
from viewstamp.core.ids import Instant
from viewstamp.core.judge import InvariantViolated
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.events import (
    CallId,
    ClientEvent,
    Complete,
    CompleteAll,
    Deliver,
    Failed,
    Invoked,
    Outcome,
    Returned,
)
from viewstamp.services.lock_cache import LockCache
from viewstamp.services.lock_events import (
    Abandoned,
    Ask,
    CacheOptions,
    Enter,
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
from viewstamp.services.lock_wire import answered, notice_of, payload_of
from viewstamp.services.locks import LockService
from viewstamp.sim.judge.invariants.locks import Inside, LockOracle
from viewstamp.sim.workloads.clients import Call, Plan, SimClient
from viewstamp.sim.workloads.workload import Keyed
from viewstamp.sim.world.options import LoadOptions, SwarmOptions
from viewstamp.sim.world.world import log_uniform

RETRY_US: Final = 3_000_000
"""How often a client that waits asks again, where it does at all."""
_HOLD_US: Final = (100, 300_000)
_HOOKED: Final = 0.3
"""How many clients have something to do before a lock goes back."""
_STALL_US: Final = 15_000_000
_STALLS: Final = 0.03
"""The share of holders that stop running, for up to `_STALL_US`: their session may end in the meantime."""
_SHORT_SESSION_S: Final = 2
_PATIENCE_US: Final = 4_000_000
_LONG_PATIENCE_US: Final = 60_000_000
"""Of tasks whose clients never ask twice: giving up and asking again would hide a notice that got lost."""
_GRANTED_WITHIN_US: Final = 40_000_000
"""After the heal: for those before it in the queue, a few of whom may be stalled."""
_NEVER_US: Final = 1 << 50


class HoldModel(KeyedModel):
    """Tokens of a lock as its holders saw them: `hold` -> the token, never below an earlier one.

    That no two hold it at once, and that equal tokens are one client's, is for the oracle to say.
    """

    arguments: ClassVar = {"hold": (1, 1)}

    def initial(self) -> Hashable:
        """Return what is below every token."""
        return -1

    def changes_nothing(self, operation: Operation) -> bool:
        """Return True: taking it at once, where its token is the highest so far, rules nothing out."""
        del operation
        return True

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Return the highest token so far."""
        assert isinstance(state, int)
        if operation.outcome != "ok":
            return state
        return operation.result if operation.result >= state else ILLEGAL


class _Task:
    """One request for one lock, from the first moment to the last."""

    __slots__ = ("call", "inside", "is_lost", "name", "record", "ticket")

    def __init__(self, call: CallId, record: Call, name: str) -> None:
        self.call = call
        self.record = record
        self.name = name
        self.ticket = Ticket(call)
        self.inside: Inside | None = None
        """None: it waits."""
        self.is_lost = False
        """Its client knows that another may be inside."""


class LockingClient(SimClient):
    """A client whose calls are holds of locks through a cache."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        workload = self.host.workload
        assert isinstance(workload, LockWorkload)
        self._oracle: LockOracle = workload.oracle
        hooked = self._rng.random() < _HOOKED
        self.cache: LockCache = LockCache(CacheOptions(retry_us=workload.retry_us, hooked=hooked))
        self._tasks: dict[Ticket, _Task] = {}
        self._asks: dict[CallId, Ask] = {}
        self._observed: tuple[int | None, Instant | None] = (None, None)
        self._events: deque[LockEvent | None] = deque()
        """For the cache, in order: it is fed one at a time."""
        self._is_feeding: bool = False
        self._is_stalled: bool = False
        self._missed: list[Callable[[], None]] = []
        """What happened while this process did not run."""
        self._cache_armed_us: int | None = None

    # What tasks do

    def invoke(self, plan: Plan, timeout_us: int, done: Callable[[Outcome], None] | None = None) -> CallId:
        """Let a task want a lock; the observer and `done` hear of it when it has left or given up."""
        record = Call(plan, None, self.host.world.now_us + timeout_us, done)
        call = self._new_call(record)
        task = self._tasks[Ticket(call)] = _Task(call, record, plan.key)
        self.host.world.at(record.deadline_us, self._end, task)
        self._feed(Wanted(task.ticket, task.name))
        return call

    def cancel(self, call: CallId) -> None:
        """Let a task give up, or leave at once."""
        task = self._tasks.get(Ticket(call))
        if task is not None:
            self.calls.pop(call, None)
            self._end(task)

    def _end(self, task: _Task) -> None:
        """The task is done, or its time is up."""
        if task.ticket not in self._tasks:
            return
        if self._is_stalled:
            self._missed.append(lambda: self._end(task))
            return
        del self._tasks[task.ticket]
        if task.inside is None:
            self._check_patience(task)
            self._feed(Abandoned(task.ticket))
            self._tell(task, Failed("not_executed", "the lock was not granted in time"))
            return
        token = task.inside.token
        self._oracle.left(task.name, task.inside)
        assert task.record.handle is not None
        self.host.history.end(task.record.handle, "ok", token, now=self.host.world.now_us)
        self._feed(Left(task.ticket))
        self._tell(task, Returned(b"", token))

    def _check_patience(self, task: _Task) -> None:
        """A task gives up: after the heal it has no reason to."""
        now = self.host.world.now_us
        if (
            self.healed_us is not None
            and now - self.healed_us >= _GRANTED_WITHIN_US
            and task.call in self.calls
        ):
            raise InvariantViolated(
                "I19 Liveness",
                f"client {self.name} waits for {task.name} {now - self.healed_us} us after the heal",
            )

    def _tell(self, task: _Task, outcome: Outcome) -> None:
        record = task.record
        if self.calls.pop(task.call, None) is None:
            return  # it was cancelled: no caller waits for it
        self.observer.completed(self, record.plan, outcome)
        if record.done is not None:
            record.done(outcome)

    # The cache

    def _feed(self, event: LockEvent | None) -> None:
        """Let the cache take an event, and do what it asks for, until nothing is left to do.

        None: nothing happened but that the client knows something else of its session.
        """
        self._events.append(event)
        if self._is_feeding:
            return
        self._is_feeding = True
        while self._events:
            for effect in self._cache_step(self._events.popleft()):
                self._do(effect)
        self._is_feeding = False
        self._arm_cache()

    def _cache_step(self, event: LockEvent | None) -> list[LockEffect]:
        now = Instant(self.host.world.now_us)
        effects: list[LockEffect] = []
        observed = (self.core.session, self.core.session_until)
        if observed != self._observed:
            self._observed = observed
            effects += self.cache.step(Observed(*observed), now)
        return effects if event is None else [*effects, *self.cache.step(event, now)]

    def _do(self, effect: LockEffect) -> None:
        match effect:
            case Ask():
                call = CallId(self._rng.getrandbits(62))
                self._asks[call] = effect
                deadline = Instant(self.host.world.now_us + _NEVER_US)
                self._step(Invoked(call, "command", payload_of(effect), deadline))
            case Enter(ticket, grant):
                self._enter(ticket, grant)
            case Refused(ticket, failure):
                task = self._tasks.pop(ticket)
                self._tell(task, Failed("not_executed", failure.explanation))
            case Lost(ticket, grant):
                self.host.judge.rare["lock lost with its session"] += 1
                self._note("lost", grant)
                if ticket in self._tasks:
                    self._tasks[ticket].is_lost = True
            case Flush(grant):
                self._events.append(Flushed(grant.name))
            case _:
                raise AssertionError(f"this cache was not closed: {effect!r}")

    def _enter(self, ticket: Ticket, grant: Grant) -> None:
        task, world = self._tasks[ticket], self.host.world
        session = self.core.session
        task.inside = Inside(self.name, ticket, grant.token, lambda: self._is_sure_of(task, session))
        self._oracle.entered(task.name, task.inside)
        self.host.judge.rare["lock held"] += 1
        self._note("held", grant)
        plan = task.record.plan
        assert plan is not None
        # Of the history is only the time inside: that of waiting would overlap everything, and say nothing.
        task.record.handle = self.host.history.begin(
            self.name, plan.method, plan.key, plan.arguments, now=world.now_us
        )
        length = plan.arguments[0]
        assert isinstance(length, int)
        world.after(length, self._end, task)
        if self.healed_us is None and self._rng.random() < _STALLS:
            self._stall(min(self._rng.randrange(_STALL_US), task.record.deadline_us - world.now_us))

    def _is_sure_of(self, task: _Task, session: int | None) -> bool:
        """Return whether the client, with what it knows, relies on the lock of a task that holds it."""
        until = self.core.session_until
        same = not task.is_lost and self.core.session == session
        return same and until is not None and self.host.world.now_us < until

    def _note(self, what: str, grant: Grant) -> None:
        now = self.host.world.now_us
        self.host.trace.note(now, f"lock {what}", self.name, lock=grant.name, token=grant.token)

    def _arm_cache(self) -> None:
        deadline = self.cache.deadline
        if deadline is None:
            return
        at = max(int(deadline), self.host.world.now_us)
        if self._cache_armed_us is None or at < self._cache_armed_us:
            self._cache_armed_us = at
            self.host.world.at(at, self._wake_cache, at)

    def _wake_cache(self, armed_at_us: int) -> None:
        if armed_at_us != self._cache_armed_us:
            return
        if self._is_stalled:
            self._missed.append(lambda: self._wake_cache(armed_at_us))
            return
        self._cache_armed_us = None
        deadline = self.cache.deadline
        if deadline is not None and deadline <= self.host.world.now_us:
            self._feed(Woke())
        else:
            self._arm_cache()

    # The process

    def _stall(self, length_us: int) -> None:
        """Stop running for a while, as by SIGSTOP: what the client believes stays what it was."""
        if self._is_stalled or length_us <= 0:
            return
        self._is_stalled = True
        self.host.judge.rare["lock holder stalled"] += 1
        self.host.world.after(length_us, self._resume)

    def _resume(self) -> None:
        self._is_stalled = False
        missed, self._missed = self._missed, []
        for action in missed:
            action()

    def _step(self, event: ClientEvent) -> None:
        if self._is_stalled:
            self._missed.append(lambda: self._step(event))
            return
        for effect in self.core.step(event, Instant(self.host.world.now_us)):
            match effect:
                case Send():
                    self._send(effect.to, effect.message)
                case Complete() | CompleteAll():
                    for ended in effect.each():
                        self._completed(ended.call, ended.outcome)
                case Deliver():
                    notice = notice_of(effect.payload)
                    assert notice is not None, effect
                    self._feed(Told(notice))
        if (self.core.session, self.core.session_until) != self._observed:
            self._feed(None)
        self._arm()

    def _completed(self, call: CallId, outcome: Outcome) -> None:
        ask = self._asks.pop(call, None)
        if ask is not None:
            self._feed(answered(ask, outcome))
        else:
            self._complete(Complete(call, outcome))


class LockWorkload(Keyed):
    """Tasks that hold one of a few locks. A call lasts from the request until the task has left."""

    machine: type[StateMachine] = LockService
    model: Model = HoldModel()
    needs_sessions = True

    def __init__(self, load: LoadOptions, *, retry_us: int | None = RETRY_US) -> None:
        super().__init__(load)
        self.retry_us = retry_us
        self.oracle = LockOracle()
        self.client_kind = LockingClient

    def fit(self, options: SwarmOptions) -> SwarmOptions:
        """Leave room for all sessions, let some be so short that a stall outlives them, and be patient.

        A client without a session gets no lock. How long a session is sure rests on clocks that count time:
        they may drift, but not jump by an hour.
        """
        seconds = min(options.tuning.session_seconds, _SHORT_SESSION_S) if options.nodes % 2 else None
        tuning = msgspec.structs.replace(
            options.tuning, sessions_max=1_000, session_seconds=seconds or options.tuning.session_seconds
        )
        least_us = _PATIENCE_US if self.retry_us is not None else _LONG_PATIENCE_US
        load = msgspec.structs.replace(
            options.load, call_timeout_us=max(options.load.call_timeout_us, least_us)
        )
        processes = msgspec.structs.replace(options.processes, jump_rate=0.0)
        return msgspec.structs.replace(options, tuning=tuning, load=load, processes=processes)

    def plan(self, rng: Random) -> Plan:
        """Return whose lock is wanted next, and for how long in microseconds."""
        return Plan("command", "hold", rng.choice(self.keys), (int(log_uniform(rng, *_HOLD_US)),))

    def note_result(self, plan: Plan, result: object) -> None:
        """Nothing to learn."""

    def final_plans(self) -> list[Plan]:
        """Hold every lock twice: the second time out of the cache, if no other client wants it."""
        return [Plan("command", "hold", key, (1_000,)) for key in self.keys for _ in range(2)]


def notified_workload(load: LoadOptions) -> LockWorkload:
    """Return a workload whose clients never ask twice: they go on only when notified."""
    return LockWorkload(load, retry_us=None)
