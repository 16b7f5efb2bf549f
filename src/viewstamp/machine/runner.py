"""One machine and what runs its methods: an exception is a result, what cannot be encoded is a failure.

A command runs through two functions: the runner's own closure (`_runner`) and the user's method.

Equal room for the user's code: how deep a command may recurse is measured from one known frame. A command
runs on many paths: after the leader's own sync, after an acknowledgement, on a follower, at a replay, in the
simulator. Each stands at another depth of the stack, and `sys.setrecursionlimit` counts from the bottom.
Without this one replica got a value and another a `RecursionError` for the same command. Python 3.12 and
later count calls in C apart, by a constant of the interpreter; what is bounded there is the nesting of
arguments and results (`machine.nesting`).
"""

import sys
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, Final

import msgspec

from viewstamp.core.errors import ConfigurationError, OutOfMemory
from viewstamp.core.ids import LogTime, Viewstamp
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.messages import DENIED, FAILED, INVALID, RESULT
from viewstamp.core.principals import ANONYMOUS
from viewstamp.machine.access import Denial, has_role
from viewstamp.machine.aliases import shared_object
from viewstamp.machine.context import NOBODY, Context, Notification
from viewstamp.machine.definition import MachineDefinition, Method
from viewstamp.machine.evolution import migrating_versions, migrations_of
from viewstamp.machine.guard import Guard
from viewstamp.machine.in_force import VersionInForce
from viewstamp.machine.nesting import RESULT_DEPTH_MAX, encode_within
from viewstamp.machine.state_machine import StateMachine, has_alarms

EXPLANATION_CHARACTERS_MAX: Final = 2_000
UNENCODABLE: Final = "UnencodableResult"
"""Kind of the failure of a command that returned what its encoder refuses. What it changed stays changed."""

RESULT_BYTES_MAX: Final = 8 << 20
"""An encoded result that is longer is a failure: it has to fit into a message, on every replica alike."""
TOO_LONG: Final = "ResultTooLong"
"""Kind of the failure of a call that returned more than `RESULT_BYTES_MAX`."""

PROBE_BYTES: Final = 16 << 20
"""If not even this can be allocated after a `MemoryError`, it is the process that is out of memory."""

FRAMES: Final = 1_000
"""Frames that a command may use, counted from where its entry is applied."""
_BEFORE_DEPTH: Final = "cannot set the recursion limit to 1 at the recursion depth "
_AFTER_DEPTH: Final = ": the limit is too low"

_ENCODER: Final = msgspec.msgpack.Encoder()
_UNREADABLE: Final = _ENCODER.encode("not executed: no such command, or wrong arguments")

Runner = Callable[[Any], tuple[int, bytes]]


