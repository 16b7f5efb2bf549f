"""A class that executes what a stream holds, in memory, as a replica would.

Used to verify a backup with today's code, to restore it at any entry, and to compare two classes.
"""

from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias, assert_never

import msgspec

from viewstamp.core.errors import ConfigurationError, ViewstampError
from viewstamp.core.ids import Viewstamp
from viewstamp.core.snapshots import NOTHING, BytesSnapshot, Versions
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica import snapshot_body
from viewstamp.replica.answers import Answers, ResultLine
from viewstamp.replica.batches import BatchUnreadable, DecodedBatch, InFlightBatches
from viewstamp.replica.options import SessionLimits
from viewstamp.replica.replicated_state import ReplicatedState
from viewstamp.replica.skip_mark import read_skip_mark
from viewstamp.replica.versions import NewerCodeNeeded
from viewstamp.stream.records import Chunk, End, Header, LogEntry, Mark, Record, StreamDamaged

Results: TypeAlias = dict[int, list[ResultLine]]
"""By client number: how the calls of one entry ended, in order."""


class NotReproduced(ViewstampError):
    """The class did not come to the results that are in the stream, or cannot execute it."""


class _Everybody:
    """A set with every client in it: all results are wanted."""

    def __contains__(self, client: object) -> bool:
        return True


_EVERYBODY: Final = _Everybody()
_NOBODY: Final[tuple[int, ...]] = ()
_NO_STATE: Final = "the stream holds no complete snapshot, and so no state to go on from"


class Execution:
    """One class, and the state that it has come to."""

    __slots__ = ("_batches", "commands", "definition", "state")

    def __init__(self, machine: type[StateMachine], limits: dict[str, int]) -> None:
        """Begin with the state before the first entry of a log, under the limits of the log's cluster.

        Raises:
            ConfigurationError: the class cannot be replicated, or a limit is out of range.
        """
        self.definition = MachineDefinition.of(machine)
        self._batches = InFlightBatches(self.definition)
        self.state = ReplicatedState(self.definition, _limits_of(limits))
        self.commands = 0
        """Executed by `execute`."""

    def restore(self, snapshot: BytesSnapshot) -> None:
        """Take over the state of a snapshot.

        Raises:
            NotReproduced: it is not one that this class can restore.
        """
        try:
            self.state = snapshot_body.restore(snapshot, self.state)
        except (snapshot_body.SnapshotUnreadable, NewerCodeNeeded) as error:
            raise NotReproduced(f"{self.definition.cls.__name__} cannot restore it: {error}") from None

    def saved(self) -> BytesSnapshot:
        """Return the state as a snapshot."""
        state = self.state
        body = b"".join(snapshot_body.capture(state))
        return BytesSnapshot(state.applied, b"", body, state.versions or NOTHING)

    def decode(self, entry: LogEntry) -> DecodedBatch | None:
        """Return what is in an entry; None: nothing that is executed.

        Raises:
            NotReproduced: this code cannot read it.
        """
        if not entry.data:
            return None
        try:
            return self._batches.read(entry.data)
        except BatchUnreadable as error:
            if read_skip_mark(entry.data) is None:
                raise NotReproduced(f"entry {entry.viewstamp} cannot be executed: {error}") from None
            return None
        except NewerCodeNeeded as error:
            raise NotReproduced(f"entry {entry.viewstamp} cannot be executed: {error}") from None

    def execute(self, entry: LogEntry, *, results: bool = False) -> Results:
        """Execute the next entry, and return how its calls ended, where `results` are wanted.

        Raises:
            NotReproduced: this class cannot execute it, or it does not follow what was executed.
        """
        state = self.state
        if entry.seqno != state.applied.seqno + 1:
            raise NotReproduced(f"entry {entry.viewstamp} does not follow {state.applied}")
        answers = Answers()
        batch = self.decode(entry)
        if batch is not None:
            self.commands += sum([len(each.calls) for each in batch.messages])
            self._apply(entry.viewstamp, batch, answers, results=results)
        elif entry.data:
            mark = read_skip_mark(entry.data)
            assert mark is not None
            state.apply_mark(entry.viewstamp, mark, _EVERYBODY if results else _NOBODY, answers)
        else:
            state.skip(entry.viewstamp)
        return answers.lines

    def _apply(self, at: Viewstamp, batch: DecodedBatch, answers: Answers, *, results: bool) -> None:
        try:
            self.state.require_code_for(batch)
            self.state.apply(at, batch, _EVERYBODY if results else _NOBODY, answers)
        except AssertionError:
            raise
        except Exception as error:
            raise NotReproduced(
                f"{self.definition.cls.__name__} cannot execute entry {at}: {type(error).__name__}: {error}"
            ) from error


