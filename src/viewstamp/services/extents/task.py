"""One operation under way: a generator that says what it waits for, and the locks that it is inside of.

An operation yields `Enter`, `Ask` or `AwaitKernel`, and is sent what came of it. It holds no lock when it
ends. Where it loses one, or the client is no longer sure of one, it begins again if it has changed nothing.
"""

import errno
from collections import OrderedDict
from collections.abc import Callable, Generator
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeVar

import msgspec

from viewstamp.machine.definition import MachineDefinition
from viewstamp.replica.events import Outcome, Raised, Returned
from viewstamp.services.extents.held import Held
from viewstamp.services.extents.model import ERRNO_OF, Attributes, Fenced, StaleToken
from viewstamp.services.extents.open_files import OpenFiles
from viewstamp.services.extents.operations import FileFailure, FileOptions, Ticket
from viewstamp.services.extents.service import ExtentService

_METHODS: Final = MachineDefinition.of(ExtentService).methods
_ENCODE: Final = msgspec.msgpack.Encoder().encode
T = TypeVar("T")


class Enter(msgspec.Struct, frozen=True, gc=False):
    """Wait for the lock of an inode. -> `Held`."""

    inode: int


class Ask(msgspec.Struct, frozen=True):
    """Call the file service. -> the results, in order; the first failure is raised."""

    calls: tuple[tuple[Any, ...], ...]
    """Method and arguments of each."""


class AwaitKernel(msgspec.Struct, frozen=True, gc=False):
    """Wait until the kernel believes nothing of this inode. -> None."""

    inode: int


Step: TypeAlias = Enter | Ask | AwaitKernel
Action: TypeAlias = Generator[Step, Any, T]


class Again(Exception):
    """The operation begins again: it has changed nothing, and what it saw may not count."""


class Desk(Protocol):
    """What an operation may use of the cache that runs it."""

    options: FileOptions
    files: OpenFiles
    held: OrderedDict[int, Held]
    file_bytes_max: int
    closing: bool

    def leave(self, task: "Task") -> None:
        """Let a task leave all locks that it is inside of."""
        ...

    def lose(self, held: Held, why: str) -> None:
        """Keep nothing under a lock that another may have. May be repeated."""
        ...

    def forget(self, held: Held) -> None:
        """Keep nothing of an inode that is gone."""
        ...

    def is_contended(self, inode: int) -> bool:
        """Return whether this is a directory whose lock others wanted a moment ago, and is not here now."""
        ...

    def note_dirty(self, held: Held) -> None:
        """Let it be flushed in time."""
        ...

    def is_full_of(self, held: Held) -> bool:
        """Return whether so much of an inode waits for the service that no more may."""
        ...


class Task:
    """One run of an operation."""

    __slots__ = (
        "action",
        "answers",
        "begin",
        "cache",
        "changed",
        "inside",
        "now_ns",
        "ticket",
        "waiting",
        "waits_for",
    )

    def __init__(
        self, cache: "Desk", ticket: Ticket, begin: "Callable[[Task], Action[Any]]", now_ns: int
    ) -> None:
        self.cache = cache
        self.ticket = ticket
        """0: nobody waits for it."""
        self.begin = begin
        self.now_ns = now_ns
        self.action: Action[Any] = begin(self)
        self.inside: dict[int, Held] = {}
        self.changed = False
        """It asked the service to change something, or changed something here: it must not begin again."""
        self.waits_for: int | None = None
        """The ticket under which it waits for a lock."""
        self.answers: dict[int, Any] = {}
        """Of the calls under way and just ended: method, then result."""
        self.waiting = 0

    @property
    def has_lost(self) -> bool:
        """Whether it is inside of a lock that is lost."""
        return any(held.lost for held in self.inside.values())

    # For actions

    def enter(self, inode: int) -> Action[Held]:
        """Enter the lock of one inode, and know its attributes."""
        held: Held = yield Enter(inode)
        yield from self._learn(held)
        return held

    def enter_all(self, inodes: set[int]) -> Action[dict[int, Held]]:
        """Enter several, in the order of their numbers, so that two tasks never wait for each other."""
        entered = {}
        for inode in sorted(inodes):
            entered[inode] = yield from self.enter(inode)
        return entered

    def leave_all(self) -> None:
        """Leave all locks, to enter others."""
        self.cache.leave(self)

    def ask(self, *calls: tuple[Any, ...]) -> Action[list[Any]]:
        """Make calls at once, and return their results."""
        if not calls:
            return []
        if any(_METHODS[call[0]].kind == "command" for call in calls):
            self.changed = True
        results: list[Any] = yield Ask(calls)
        return results

    def call(self, method: str, *arguments: Any) -> Action[Any]:
        """Make one call and return its result."""
        results = yield from self.ask((method, *arguments))
        return results[0]

    def _learn(self, held: Held) -> Action[None]:
        if held.attributes is not None:
            return
        changed = self.changed
        if self.cache.options.claims:
            attributes: Attributes = yield from self.call("claim", fenced(held))
        else:
            attributes = yield from self.call("look", held.inode)
        self.changed = changed  # a claim changes nothing that anybody sees
        held.learn(attributes)


def fenced(held: Held) -> Fenced:
    """Return an inode with its token, for a call."""
    return Fenced(held.inode, held.grant.token)


def kind_of(method: str) -> Literal["command", "linearizable"]:
    """Return how a method is called."""
    return "command" if _METHODS[method].kind == "command" else "linearizable"


def encoded(call: tuple[Any, ...]) -> bytes:
    """Return a call as it travels."""
    return _ENCODE(call)


def decoded(method: str, outcome: Outcome) -> Any:
    """Return the result of a call, or the exception that it ended with: `FileFailure` or `Again`."""
    match outcome:
        case Returned():
            return _METHODS[method].decode_result(outcome.payload)
        case Raised():
            if outcome.kind == StaleToken.__name__:
                return Stale(outcome.explanation)
            return FileFailure(ERRNO_OF.get(outcome.kind, errno.EIO), outcome.explanation)
        case _:
            if outcome.outcome in {"session_expired", "unknown"}:
                return Again(outcome.reason)
            number = errno.EACCES if outcome.outcome == "denied" else errno.EIO
            return FileFailure(number, outcome.reason)


class Stale(FileFailure):
    """The service refused a token: the lock is another's."""

    def __init__(self, explanation: str) -> None:
        super().__init__(errno.EIO, explanation)
