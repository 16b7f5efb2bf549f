"""Where in the log each call of a run was executed, and what the machine could read there.

A replica of its own applies every committed entry once more, from the first to the last, and notes for each
command the context that it ran under. With it the class can be asked alone what it answers to this call at
this place (`checker.machine_model`), though its answers depend on log time, tokens, random numbers or
clients. The history of the clients is joined to it by the number of the client and that of the call.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec

from viewstamp.checker.history import Operation, RecordedContext
from viewstamp.checker.machine_model import SESSION_ENDED
from viewstamp.core.ids import ORIGIN, fencing_token
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.messages import Submit
from viewstamp.machine.context import NOBODY
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.runner import Runner
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.answers import Answers, ResultLine
from viewstamp.replica.batches import BatchUnreadable, DecodedBatch, DecodedCall, Decoders, decode_batch
from viewstamp.replica.options import SessionLimits
from viewstamp.replica.replicated_state import ReplicatedState
from viewstamp.replica.sessions import Session
from viewstamp.replica.skip_mark import read_skip_mark
from viewstamp.sim.cluster.cluster import Cluster
from viewstamp.sim.judge.ghosts import CommittedHistory
from viewstamp.sim.world.tuning import replica_options

_OFFSET_BITS: Final = fencing_token(ORIGIN.seqno + 1, 0).bit_length() - 1  # type: ignore[arg-type]


class Replay(ReplicatedState):
    """Applies a committed history, and remembers where each command was executed and each session ended."""

    __slots__ = ("_sequences", "ends", "executed", "times")

    def __init__(
        self, definition: MachineDefinition, limits: SessionLimits, committed: CommittedHistory
    ) -> None:
        super().__init__(definition, limits)
        self.executed: dict[tuple[int, int], list[RecordedContext]] = {}
        """By the client's number and the call's; a right history has one context in each list."""
        self.ends: list[tuple[int, RecordedContext]] = []
        """The clients whose sessions ended."""
        self.times = [0]
        """The log time after each entry, from seqno 0 on."""
        self._sequences: dict[int, int] = {}
        """Of the calls of the current message, by the identity of their arguments."""
        self._watch()
        decoders = Decoders.of(definition)
        for seqno in range(1, committed.length + 1):
            entry = committed.entry(seqno)
            try:
                if entry.data:
                    self.apply(entry.viewstamp, decode_batch(entry.data, decoders), (), Answers())
                else:
                    self.skip(entry.viewstamp)
            except BatchUnreadable:
                mark = read_skip_mark(entry.data)
                assert mark is not None, f"no replica can read entry {entry.viewstamp}"
                self.apply_mark(entry.viewstamp, mark, (), Answers())
            self.times.append(self.log_time)

    def _watch(self) -> None:
        runners = self.runner.runners
        for arguments, run in runners.items():
            runners[arguments] = partial(self._recorded, run)

    def _take_over(self, batch: DecodedBatch, answers: Answers) -> None:
        before = self.runner
        super()._take_over(batch, answers)
        if self.runner is not before:
            self._watch()

    def _submit(self, message: Submit, calls: Sequence[DecodedCall], lines: list[ResultLine] | None) -> None:
        self._sequences = {id(arguments): sequence for sequence, arguments in calls}
        super()._submit(message, calls, lines)

    def _recorded(self, run: Runner, arguments: Any) -> tuple[int, bytes]:
        context = self.runner.context
        here = self._here(context.client, context.session, context.offset)
        self.executed.setdefault((context.client, self._sequences[id(arguments)]), []).append(here)
        return run(arguments)

    def _end(self, session: Session) -> None:
        self.ends.append((session.client, self._here(NOBODY, 0, self._offset)))
        super()._end(session)

    def _here(self, client: int, session: int, offset: int) -> RecordedContext:
        view, seqno = self.applied.view, self.applied.seqno
        return RecordedContext(view, seqno, offset, self.log_time, client, session)


def with_contexts(cluster: Cluster, operations: Sequence[Operation]) -> list[Operation]:
    """Return the history with the context of each call that was executed, and with the ends of sessions.

    Raises:
        InvariantViolated: a client and the log contradict each other over what was executed.
    """
    definition, limits = cluster.host.machine, replica_options(cluster.options.tuning).sessions
    committed = cluster.judge.ghosts.committed
    newest = getattr(cluster.workload, "later", ())[-1:]
    replay = Replay(MachineDefinition.of(*newest) if newest else definition, limits, committed)
    placed = []
    for operation in operations:
        if definition.methods[operation.op].kind == "command":
            context = _of_command(operation, replay.executed.get(_number(cluster, operation), []))
        else:
            context = _of_query(operation, cluster, replay)
        placed.append(msgspec.structs.replace(operation, context=context))
    last = max((operation.returned or operation.call for operation in operations), default=0)
    ends = [
        Operation("the log", 0, last, SESSION_ENDED, None, (client,), "ok", None, context)
        for client, context in replay.ends
    ]
    return placed + ends


def final_machine(cluster: Cluster) -> StateMachine:
    """Return a machine that has executed everything that was committed."""
    limits = replica_options(cluster.options.tuning).sessions
    return Replay(cluster.host.machine, limits, cluster.judge.ghosts.committed).runner.machine


def _number(cluster: Cluster, operation: Operation) -> tuple[int, int]:
    """Return the client's number and the call's, or what no call has: it was never sent."""
    return cluster.host.numbers.get(operation.call, (NOBODY, 0))


def _of_command(operation: Operation, contexts: list[RecordedContext]) -> RecordedContext | None:
    if len(contexts) > 1:
        places = " and ".join(f"{context.view}.{context.seqno}" for context in contexts[:2])
        raise InvariantViolated("I16 ExactlyOnce", f"{operation} was executed twice, by entries {places}")
    if operation.answered and not contexts:
        raise InvariantViolated("I17 Linearizable", f"{operation} has a result, but no entry executed it")
    if operation.outcome == "failed" and contexts:
        raise InvariantViolated("I17 Linearizable", f"{operation}: its client heard that it was not executed")
    return contexts[0] if contexts else None


def _of_query(operation: Operation, cluster: Cluster, replay: Replay) -> RecordedContext | None:
    position = cluster.host.positions.get(operation.call)
    if position is None:
        return None
    seqno = position >> _OFFSET_BITS
    if seqno >= len(replay.times):
        raise InvariantViolated("I17 Linearizable", f"{operation} was answered at {seqno}, beyond the log")
    viewstamp = cluster.judge.ghosts.committed.viewstamp(seqno)
    return RecordedContext(viewstamp.view, seqno, 0, replay.times[seqno])