def _limits_of(limits: dict[str, int]) -> SessionLimits:
    try:
        return msgspec.convert(limits, SessionLimits)
    except (msgspec.MsgspecError, ConfigurationError) as error:
        raise ConfigurationError(f"the limits of sessions in the stream cannot be used: {error}") from None


def entries_of(records: Iterable[Record], *executions: Execution) -> Iterator[LogEntry]:
    """Restore the snapshot of a stream, if it has one, in all executions, and yield the entries after it.

    The executions stand at one position. Entries that they contain already are left out: a stream may begin
    before where they stand.

    Raises:
        NotReproduced: a class cannot restore the snapshot, or entries are missing before the stream.
        StreamDamaged: it is not whole.
    """
    header: Header | None = None
    parts: list[bytes] = []
    restored = False
    for record in records:
        match record:
            case Header():
                header = record
                if record.snapshot is None:
                    _require_reached(executions[0], record)
                    restored = True
            case Chunk():
                parts.append(record.data)
                restored = _restore_whole(executions, header, record, parts)
            case LogEntry():
                if not restored:
                    raise StreamDamaged(_NO_STATE)
                if record.seqno > executions[0].state.applied.seqno:
                    yield record
            case Mark() | End():
                pass
            case _:
                assert_never(record)
    if not restored:
        raise StreamDamaged(_NO_STATE)


def _require_reached(execution: Execution, header: Header) -> None:
    applied = execution.state.applied
    if applied.seqno < header.viewstamp.seqno:
        raise NotReproduced(
            f"the stream begins after {header.viewstamp} and has no snapshot, and what is known ends with "
            f"{applied}: give a backup that reaches up to there with --from"
        )


def _restore_whole(
    executions: Iterable[Execution], header: Header | None, last: Chunk, parts: list[bytes]
) -> bool:
    """Restore the snapshot of which these are the parts, if the last one completes it, and say whether."""
    assert header is not None
    assert header.snapshot is not None
    if last.offset + len(last.data) != header.snapshot.size_bytes:
        return False
    body = b"".join(parts)
    parts.clear()
    for execution in executions:
        _restore(execution, header, body)
    return True


def _restore(execution: Execution, header: Header, body: bytes) -> None:
    if execution.state.applied.seqno >= header.viewstamp.seqno > 0:
        return
    assert header.snapshot is not None
    name = execution.definition.cls.__name__
    if header.machine != name:
        raise NotReproduced(f"it is a backup of the class {header.machine}, not of {name}")
    versions = Versions(header.level, header.machine_version)
    execution.restore(BytesSnapshot(header.viewstamp, header.snapshot.header, body, versions))
    state = execution.state
    if (state.chain.digest, state.log_time) != (header.digest, header.log_time):
        raise StreamDamaged("the snapshot and the header of the stream tell different digests or times")


def verify(records: Iterable[Record], execution: Execution) -> int:
    """Execute a whole stream and compare each result with the digest chain; return how many entries it has.

    Raises:
        NotReproduced: the class comes to another result; the entry is named.
        StreamDamaged: the stream is not whole.
    """
    count = 0
    for entry in entries_of(records, execution):
        execution.execute(entry)
        count += 1
        if execution.state.chain.digest != entry.digest:
            raise NotReproduced(
                f"{execution.definition.cls.__name__} comes to other results at entry {entry.viewstamp}: "
                "another class wrote it, or another version of it; see `viewstamp replay`"
            )
    return count
