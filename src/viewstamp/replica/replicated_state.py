"""The replicated state of one replica and the one way in which it changes: entries applied in order.

`ReplicatedState` is sessions, log time, digest chain and the user's machine. Two of one class that applied
the same entries are equal, whatever copies, restarts or snapshots lay between (docs/faults.md#i13). It knows
no addresses, no leader and no clock: the replica decides which clients are answered.
"""

from collections.abc import Container, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import LEVEL, ORIGIN, LogTime, Viewstamp, fencing_token
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
from viewstamp.core.protocol import VersionsStatus
from viewstamp.core.snapshots import Versions
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.evolution import version_of
from viewstamp.machine.guard import Guard
from viewstamp.machine.in_force import VersionInForce
from viewstamp.machine.runner import MachineRunner, MigrationFailed
from viewstamp.replica.answers import SESSION_LINE, Answers, ResultLine
from viewstamp.replica.batches import DecodedBatch, DecodedCall, DecodedMessage, call_digest
from viewstamp.replica.digest_chain import DigestChain
from viewstamp.replica.options import SessionLimits
from viewstamp.replica.sessions import Remembered, Run, Session, Sessions
from viewstamp.replica.skip_mark import SkipMark, SkippedCalls
from viewstamp.replica.versions import NewerCodeNeeded

WHOLE_FROM: Final = 4
"""A message of fewer calls is executed call by call: what is done for a message as a whole costs more."""
ALARMS_MAX: Final = 1_024
"""Alarms that one entry rings; what is due beyond them waits for the next one."""

_ENCODER: Final = msgspec.msgpack.Encoder()


def _encoded(text: str) -> bytes:
    return _ENCODER.encode(text)


_UNKNOWN_SESSION: Final = _encoded("not executed: unknown or expired session")
_TAKEN: Final = _encoded("another principal has opened the session of this client")
_TOO_MUCH: Final = _encoded("not executed: the session was closed, its client acknowledged too few results")
_NO_ROOM: Final = _encoded(
    "not executed: too many results wait to be acknowledged (sessions.result_bytes_max): try again later"
)
_REUSED: Final = _encoded("not executed: this sequence number was used for another command")
_SKIPPED: Final = _encoded("not executed: an operator skipped the entry that held this command")


