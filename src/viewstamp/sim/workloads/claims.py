"""The recipes under the simulator: tasks hold claims for a while, through keepers as in production.

Everything between a task and the network is production code: `ClaimKeeper` above `ClientCore`.
"""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, ClassVar, Final

import msgspec

from viewstamp.checker.history import Operation
from viewstamp.checker.models import Model
from viewstamp.core.effects import Send
from viewstamp.core.events import Woke
from viewstamp.core.ids import Instant
from viewstamp.core.judge import InvariantViolated
from viewstamp.machine.definition import MachineDefinition
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
from viewstamp.services.recipes.claim_wire import answered, notice_of, payload_of
from viewstamp.services.recipes.elections import ElectionService
from viewstamp.services.recipes.keeper import ClaimKeeper
from viewstamp.services.recipes.keeper_events import (
    Call as KeeperCall,
)
from viewstamp.services.recipes.keeper_events import (
    ClaimId,
    Entered,
    KeeperEffect,
    KeeperEvent,
    Leave,
    Lost,
    Observed,
    Refused,
    Request,
    Told,
    Want,
)
from viewstamp.services.recipes.names import Changed
from viewstamp.services.recipes.rwlocks import ReadWriteLockService
from viewstamp.services.recipes.semaphores import SemaphoreService
from viewstamp.sim.judge.invariants.claims import ClaimOracle, Holder
from viewstamp.sim.workloads.clients import Call, Plan, SimClient
from viewstamp.sim.workloads.locks import RETRY_US, HoldModel
from viewstamp.sim.workloads.workload import Keyed
from viewstamp.sim.world.options import LoadOptions, SwarmOptions
from viewstamp.sim.world.world import log_uniform

_HOLD_US: Final = (100, 300_000)
_STALL_US: Final = 15_000_000
_STALLS: Final = 0.03
"""The share of holders that stop running, for up to `_STALL_US`: their session may end in the meantime."""
_SHORT_SESSION_S: Final = 2
_PATIENCE_US: Final = 4_000_000
_LONG_PATIENCE_US: Final = 60_000_000
"""Of tasks whose clients never ask twice: giving up and asking again would hide a notice that got lost."""
_GRANTED_WITHIN_US: Final = 40_000_000
"""After the heal: for those before it in the line, a few of whom may be stalled."""
_NEVER_US: Final = 1 << 50
SIZE: Final = 3
"""Permits of each semaphore."""


class AnyHold(HoldModel):
    """Holds in any order of tokens: what several may hold at once is for the oracle to judge."""

    def objection(self, operation: Operation) -> str | None:
        """Return None: every operation is known to the workload that made it."""
        del operation
        return None

    def step(self, state: Any, operation: Operation) -> Any:
        """Return the state as it is."""
        del operation
        return state


class Task:
    """One claim, from the first moment to the last."""

    __slots__ = ("answer", "call", "claim", "inside", "is_ending", "is_lost", "name", "record")

    def __init__(self, call: CallId, claim: ClaimId, record: Call, name: str) -> None:
        self.call = call
        self.claim = claim
        self.record = record
        self.name = name
        self.inside: Holder | None = None
        """None: it waits."""
        self.answer: Any = None
        """What the service said when it granted it."""
        self.is_lost = False
        self.is_ending = False
        """The service is told how it ended."""


