"""The replicated state of one replica and the one way in which it changes: entries applied in order.

`ReplicatedState` is sessions, log time, digest chain and the user's machine. Two of one class that applied
the same entries are equal, whatever copies, restarts or snapshots lay between (docs/faults.md#i13). It knows
no addresses, no leader and no clock: the replica decides which clients are answered.

`DigestChain` finds a replica whose state differs. Each replica chains a digest of all results of its machine;
the leader writes the digest at a recent position into each batch, and a replica that had another one there
differs from the leader. The chain covers results, kinds of failures and notifications, but not the text of an
exception, in which an object's address may stand without any harm.

`LogClock` is the cluster's own clock, made of the leader's elapsed monotonic time. No wall clock can expire a
session, and while no node leads no time passes (docs/design/seam.md). A new leader continues from the time of
the last entry that it applied, so no lease is cut short by a change of leaders.
"""

from collections.abc import Container, Sequence
from typing import Any, Final, TypeAlias

import msgspec
import xxhash

from viewstamp.core.ids import ORIGIN, Instant, LogTime, Seqno, Viewstamp, fencing_token
from viewstamp.core.messages import (
    EXPIRED,
    INVALID,
    NO_SESSION,
    REFUSED,
    RESULT,
    SKIPPED,
    CloseSession,
    KeepAlive,
    OpenSession,
    SessionOpened,
    Submit,
)
from viewstamp.core.snapshots import Versions
from viewstamp.machine.context import Notification
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.guard import Guard
from viewstamp.machine.runner import MachineRunner
from viewstamp.replica.batches import DecodedBatch, DecodedCall, DecodedMessage, call_digest
from viewstamp.replica.options import SessionLimits
from viewstamp.replica.sessions import Remembered, Session, Sessions
from viewstamp.replica.skip_mark import SkipMark, SkippedCalls

ResultLine: TypeAlias = tuple[int, int, msgspec.Raw]
"""(sequence number, one of RESULT .. REFUSED, payload), as in `messages.Results`."""

SESSION_LINE: Final = 0
"""Sequence number of the line that is about the session itself.

EXPIRED: the payload is the session's number. REFUSED: none was opened; the payload is the explanation.
"""

_ENCODER: Final = msgspec.msgpack.Encoder()


def _encoded(text: str) -> bytes:
    return _ENCODER.encode(text)


_UNKNOWN_SESSION: Final = _encoded("not executed: unknown or expired session")
_TOO_MUCH: Final = _encoded("not executed: the session was closed, its client acknowledged too few results")
_NO_ROOM: Final = _encoded(
    "not executed: too many results wait to be acknowledged (sessions.result_bytes_max): try again later"
)
_REUSED: Final = _encoded("not executed: this sequence number was used for another command")
_SKIPPED: Final = _encoded("not executed: an operator skipped the entry that held this command")


class Answers:
    """What the entries applied in one step mean for clients that wait at this replica."""

    __slots__ = ("lines", "notifications", "opened", "positions")

    def __init__(self) -> None:
        self.lines: dict[int, list[ResultLine]] = {}
        """By client number."""
        self.positions: dict[int, int] = {}
        """Fencing token of the last command of each client in `lines`."""
        self.opened: list[SessionOpened] = []
        self.notifications: list[Notification] = []


