"""A real client core and several replicas fed with one log: what a change of leaders does to a command."""

from typing import Any

import msgspec

from tests.replica.client.clients import NUMBER, S1, S2, ClientBench
from tests.replica.fakes import HERE, Bench, Counter, call, lines
from viewstamp.core.effects import Apply, Entry, LeaderChanged
from viewstamp.core.events import Proposed
from viewstamp.core.ids import NodeId, Seqno, View, Viewstamp
from viewstamp.core.messages import (
    RESULT,
    Submit,
    decode_client_message,
    decode_server_message,
    encode_message,
)
from viewstamp.replica.events import Returned


class Group:
    """Two replicas and a client; the log is a list that the test commits by hand."""

    def __init__(self) -> None:
        self.replicas = {S1: Bench(), S2: Bench()}
        self.client = ClientBench(servers=(S1, S2))
        self.log: list[bytes] = []
        for bench in self.replicas.values():
            bench.core.holding = True
        self.lead(S1)

    def lead(self, leader: NodeId) -> None:
        for node, bench in self.replicas.items():
            bench.core.leader, bench.core.accepting = leader, node == leader
            # The fake's own node number is 1 at both: what counts here is whether it accepts.
            bench.replica.node = node
            self._hand_over(node, bench.feed(LeaderChanged(View(1), leader)))

    def commit(self, *nodes: NodeId) -> None:
        """Apply everything ordered so far at these replicas."""
        for node in nodes:
            bench = self.replicas[node]
            for data in self.log[bench.replica.applied.seqno :]:
                where = Viewstamp(View(1), Seqno(bench.replica.applied.seqno + 1))
                self._hand_over(node, bench.feed(Apply(Entry(where, data))))

    def pump(self, *, lost: tuple[NodeId, ...] = ()) -> None:
        """Carry the client's messages to the replicas and order what they propose."""
        self.client.wake()
        sent, self.client.sent = self.client.sent, []
        for to, message in sent:
            if to in lost:
                continue
            bench = self.replicas[to]
            before = len(bench.core.events)
            decoded = decode_client_message(encode_message(message))
            self._hand_over(to, bench.request(decoded, HERE))
            self._hand_over(to, bench.wake())
            new = bench.core.events[before:]
            self.log += [event.data for event in new if isinstance(event, Proposed)]

    def _hand_over(self, node: NodeId, effects: list[Any]) -> None:
        for effect in effects:
            message = getattr(effect, "message", None)
            if message is not None:
                self.client.receive(node, decode_server_message(encode_message(message)))

    def value(self, node: NodeId) -> int:
        machine = self.replicas[node].replica.machine
        assert isinstance(machine, Counter)
        return machine.value


def _group() -> Group:
    group = Group()
    group.client.invoke("add", 1)
    group.pump()
    group.commit(S1, S2)
    group.pump()
    group.commit(S1, S2)
    assert group.client.outcomes == {1: Returned(b"\x01", 2 << 20)}
    return group


def test_a_command_runs_once_when_its_leader_dies_after_it_was_committed() -> None:
    group = _group()
    number = group.client.invoke("add", 10)
    group.pump()
    group.client.down(S1)
    group.lead(S2)
    group.pump()
    group.commit(S2)
    assert len(group.log) == 4, "it is in the log twice"
    assert group.value(S2) == 11
    outcome = group.client.outcomes[number]
    assert isinstance(outcome, Returned)
    assert outcome.payload == b"\x0b"


def test_a_command_runs_once_when_it_never_entered_the_log() -> None:
    group = _group()
    number = group.client.invoke("add", 10)
    group.pump(lost=(S1,))
    group.client.down(S1)
    group.lead(S2)
    group.pump()
    group.commit(S2)
    assert group.value(S2) == 11
    assert isinstance(group.client.outcomes[number], Returned)


def test_replicas_agree_and_the_client_is_answered_when_leadership_moves_twice() -> None:
    group = _group()
    numbers = [group.client.invoke("add", 10) for _ in range(3)]
    group.pump()
    group.lead(S2)
    group.pump()
    group.lead(S1)
    for _ in range(3):
        group.pump()
        group.commit(S1, S2)
    group.client.run_until(group.client.now + 5_000_000)
    for _ in range(3):
        group.pump()
        group.commit(S1, S2)
    assert group.value(S1) == group.value(S2) == 31
    assert all(isinstance(group.client.outcomes[number], Returned) for number in numbers)
    assert group.replicas[S1].replica.digest == group.replicas[S2].replica.digest


def test_a_restarted_replica_remembers_results_that_only_its_snapshot_holds() -> None:
    group = _group()
    restarted = Bench(snapshot=group.replicas[S1].save())
    session = group.client.core.session
    assert session is not None
    copy = Submit(NUMBER, session, 0, [(1, msgspec.Raw(call("add", 1)))])
    assert lines(restarted.do(copy)) == [(1, RESULT, 1)]
    assert isinstance(restarted.replica.machine, Counter)
    assert restarted.replica.machine.value == 1
