"""The file system under the simulator: mounts without a kernel, whose calls save and load small texts.

Everything between a call and the network is production code: `FileCache` above `ClientCore`. Half of the
names are written in place, half by a rename over them, as programs do. A text that was flushed is found by
every later load; one whose mount heard EIO may be there or not.
"""

import errno
from collections import deque
from collections.abc import Callable, Generator
from random import Random
from typing import Any, Final, TypeAlias

import msgspec

from viewstamp.checker.models import Model
from viewstamp.checker.register_model import Register
from viewstamp.core.effects import Send
from viewstamp.core.events import Woke
from viewstamp.core.ids import Instant, NodeId
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
from viewstamp.services.extents.cache import FileCache
from viewstamp.services.extents.model import ROOT, Birth
from viewstamp.services.extents.operations import (
    Answered,
    Call,
    Close,
    Create,
    Done,
    FileEffect,
    FileEvent,
    FileFailure,
    FileOptions,
    Invalidate,
    Invalidated,
    Lookup,
    Open,
    Operation,
    Read,
    Rename,
    Requested,
    Say,
    Sync,
    Ticket,
    Write,
)
from viewstamp.services.extents.service import FileService
from viewstamp.services.lock_events import Observed, Told
from viewstamp.services.lock_wire import notice_of
from viewstamp.sim.workloads.clients import Call as OpenCall
from viewstamp.sim.workloads.clients import Plan, SimClient
from viewstamp.sim.workloads.workload import Keyed
from viewstamp.sim.world.options import LoadOptions, SwarmOptions

TEXT_BYTES: Final = 16
_FILE: Final = Birth("file", 0o644, 0, 0, 0)
_NEVER_US: Final = 1 << 50
_LINGER_US: Final = 400_000
"""How long a text may stay in the cache before it is flushed."""
_KERNEL_US: Final = 2_000
_STALLS: Final = 0.03
"""The share of operations at which the mount stops, for up to `_STALL_US`."""
_STALL_US: Final = 8_000_000
_SHORT_SESSION_S: Final = 2
_PATIENCE_US: Final = 20_000_000
_SERVED_WITHIN_US: Final = 60_000_000
"""After the heal: stalled mounts have resumed and sessions have ended by then."""

Script: TypeAlias = Generator[Operation | int, Any, Any]
"""What a call does: yields operations, and pauses in microseconds; is sent results and failures."""


class FilesFromTheStart(FileService):
    """A file system that is there from the first entry on."""

    def __init__(self) -> None:
        super().__init__()
        self._tree.make_root(Birth("directory", 0o755, 0, 0, 0))


def load(name: bytes) -> Script:
    """Return the text under a name; None: there is none yet."""
    while True:
        found = yield Lookup(ROOT, name)
        if isinstance(found, FileFailure):
            if found.errno == errno.ENOENT:
                return None
            raise found
        opened = yield Open(found.inode)
        if isinstance(opened, FileFailure):
            if found.links and opened.errno == errno.ENOENT:
                continue  # another took its place
            raise opened
        text = yield Read(opened.handle, 0, TEXT_BYTES)
        yield Close(opened.handle)
        if isinstance(text, FileFailure):
            if text.errno == errno.ENOENT:
                continue
            raise text
        return text.rstrip(b"\0").decode() or None


def save(name: bytes, text: str, linger_us: int) -> Script:
    """Write a text in place, let it linger in the cache, and flush it."""
    opened = yield from _certain(Create(ROOT, name, _FILE, opening=True, exclusive=False))
    try:
        yield from _certain(Write(opened.handle, 0, text.encode().ljust(TEXT_BYTES, b"\0")))
        yield linger_us
        yield from _certain(Sync(opened.handle))
    finally:
        yield Close(opened.handle)


def replace(name: bytes, text: str, linger_us: int) -> Script:
    """Write a text into a new file and rename it over the name."""
    fresh = b"new-" + text.encode()
    yield from save(fresh, text, linger_us)
    yield from _certain(Rename(ROOT, fresh, ROOT, name))


def _certain(operation: Operation) -> Script:
    result = yield operation
    if isinstance(result, FileFailure):
        raise result
    return result


class _Call:
    """One call, from the first operation to the last."""

    __slots__ = ("call", "record", "script")

    def __init__(self, call: CallId, record: OpenCall, script: Script) -> None:
        self.call = call
        self.record = record
        self.script = script


