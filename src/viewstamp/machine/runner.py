"""One machine and what runs its methods: an exception is a result, what cannot be encoded is a failure."""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import LogTime, Viewstamp
from viewstamp.core.messages import FAILED, RESULT
from viewstamp.machine.context import NOBODY, Context, Notification
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine

EXPLANATION_CHARACTERS_MAX: Final = 2_000
UNENCODABLE: Final = "UnencodableResult"
"""Kind of the failure of a command that returned what its encoder refuses. What it changed stays changed."""

RESULT_BYTES_MAX: Final = 8 << 20
"""An encoded result that is longer is a failure: it has to fit into a message, on every replica alike."""
TOO_LONG: Final = "ResultTooLong"
"""Kind of the failure of a call that returned more than `RESULT_BYTES_MAX`."""

OUT_OF_ITS_HANDS: Final = (MemoryError, KeyboardInterrupt)
"""What the machine's code may raise on this replica and not on the others: no result, the node must end.

Everything else is a result, `SystemExit` too: every replica would end, and again at each restart.
"""

_ENCODER: Final = msgspec.msgpack.Encoder()

Runner = Callable[[Any], tuple[int, bytes]]


class MachineRunner:
    """The machine of one replica, its context, and a table from argument structs to what runs them."""

    __slots__ = ("context", "definition", "machine", "runners")

    def __init__(self, definition: MachineDefinition, machine: StateMachine | None = None) -> None:
        self.definition = definition
        self.machine: StateMachine = definition.cls() if machine is None else machine
        self.context = Context()
        self.machine.bind_context(self.context)
        self.runners: dict[type[Any], Runner] = {
            method.arguments: _runner(method.bind(_part_of(self.machine, method.part)), method.encode_result)
            for method in definition.methods.values()
        }
        """By the type of the arguments: what `run` does, one call shorter."""

    def begin_entry(self, viewstamp: Viewstamp, now: LogTime) -> None:
        """Say which entry the next commands belong to; until `end` the machine has its context."""
        context = self.context
        context.viewstamp, context.now, context.reading, context.running = viewstamp, now, False, True

    def begin_queries(self, viewstamp: Viewstamp, now: LogTime) -> None:
        """Say at which state the next queries read; until `end` the machine has its context."""
        self.begin_entry(viewstamp, now)
        context = self.context
        context.reading, context.client, context.session, context.offset = True, NOBODY, 0, 0

    def end(self) -> None:
        """Take the context away again."""
        self.context.running = False

    def run(self, arguments: Any) -> tuple[int, bytes]:
        """Run one decoded call and return (RESULT or FAILED, payload), whatever the method did."""
        return self.runners[type(arguments)](arguments)

    def end_session(self, client: int, offset: int) -> None:
        """Tell the machine that a client's session has ended; what its hook raises changes nothing else."""
        context = self.context
        context.client, context.session, context.offset = NOBODY, 0, offset
        try:
            self.machine.session_ended(client)
        except OUT_OF_ITS_HANDS:
            raise
        except BaseException:  # noqa: BLE001, S110  equal on every replica, and there is nobody to tell
            pass

    def pending_notifications(self, clients: Collection[int]) -> list[Notification]:
        """Return what the machine wants sent again to these clients; empty where it cannot say."""
        try:
            pending = list(self.machine.pending_notifications_for(clients))
            return [Notification(client, _ENCODER.encode(event)) for client, event in pending]
        except OUT_OF_ITS_HANDS:
            raise
        except BaseException:  # noqa: BLE001  best effort by definition
            return []

    def pieces(self) -> Iterator[bytes]:
        """Yield the machine's snapshot while it is consumed."""
        taken = self.machine.snapshot()
        return iter((taken,) if isinstance(taken, bytes) else taken)

    def restored(self, snapshot: bytes) -> "MachineRunner":
        """Return a new host whose machine has this state; this one stays as it is.

        Raises:
            ConfigurationError: the machine refused its own snapshot, so its class has changed.
        """
        machine = self.definition.cls()
        try:
            machine.restore(snapshot)
        except OUT_OF_ITS_HANDS:
            raise
        except BaseException as error:  # noqa: BLE001  the user's code may raise anything
            raise ConfigurationError(f"{type(machine).__qualname__}.restore: {error}") from None
        return MachineRunner(self.definition, machine)


def _part_of(machine: StateMachine, path: str) -> StateMachine:
    for name in path.split(".") if path else ():
        machine = _parts(machine)[name]
    return _parts(machine)[""] if "" in machine.parts else machine


def _parts(machine: StateMachine) -> dict[str, StateMachine]:
    parts: dict[str, StateMachine] = vars(machine)["machines"]
    return parts


def _runner(call: Callable[[Any], Any], encode: Callable[[Any], bytes]) -> Runner:
    def run(arguments: Any) -> tuple[int, bytes]:
        try:
            value = call(arguments)
        except OUT_OF_ITS_HANDS:
            raise
        except BaseException as error:  # noqa: BLE001  the machine's exception is the command's result
            return FAILED, failure(type(error).__name__, _text(error))
        try:
            payload = encode(value)
        except OUT_OF_ITS_HANDS:
            raise
        except BaseException as error:  # noqa: BLE001  what cannot be encoded fails on every replica alike
            return FAILED, failure(UNENCODABLE, _text(error))
        if len(payload) > RESULT_BYTES_MAX:
            return FAILED, failure(TOO_LONG, f"the result has {len(payload)} bytes: return less at a time")
        return RESULT, payload

    return run


def failure(kind: str, explanation: str) -> bytes:
    """Return the payload of a FAILED result."""
    return _ENCODER.encode((_sendable(kind), _sendable(explanation)))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except OUT_OF_ITS_HANDS:
        raise
    except BaseException:  # noqa: BLE001  an exception whose text raises
        return "(its text cannot be shown)"


def _sendable(text: str) -> str:
    return text[:EXPLANATION_CHARACTERS_MAX].encode("utf-8", "backslashreplace").decode()


def join(pieces: Iterable[bytes]) -> bytes:
    """Return pieces of a snapshot as one."""
    return b"".join(pieces)
