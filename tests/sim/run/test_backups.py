"""Backups taken while disasters happen: each equals the judged state at its viewstamp and can be restored."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from viewstamp.backup.collecting import Collector, Compacted, Origin, Question
from viewstamp.backup.execution import Execution, entries_of
from viewstamp.backup.seeding import ADVANCE, begin_new_life
from viewstamp.core.errors import NotExecuted
from viewstamp.core.events import TakeSnapshot
from viewstamp.core.ids import ORIGIN, ClientAddress, NodeId
from viewstamp.core.messages import (
    AdminReply,
    AdminRequest,
    OperatorReply,
    ServerMessage,
    encode_message,
)
from viewstamp.core.principals import LOCAL_OPERATOR
from viewstamp.protocols.registry import protocol_definition
from viewstamp.replica.events import ClientGone, Requested
from viewstamp.sim.run.plan import RunPlan
from viewstamp.sim.run.run import Run, options_of
from viewstamp.sim.world.trace import Trace
from viewstamp.stream.decoder import read_records
from viewstamp.stream.records import Header, LogEntry

EVERY_US = 400_000


class ReadingRun(Run):
    """A run with somebody who takes a backup of one node after the other, whatever happens to them."""

    def __init__(self, plan: RunPlan) -> None:
        definition = protocol_definition(plan.protocol)
        super().__init__(plan, options_of(plan, definition), definition, Trace(None))
        self.streams: list[bytes] = []
        self.limits: dict[str, int] = {}
        self._address = ClientAddress(next(self.cluster.host.addresses))
        self._heard: list[OperatorReply] = []
        self._turn = 0
        self._respond = self.cluster.respond
        self.cluster.respond = self._hear  # type: ignore[method-assign]
        self.world.after(EVERY_US, self._read)

    def _hear(self, source: NodeId, to: ClientAddress, message: ServerMessage) -> None:
        if to == self._address and isinstance(message, OperatorReply):
            self._heard.append(message)
        else:
            self._respond(source, to, message)

    def _read(self) -> None:
        self.world.after(EVERY_US, self._read)
        if not self.cluster.running:
            return
        self._turn += 1
        node = self.cluster.running[self._turn % len(self.cluster.running)]
        replica = self.cluster.processes[node].replica
        if replica is None:
            return
        self.limits = msgspec.structs.asdict(replica.options.sessions)
        origin = Origin("old", self.plan.protocol, (), self.limits)
        collector = Collector(lambda questions: self._ask(node, questions), origin, pause=lambda: None)
        try:
            parts = [*collector.snapshot(ORIGIN, self.world.now_us), *collector.entries()]
            self.streams.append(b"".join([*parts, collector.encoder.end()]))
        except (NotExecuted, Compacted):
            self.cluster.counts["backup refused"] += 1
        finally:
            self._feed(node, ClientGone(self._address))

    def _feed(self, node: NodeId, event: Any) -> None:
        if self.cluster.processes[node].running:
            self.cluster.processes[node].feed(event)

    def _ask(self, node: NodeId, questions: Sequence[Question]) -> list[OperatorReply]:
        replies: list[OperatorReply] = []
        for question in questions:
            message = AdminRequest(0, question) if isinstance(question, TakeSnapshot) else question
            self._heard.clear()
            self._feed(node, Requested(self._address, message, encode_message(message), LOCAL_OPERATOR))
            if isinstance(question, TakeSnapshot):  # it is told later; the newest that there is will do
                replies.append(AdminReply(0, None))
            elif not self._heard:
                raise NotExecuted("the node ended")
            else:
                replies.append(self._heard[-1])
        return replies


def judged(run: ReadingRun, upto: int) -> Execution:
    """Return what the judge's one history of committed entries comes to, executed from the beginning."""
    execution = Execution(run.workload.machine, run.limits)
    history = run.cluster.judge.ghosts.committed
    for seqno in range(1, upto + 1):
        entry = history.entry(seqno)
        execution.execute(LogEntry(entry.viewstamp.view, entry.viewstamp.seqno, 0, entry.data))
    return execution


@pytest.mark.parametrize("protocol", ["raft", "viewstamped", "primary_backup"])
@pytest.mark.parametrize("seed", range(1, 9))
def test_backup_during_disasters_equals_the_judged_state_at_its_viewstamp(protocol: str, seed: int) -> None:
    run = ReadingRun(RunPlan(protocol, seed, duration_us=8_000_000))
    report = run.execute()
    assert report.violation is None, report.violation
    history = run.cluster.judge.ghosts.committed
    assert run.streams
    for stream in (run.streams[0], run.streams[len(run.streams) // 2], run.streams[-1]):
        header = next(read_records([stream]))
        assert isinstance(header, Header)
        restored = Execution(run.workload.machine, run.limits)
        for entry in entries_of(read_records([stream]), restored):
            if entry.seqno == header.viewstamp.seqno + 1:
                assert restored.saved().body == judged(run, header.viewstamp.seqno).saved().body
            assert (entry.viewstamp, entry.data) == (
                history.entry(entry.seqno).viewstamp,
                history.entry(entry.seqno).data,
            )
            restored.execute(entry)
            assert restored.state.chain.digest == entry.digest
        last = restored.state.applied
        assert restored.saved().body == judged(run, last.seqno).saved().body
        reached = begin_new_life(restored)
        assert reached.seqno == last.seqno + ADVANCE
        assert not len(restored.state.sessions)