class ReplicatedState:
    """What all replicas agree on. Only `apply`, `skip` and a restored snapshot change it."""

    __slots__ = (
        "_offset",
        "_outcomes",
        "applied",
        "chain",
        "definition",
        "log_time",
        "runner",
        "sessions",
        "versions",
    )

    def __init__(
        self,
        definition: MachineDefinition,
        limits: SessionLimits,
        *,
        strict: bool = False,
        guard: Guard | None = None,
    ) -> None:
        """`strict` and `guard` as in `MachineRunner`."""
        self.definition = definition
        self.runner = MachineRunner(definition, strict=strict, guard=guard)
        self.sessions = Sessions(limits)
        self.chain = DigestChain(ORIGIN.seqno, 0)
        self.log_time = LogTime(0)
        """Of the last applied entry; never goes back."""
        self.applied: Viewstamp = ORIGIN
        """The last applied entry, or that of the snapshot."""
        self.versions: Versions | None = None
        """What is in force; None: no entry has said it yet."""
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
        """Continue from this position: that of an entry without data, or of a snapshot."""
        self.applied = viewstamp
        self._offset = 0

    def skip(self, viewstamp: Viewstamp) -> None:
        """Pass over an entry that holds nothing for the machine."""
        self.move_to(viewstamp)
        self.chain.extend(viewstamp.seqno, [])

    def apply(
        self,
        viewstamp: Viewstamp,
        batch: DecodedBatch,
        wanted: Container[int],
        answers: Answers,
    ) -> None:
        """Execute an entry; write into `answers` what concerns the clients in `wanted`, and notifications."""
        assert not self._outcomes, "the entry before was executed in part"
        versions = self.versions
        if versions is None or batch.level > versions.level:
            self._adopt(batch)
        self.applied, self._offset = viewstamp, 0
        if batch.log_time > self.log_time:
            self.log_time = LogTime(batch.log_time)
        runner = self.runner
        runner.begin_entry(viewstamp, self.log_time)
        sessions = self.sessions
        while (session := sessions.overdue(self.log_time)) is not None:
            self._end(session)
        for decoded in batch.messages:
            self._execute(decoded, wanted, answers)
        if notifications := runner.end_entry():
            answers.notifications += notifications
            self._outcomes += [notification.payload for notification in notifications]
        self.chain.extend(viewstamp.seqno, self._outcomes)
        self._outcomes = []

    def require_code_for(self, batch: DecodedBatch) -> None:
        """Look whether this code can execute an entry, before anything is changed.

        Raises:
            NewerCodeNeeded: it cannot.
        """

    def _adopt(self, batch: DecodedBatch) -> None:
        """Take over what the first entry of a log says, and a higher level of a later one."""
        before = self.versions
        if before is not None:
            self.versions = Versions(batch.level, before.machine)
        else:
            self.versions = Versions(batch.level, 1)

    def apply_mark(
        self, viewstamp: Viewstamp, mark: SkipMark, wanted: Container[int], answers: Answers
    ) -> None:
        """Pass over an entry that an operator skipped; remember for each call that it was not executed.

        No log time passes, and the machine sees nothing. The digest chain takes in which entry was skipped,
        so that a replica that executed it differs from those that did not.
        """
        self.applied, self._offset = viewstamp, 0
        for skipped in mark.skipped:
            lines: list[ResultLine] | None = None
            if skipped.client in wanted:
                lines = answers.lines.setdefault(skipped.client, [])
                answers.positions[skipped.client] = self.position
            self._refuse_skipped(skipped, lines)
        self.chain.extend(viewstamp.seqno, [b"skipped", mark.digest])

    def _refuse_skipped(self, skipped: SkippedCalls, lines: list[ResultLine] | None) -> None:
        session = self.sessions.use(skipped.session, skipped.client, self.log_time)
        if session is None:
            _answer_all(skipped.calls, EXPIRED, _UNKNOWN_SESSION, lines)
            return
        for sequence, digest in skipped.calls:
            if sequence > session.acknowledged and sequence not in session.results:
                self.sessions.remember(session, sequence, Remembered(SKIPPED, _SKIPPED, digest))
                _answer_all([(sequence, None)], SKIPPED, _SKIPPED, lines)

    def _execute(self, decoded: DecodedMessage, wanted: Container[int], answers: Answers) -> None:
        lines: list[ResultLine] | None = None
        message = decoded.message
        client = message.client
        self.runner.context.principal = decoded.principal
        if client in wanted:
            lines = answers.lines.setdefault(client, [])
        if isinstance(message, Submit):
            self._submit(message, decoded.calls, lines)
        else:
            self._maintain(message, lines, answers)
        if lines is not None:
            answers.positions[client] = self.position

    def _submit(self, message: Submit, calls: Sequence[DecodedCall], lines: list[ResultLine] | None) -> None:
        context = self.runner.context
        context.client, context.session = message.client, message.session
        if message.session == NO_SESSION:
            for sequence, arguments in calls:
                kind, payload = self._run(arguments)
                if lines is not None:
                    lines.append((sequence, kind, msgspec.Raw(payload)))
            return
        session = self.sessions.use(message.session, message.client, self.log_time)
        if session is None:
            _answer_all(calls, EXPIRED, _UNKNOWN_SESSION, lines)
            return
        if message.acknowledged > session.acknowledged:
            self.sessions.acknowledge(session, message.acknowledged)
        done = self._run_unseen(session, message, calls, lines)
        if done < len(calls):
            self._run_once(session, message, calls, done, lines)

    def _run_unseen(
        self,
        session: Session,
        message: Submit,
        calls: Sequence[DecodedCall],
        lines: list[ResultLine] | None,
    ) -> int:
        """Run a message whose calls were never seen, as a whole; return how many calls ran.

        That is nearly every message: its numbers are consecutive, and beyond all that the session has. What
        each command must do by itself is one line of the loop; all else is done for the message. The other
        calls, up to all of them, are left to `_run_once`: those after the one that reached a limit.
        """
        results, sessions, limits = session.results, self.sessions, self.sessions.limits
        first, count = (calls[0][0], len(calls)) if calls else (0, 0)
        numbers, arguments = zip(*calls, strict=True) if calls else ((), ())
        room_bytes = min(
            limits.result_bytes_per_session_max - session.result_bytes,
            limits.result_bytes_max // 2 - sessions.result_bytes,
        )
        if (
            first <= session.newest
            or numbers != tuple(range(first, first + count))
            or len(results) + count > limits.results_per_session_max
            or room_bytes <= 0
        ):
            return 0
        runners, context, offset = self.runner.runners, self.runner.context, self._offset
        ran: list[tuple[int, bytes]] = []
        for each in arguments:
            context.offset = offset
            offset += 1
            outcome = runners[type(each)](each)
            ran.append(outcome)
            room_bytes -= len(outcome[1])
            if room_bytes <= 0:
                break
        self._offset = offset
        kinds, payloads = zip(*ran, strict=True)
        self._outcomes += map(_in_chain, kinds, payloads) if any(kinds) else payloads
        encoded = [call for _, call in message.calls[: len(ran)]]
        kept = list(map(Remembered, kinds, payloads, map(call_digest, encoded)))
        sessions.remember_all(session, first, kept)
        if lines is not None:
            lines += zip(numbers, kinds, map(msgspec.Raw, payloads))  # noqa: B905  a message is longer
        return len(ran)

    def _run_once(
        self,
        session: Session,
        message: Submit,
        calls: Sequence[DecodedCall],
        done: int,
        lines: list[ResultLine] | None,
    ) -> None:
        """Run each call from the place `done` on once, or answer it from memory."""
        results, limits = session.results, self.sessions.limits
        results_max, bytes_max = limits.results_per_session_max, limits.result_bytes_per_session_max
        crowded_from = limits.result_bytes_max // 2
        for place in range(done, len(calls)):
            sequence, arguments = calls[place]
            digest = call_digest(message.calls[place][1])
            known = results.get(sequence)
            if known is None:
                if sequence <= session.acknowledged:
                    continue  # a late copy: the client has the result
                if len(results) >= results_max or session.result_bytes >= bytes_max:
                    # Were only this call refused, a later copy of it might be executed: the session ends.
                    self._end(session)
                    _answer_all(calls[place:], EXPIRED, _TOO_MUCH, lines)
                    return
                if self.sessions.result_bytes >= crowded_from and not self.sessions.may_remember(session):
                    # This attempt has no effect and leaves no trace: another one may be executed.
                    self._outcomes.append(b"refused")
                    _answer_all([calls[place]], REFUSED, _NO_ROOM, lines)
                    continue
                kind, payload = self._run(arguments)
                self.sessions.remember(session, sequence, Remembered(kind, payload, digest))
            elif known.digest == digest:
                kind, payload = known.kind, known.payload
            else:
                kind, payload = INVALID, _REUSED
            if lines is not None:
                lines.append((sequence, kind, msgspec.Raw(payload)))

    def _run(self, arguments: Any) -> tuple[int, bytes]:
        runner = self.runner
        runner.context.offset = self._offset
        self._offset += 1
        kind, payload = runner.runners[type(arguments)](arguments)
        self._outcomes.append(_in_chain(kind, payload))
        return kind, payload

    def _maintain(
        self,
        message: OpenSession | KeepAlive | CloseSession,
        lines: list[ResultLine] | None,
        answers: Answers,
    ) -> None:
        """Open, renew or end a session. The answer to the first two is that the session lives."""
        session = self._maintained(message)
        if lines is None:
            return
        if session is not None:
            assert not isinstance(message, CloseSession), message
            time_to_live_ms = self.sessions.time_to_live_ms(session)
            answers.opened.append(
                SessionOpened(message.client, session.number, time_to_live_ms, message.question)
            )
        elif isinstance(message, OpenSession):
            lines.append((SESSION_LINE, REFUSED, msgspec.Raw(self._full())))
        else:
            lines.append((SESSION_LINE, EXPIRED, msgspec.Raw(_ENCODER.encode(message.session))))

    def _maintained(self, message: OpenSession | KeepAlive | CloseSession) -> Session | None:
        if isinstance(message, OpenSession):
            if not self.sessions.may_open(message.client):
                self._outcomes.append(b"refused")
                return None
            number = fencing_token(self.applied.seqno, self._offset)
            self._offset += 1
            opened = self.sessions.open(message.client, number, self.log_time)
            self.sessions.want(opened, message.time_to_live_ms)
            return opened
        session = self.sessions.use(message.session, message.client, self.log_time)
        if session is None:
            return None
        if isinstance(message, CloseSession):
            self._end(session)
            return None
        self.sessions.acknowledge(session, message.acknowledged)
        self.sessions.want(session, message.time_to_live_ms)
        return session

    def _full(self) -> bytes:
        most = self.sessions.limits.sessions_max
        return _encoded(f"the cluster keeps {most} sessions already (sessions.sessions_max): try again later")

    def _end(self, session: Session) -> None:
        """Forget a session and tell the machine, under a token of its own: a lock may be granted by it."""
        self.sessions.end(session)
        context = self.runner.context
        before = context.client, context.session, context.principal
        self.runner.end_session(session.client, self._offset)
        self._offset += 1
        context.client, context.session, context.principal = before
        self._outcomes.append(b"ended")