class ReplicatedState:
    """What all replicas agree on. Only `apply`, `skip` and a restored snapshot change it."""

    __slots__ = (
        "_offset",
        "_outcomes",
        "applied",
        "chain",
        "definition",
        "log_time",
        "raised_at",
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
        self.raised_at: Viewstamp | None = None
        """The entry that put the version of the class in force, if this replica has executed it itself."""
        self._offset = 0
        """Tokens handed out in the current entry."""
        self._outcomes: list[bytes] = []
        """What the current entry adds to the digest chain."""

    def versions_status(self) -> VersionsStatus:
        """Return what is in force, beside what this code can do."""
        in_force, own = self.versions, version_of(self.definition.cls)
        level, machine = (-1, 0) if in_force is None else (in_force.level, in_force.machine)
        pending = not self.runner.in_force.is_whole or machine not in {0, own} or level not in {-1, LEVEL}
        return VersionsStatus(level, machine, LEVEL, own, pending)

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
        self.applied, self._offset = viewstamp, 0
        if batch.log_time > self.log_time:
            self.log_time = LogTime(batch.log_time)
        if self.versions is None or batch.level > self.versions.level or batch.declares is not None:
            self._take_over(batch, answers)
        runner = self.runner
        runner.begin_entry(viewstamp, self.log_time)
        sessions = self.sessions
        while (session := sessions.overdue(self.log_time)) is not None:
            self._end(session)
        if runner.has_alarms:
            self._ring()
        for decoded in batch.messages:
            self._execute(decoded, wanted, answers)
        if notifications := runner.end_entry():
            answers.notifications += notifications
            self._outcomes += [notification.payload for notification in notifications]
        self.chain.extend(viewstamp.seqno, self._outcomes)
        self._outcomes = []

    def _ring(self) -> None:
        """Ring the machine's alarms that are due, each under a token of its own."""
        runner = self.runner
        for _ in range(ALARMS_MAX):
            moment = runner.next_alarm()
            if moment is None or moment > self.log_time:
                return
            runner.ring(self._offset)
            self._offset += 1
            self._outcomes.append(b"alarm")

    def require_code_for(self, batch: DecodedBatch) -> None:
        """Look whether this code can execute an entry, before anything is changed.

        Raises:
            NewerCodeNeeded: it cannot.
        """
        target = self._target(batch)
        if target is not None and (reason := target.needs()):
            raise NewerCodeNeeded(reason)

    def _target(self, batch: DecodedBatch) -> VersionInForce | None:
        """Return what an entry puts in force of the user's class; None: it leaves it as it is."""
        declares = batch.declares
        if self.versions is None:
            machine = 1 if declares is None else declares.machine
            return VersionInForce(self.definition, machine, declares.interface or None if declares else None)
        if declares is None or not declares.raises or declares.machine < self.versions.machine:
            return None
        return VersionInForce(self.definition, declares.machine, declares.interface or None)

    def _take_over(self, batch: DecodedBatch, answers: Answers) -> None:
        """Put in force what the first entry of a log says, and what a later one raises."""
        if self.versions is not None and batch.declares is not None and batch.declares.limit is not None:
            self._change_limit(*batch.declares.limit, answers)
            return
        before, target = self.versions, self._target(batch)
        level = batch.level if before is None else max(batch.level, before.level)
        if before is None:
            assert target is not None
            self.runner = self.runner.beginning(target)
            self.versions, self.raised_at = Versions(level, target.version), self.applied
            return
        self.versions = Versions(level, before.machine)
        if target is None:
            return
        answers.raised = ""
        in_force = self.runner.in_force
        if in_force.declared is not None and (in_force.version, in_force.digest) == (
            target.version,
            target.digest,
        ):
            return  # two operators asked for the same
        try:
            self.runner = self.runner.raised(target, self.applied, self.log_time)
        except MigrationFailed as error:
            answers.raised = str(error)
            self._outcomes.append(b"not raised")
            return
        self.versions, self.raised_at = Versions(level, target.version), self.applied
        self._outcomes.append(b"raised")

    def _change_limit(self, name: str, value: int, answers: Answers) -> None:
        try:
            self.sessions.change({name: value})
        except ConfigurationError as error:
            answers.raised = f"nothing was changed: {error}"
            self._outcomes.append(b"limit kept")
            return
        answers.raised = ""
        self._outcomes.append(f"limit {name} {value}".encode())

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

    def begin_new_life(self, viewstamp: Viewstamp) -> None:
        """Go on at this later position as another cluster: every session ends, under tokens of its own.

        What the machine notifies of goes nowhere: no client of this cluster is left. It costs nothing of the
        digest chain, which goes on from what it was.
        """
        assert viewstamp > self.applied, (viewstamp, self.applied)
        self.move_to(viewstamp)
        self.runner.begin_entry(viewstamp, self.log_time)
        # By number: the machine hears of each, and members may have kept them in another order.
        for session in sorted(self.sessions, key=attrgetter("number")):
            self._end(session)
        self.runner.begin_life(self._offset)
        self.runner.end_entry()
        self._outcomes = []
        self.move_to(viewstamp)
        self.chain = DigestChain(viewstamp.seqno, self.chain.digest)

    def _refuse_skipped(self, skipped: SkippedCalls, lines: list[ResultLine] | None) -> None:
        session = self.sessions.use(skipped.session, skipped.client, self.log_time, None)
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
            for (sequence, arguments), (_, encoded) in zip(calls, message.calls, strict=True):
                kind, payload = self._run(arguments, encoded)
                if lines is not None:
                    lines.append((sequence, kind, msgspec.Raw(payload)))
            return
        session = self.sessions.use(message.session, message.client, self.log_time, context.principal)
        if session is None:
            _answer_all(calls, EXPIRED, _UNKNOWN_SESSION, lines)
            return
        if message.acknowledged > session.acknowledged:
            self.sessions.result_bytes -= session.acknowledge(message.acknowledged)
        done = 0 if len(calls) < WHOLE_FROM else self._run_unseen(session, message, calls, lines)
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
        sessions, limits = self.sessions, self.sessions.limits
        first, count = calls[0][0], len(calls)
        numbers, arguments = zip(*calls, strict=True)
        before_bytes = room_bytes = min(
            limits.result_bytes_per_session_max - session.result_bytes,
            limits.result_bytes_max // 2 - sessions.result_bytes,
        )
        if (
            first <= session.newest
            or numbers != tuple(range(first, first + count))
            or session.kept + count > limits.results_per_session_max
            or room_bytes <= 0
            or self._is_mixed
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
        digests = [call_digest(call) for _, call in message.calls[: len(ran)]]
        sessions.remember_all(session, Run(first, kinds, payloads, digests, before_bytes - room_bytes))
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
            encoded = message.calls[place][1]
            digest = call_digest(encoded)
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
                kind, payload = self._run(arguments, encoded)
                self.sessions.remember(session, sequence, Remembered(kind, payload, digest))
            elif known.digest == digest:
                kind, payload = known.kind, known.payload
            else:
                kind, payload = INVALID, _REUSED
            if lines is not None:
                lines.append((sequence, kind, msgspec.Raw(payload)))

    def _run(self, arguments: Any, encoded: Any) -> tuple[int, bytes]:
        runner = self.runner
        runner.context.offset = self._offset
        self._offset += 1
        allows = runner.in_force.allows
        if allows is not None and arguments is not None and allows(arguments, encoded):
            arguments = None  # code of the version in force could not read it
        kind, payload = runner.runners[type(arguments)](arguments)
        if kind != RESULT:
            self._outcomes.append(_failed_in_chain(kind, payload))
        else:
            self._outcomes.append(payload if runner.in_force.is_whole else runner.projected)
        return kind, payload

    @property
    def _is_mixed(self) -> bool:
        in_force = self.runner.in_force
        return not in_force.is_whole or in_force.allows is not None

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
            taken = self.sessions.is_of_another(message.client, self.runner.context.principal)
            lines.append((SESSION_LINE, REFUSED, msgspec.Raw(_TAKEN if taken else self._full())))
        else:
            lines.append((SESSION_LINE, EXPIRED, msgspec.Raw(_ENCODER.encode(message.session))))

    def _maintained(self, message: OpenSession | KeepAlive | CloseSession) -> Session | None:
        principal = self.runner.context.principal
        if isinstance(message, OpenSession):
            if self.sessions.is_of_another(message.client, principal):
                self._outcomes.append(b"another's")
                return None
            if not self.sessions.may_open(message.client):
                self._outcomes.append(b"refused")
                return None
            number = fencing_token(self.applied.seqno, self._offset)
            self._offset += 1
            opened = self.sessions.open(message.client, number, self.log_time, principal)
            self.sessions.want(opened, message.time_to_live_ms)
            return opened
        session = self.sessions.use(message.session, message.client, self.log_time, principal)
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
    return payload if kind == RESULT else _failed_in_chain(kind, payload)


def _failed_in_chain(kind: int, payload: bytes) -> bytes:
    if kind == INVALID:
        return b"invalid"
    failure: str = msgspec.msgpack.decode(payload)[0]
    return failure.encode()
