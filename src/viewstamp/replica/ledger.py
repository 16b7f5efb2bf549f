"""The replicated state of one replica and the one way in which it changes: entries applied in order.

A ledger is sessions, log time, digest chain and the user's machine. Two ledgers of one class that applied the
same entries are equal, whatever copies, restarts or snapshots lay between (FAULTS I13). It knows no
addresses, no leader and no clock: who is answered is the replica's business.
"""

from collections.abc import Container
from typing import Final, TypeAlias

import msgspec

from viewstamp.core.ids import ORIGIN, LogTime, Viewstamp, fencing_token
from viewstamp.core.messages import (
    EXPIRED,
    INVALID,
    NO_SESSION,
    RESULT,
    CloseSession,
    KeepAlive,
    Logged,
    OpenSession,
    SessionOpened,
    Submit,
)
from viewstamp.replica.batching import Batch, Call, Prepared
from viewstamp.replica.context import Notification
from viewstamp.replica.definition import MachineDefinition
from viewstamp.replica.divergence import DigestChain
from viewstamp.replica.host import MachineHost
from viewstamp.replica.options import SessionLimits
from viewstamp.replica.sessions import Remembered, Session, Sessions

ResultLine: TypeAlias = tuple[int, int, msgspec.Raw]
"""(sequence number, one of RESULT .. REFUSED, payload), as in `messages.Results`."""

SESSION_LINE: Final = 0
"""Sequence number of the line that is about the session itself; its payload is the session's number."""

_ENCODER: Final = msgspec.msgpack.Encoder()


def _encoded(text: str) -> bytes:
    return _ENCODER.encode(text)


_UNKNOWN_SESSION: Final = _encoded("the session is not known (any more): not executed")
_TOO_MUCH: Final = _encoded("the session is closed: too many results without acknowledgement; not executed")
_REUSED: Final = _encoded("not executed: this sequence number was used for another command")
_UNREADABLE: Final = _encoded("not executed: no such command, or wrong arguments")


class Answers:
    """What one step found out for clients that wait at this replica."""

    __slots__ = ("lines", "notifications", "opened", "positions")

    def __init__(self) -> None:
        self.lines: dict[int, list[ResultLine]] = {}
        """By client number."""
        self.positions: dict[int, int] = {}
        """Fencing token of the last command of each client in `lines`."""
        self.opened: list[SessionOpened] = []
        self.notifications: list[Notification] = []