class MachineRunner:
    """The machine of one replica, its context, and a table from argument structs to what runs them."""

    __slots__ = (
        "_guard",
        "_limit_before",
        "_strict",
        "context",
        "definition",
        "has_alarms",
        "in_force",
        "machine",
        "projected",
        "queries",
        "runners",
    )

    def __init__(
        self,
        definition: MachineDefinition,
        machine: StateMachine | None = None,
        *,
        strict: bool = False,
        guard: Guard | None = None,
        in_force: VersionInForce | None = None,
    ) -> None:
        """With `strict` each query is checked, which costs two snapshots: for tests and the simulator.

        A `guard` watches each method for forbidden calls.
        """
        self.definition = definition
        self._guard = guard
        self.in_force = in_force or VersionInForce.newest(definition)
        self.projected = b""
        """The last result as the interface in force has it; made where the class defines more than that."""
        self._strict = strict
        self.has_alarms = has_alarms(definition.cls)
        """Whether the machine may have an alarm."""
        self.machine: StateMachine = definition.cls() if machine is None else machine
        self.context = Context()
        self.context.version = self.in_force.version
        self._limit_before = 0
        """The recursion limit of the process, while an entry runs under its own."""
        self.machine.bind_context(self.context)
        self.runners: dict[type[Any], Runner] = {
            method.arguments: self._runner_of(method) for method in definition.methods.values()
        }
        """By the type of the arguments: what runs a call and returns (RESULT or FAILED, payload).

        It does so whatever the method does. None is the type of arguments that could not be read.
        """
        self.runners[type(None)] = _unreadable
        self.queries = self.runners
        """The same for queries."""
        if strict:
            self.queries = dict.fromkeys(self.runners, self._run_strictly)

    def _runner_of(self, method: Method) -> Runner:
        run = _runner(method, _part_of(self.machine, method.part), self.context, self._projection(method))
        return run if self._guard is None else self._guard.watched(run)

    def _projection(self, method: Method) -> Callable[[Any], int] | None:
        in_force, encode = self.in_force, method.encode_result
        if in_force.is_whole:
            return None

        def project(value: Any) -> int:
            self.projected = encode(in_force.project(value))
            return len(self.projected)

        return project

    def begin_entry(self, viewstamp: Viewstamp, now: LogTime) -> None:
        """Say which entry the next commands belong to; until it is ended the machine has its context."""
        context = self.context
        assert not context.running, "an entry within an entry"
        context.viewstamp, context.now, context.reading, context.running = viewstamp, now, False, True
        self._limit_before = sys.getrecursionlimit()
        # Everything in this entry starts in this frame, whatever path led here.
        sys.setrecursionlimit(depth() + FRAMES)

    def begin_queries(self, viewstamp: Viewstamp, now: LogTime) -> None:
        """Say at which state the next queries read; until it is ended the machine has its context."""
        self.begin_entry(viewstamp, now)
        context = self.context
        context.reading, context.client, context.session, context.offset = True, NOBODY, 0, 0

    def end_entry(self) -> list[Notification]:
        """Take the context away again and return what the commands asked to be sent, in order."""
        sys.setrecursionlimit(self._limit_before)
        context = self.context
        assert context.running, "no entry has begun"
        context.running = False
        return context.take_notifications() if context.notifications else []

    def end_queries(self) -> None:
        """Take the context away again."""
        sys.setrecursionlimit(self._limit_before)
        self.context.running = False

    def run(self, arguments: Any) -> tuple[int, bytes]:
        """Run one decoded call, of either kind: one look-up and one call more than by the tables."""
        table = self.queries if self.context.reading else self.runners
        return table[type(arguments)](arguments)

    def _run_strictly(self, arguments: Any) -> tuple[int, bytes]:
        before = b"".join(self.pieces())
        outcome = self.runners[type(arguments)](arguments)
        if b"".join(self.pieces()) != before:
            name = type(arguments).__struct_config__.tag
            sys.setrecursionlimit(self._limit_before)
            raise InvariantViolated(
                "I28 BackupPrefix", f"the query {name} changes the state: make it a command"
            )
        return outcome

    def end_session(self, client: int, offset: int) -> None:
        """Tell the machine that a client's session has ended; what its hook raises changes nothing else."""
        self._call(partial(self.machine.session_ended, client), offset)

    def next_alarm(self) -> int | None:
        """Return the log time of the machine's next alarm; None where its method raises."""
        try:
            return self.machine.next_alarm()
        except BaseException as error:  # noqa: BLE001  equal on every replica
            _require_memory(error)
            return None

    def ring(self, offset: int) -> None:
        """Tell the machine that an alarm is due; what its method raises changes nothing else."""
        self._call(self.machine.alarm, offset)

    def begin_life(self, offset: int) -> None:
        """Tell the machine that it goes on as another cluster."""
        self._call(self.machine.life_begins, offset)

    def _call(self, hook: Callable[[], None], offset: int) -> None:
        context = self.context
        context.client, context.session, context.offset = NOBODY, 0, offset
        context.principal = ANONYMOUS
        try:
            hook()
        except BaseException as error:  # noqa: BLE001  equal on every replica, and no client waits for it
            _require_memory(error)

    def pending_notifications(self, clients: Collection[int]) -> list[Notification]:
        """Return what the machine sends again to these clients; empty where its method raises."""
        try:
            pending = list(self.machine.pending_notifications_for(clients))
            return [
                Notification(client, encode_within(_ENCODER.encode, event, RESULT_DEPTH_MAX))
                for client, event in pending
            ]
        except BaseException as error:  # noqa: BLE001  best effort by definition
            _require_memory(error)
            return []

    def pieces(self) -> Iterator[bytes]:
        """Yield the machine's snapshot while it is consumed."""
        return self.in_force.pieces(self.machine)

    def beginning(self, target: VersionInForce) -> "MachineRunner":
        """Return a runner of the same machine with this in force."""
        target.strip(self.machine)
        if target.is_whole and self.in_force.is_whole:
            self.in_force, self.context.version = target, target.version
            return self
        return MachineRunner(
            self.definition, self.machine, strict=self._strict, guard=self._guard, in_force=target
        )

    def raised(self, target: VersionInForce, viewstamp: Viewstamp, now: LogTime) -> "MachineRunner":
        """Return a new runner with what is in force from this entry on; this one stays as it is.

        What the interface in force did not define begins with its default, on every replica, whatever code
        that ran before has left there. Then the migrations run.

        Raises:
            MigrationFailed: one raised, or the state before or after them cannot be kept, or they left one
                object in two places.
        """
        before = self.in_force.version
        try:
            fresh = self.restored(b"".join(self.pieces()), self.in_force)
        except OutOfMemory:
            raise
        except Exception as error:  # noqa: BLE001  the user's code may raise anything
            _require_memory(error)
            raise MigrationFailed(f"the state cannot be kept as it is: {error}") from None
        steps = migrating_versions(self.definition.cls, before, target.version)
        for step in steps:
            fresh.begin_entry(viewstamp, now)
            fresh.context.version = step
            try:
                _migrate(fresh.machine, step)
            finally:
                fresh.end_entry()
        migrated = fresh.beginning(target)
        if steps and (shared := shared_object(migrated.machine)):
            raise MigrationFailed(
                f"after the migration {shared}, which a restart would make two: copy it (copy.deepcopy)"
            )
        try:
            for _ in migrated.pieces():
                pass
        except Exception as error:  # noqa: BLE001  the user's code may raise anything
            raise MigrationFailed(f"the migrated state cannot be kept: {error}") from None
        return migrated

    def fresh(self) -> "MachineRunner":
        """Return a runner of a new machine, as where a log begins."""
        return MachineRunner(self.definition, strict=self._strict, guard=self._guard)

    def restored(self, snapshot: bytes, in_force: VersionInForce | None = None) -> "MachineRunner":
        """Return a new runner whose machine has this state; this one stays as it is.

        Raises:
            ConfigurationError: the machine refused its own snapshot, so its class has changed.
        """
        machine = self.definition.cls()
        in_force = in_force or self.in_force
        in_force.expect(machine)
        try:
            machine.restore(snapshot)
        except BaseException as error:  # noqa: BLE001  the user's code may raise anything
            _require_memory(error)
            raise ConfigurationError(f"{type(machine).__qualname__}.restore: {error}") from None
        in_force.strip(machine)
        return MachineRunner(
            self.definition,
            machine,
            strict=self._strict,
            guard=self._guard,
            in_force=in_force,
        )


