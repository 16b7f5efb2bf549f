"""A small world of cores for scripted tests: what is delivered, lost, written and woken is said.

It serves the protocols on `protocols.replication`. Disks answer at once unless a test holds them.
Every step is judged by the protocol's oracle: what a message promises must be on the sender's disk, what one
node keeps must hold, what was applied must be durable and the same everywhere, a view has one leader.
"""

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Generic, NamedTuple

import msgspec
import xxhash

from tests.protocols.machines import CoreT, Disk, Node
from viewstamp.core.effects import (
    Answer,
    Apply,
    Capture,
    Effect,
    Entry,
    LeaderChanged,
    Persist,
    Refuse,
    Release,
    Removed,
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
from viewstamp.core.judge import DurableImage, Oracle
from viewstamp.core.protocol import CoreSetup
from viewstamp.core.snapshots import BytesSnapshot, Snapshot

MS = 1_000


class Letter(NamedTuple):
    """A message under way."""

    source: NodeId
    to: NodeId
    message: Any


class World(Generic[CoreT]):
    """Nodes, and the messages between them in the order they were sent."""

    def __init__(
        self,
        members: Sequence[int],
        *,
        make_core: Callable[[CoreSetup], CoreT],
        oracle: Oracle,
        message_type: Any,
        options: Any,
        rng: Callable[[NodeId], Random],
    ) -> None:
        self.members = tuple(NodeId(number) for number in members)
        self.options = options
        self.now = Instant(0)
        self._make_core = make_core
        self._rng = rng
        self.oracle = oracle
        self.nodes: dict[NodeId, Node[CoreT]] = {
            node: Node(node, Incarnation(100 * count), Disk(oracle.make_image))
            for count, node in enumerate(self.members, start=1)
        }
        self.letters: deque[Letter] = deque()
        self.history: dict[int, tuple[int, int]] = {}
        """(view, machine after it) of every entry that anybody applied."""
        self.leaders: dict[int, NodeId] = {}
        self.blocked: Callable[[Letter], bool] = lambda letter: False
        self.sent = 0
        self.sent_bytes = 0
        self.padding = 0
        """More bytes for snapshots, so that they take several chunks."""
        self.wiped: dict[NodeId, DurableImage] = {}
        """What was on the disks that were wiped."""
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(message_type).decode

    # Lives.

    def join(self, number: int) -> CoreT:
        """Start a node that is not configured, with an empty disk: it waits to be added."""
        node = NodeId(number)
        self.nodes[node] = Node(node, Incarnation(100 * number), Disk(self.oracle.make_image))
        return self.start(number)

    def start(self, number: int, incarnation: int | None = None) -> CoreT:
        """Start a node on what its disk holds."""
        node = self.nodes[NodeId(number)]
        if incarnation is not None:
            node.incarnation = Incarnation(incarnation)
        recovered = node.disk.recovered()
        setup = CoreSetup(
            node=node.node,
            members=tuple(sorted({*self.members, node.node})),
            joining=node.node not in self.members,
            incarnation=node.incarnation,
            rng=self._rng(node.node),
            options=self.options,
            recovered=recovered,
            now=self.now,
        )
        node.core = core = self._make_core(setup)
        node.forget()
        if recovered.snapshot is not None:
            self._restore(node, recovered.snapshot)
        self.wake(number)
        return core

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
        self.wiped[node.node] = node.disk.image
        node.disk = Disk(self.oracle.make_image)
        node.incarnation = Incarnation(node.incarnation + 1)

    # Events.

    def feed(self, number: int, event: Event) -> list[Effect]:
        """One step of one node, and the carrying out of its effects."""
        node = self.nodes[NodeId(number)]
        effects = self._step(node, event)
        for effect in effects:
            self._carry_out(node, effect)
        while node.follow_ups:
            self.feed(number, node.follow_ups.popleft())
        if node.captures and not node.hold_captures:
            self.finish_captures(number)
        if not node.disk.held:
            self.sync(number)
        return effects

    def _step(self, node: Node[CoreT], event: Event) -> list[Effect]:
        """One step of one node, judged."""
        core = node.running
        effects = list(core.step(event, self.now))
        self.oracle.check_node(core)
        self.oracle.check_step(node.node, core)
        if core.state.leader == node.node:
            first = self.leaders.setdefault(core.view, node.node)
            assert first == node.node, f"ElectionSafety: {first} and {node.node} lead view {core.view}"
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
        """A message arrives, from the node that it names."""
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

    def isolate(self, *numbers: int) -> None:
        """Nothing passes between these nodes and the others."""
        self.blocked = lambda letter: (letter.source in numbers) != (letter.to in numbers)

    def heal(self) -> None:
        """Everything passes."""
        self.blocked = lambda letter: False

    # What tests look at.

    def core(self, number: int) -> CoreT:
        """The core of a node that is up."""
        return self.nodes[NodeId(number)].running

    def commands(self, number: int) -> list[bytes]:
        """The commands that a node has applied since its last start or snapshot."""
        return self.nodes[NodeId(number)].commands

    # Effects.

    def _carry_out(self, node: Node[CoreT], effect: Effect) -> None:
        match effect:
            case Send():
                self._post(node, effect)
            case Persist():
                node.disk.write(effect.seq, effect.records)
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
            case LeaderChanged():
                node.led.append((effect.view, effect.leader))
            case Settled():
                assert effect.token not in node.settled, "an operator is answered once"
                node.settled[effect.token] = effect.refusal
            case Removed():
                assert node.removed is None, "a node is told once"
                node.removed = effect.at

    def _post(self, node: Node[CoreT], effect: Send) -> None:
        broken = self.oracle.broken_promise(node.node, effect.message, node.disk.image)
        assert broken is None, f"AckDurable: node {node.node} promises {broken}"
        encoded = self._encode(effect.message)
        self.sent += 1
        self.sent_bytes += len(encoded)
        message = self._decode(encoded)
        assert message == effect.message
        self.letters.append(Letter(node.node, effect.to, message))

    def _apply(self, node: Node[CoreT], entry: Entry) -> None:
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
        """Return whether enough disks hold it, or held it before one of them was wiped."""
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

    def _stage(self, node: Node[CoreT], stage: Stage) -> None:
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

    def _restore(self, node: Node[CoreT], snapshot: Snapshot) -> None:
        seqno = snapshot.meta.viewstamp.seqno
        assert seqno >= node.first + len(node.applied), "a machine never goes back"
        node.first, node.applied, node.commands = seqno, [], []
        node.machine = int.from_bytes(snapshot.read(0, 8), "big")
        assert self.history[seqno] == (snapshot.meta.viewstamp.view, node.machine), "SnapshotEquiv"


def _hash(machine: int, entry: Entry) -> int:
    return xxhash.xxh3_64_intdigest(entry.data, seed=machine ^ entry.viewstamp.view)


def kinds(letters: Sequence[Letter]) -> list[str]:
    """The types of these messages."""
    return [type(letter.message).__name__ for letter in letters]
