"""What a machine may learn of the world while a command runs.

One `Context` belongs to one machine and is moved from command to command, so that it costs no allocation.
Time, random numbers and the calling client come from here only: all of it is equal on every replica.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, Final

import msgspec

from viewstamp.core.ids import ORIGIN, LogTime, Seqno, View, Viewstamp, fencing_token
from viewstamp.core.principals import ANONYMOUS

NOBODY: Final = 0
"""The client number in what no client asked for, such as the end of a session."""

_SEED_SHIFT: Final = 64


class Notification(msgspec.Struct, frozen=True, gc=False):
    """A one-way message that a command wants sent: to which client, already encoded."""

    client: int
    payload: bytes


class Context:
    """The current command's surroundings. Read it through `self.context`; do not keep it."""

    __slots__ = (
        "_random",
        "awaited",
        "client",
        "listens",
        "notifications",
        "now",
        "offset",
        "principal",
        "reading",
        "running",
        "session",
        "touched",
        "version",
        "viewstamp",
    )

    def __init__(self) -> None:
        self.now = LogTime(0)
        """Log time in microseconds: never goes back, stands still while no node leads, is not a date."""
        self.viewstamp = ORIGIN
        """The entry that is applied (in a query: the last one applied)."""
        self.offset = 0
        """Place of the command in its entry."""
        self.client = NOBODY
        """Number of the client that asked; `NOBODY` in `session_ended` and in queries."""
        self.session = 0
        """Its session; 0 where it has none."""
        self.principal = ANONYMOUS
        """On whose behalf: the name that the server proved which took the call in. Equal on every replica.

        `anonymous` where nobody was proved, and in `session_ended`.
        """
        self.version = 1
        """The version of the class that is in force at this place of the log (`machine.evolution`)."""
        self.running = False
        """Whether a command or a query runs: at other moments the machine has no context."""
        self.reading = False
        """True while a query runs, which may neither notify nor draw."""
        self.listens = False
        """Whether anybody waits for keys to change: else `changed` need not be called."""
        self.touched: list[bytes] = []
        """Keys that commands said they changed, and the replica has not looked at yet."""
        self.awaited: tuple[bytes, bytes | None] | None = None
        """The range for which the query that ran last wants to wait; None: its answer is due."""
        self._random: tuple[int, Random] | None = None
        self.notifications: list[Notification] = []
        """What commands asked to be sent and the runner has not taken yet."""

    @property
    def token(self) -> int:
        """Fencing token of the command: larger than that of every earlier command of the whole cluster."""
        return fencing_token(self.viewstamp.seqno, self.offset)

    @property
    def random(self) -> Random:
        """A generator that starts, for each command, from its viewstamp and offset: equal on every replica.

        Raises:
            RuntimeError: in a query, whose answer must not depend on the place where it runs.
        """
        self._refuse_in_query("random numbers")
        token = self.token
        if self._random is None or self._random[0] != token:
            seed = (self.viewstamp.view << _SEED_SHIFT) | token
            self._random = (token, Random(seed))  # noqa: S311  determinism is what it is for
        return self._random[1]

    def notify(self, client: int, event: Any) -> None:
        """Send a one-way message to a client once this command is committed; only the leader delivers it.

        It may be lost or duplicated: a machine for which that matters overrides `pending_notifications`.

        Raises:
            TypeError: the event cannot be encoded.
            ValueError: it is nested deeper than `nesting.RESULT_DEPTH_MAX`.
            RuntimeError: in a query.
        """
        self._refuse_in_query("notifications")
        self.notifications.append(Notification(client, msgspec.msgpack.encode(event)))

    def changed(self, key: bytes) -> None:
        """Say that this command changed a key: queries that wait for it (`wait_for`) are asked again.

        Raises:
            RuntimeError: in a query.
        """
        self._refuse_in_query("changes")
        if self.listens:
            self.touched.append(key)

    def wait_for(self, first: bytes, end: bytes | None = None) -> None:
        """Say in a query that it has nothing to tell before a key from `first` on, and before `end`, changes.

        `end` None: every later key counts. Where the client asked by `WaitFor`, the query is run again when
        a command has `changed` such a key, and what it returns is sent when it does not wait again, or when
        the client's time is up. Where it asked in another way, what the query returns is its answer.

        Raises:
            RuntimeError: in a command.
        """
        if not self.reading:
            raise RuntimeError("a command does not wait: make it a query")
        self.awaited = first, end

    def take_notifications(self) -> list[Notification]:
        """Return what has been asked to be sent since the last call, in order. For the replica."""
        taken = self.notifications
        if taken:
            self.notifications = []
        return taken

    def _refuse_in_query(self, what: str) -> None:
        if self.reading:
            raise RuntimeError(f"a query has no {what}: make it a command")


@contextmanager
def running_at(
    machine: Any,
    *,
    seqno: int = 1,
    now: int = 0,
    client: int = NOBODY,
    session: int = 0,
    view: int = 1,
    offset: int = 0,
    principal: str = ANONYMOUS,
    reading: bool = False,
    version: int | None = None,
) -> Iterator[Context]:
    """Lend a machine a context outside any replica, for a test of the machine as an ordinary object."""
    context = Context()
    context.viewstamp = Viewstamp(View(view), Seqno(seqno))
    context.now, context.client, context.session = LogTime(now), client, session
    context.offset, context.principal, context.reading = offset, principal, reading
    context.version = machine.version if version is None else version
    context.running = True
    machine.bind_context(context)
    try:
        yield context
    finally:
        machine.bind_context(None)