def _answer_all(
    calls: Sequence[tuple[int, object]], kind: int, payload: bytes, lines: list[ResultLine] | None
) -> None:
    if lines is not None:
        lines += [(sequence, kind, msgspec.Raw(payload)) for sequence, _ in calls]


def _in_chain(kind: int, payload: bytes) -> bytes:
    """Return what a command adds to the digest chain: its result, or the kind of its failure."""
    if kind == RESULT:
        return payload
    if kind == INVALID:
        return b"invalid"
    failure: str = msgspec.msgpack.decode(payload)[0]
    return failure.encode()


DIGESTS_KEPT: Final = 4_096
"""Positions that can be compared: more than a leader can have proposed beyond what it has applied."""


class DigestChain:
    """The rolling digest and the last positions it had."""

    __slots__ = ("_history", "digest", "seqno")

    def __init__(self, seqno: Seqno, digest: int) -> None:
        self.seqno = seqno
        self.digest = digest
        """Digest of all results up to and including the entry at `seqno`."""
        self._history: dict[int, int] = {seqno: digest}
        """By position, contiguous up to `seqno`."""

    @property
    def position(self) -> tuple[int, int]:
        """What a leader writes into its batches."""
        return self.seqno, self.digest

    def extend(self, seqno: Seqno, outcomes: list[bytes]) -> None:
        """Chain the outcomes of the entry at `seqno`, the one after the last."""
        assert seqno == self.seqno + 1, (seqno, self.seqno)
        if outcomes:
            self.digest = xxhash.xxh3_64_intdigest(b"".join(outcomes), self.digest)
        self.seqno = seqno
        self._history[seqno] = self.digest
        self._history.pop(seqno - DIGESTS_KEPT, None)

    def at(self, seqno: int) -> int | None:
        """Return the digest at a position; None where it is not known here, or no longer."""
        return self._history.get(seqno)

    def contradicts(self, check: tuple[int, int]) -> bool:
        """Return whether the leader had another digest at a position that is still known here."""
        seqno, digest = check
        known = self._history.get(seqno)
        return known is not None and known != digest


class LogClock:
    """The log time of one replica while it leads."""

    __slots__ = ("_anchor", "_since")

    def __init__(self) -> None:
        self._anchor = LogTime(0)
        self._since: Instant | None = None
        """When the log time was `_anchor`; None while this replica does not lead."""

    def start(self, now: Instant, applied: LogTime) -> None:
        """Continue from the time of the last applied entry; without effect where the clock runs already."""
        if self._since is None:
            self._since, self._anchor = now, applied

    def elapsed(self, now: Instant, since: LogTime) -> int | None:
        """Return how long a log time has been past; None while this replica does not lead."""
        return None if self._since is None else max(0, self._anchor + (now - self._since) - since)

    def stop(self) -> None:
        """Stand still: another replica leads, or none does."""
        self._since = None

    def read(self, now: Instant, applied: LogTime) -> LogTime:
        """Return the time to stamp an entry with: never before that of the last applied one."""
        self.start(now, applied)
        assert self._since is not None
        elapsed = now - self._since
        if self._anchor + elapsed < applied:
            # Entries of an earlier leader were still to be applied when this one started its clock.
            self._since, self._anchor = now, applied
            return applied
        return LogTime(self._anchor + elapsed)
