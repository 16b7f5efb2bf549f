"""A small world of Raft cores for scripted tests: what is delivered, lost, written and woken is said.

Disks answer at once unless a test holds them. Every step is judged by the oracle: what a message promises
must be on the sender's disk, what one node keeps must hold, what was applied must be the same everywhere.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any, NamedTuple

import msgspec
import xxhash

from tests.protocols.raft.machines import Disk, Node
from viewstamp.core.effects import (
    Answer,
    Apply,
    Capture,
    Effect,
    Entry,
    Led,
    Persist,
    Refuse,
    Release,
    Restore,
    Send,
    Settled,
    Stage,
)
from viewstamp.core.events import (
    Captured,
    Directed,
    DirectiveToken,
    Event,
    PeerDown,
    PeerUp,
    Persisted,
    Proposed,
    Queried,
    ReadToken,
    Received,
    Staged,
    Woke,
)
from viewstamp.core.ids import Incarnation, Instant, NodeId
from viewstamp.core.protocol import CoreSetup
from viewstamp.core.snapshots import BytesSnapshot, Snapshot
from viewstamp.protocols.raft import DEFINITION, RaftCore, RaftOptions
from viewstamp.protocols.raft.messages import Vote
from viewstamp.protocols.raft.oracle import RaftImage, RaftOracle
from viewstamp.protocols.raft.state import Role

MS = 1_000


class Letter(NamedTuple):
    """A message under way."""

    source: NodeId
    to: NodeId
    message: Any


class Cluster:
    """Nodes, and the messages between them in the order they were sent."""

    def __init__(
        self,
        size: int,
        *,
        options: RaftOptions | None = None,
        seed: int = 0,
        start: bool = True,
        rng: Callable[[NodeId], Random] | None = None,
    ) -> None:
        self.members = tuple(NodeId(number) for number in range(1, size + 1))
        self.options = options or RaftOptions()
        self.now = Instant(0)
        self.random = Random(seed)
        self._rng = rng or (lambda node: Random(f"{seed}/{node}"))
        self.nodes = {node: Node(node, Incarnation(100 * node)) for node in self.members}
        self.letters: deque[Letter] = deque()
        self.oracle: RaftOracle = RaftOracle(self.members)
        self.history: dict[int, tuple[int, int]] = {}
        """(term, machine after it) of every entry that anybody applied."""
        self.leaders: dict[int, NodeId] = {}
        self.votes: dict[tuple[NodeId, Incarnation, int], NodeId] = {}
        self.blocked: Callable[[Letter], bool] = lambda letter: False
        self.sent = 0
        self.sent_bytes = 0
        self.wiped: dict[NodeId, RaftImage] = {}
        """What was on the disks that were wiped."""
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(DEFINITION.message_type).decode
        if start:
            for node in self.members:
                self.start(node)

    # Lives.

    def start(self, number: int, incarnation: int | None = None) -> RaftCore:
        """Start a node on what its disk holds."""
        node = self.nodes[NodeId(number)]
        if incarnation is not None:
            node.incarnation = Incarnation(incarnation)
        recovered = node.disk.recovered()
        setup = CoreSetup(
            node=node.node,
            members=self.members,
            incarnation=node.incarnation,
            rng=self._rng(node.node),
            options=self.options,
            recovered=recovered,
            now=self.now,
        )
        node.core = RaftCore(setup)
        node.applied, node.commands, node.first, node.machine = [], [], 0, 0
        if recovered.snapshot is not None:
            self._restore(node, recovered.snapshot)
        self.wake(number)
        return node.core

    def crash(self, number: int) -> None:
        """The process dies; what is under way to it is lost."""
        node = self.nodes[NodeId(number)]
        node.core = None
        node.disk.crash()
        node.captures.clear()
        node.follow_ups.clear()
        self.oracle.forget(node.node)
        self.letters = deque(letter for letter in self.letters if letter.to != number)

    def wipe(self, number: int) -> None:
        """The process dies and its data directory is deleted: the next life has another incarnation."""
        self.crash(number)
        node = self.nodes[NodeId(number)]
        self.letters = deque(letter for letter in self.letters if letter.source != number)
        self.wiped[node.node] = node.disk.image
        node.disk = Disk()
        node.incarnation = Incarnation(node.incarnation + 1)

    # Events.

    def feed(self, number: int, event: Event) -> list[Effect]:
        """One step of one node, and the carrying out of its effects."""
        node = self.nodes[NodeId(number)]
        core = node.running
        effects = list(core.step(event, self.now))
        self.oracle.check_node(core)
        self.oracle.check_step(node.node, core)
        self._check_leader(node)
        for effect in effects:
            self._carry_out(node, effect)
        while node.follow_ups:
            self.feed(number, node.follow_ups.popleft())
        if node.captures and not node.hold_captures:
            self.finish_captures(number)
        if not node.disk.held:
            self.sync(number)
        return effects

    def wake(self, number: int) -> None:
        """The deadline has passed (or nothing happens)."""
        self.feed(number, Woke())

    def pass_to(self, moment: Instant | None) -> None:
        """Time passes until this moment, and nobody is woken."""
        if moment is not None:
            self.now = Instant(max(self.now, moment))

    def sync(self, number: int) -> None:
        """The disk has written everything."""
        seq = self.nodes[NodeId(number)].disk.sync()
        if seq is not None:
            self.feed(number, Persisted(seq))

    def propose(self, number: int, data: bytes) -> None:
        """A command is to be ordered; the node must be accepting."""
        assert self.core(number).accepting, f"node {number} is not accepting"
        self.feed(number, Proposed(data))

    def query(self, number: int, token: int) -> None:
        """A read arrives."""
        self.feed(number, Queried(ReadToken(token)))

    def direct(self, number: int, token: int, directive: Any) -> None:
        """An operator wants something."""
        self.feed(number, Directed(DirectiveToken(token), directive))

    def connect(self, number: int, peer: int, *, up: bool) -> None:
        """A connection came or went."""
        peer_id = NodeId(peer)
        self.feed(number, PeerUp(peer_id) if up else PeerDown(peer_id))

    # The network.

    def deliver(self, letter: Letter) -> bool:
        """Deliver one message; return False where it is lost."""
        if self.blocked(letter) or self.nodes[letter.to].core is None:
            return False
        self.feed(letter.to, Received(letter.source, letter.message))
        return True

    def feed_message(self, source: int, to: int, message: Any) -> None:
        """A message arrives, whoever it is said to be from."""
        self.feed(to, Received(NodeId(source), message))

    def deliver_next(self, wanted: Callable[[Letter], bool] = lambda letter: True) -> Letter | None:
        """Deliver the oldest message that is wanted, and return it."""
        for letter in self.letters:
            if wanted(letter):
                self.letters.remove(letter)
                self.deliver(letter)
                return letter
        return None

    def settle(self, steps_max: int = 100_000) -> int:
        """Deliver everything in order, without time passing; return the number of messages."""
        for count in range(steps_max):
            self._apply_rest()
            if not self.letters:
                return count
            self.deliver(self.letters.popleft())
        raise AssertionError("messages without end")

    def _apply_rest(self) -> None:
        for number, node in self.nodes.items():
            while node.core is not None and node.core.state.applied < node.core.state.committed:
                self.wake(number)

    def run(self, milliseconds: int) -> None:
        """Let time pass, everything being delivered at once."""
        end = self.now + milliseconds * MS
        self.settle()
        while True:
            due = [
                (deadline, number)
                for number, node in self.nodes.items()
                if node.core is not None and (deadline := node.core.deadline) is not None
            ]
            if not due or min(due)[0] > end:
                break
            deadline, number = min(due)
            self.now = Instant(max(self.now, deadline))
            self.wake(number)
            self.settle()
        self.now = Instant(end)

    def run_until(self, condition: Callable[[], bool], limit_ms: int = 10_000) -> int:
        """Let time pass until the condition holds; return how many milliseconds it took."""
        for passed in range(0, limit_ms, 10):
            if condition():
                return passed
            self.run(10)
        raise AssertionError(f"not within {limit_ms} ms")

    def elect(self) -> int:
        """Let time pass until somebody leads and has committed an entry of its term; return who."""
        self.run_until(lambda: self.leader is not None)
        leader = self.leader
        assert leader is not None
        return leader

    def isolate(self, *numbers: int) -> None:
        """Nothing passes between these nodes and the others."""
        self.blocked = lambda letter: (letter.source in numbers) != (letter.to in numbers)

    def heal(self) -> None:
        """Everything passes."""
        self.blocked = lambda letter: False

    # What tests look at.

    def core(self, number: int) -> RaftCore:
        """The core of a node that is up."""
        return self.nodes[NodeId(number)].running

    def commands(self, number: int) -> list[bytes]:
        """The commands that a node has applied since its last start or snapshot."""
        return self.nodes[NodeId(number)].commands

    @property
    def leader(self) -> int | None:
        """The leader of the highest term that has committed an entry of it."""
        leading = [
            (node.core.state.term, number)
            for number, node in self.nodes.items()
            if node.core is not None
            and node.core.state.role is Role.LEADER
            and node.core.replication.has_committed
        ]
        return max(leading)[1] if leading else None

    def followers(self) -> list[int]:
        """All but the leader."""
        return [node for node in self.members if node != self.leader]

    # Effects.

    def _carry_out(self, node: Node, effect: Effect) -> None:
        match effect:
            case Send():
                self._post(node, effect)
            case Persist():
                assert effect.seq == node.disk.written + len(node.disk.pending) + 1, effect
                node.disk.pending.append((effect.seq, effect.records))
            case Release():
                node.disk.release(effect.before)
            case Apply():
                self._apply(node, effect.entry)
            case Capture():
                node.captures.append(effect)
            case Stage():
                self._stage(node, effect)
            case Restore():
                self._restore(node, effect.snapshot)
            case Answer():
                node.answered.append(effect.token)
            case Refuse():
                node.refused.append(effect.token)
            case Led():
                node.led.append((effect.view, effect.leader))
            case Settled():
                node.settled.append((effect.token, effect.refusal))

    def _post(self, node: Node, effect: Send) -> None:
        broken = self.oracle.broken_promise(node.node, effect.message, node.disk.image)
        assert broken is None, f"AckDurable: node {node.node} promises {broken}"
        encoded = self._encode(effect.message)
        self.sent += 1
        self.sent_bytes += len(encoded)
        message = self._decode(encoded)
        assert message == effect.message
        self._check_vote(node, message)
        self.letters.append(Letter(node.node, effect.to, message))

    def _check_vote(self, node: Node, message: Any) -> None:
        if not isinstance(message, Vote) or message.pre or not message.granted:
            return
        key = (node.node, node.incarnation, message.election)
        first = self.votes.setdefault(key, message.candidate)
        assert first == message.candidate, f"VoteOnce: {key} voted for {first} and {message.candidate}"

    def _check_leader(self, node: Node) -> None:
        state = node.running.state
        if state.role is Role.LEADER:
            first = self.leaders.setdefault(state.term, node.node)
            assert first == node.node, f"ElectionSafety: {first} and {node.node} lead term {state.term}"

    def _apply(self, node: Node, entry: Entry) -> None:
        seqno = entry.viewstamp.seqno
        assert seqno == node.first + len(node.applied) + 1, (seqno, node.first, len(node.applied))
        node.applied.append(entry)
        if entry.data:
            node.commands.append(entry.data)
        node.machine = _hash(node.machine, entry)
        if seqno not in self.history:
            self.history[seqno] = (entry.viewstamp.view, node.machine)
            assert self._is_durable(entry), f"CommittedDurable: {entry.viewstamp}"
        known = self.history[seqno]
        assert known == (entry.viewstamp.view, node.machine), f"StateMachineSafety: entry {seqno}"

    def _is_durable(self, entry: Entry) -> bool:
        """Tell whether a majority of disks holds it, or held it before one of them was wiped."""
        images = {number: node.disk.image for number, node in self.nodes.items()}
        return self.oracle.committed_by(entry.viewstamp, images) or self.oracle.committed_by(
            entry.viewstamp, images | self.wiped
        )

    def finish_captures(self, number: int, *, fails: bool = False) -> None:
        """Make the snapshots that were asked for durable."""
        node = self.nodes[NodeId(number)]
        while node.captures:
            capture = node.captures.pop(0)
            assert capture.viewstamp.seqno <= node.first + len(node.applied)
            body = self.history[capture.viewstamp.seqno][1].to_bytes(8, "big") + bytes(self.padding)
            snapshot = BytesSnapshot(capture.viewstamp, capture.header, body)
            if not fails:
                node.disk.keep_snapshot(snapshot)
            self.feed(number, Captured(capture.token, None if fails else snapshot))

    padding = 0
    """More bytes for snapshots, so that they take several chunks."""

    def _stage(self, node: Node, stage: Stage) -> None:
        if stage.offset == 0:
            node.staging = bytearray()
        assert stage.offset == len(node.staging), "pieces are contiguous"
        node.staging += stage.data
        if len(node.staging) == stage.meta.size_bytes:
            snapshot = BytesSnapshot(stage.meta.viewstamp, stage.meta.header, bytes(node.staging))
            good = snapshot.meta.digest == stage.meta.digest
            if good:
                node.disk.keep_snapshot(snapshot)
            node.follow_ups.append(Staged(stage.token, snapshot if good else None))

    def _restore(self, node: Node, snapshot: Snapshot) -> None:
        seqno = snapshot.meta.viewstamp.seqno
        assert seqno >= node.first + len(node.applied), "a machine never goes back"
        node.first, node.applied, node.commands = seqno, [], []
        node.machine = int.from_bytes(snapshot.read(0, 8), "big")
        assert self.history[seqno] == (snapshot.meta.viewstamp.view, node.machine), "SnapshotEquiv"


def _hash(machine: int, entry: Entry) -> int:
    return xxhash.xxh3_64_intdigest(entry.data, seed=machine ^ entry.viewstamp.view)


def propose_all(cluster: Cluster, commands: Iterable[bytes]) -> None:
    """Propose one command after another to the leader, everything being delivered between."""
    for command in commands:
        leader = cluster.leader
        assert leader is not None
        cluster.propose(leader, command)
        cluster.settle()


def kinds(letters: Sequence[Letter]) -> list[str]:
    """The types of these messages."""
    return [type(letter.message).__name__ for letter in letters]
