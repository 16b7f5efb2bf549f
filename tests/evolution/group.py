"""Replicas with several versions of one class, which apply the same entries."""

from collections.abc import Sequence
from operator import itemgetter

from msgspec import Raw

from tests.replica.fakes import Bench, call, lines, replies, submit
from viewstamp.core.effects import Apply, Entry
from viewstamp.core.events import Finalize
from viewstamp.core.ids import LEVEL, ORIGIN, ClientAddress, NodeId, Seqno, View, Viewstamp
from viewstamp.core.messages import AdminReply, AdminRequest
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.machine.evolution import version_of
from viewstamp.machine.interface import interface_digest, own_interface
from viewstamp.machine.state_digest import digest_of_pieces
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.events import Announced, ReplicaEffect

LEADER = NodeId(1)
OPERATOR = ClientAddress(9)


class Group:
    """Nodes 1, 2, ... of these classes; node 1 leads. What it proposes is applied by all, in order."""

    def __init__(self, *classes: type[StateMachine]) -> None:
        self.classes = {NodeId(number): cls for number, cls in enumerate(classes, 1)}
        self.benches = {node: self._bench(node) for node in self.classes}
        self.log: list[Apply] = []
        self.last = ORIGIN
        self.sent = 0
        for node in self.classes:
            self.announce(node)

    def _bench(self, node: NodeId, snapshot: BytesSnapshot | None = None) -> Bench:
        bench = Bench(self.classes[node], snapshot=snapshot, node=node, members=tuple(self.classes))
        bench.core.holding = True
        bench.core.leader, bench.core.accepting = LEADER, node == LEADER
        return bench

    def announce(self, node: NodeId, *, level: int = LEVEL, machine: int | None = None) -> None:
        """Let a node say hello to all others."""
        cls = self.classes[node]
        said = Announced(node, level, machine or version_of(cls), interface_digest(own_interface(cls)))
        for other, bench in self.benches.items():
            if other != node:
                bench.replica.hear(said)

    def restart(
        self, node: int, cls: type[StateMachine] | None = None, snapshot: BytesSnapshot | None = None
    ) -> None:
        """Start a node again, with another class, from a snapshot or from the beginning of the log."""
        where = NodeId(node)
        self.classes[where] = cls or self.classes[where]
        bench = self.benches[where] = self._bench(where, snapshot)
        begin = 0 if snapshot is None else snapshot.meta.viewstamp.seqno
        for entry in self.log[begin:]:
            bench.feed(entry)
        bench.core.last = self.last
        self.announce(where)
        for other in self.classes:
            if other != where:
                self.announce(other)

    def call(self, method: str, *arguments: object) -> tuple[int, object]:
        """Let the leader take a call and all apply it; return kind and result."""
        return self.send(Raw(call(method, *arguments)))

    def send(self, encoded: Raw) -> tuple[int, object]:
        """The same with a call as a client encoded it."""
        (line,) = self.send_all(encoded)
        return line

    def send_all(self, *encoded: Raw) -> list[tuple[int, object]]:
        """The same with several calls in one message, in the order of their numbers."""
        leader = self.benches[LEADER]
        before, first = len(leader.seen), max(self.sent, self.last.seqno) + 1
        self.sent = first + len(encoded) - 1
        leader.do(submit(0, *((first + place, each) for place, each in enumerate(encoded))))
        self.flush()
        return [
            (kind, value)
            for _, kind, value in sorted(lines(replies(leader.seen[before:])), key=itemgetter(0))
        ]

    def finalize(self, level: int | None = None) -> str | None:
        """Let an operator raise what is in force; return the refusal."""
        leader = self.benches[LEADER]
        before = len(leader.seen)
        leader.do(AdminRequest(1, Finalize(level)), OPERATOR)
        self.flush()
        (reply,) = [m for m in replies(leader.seen[before:]) if isinstance(m, AdminReply)]
        return reply.refusal

    def flush(self) -> None:
        """Apply everywhere what the leader has proposed."""
        leader = self.benches[LEADER]
        held, leader.core.held = leader.core.held, []
        for data in held:
            self.last = Viewstamp(View(1), Seqno(self.last.seqno + 1))
            entry = Apply(Entry(self.last, data))
            self.log.append(entry)
            for bench in self.benches.values():
                bench.core.last = self.last
                self._deliver(bench.feed(entry))

    def _deliver(self, effects: Sequence[ReplicaEffect]) -> None:
        assert not [effect for effect in effects if type(effect).__name__ == "Halt"]

    def save(self, node: int) -> BytesSnapshot:
        """Take a snapshot of a node."""
        bench = self.benches[NodeId(node)]
        taken = bench.save()
        bench.core.last = self.last
        return taken

    @property
    def waiting(self) -> dict[NodeId, str]:
        """Return the nodes that wait for newer code, and why."""
        whys = {node: bench.replica._divergence.waiting for node, bench in self.benches.items()}
        return {node: why for node, why in whys.items() if why is not None}

    def require_equal(self) -> None:
        """All nodes that do not wait have the same results and the same state."""
        serving = [bench for node, bench in self.benches.items() if node not in self.waiting]
        assert len({bench.replica.applied for bench in serving}) == 1
        assert len({bench.replica.digest for bench in serving}) == 1
        states = set()
        for bench in serving:
            runner = bench.replica.state.runner
            states.add(digest_of_pieces(runner.in_force.digest_pieces(runner.machine)))
            assert not bench.replica._divergence.withholds
        assert len(states) == 1