class ClaimingClient(SimClient):
    """A client whose calls are holds of claims through a keeper."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        workload = self.host.workload
        assert isinstance(workload, ClaimWorkload)
        self.workload: ClaimWorkload = workload
        self.keeper: ClaimKeeper = ClaimKeeper(workload.retry_us)
        self.last: int = 0
        self.tasks: dict[ClaimId, Task] = {}
        self._asks: dict[CallId, KeeperCall | Callable[[Outcome], None]] = {}
        self._observed: tuple[int | None, Instant | None] = (None, None)
        self._events: deque[KeeperEvent | None] = deque()
        """For the keeper, in order: it is fed one at a time."""
        self._is_feeding: bool = False
        self._is_stalled: bool = False
        self._missed: list[Callable[[], None]] = []
        """What happened while this process did not run."""
        self._keeper_armed_us: int | None = None

    # What tasks do

    def invoke(self, plan: Plan, timeout_us: int, done: Callable[[Outcome], None] | None = None) -> CallId:
        """Let a task want a claim; the observer and `done` hear of it when it has left or given up."""
        record = Call(plan, None, self.host.world.now_us + timeout_us, done)
        call = self._new_call(record)
        self.last += 1
        claim = ClaimId(self.last)
        task = self.tasks[claim] = Task(call, claim, record, plan.key)
        self.host.world.at(record.deadline_us, self.end, task)
        self.feed(Want(claim, self.workload.request(plan)))
        return call

    def cancel(self, call: CallId) -> None:
        """Let a task give up, or leave at once."""
        task = next((task for task in self.tasks.values() if task.call == call), None)
        if task is None:
            super().cancel(call)
            return
        self.calls.pop(call, None)
        self.end(task)

    def end(self, task: Task) -> None:
        """The task is done, or its time is up."""
        if task.claim not in self.tasks:
            return
        if self._is_stalled:
            self._missed.append(lambda: self.end(task))
            return
        if task.inside is None:
            del self.tasks[task.claim]
            self._check_patience(task)
            self.feed(Leave(task.claim))
            self.tell(task, Failed("not_executed", "it was not granted in time"))
        else:
            self.workload.finish(self, task)

    def leave(self, task: Task, outcome: Outcome) -> None:
        """Take a task that was inside out, and give its claim back."""
        del self.tasks[task.claim]
        assert task.record.handle is not None
        assert task.inside is not None
        now = self.host.world.now_us
        self.host.history.end(task.record.handle, "ok", task.inside.token, now=now)
        self.feed(Leave(task.claim))
        self.tell(task, outcome)

    def _check_patience(self, task: Task) -> None:
        """A task gives up: after the heal it has no reason to."""
        now = self.host.world.now_us
        waited = self.healed_us is not None and now - self.healed_us >= _GRANTED_WITHIN_US
        if waited and task.call in self.calls and self.workload.is_always_granted:
            raise InvariantViolated(
                "I19 Liveness", f"client {self.name} waits for {task.name} long after the heal"
            )

    def tell(self, task: Task, outcome: Outcome) -> None:
        """A task is over."""
        record = task.record
        if self.calls.pop(task.call, None) is None:
            return  # it was cancelled: no caller waits for it
        self.observer.completed(self, record.plan, outcome)
        if record.done is not None:
            record.done(outcome)

    def call(self, method: str, arguments: tuple[Any, ...], done: Callable[[Outcome], None]) -> None:
        """Call the service beside the keeper."""
        definition: MachineDefinition = self.host.machine
        number = CallId(self._rng.getrandbits(62))
        self._asks[number] = done
        payload = definition.methods[method].encode_call(arguments, {})
        deadline = Instant(self.host.world.now_us + _NEVER_US)
        self._step(Invoked(number, "command", payload, deadline))

    # The keeper

    def feed(self, event: KeeperEvent | None) -> None:
        """Let the keeper take an event, and do what it asks for, until nothing is left to do.

        None: nothing happened but that the client knows something else of its session.
        """
        self._events.append(event)
        if self._is_feeding:
            return
        self._is_feeding = True
        while self._events:
            for effect in self._keeper_step(self._events.popleft()):
                self._do(effect)
        self._is_feeding = False
        self._arm_keeper()

    def _keeper_step(self, event: KeeperEvent | None) -> list[KeeperEffect]:
        now = Instant(self.host.world.now_us)
        effects: list[KeeperEffect] = []
        observed = (self.core.session, self.core.session_until)
        if observed != self._observed:
            self._observed = observed
            effects += self.keeper.step(Observed(*observed), now)
        return effects if event is None else [*effects, *self.keeper.step(event, now)]

    def _do(self, effect: KeeperEffect) -> None:
        match effect:
            case KeeperCall():
                call = CallId(self._rng.getrandbits(62))
                self._asks[call] = effect
                deadline = Instant(self.host.world.now_us + _NEVER_US)
                self._step(Invoked(call, "command", payload_of(effect, ""), deadline))
            case Entered():
                self._enter(effect)
            case Refused(claim, failure):
                task = self.tasks.pop(claim, None)
                if task is not None:
                    self.tell(task, Failed("not_executed", failure.explanation))
            case Lost(claim):
                self.host.judge.rare["claim lost"] += 1
                if claim in self.tasks:
                    self.tasks[claim].is_lost = True
            case _:
                pass

    def _enter(self, effect: Entered) -> None:
        task, world = self.tasks[effect.claim], self.host.world
        plan = task.record.plan
        assert plan is not None
        weight = self.workload.weight(plan)
        task.answer = effect.answer
        task.inside = Holder(self.name, effect.claim, effect.token, weight, lambda: self._is_sure_of(task))
        self.workload.entered(task)
        self.host.judge.rare["claim held"] += 1
        self.host.trace.note(world.now_us, "claim held", self.name, name=task.name, token=effect.token)
        task.record.handle = self.host.history.begin(
            self.name, plan.method, plan.key, plan.arguments, now=world.now_us
        )
        length = plan.arguments[0]
        assert isinstance(length, int)
        world.after(length, self.end, task)
        if self.healed_us is None and self._rng.random() < _STALLS:
            self._stall(min(self._rng.randrange(_STALL_US), task.record.deadline_us - world.now_us))

    def _is_sure_of(self, task: Task) -> bool:
        """Return whether the client, with what it knows, relies on what a task holds."""
        return self.keeper.standing_of(task.claim, Instant(self.host.world.now_us)) == "held"

    def _arm_keeper(self) -> None:
        deadline = self.keeper.deadline
        if deadline is None:
            return
        at = max(int(deadline), self.host.world.now_us)
        if self._keeper_armed_us is None or at < self._keeper_armed_us:
            self._keeper_armed_us = at
            self.host.world.at(at, self._wake_keeper, at)

    def _wake_keeper(self, armed_at_us: int) -> None:
        if armed_at_us != self._keeper_armed_us:
            return
        if self._is_stalled:
            self._missed.append(lambda: self._wake_keeper(armed_at_us))
            return
        self._keeper_armed_us = None
        deadline = self.keeper.deadline
        if deadline is not None and deadline <= self.host.world.now_us:
            self.feed(Woke())
        else:
            self._arm_keeper()

    # The process

    def _stall(self, length_us: int) -> None:
        """Stop running for a while, as by SIGSTOP: what the client believes stays what it was."""
        if self._is_stalled or length_us <= 0:
            return
        self._is_stalled = True
        self.host.judge.rare["claim holder stalled"] += 1
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
                        self._ended(ended.call, ended.outcome)
                case Deliver():
                    self._told(effect.payload)
        if (self.core.session, self.core.session_until) != self._observed:
            self.feed(None)
        self._arm()

    def _told(self, payload: bytes) -> None:
        notice = notice_of(payload)
        assert notice is not None, payload
        if not isinstance(notice, Changed):
            self.feed(Told(notice))

    def _ended(self, call: CallId, outcome: Outcome) -> None:
        asked = self._asks.pop(call, None)
        if isinstance(asked, KeeperCall):
            self.feed(answered(asked, outcome))
        elif asked is not None:
            asked(outcome)
        else:
            self._complete(Complete(call, outcome))


class ClaimWorkload(Keyed):
    """Tasks that hold claims of a few names. A call lasts from the request until the task has left."""

    machine: type[StateMachine] = SemaphoreService
    model: Model = AnyHold()
    needs_sessions = True
    is_always_granted: ClassVar[bool] = True
    """Whether a claim is granted after a while where nothing fails."""
    size: ClassVar[int] = SIZE

    def __init__(self, load: LoadOptions, *, retry_us: int | None = RETRY_US) -> None:
        super().__init__(load)
        self.retry_us = retry_us
        self.oracle = ClaimOracle(self.size)
        self.client_kind = ClaimingClient

    def fit(self, options: SwarmOptions) -> SwarmOptions:
        """Leave room for all sessions, let some be so short that a stall outlives them, and be patient.

        How long a session is certain rests on clocks that count time: they may drift, but not jump.
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

    def request(self, plan: Plan) -> Request:
        """Return what a task asks for."""
        return Request("semaphores", "acquire", "release", plan.key, (SIZE, plan.arguments[1]))

    def weight(self, plan: Plan) -> int:
        """Return what of a name a task holds."""
        del plan
        return self.size

    def entered(self, task: Task) -> None:
        """A task was admitted."""
        assert task.inside is not None
        self.oracle.entered(task.name, task.inside)

    def finish(self, client: ClaimingClient, task: Task) -> None:
        """A task is done."""
        assert task.inside is not None
        self.oracle.left(task.name, task.inside)
        client.leave(task, Returned(b"", task.inside.token))

    def plan(self, rng: Random) -> Plan:
        """Return what is wanted next: for how long in microseconds, and how."""
        return Plan(
            "command", "hold", rng.choice(self.keys), (int(log_uniform(rng, *_HOLD_US)), self.how(rng))
        )

    def how(self, rng: Random) -> Any:
        """Return how a claim is wanted."""
        del rng
        return 0

    def note_result(self, plan: Plan, result: object) -> None:
        """Nothing to learn."""

    def final_plans(self) -> list[Plan]:
        """Hold each name twice."""
        rng = Random(1)  # noqa: S311  a simulation
        return [Plan("command", "hold", key, (1_000, self.how(rng))) for key in self.keys for _ in range(2)]