class MigrationFailed(Exception):
    """A migration did not come to its end: the state is as it was before."""


def _migrate(machine: StateMachine, to: int) -> None:
    for part in vars(machine).get("machines", {}).values():
        _migrate(part, to)
    for migration in migrations_of(type(machine)):
        if migration.to == to:
            try:
                getattr(machine, migration.name)()
            except BaseException as error:  # noqa: BLE001  equal on every replica
                _require_memory(error)
                where = f"{type(machine).__qualname__}.{migration.name}"
                raise MigrationFailed(f"{where}: {type(error).__name__}: {_text(error)}") from None


def depth() -> int:
    """Return how deep the stack is, as the interpreter counts it."""
    try:
        sys.setrecursionlimit(1)
    except RecursionError as error:
        # The interpreter refuses a limit below the depth, and names the depth: exact, and without a walk.
        text: str = error.args[0]
        if text.startswith(_BEFORE_DEPTH) and text.endswith(_AFTER_DEPTH):
            return int(text[len(_BEFORE_DEPTH) : -len(_AFTER_DEPTH)])
    raise AssertionError("this interpreter does not tell the depth of its stack")


def _part_of(machine: StateMachine, path: str) -> StateMachine:
    for name in path.split(".") if path else ():
        machine = _parts(machine)[name]
    return _parts(machine)[""] if "" in machine.parts else machine