class MountedClient(SimClient):
    """A client whose calls go through the cache of a file system."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        workload = self.host.workload
        assert isinstance(workload, FileWorkload)
        self._workload = workload
        self.cache: FileCache = FileCache(FileOptions(held_max=self._rng.choice((2, 1_000))))
        self._running: dict[Ticket, _Call] = {}
        self._last_ticket = 0
        self._asked: dict[CallId, int] = {}
        self._observed: tuple[int | None, Instant | None] = (None, None)
        self._events: deque[FileEvent | None] = deque()
        """For the cache, in order: it is fed one at a time."""
        self._is_feeding: bool = False
        self._is_stalled: bool = False
        self._missed: list[Callable[[], None]] = []
        self._cache_armed_us: int | None = None

    def healed(self, reachable: frozenset[NodeId]) -> None:
        """No mount stops from now on: nothing that is written may be lost."""
        super().healed(reachable)
        self._workload.is_calm = True

    # Calls

    def invoke(self, plan: Plan, timeout_us: int, done: Callable[[Outcome], None] | None = None) -> CallId:
        """Begin a call; at its deadline its outcome is unknown, and what it does goes on."""
        now = self.host.world.now_us
        handle = self.host.history.begin(self.name, plan.method, plan.key, plan.arguments, now=now)
        record = OpenCall(plan, handle, now + timeout_us, done)
        call = self._new_call(record)
        self._go_on(_Call(call, record, self._script(plan)), None)
        self.host.world.at(record.deadline_us, self._late, call)
        return call

    def _script(self, plan: Plan) -> Script:
        name = str(plan.key).encode()
        if plan.method == "read":
            return load(name)
        way = replace if len(name) % 2 else save
        return way(name, str(plan.arguments[0]), self._rng.randrange(_LINGER_US))

    def _go_on(self, call: _Call, result: Any) -> None:
        try:
            step = call.script.send(result)
        except StopIteration as end:
            self._tell(call, Returned(b"", 0), end.value)
        except FileFailure as failure:
            self._tell(call, self._failed(call.record, str(failure)), None)
        else:
            self._begin(call, step)

    def _begin(self, call: _Call, step: Operation | int) -> None:
        if isinstance(step, int):
            self.host.world.after(step, self._unless_stalled, lambda: self._go_on(call, None))
            return
        self._last_ticket += 1
        ticket = Ticket(self._last_ticket)
        self._running[ticket] = call
        self._feed(Requested(ticket, step, self.host.world.now_us))
        if not self._workload.is_calm and self._rng.random() < _STALLS:
            self._stall(self._rng.randrange(_STALL_US))

    def _failed(self, record: OpenCall, why: str) -> Failed:
        assert record.plan is not None
        return Failed("not_executed" if record.plan.method == "read" else "unknown", why)

    def _late(self, call: CallId) -> None:
        record = self.calls.get(call)
        if record is None:
            return
        healed = self.healed_us
        if healed is not None and self.host.world.now_us - healed >= _SERVED_WITHIN_US:
            raise InvariantViolated(
                "I19 Liveness", f"client {self.name} waits for {record.plan} after the heal"
            )
        self._tell(_Call(call, record, load(b"")), self._failed(record, "it takes too long"), None)

    def _tell(self, call: _Call, outcome: Outcome, value: Any) -> None:
        record = call.record
        if self.calls.pop(call.call, None) is None:
            return  # it was cancelled, or its time was up
        plan, now = record.plan, self.host.world.now_us
        assert plan is not None
        assert record.handle is not None
        if isinstance(outcome, Returned):
            self.host.judge.rare["text saved or loaded"] += 1
            self.host.history.end(record.handle, "ok", value, now=now)
        else:
            assert isinstance(outcome, Failed)
            is_known = outcome.outcome == "not_executed"
            if not is_known:
                self.host.workload.note_unknown(plan)
            self.host.history.end(record.handle, "failed" if is_known else "unknown", None, now=now)
        self.observer.completed(self, plan, outcome)
        if record.done is not None:
            record.done(outcome)

    # The cache

    def _feed(self, event: FileEvent | None) -> None:
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

    def _cache_step(self, event: FileEvent | None) -> list[FileEffect]:
        now = Instant(self.host.world.now_us)
        effects: list[FileEffect] = []
        observed = (self.core.session, self.core.session_until)
        if observed != self._observed:
            self._observed = observed
            effects += self.cache.step(Observed(*observed), now)
        return effects if event is None else [*effects, *self.cache.step(event, now)]

    def _do(self, effect: FileEffect) -> None:
        match effect:
            case Call():
                call = CallId(self._rng.getrandbits(62))
                self._asked[call] = effect.call
                deadline = Instant(self.host.world.now_us + _NEVER_US)
                self._step(Invoked(call, effect.kind, effect.payload, deadline))
            case Done(ticket, result, _):
                running = self._running.pop(ticket)
                self.host.world.after(0, self._unless_stalled, lambda: self._go_on(running, result))
            case Invalidate(_, number):
                self.host.world.after(
                    self._rng.randrange(_KERNEL_US),
                    self._unless_stalled,
                    lambda: self._feed(Invalidated(number)),
                )
            case Say():
                self.host.judge.rare["written text lost with its session"] += 1
            case _:
                raise AssertionError(f"this cache was not closed: {effect!r}")

    def _arm_cache(self) -> None:
        deadline = self.cache.deadline
        if deadline is None:
            return
        at = max(int(deadline), self.host.world.now_us)
        if self._cache_armed_us is None or at < self._cache_armed_us:
            self._cache_armed_us = at
            self.host.world.at(at, self._unless_stalled, lambda: self._wake_cache(at))

    def _wake_cache(self, armed_at_us: int) -> None:
        if armed_at_us != self._cache_armed_us:
            return
        self._cache_armed_us = None
        deadline = self.cache.deadline
        if deadline is not None and deadline <= self.host.world.now_us:
            self._feed(Woke())
        else:
            self._arm_cache()

    # The process

    def _stall(self, length_us: int) -> None:
        """Stop running for a while, as by SIGSTOP: what the mount believes stays what it was."""
        if self._is_stalled:
            return
        self._is_stalled = True
        self.host.judge.rare["mount stalled"] += 1
        self.host.world.after(length_us, self._resume)

    def _resume(self) -> None:
        self._is_stalled = False
        missed, self._missed = self._missed, []
        for action in missed:
            self._unless_stalled(action)

    def _unless_stalled(self, action: Callable[[], None]) -> None:
        if self._is_stalled:
            self._missed.append(action)
        else:
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
                    notice = notice_of(effect.payload)
                    assert notice is not None, effect
                    self._feed(Told(notice))
        if (self.core.session, self.core.session_until) != self._observed:
            self._feed(None)
        self._arm()

    def _ended(self, call: CallId, outcome: Outcome) -> None:
        asked = self._asked.pop(call, None)
        if asked is None:
            self._complete(Complete(call, outcome))
        else:
            self._feed(Answered(asked, outcome))


class FileWorkload(Keyed):
    """Texts under a few names, as registers."""

    machine: type[StateMachine] = FilesFromTheStart
    model: Model = Register()
    needs_sessions = True

    def __init__(self, load_options: LoadOptions) -> None:
        super().__init__(load_options)
        self.keys = [name for number in range(load_options.keys) for name in (f"k{number}", f"ok{number}")][
            : max(2, load_options.keys)
        ]
        self.client_kind = MountedClient
        self.is_calm = False
        """The faults have ended."""

    def fit(self, options: SwarmOptions) -> SwarmOptions:
        """Leave room for all sessions, let some be so short that a stall outlives them, and be patient.

        How long a session is sure rests on clocks that count time: they may drift, but not jump by an hour.
        """
        seconds = min(options.tuning.session_seconds, _SHORT_SESSION_S) if options.nodes % 2 else None
        tuning = msgspec.structs.replace(
            options.tuning, sessions_max=1_000, session_seconds=seconds or options.tuning.session_seconds
        )
        load_options = msgspec.structs.replace(
            options.load, call_timeout_us=max(options.load.call_timeout_us, _PATIENCE_US)
        )
        processes = msgspec.structs.replace(options.processes, jump_rate=0.0)
        return msgspec.structs.replace(options, tuning=tuning, load=load_options, processes=processes)

    def plan(self, rng: Random) -> Plan:
        """Return which text is saved or loaded next."""
        key = rng.choice(self.keys)
        if rng.random() < self.load.reads:
            return Plan("linearizable", "read", key)
        return Plan("command", "write", key, (self._unique(),))

    def note_result(self, plan: Plan, result: object) -> None:
        """Nothing to learn."""

    def note_unknown(self, plan: Plan) -> None:
        """Give a name up when too much about it is unknown, for another that is written in the same way."""
        before = list(self.keys)
        super().note_unknown(plan)
        for place, (old, new) in enumerate(zip(before, self.keys, strict=True)):
            if old != new and len(old) % 2 != len(new) % 2:
                self.keys[place] = f"o{new}"

    def final_plans(self) -> list[Plan]:
        """Save and load every text."""
        saves = [Plan("command", "write", key, (self._unique(),)) for key in self.keys]
        return [*saves, *(Plan("linearizable", "read", key) for key in self.keys)]