class SemaphoreWorkload(ClaimWorkload):
    """Semaphores, claims of 1 to 3 of 3 permits."""

    def weight(self, plan: Plan) -> int:
        """Return how many permits."""
        weight = plan.arguments[1]
        assert isinstance(weight, int)
        return weight

    def how(self, rng: Random) -> int:
        """Return the weight."""
        return rng.randint(1, SIZE)


class ReadWriteLockWorkload(ClaimWorkload):
    """Read-write locks."""

    machine: type[StateMachine] = ReadWriteLockService
    size: ClassVar[int] = 1_000

    def request(self, plan: Plan) -> Request:
        """Ask to read or to write."""
        return Request("rwlocks", "acquire", "release", plan.key, (plan.arguments[1],))

    def weight(self, plan: Plan) -> int:
        """Return all of it for a writer."""
        return self.size if plan.arguments[1] == "write" else 1

    def how(self, rng: Random) -> str:
        """Return the mode."""
        return rng.choice(("read", "read", "write"))


class ElectionWorkload(ClaimWorkload):
    """Elections, candidates of different priorities."""

    machine: type[StateMachine] = ElectionService
    is_always_granted = False  # others of higher priority may come again and again
    size: ClassVar[int] = 1

    def request(self, plan: Plan) -> Request:
        """Stand for election."""
        return Request("elections", "campaign", "resign", plan.key, (b"", plan.arguments[1]))

    def how(self, rng: Random) -> int:
        """Return the priority."""
        return rng.randint(0, 2)


def notified_semaphores(load: LoadOptions) -> SemaphoreWorkload:
    """Return a workload whose clients never ask twice: they go on only when notified."""
    return SemaphoreWorkload(load, retry_us=None)