def _parts(machine: StateMachine) -> dict[str, StateMachine]:
    parts: dict[str, StateMachine] = vars(machine)["machines"]
    return parts


def positional(method: Method) -> Callable[..., Any]:
    """Return the method as a function of its machine and then of all its arguments in their order."""
    function = method.function
    parameters = method.signature.parameters.values()
    keywords = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    if not keywords:
        return function
    first = len(parameters) - len(keywords)

    def call(machine: StateMachine, *values: Any) -> Any:
        return function(machine, *values[:first], **dict(zip(keywords, values[first:], strict=True)))

    return call


def _runner(
    method: Method, machine: StateMachine, context: Context, project: Callable[[Any], int] | None
) -> Runner:
    function, encode, astuple = positional(method), method.encode_result, msgspec.structs.astuple
    roles = method.access.roles

    def run(arguments: Any) -> tuple[int, bytes]:
        try:
            value = function(machine, *astuple(arguments))
        except BaseException as error:  # noqa: BLE001  the machine's exception is the command's result
            # All of them: what ended one replica would end every other one, and again at each restart.
            _require_memory(error)
            return FAILED, failure(type(error).__name__, _text(error))
        try:
            payload = encode(value)
            length = len(payload) if project is None else project(value)
        except BaseException as error:  # noqa: BLE001  what cannot be encoded fails on every replica alike
            _require_memory(error)
            return FAILED, failure(UNENCODABLE, _text(error))
        if length > RESULT_BYTES_MAX:
            return FAILED, failure(TOO_LONG, f"the result has {length} bytes: return less at a time")
        return RESULT, payload

    def run_for_roles(arguments: Any) -> tuple[int, bytes]:
        # Where the call entered, this was checked as well: by a server whose class may have been another.
        denial = role_denial(method, context.principal)
        return run(arguments) if denial is None else (DENIED, _ENCODER.encode(denial))

    return run_for_roles if roles else run


def role_denial(method: Method, principal: str) -> Denial | None:
    """Return why the class does not let this principal call the method; None: it does."""
    roles = method.access.roles
    if not roles or has_role(principal, roles):
        return None
    return Denial(principal, method.name, "role", needs=" or ".join(roles))


def _unreadable(_arguments: None) -> tuple[int, bytes]:
    return INVALID, _UNREADABLE


def _require_memory(error: BaseException) -> None:
    """End the node rather than let it answer wrongly, where the process itself has no memory left.

    A command that asks for more than there is, such as `bytearray(2**60)`, fails on every replica alike, and
    that is its result.

    Raises:
        OutOfMemory: an ordinary allocation fails as well.
    """
    if isinstance(error, MemoryError):
        try:
            bytearray(PROBE_BYTES)
        except MemoryError:
            raise OutOfMemory(
                "this process has no memory left: the node ends, and no data is lost"
            ) from error


def failure(kind: str, explanation: str) -> bytes:
    """Return the payload of a FAILED result."""
    return _ENCODER.encode((_sendable(kind), _sendable(explanation)))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as raised:  # noqa: BLE001  an exception whose text raises
        _require_memory(raised)
        return "(its text cannot be shown)"


def _sendable(text: str) -> str:
    return text[:EXPLANATION_CHARACTERS_MAX].encode("utf-8", "backslashreplace").decode()
