"""Some clients of one file system in virtual time: messages take random times, clients stand still beyond
their sessions.

What a client is told must fit a model that changes at the moment when it is told: while it is told, it is
inside of the locks. When the service ends a session, what that client had not flushed is lost: the model
goes back to what the service has, and each open handle of the client must hear EIO once.
"""

import errno
import heapq
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import msgspec

from viewstamp.core.events import Woke
from viewstamp.core.ids import Instant
from viewstamp.machine.context import running_at
from viewstamp.machine.definition import MachineDefinition
from viewstamp.replica.events import Failed, Outcome, Raised, Returned
from viewstamp.services.extents import ExtentService, FileService
from viewstamp.services.extents.cache import FileCache
from viewstamp.services.extents.model import ROOT, Birth
from viewstamp.services.extents.operations import (
    Answered,
    Call,
    Done,
    FileEvent,
    FileFailure,
    FileOptions,
    Finished,
    Invalidate,
    Invalidated,
    Requested,
    Say,
    Ticket,
)
from viewstamp.services.lock_events import Closing, Observed, Told
from viewstamp.services.lock_wire import notice_of
from viewstamp.services.locks import LockService

SESSION_US = 2_000_000
Then = Callable[[Any], None]


class Machine:
    """A machine without replicas: sessions, and what they are told."""

    def __init__(self, town: "Town", machine: Any) -> None:
        self.town = town
        self.machine = machine
        self.definition = MachineDefinition.of(type(machine))
        self.seqno = 0
        self.sessions: dict[int, tuple[int, int]] = {}
        """Client: session, and when it was heard last."""
        self.counts: dict[str, int] = {}

    def call(self, client: int, session: int, kind: str, payload: bytes) -> Outcome:
        known = self.sessions.get(client)
        if known is None or known[0] != session:
            return Failed("session_expired", "the session is gone")
        self.sessions[client] = (session, self.town.now)
        struct = self.definition.decoder("command" if kind == "command" else "query")(payload)
        name = type(struct).__struct_config__.tag
        arguments = msgspec.structs.astuple(struct)
        self.counts[name] = self.counts.get(name, 0) + 1
        method = self.definition.methods[name]
        self.seqno += 1
        reading = kind != "command"
        with self.context(client, session, reading=reading) as context:
            try:
                result = getattr(self.machine, name)(*arguments)
            except self.machine.raises as error:
                return Raised(type(error).__name__, str(error))
            self.deliver(context)
        return Returned(method.encode_result(result), 0)

    def context(self, client: int, session: int, *, reading: bool = False) -> Any:
        return running_at(
            self.machine, seqno=self.seqno, now=self.town.now, client=client, session=session, reading=reading
        )

    def deliver(self, context: Any) -> None:
        for notification in context.take_notifications():
            self.town.tell(notification.client, notification.payload)

    def expire(self) -> None:
        for client, (_, heard) in list(self.sessions.items()):
            if heard + SESSION_US < self.town.now:
                self.end(client)

    def end(self, client: int) -> None:
        self.town.before_end(client)
        del self.sessions[client]
        self.seqno += 1
        with self.context(client, 0) as context:
            self.machine.session_ended(client)
            self.deliver(context)