class Ledger:
    """Replicated state. Change it by `apply` only."""

    __slots__ = (
        "_offset",
        "_outcomes",
        "applied",
        "chain",
        "definition",
        "host",
        "log_time",
        "sessions",
    )

    def __init__(self, definition: MachineDefinition, limits: SessionLimits) -> None:
        self.definition = definition
        self.host = MachineHost(definition)
        self.sessions = Sessions(limits)
        self.chain = DigestChain(ORIGIN.seqno, 0)
        self.log_time = LogTime(0)
        """Of the last applied entry; never goes back."""
        self.applied: Viewstamp = ORIGIN
        """The last applied entry, or that of the snapshot."""
        self._offset = 0
        """Tokens handed out in the current entry."""
        self._outcomes: list[bytes] = []
        """What the current entry adds to the digest chain."""

    @property
    def position(self) -> int:
        """Fencing token of the last command that was applied."""
        offset = self._offset
        return fencing_token(self.applied.seqno, offset - 1 if offset else 0)

    def move_to(self, viewstamp: Viewstamp) -> None:
        """Begin with the entry at this position, or stand there after a snapshot."""
        self.applied = viewstamp
        self._offset = 0

    def skip(self, viewstamp: Viewstamp) -> None:
        """Take note of an entry that holds nothing for the machine."""
        self.move_to(viewstamp)
        self.chain.extend(viewstamp.seqno, [])

    def apply(
        self,
        viewstamp: Viewstamp,
        batch: Batch,
        messages: list[Prepared],
        wanted: Container[int],
        answers: Answers,
    ) -> None:
        """Execute an entry; write into `answers` what concerns the clients in `wanted`, and notifications."""
        self.applied, self._offset = viewstamp, 0
        if batch.log_time > self.log_time:
            self.log_time = LogTime(batch.log_time)
        host = self.host
        host.begin_entry(viewstamp, self.log_time)
        sessions = self.sessions
        while (session := sessions.overdue(self.log_time)) is not None:
            self._end(session)
        for prepared in messages:
            self._execute(prepared.message, prepared.calls, wanted, answers)
        while (session := sessions.surplus()) is not None:
            self._end(session)  # none became overdue meanwhile: no time passes within an entry
        host.end()
        notifications = host.context.take_notifications()
        if notifications:
            answers.notifications += notifications
            self._outcomes += [notification.payload for notification in notifications]
        self.chain.extend(viewstamp.seqno, self._outcomes)
        self._outcomes = []

    def _execute(self, message: Logged, calls: list[Call], wanted: Container[int], answers: Answers) -> None:
        lines: list[ResultLine] | None = None
        client = message.client
        if client in wanted:
            lines = answers.lines.setdefault(client, [])
        if isinstance(message, Submit):
            self._submit(message, calls, lines)
        else:
            self._maintain(message, lines, answers)
        if lines is not None:
            answers.positions[client] = self.position

    def _submit(self, message: Submit, calls: list[Call], lines: list[ResultLine] | None) -> None:
        context = self.host.context
        context.client, context.session = message.client, message.session
        if message.session == NO_SESSION:
            for call in calls:
                kind, payload = self._run(call)
                if lines is not None:
                    lines.append((call.sequence, kind, msgspec.Raw(payload)))
            return
        session = self.sessions.use(message.session, message.client, self.log_time)
        if session is None:
            _answer_all(calls, EXPIRED, _UNKNOWN_SESSION, lines)
            return
        if message.acknowledged > session.acknowledged:
            self.sessions.acknowledge(session, message.acknowledged)
        self._run_once(session, calls, lines)

    def _run_once(self, session: Session, calls: list[Call], lines: list[ResultLine] | None) -> None:
        results = session.results
        remember = self.sessions.remember
        is_full = self.sessions.is_full
        for place, call in enumerate(calls):
            sequence = call.sequence
            known = results.get(sequence)
            if known is None:
                if sequence <= session.acknowledged:
                    continue  # a late copy: the client has the result
                if is_full(session):
                    # Were only this call refused, a later copy of it might be executed: the session ends.
                    self._end(session)
                    _answer_all(calls[place:], EXPIRED, _TOO_MUCH, lines)
                    return
                kind, payload = self._run(call)
                remember(session, sequence, Remembered(kind, payload, call.digest))
            elif known.digest == call.digest:
                kind, payload = known.kind, known.payload
            else:
                kind, payload = INVALID, _REUSED
            if lines is not None:
                lines.append((sequence, kind, msgspec.Raw(payload)))

    def _run(self, call: Call) -> tuple[int, bytes]:
        host, arguments = self.host, call.arguments
        host.context.offset = self._offset
        self._offset += 1
        if arguments is None:
            self._outcomes.append(b"invalid")
            return INVALID, _UNREADABLE
        outcome = host.runners[type(arguments)](arguments)
        self._outcomes.append(outcome[1] if outcome[0] == RESULT else _kind_only(outcome[1]))
        return outcome

    def _maintain(
        self,
        message: OpenSession | KeepAlive | CloseSession,
        lines: list[ResultLine] | None,
        answers: Answers,
    ) -> None:
        """Open, renew or end a session. The answer to the first two is that the session stands."""
        session = self._maintained(message)
        if lines is None:
            return
        if session is None:
            assert not isinstance(message, OpenSession), message
            lines.append((SESSION_LINE, EXPIRED, msgspec.Raw(_ENCODER.encode(message.session))))
        else:
            assert not isinstance(message, CloseSession), message
            time_to_live_ms = self.sessions.limits.time_to_live_ms
            answers.opened.append(
                SessionOpened(message.client, session.number, time_to_live_ms, message.question)
            )

    def _maintained(self, message: OpenSession | KeepAlive | CloseSession) -> Session | None:
        if isinstance(message, OpenSession):
            number = fencing_token(self.applied.seqno, self._offset)
            self._offset += 1
            return self.sessions.open(message.client, number, self.log_time)
        session = self.sessions.use(message.session, message.client, self.log_time)
        if session is not None and isinstance(message, CloseSession):
            self._end(session)
            return None
        return session

    def _end(self, session: Session) -> None:
        """Forget a session and tell the machine, under a token of its own: a lock may be granted by it."""
        self.sessions.end(session)
        context = self.host.context
        before = context.client, context.session
        self.host.end_session(session.client, self._offset)
        self._offset += 1
        context.client, context.session = before
        self._outcomes.append(b"ended")


def _answer_all(calls: list[Call], kind: int, payload: bytes, lines: list[ResultLine] | None) -> None:
    if lines is not None:
        lines += [(call.sequence, kind, msgspec.Raw(payload)) for call in calls]


def _kind_only(payload: bytes) -> bytes:
    kind: str = msgspec.msgpack.decode(payload)[0]
    return kind.encode()