class Client:
    """A cache, and what stands between it and the machines."""

    def __init__(self, town: "Town", number: int, options: FileOptions) -> None:
        self.town = town
        self.number = number
        self.cache = FileCache(options)
        self.session = number * 1_000
        self.until = 0
        self.frozen_until = 0
        self.tickets = 0
        self.waiting: dict[int, Then] = {}
        self.said: list[str] = []
        self.finished = False
        self.woken: int | None = None
        self.keeps_kernel_waiting = False
        self.kernel_waits: list[int] = []

    def request(self, operation: Any, then: Then) -> int:
        self.tickets += 1
        self.waiting[self.tickets] = then
        self.feed(Requested(Ticket(self.tickets), operation, 1_000_000_000_000 + self.town.now * 1_000))
        return self.tickets

    def feed(self, event: FileEvent) -> None:
        if self.town.now < self.frozen_until:
            self.town.at(self.frozen_until, lambda: self.feed(event))
            return
        for effect in self.cache.step(event, Instant(self.town.now)):
            match effect:
                case Call():
                    self.town.send(self, effect)
                case Done(ticket, result, _):
                    self.waiting.pop(ticket)(result)
                case Invalidate(_, number) if self.keeps_kernel_waiting:
                    self.kernel_waits.append(number)
                case Invalidate(_, number):
                    self.town.after(300, partial(self.feed, Invalidated(number)))
                case Say(text):
                    self.said.append(text)
                case Finished():
                    self.finished = True
        self.arm()

    def arm(self) -> None:
        deadline = self.cache.deadline
        if deadline is None or (self.woken is not None and self.town.now < self.woken <= deadline):
            return
        at = self.woken = max(int(deadline), self.town.now + 1)
        self.town.at(at, lambda: self.feed(Woke()) if self.woken == at else None)

    def tell_kernel(self) -> None:
        self.keeps_kernel_waiting = False
        for number in self.kernel_waits:
            self.feed(Invalidated(number))

    def observe(self, session: int, until: int) -> None:
        self.session, self.until = session, until
        self.feed(Observed(session, Instant(until)))

    def keep_alive(self) -> None:
        """Ask again and again whether the session lives; begin another where it does not."""
        if self.town.now < self.frozen_until:
            self.town.at(self.frozen_until, self.keep_alive)
            return
        sent, session = self.town.now, self.session

        def heard(lives: bool) -> None:
            if self.town.now < self.frozen_until:
                self.town.at(self.frozen_until, lambda: heard(lives))
            elif lives and session == self.session:
                self.observe(session, max(self.until, sent + SESSION_US))
            elif session == self.session:
                self.town.open_session(self)

        def arrive() -> None:
            known = self.town.locks.sessions.get(self.number)
            lives = known is not None and known[0] == session
            if lives:
                self.town.locks.sessions[self.number] = (session, self.town.now)
            self.town.after(self.town.delay(), lambda: heard(lives))

        self.town.after(self.town.delay(), arrive)
        self.town.after(SESSION_US // 4, self.keep_alive)


class Town:
    """The clients, the machines and the time."""

    def __init__(
        self, seed: int, *, clients: int = 2, apart: bool = False, options: FileOptions | None = None
    ) -> None:
        self.rng = Random(seed)
        self.now = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self.apart = apart
        """The locks are in another machine than the files."""
        self.files = Machine(self, ExtentService() if apart else FileService())
        self.locks = Machine(self, LockService()) if apart else self.files
        with self.files.context(0, 1):
            self.files.machine.make(Birth("directory", 0o755, 0, 0, 1))
        self.clients: dict[int, Client] = {}
        self.on_end: Callable[[Client], None] | None = None
        for number in range(1, clients + 1):
            client = self.clients[number] = Client(self, number, options or FileOptions(claims=apart))
            self.open_session(client)
            client.keep_alive()

    def open_session(self, client: Client) -> None:
        session = client.session + 1
        known = self.locks.sessions.get(client.number)
        if known is not None:
            self.locks.end(client.number)
        self.locks.sessions[client.number] = (session, self.now)
        if self.apart:
            self.files.sessions[client.number] = (1, self.now)
        client.observe(session, self.now + SESSION_US)

    # Time

    def at(self, when: int, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (max(when, self.now), self._order, action))

    def after(self, us: int, action: Callable[[], None]) -> None:
        self.at(self.now + us, action)

    def delay(self) -> int:
        return self.rng.choice((50, 500, 3_000, 40_000))

    def run(self, until: Callable[[], bool], *, seconds: float = 600) -> None:
        """Let time pass until a condition is met, which must be within `seconds`."""
        end = self.now + int(seconds * 1_000_000)
        while not until():
            when, _, action = heapq.heappop(self._queue)
            assert when <= end, "it was not met in time"
            self.now = when
            self.locks.expire()
            action()

    # Messages

    def send(self, client: Client, call: Call) -> None:
        machine = self.locks if call.service == "locks" else self.files
        session = client.session if machine is self.locks else 1

        def arrive() -> None:
            self.locks.expire()
            outcome = machine.call(client.number, session, call.kind, call.payload)
            self.after(self.delay(), lambda: client.feed(Answered(call.call, outcome)))

        self.after(self.delay(), arrive)

    def tell(self, number: int, payload: bytes) -> None:
        notice = notice_of(payload)
        assert notice is not None
        client = self.clients[number]
        if self.rng.random() < 0.9:  # it may be lost
            self.after(self.delay(), lambda: client.feed(Told(notice)))

    def before_end(self, number: int) -> None:
        if self.on_end is not None:
            self.on_end(self.clients[number])

    # Ease of use

    def do(self, client: int, operation: Any) -> Any:
        """Let a client do an operation and return its result; raise what it failed with."""
        ended: list[Any] = []
        self.clients[client].request(operation, ended.append)
        self.run(lambda: bool(ended))
        if isinstance(ended[0], FileFailure):
            raise ended[0]
        return ended[0]

    def fails(self, client: int, operation: Any) -> str:
        """Let a client do an operation that fails, and return the name of its error."""
        try:
            self.do(client, operation)
        except FileFailure as failure:
            return errno.errorcode[failure.errno]
        raise AssertionError(f"{operation} did not fail")

    def freeze(self, client: int, us: int) -> None:
        """Stop a client for a while, as SIGSTOP does."""
        self.clients[client].frozen_until = self.now + us

    def wait(self, us: int) -> None:
        """Let time pass."""
        reached: list[bool] = []
        self.after(us, lambda: reached.append(True))
        self.run(lambda: bool(reached), seconds=us / 500_000 + 1)

    def close(self) -> None:
        """Let all clients give everything back."""
        for client in self.clients.values():
            client.feed(Closing())
        self.run(lambda: all(client.finished for client in self.clients.values()))


__all__ = ["ROOT", "Town"]
