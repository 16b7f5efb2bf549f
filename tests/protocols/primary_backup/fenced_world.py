"""A small world of fenced members for scripted and random tests: what is delivered, lost, written is said.

Disks answer at once unless a test holds them. Every step is judged: what one node keeps must hold, what a
message promises must be on its sender's disk, what was applied must be the same everywhere, an epoch has one
primary. What happens is told as prose.
"""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import msgspec
import xxhash

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
    Persisted,
    Proposed,
    Queried,
    ReadToken,
    Received,
    SnapshotToken,
    Staged,
    TransferLeadership,
    Woke,
)
from viewstamp.core.ids import Incarnation, Instant, NodeId, PersistSeq, Viewstamp
from viewstamp.core.protocol import CoreSetup, Recovered
from viewstamp.core.snapshots import BytesSnapshot, Snapshot
from viewstamp.protocols.primary_backup import DEFINITION, PrimaryBackupCore
from viewstamp.protocols.primary_backup.images import make_image
from viewstamp.protocols.primary_backup.messages import FencedMessage
from viewstamp.protocols.primary_backup.options import PrimaryBackupOptions
from viewstamp.protocols.primary_backup.oracle import PrimaryBackupOracle
from viewstamp.protocols.primary_backup.reporting import role_of
from viewstamp.protocols.primary_backup.state import Role

MS = 1_000


class Letter(NamedTuple):
    """A message under way."""

    source: NodeId
    to: NodeId
    message: Any


class Node:
    """One member: its core while it lives, its disk, and a machine that only adds up what it applied."""

    def __init__(self, node: NodeId) -> None:
        self.node = node
        self.incarnation = Incarnation(100 * (node + 1))
        self.core: PrimaryBackupCore | None = None
        self.writes: list[tuple[PersistSeq, tuple[bytes, ...]]] = []
        self.synced = 0
        """How many of `writes` are durable."""
        self.written = PersistSeq(0)
        self.snapshot: Snapshot | None = None
        self.image = make_image()
        self.held = False
        """While true, writes stay unsynced."""
        self.applied: Viewstamp | None = None
        self.commands: list[bytes] = []
        self.machine = 0
        self.staged: dict[SnapshotToken, bytearray] = {}
        self.answered: list[int] = []
        self.refused: list[int] = []
        self.settled: dict[int, str | None] = {}
        self.follow_ups: deque[Event] = deque()


class FencedWorld:
    """Members 0, 1, ... and the messages between them in the order they were sent."""

    def __init__(
        self, size: int, *, options: PrimaryBackupOptions | None = None, start: bool = True, seed: int = 0
    ) -> None:
        self.members = tuple(NodeId(number) for number in range(size))
        self.options = options or PrimaryBackupOptions()
        self.now = Instant(0)
        self.seed = seed
        self.nodes = {node: Node(node) for node in self.members}
        self.letters: deque[Letter] = deque()
        self.oracle = PrimaryBackupOracle(self.members)
        self.history: dict[int, tuple[Viewstamp, int]] = {}
        """(viewstamp, machine after it) of every entry that anybody applied."""
        self.primaries: dict[int, NodeId] = {}
        self.blocked: Callable[[Letter], bool] = lambda letter: False
        self.lines: list[str] = []
        self._tokens = 0
        self._codec = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(DEFINITION.message_type)
        if start:
            for node in self.members:
                self.start(node)

    # Lives

    def core(self, number: int) -> PrimaryBackupCore:
        """Return the core of a member that lives."""
        core = self.nodes[NodeId(number)].core
        assert core is not None
        return core

    def start(self, number: int) -> None:
        """Start a member on what its disk holds."""
        node = self.nodes[NodeId(number)]
        del node.writes[node.synced :]
        node.written = node.writes[-1][0] if node.writes else PersistSeq(0)
        setup = CoreSetup(
            node=node.node,
            members=self.members,
            incarnation=node.incarnation,
            rng=Random(f"{self.seed}/{number}"),
            options=self.options,
            recovered=Recovered(writes=tuple(node.writes), written=node.written, snapshot=node.snapshot),
            now=self.now,
        )
        node.image = make_image()
        for seq, records in node.writes:
            node.image.write(seq, records)
        node.core = PrimaryBackupCore(setup)
        node.applied, node.commands, node.machine = None, [], 0
        if node.snapshot is not None:
            node.image.snapshot(node.snapshot.meta)
            self._restore(node, node.snapshot)
        self.wake(number)

    def crash(self, number: int) -> None:
        """The process dies; what is under way to it is lost."""
        node = self.nodes[NodeId(number)]
        self.lines.append(f"node {number} dies")
        node.core = None
        node.follow_ups.clear()
        node.staged.clear()
        self.oracle.forget(node.node)
        self.letters = deque(letter for letter in self.letters if letter.to != number)

    def wipe(self, number: int) -> None:
        """The process dies and its data directory is deleted: the next life has another incarnation."""
        self.crash(number)
        self.lines[-1] = f"node {number} dies and loses its disk"
        node = self.nodes[NodeId(number)]
        node.writes, node.synced, node.snapshot = [], 0, None
        node.incarnation = Incarnation(node.incarnation + 1)

    # Events

    def feed(self, number: int, event: Event) -> list[Effect]:
        """One step of one member, and the carrying out of its effects."""
        node, core = self.nodes[NodeId(number)], self.core(number)
        before = self._account(number)
        effects = list(core.step(event, self.now))
        self.oracle.check_node(core)
        self.oracle.check_step(node.node, core)
        self._check_primary(core)
        after = self._account(number)
        self.lines += [
            f"    {number} {line}" for line, known in zip(after, before, strict=True) if line != known
        ]
        for effect in effects:
            self._carry_out(node, effect)
        while node.follow_ups:
            self.feed(number, node.follow_ups.popleft())
        if not node.held:
            self.sync(number)
        return effects

    def _account(self, number: int) -> list[str]:
        state = self.core(number).state
        record = state.record
        who = "nobody" if state.leader is None else f"node {state.leader}"
        known = "no record" if record is None else f"record {record.epoch}/{record.version}"
        members = "" if record is None else f": synchronous {', '.join(map(str, record.members))}"
        return [
            f"is {role_of(state)} in epoch {state.epoch}, primary is {who}",
            f"knows {known}{members}",
            f"has the log up to {state.log.last}",
            f"knows that everything up to {state.committed} is committed",
        ]

    def _check_primary(self, core: PrimaryBackupCore) -> None:
        state = core.state
        if state.role is Role.PRIMARY:
            first = self.primaries.setdefault(state.epoch, state.node)
            assert first == state.node, f"I1: epoch {state.epoch} has primaries {first} and {state.node}"

    def wake(self, number: int) -> None:
        """The deadline has passed (or nothing happens)."""
        self.feed(number, Woke())

    def sync(self, number: int) -> None:
        """The disk has written everything."""
        node = self.nodes[NodeId(number)]
        new = node.writes[node.synced :]
        if new:
            node.synced = len(node.writes)
            for seq, records in new:
                node.image.write(seq, records)
            self.feed(number, Persisted(new[-1][0]))

    def propose(self, number: int, data: bytes) -> None:
        """A command is to be ordered; the member must be accepting."""
        assert self.core(number).accepting, f"node {number} is not accepting"
        self.lines.append(f"node {number} is to order {data.decode()!r}")
        self.feed(number, Proposed(data))

    def query(self, number: int, token: int) -> None:
        """A read arrives."""
        self.feed(number, Queried(ReadToken(token)))

    def promote(self, number: int, token: int, *, asked: int | None = None) -> None:
        """The operator wants member `number` to lead, and tells so to `asked` (or to it itself)."""
        at = number if asked is None else asked
        self.lines.append(f"the operator wants node {number} to lead, and says so to node {at}")
        self.feed(at, Directed(DirectiveToken(token), TransferLeadership(NodeId(number))))

    # Effects

    def _carry_out(self, node: Node, effect: Effect) -> None:
        match effect:
            case Send():
                self._send(node, effect)
            case Persist():
                assert effect.seq == node.written + 1, "the journal's numbers have no gap"
                node.written = effect.seq
                node.writes.append((effect.seq, effect.records))
            case Apply():
                self._apply(node, effect.entry)
            case Release():
                kept = [write for write in node.writes if write[0] >= effect.before]
                node.synced -= len(node.writes) - len(kept)
                node.writes = kept
            case Capture():
                snapshot = BytesSnapshot(effect.viewstamp, effect.header, node.machine.to_bytes(8, "big"))
                node.snapshot = snapshot
                node.image.snapshot(snapshot.meta)
                node.follow_ups.append(Captured(effect.token, snapshot))
            case Stage():
                self._stage(node, effect)
            case Restore():
                self._restore(node, effect.snapshot)
            case Answer():
                node.answered.append(effect.token)
            case Refuse():
                node.refused.append(effect.token)
            case Settled():
                node.settled[effect.token] = effect.refusal
                end = "done" if effect.refusal is None else effect.refusal
                self.lines.append(f"    {node.node} tells the operator: {end}")
            case Led():
                pass

    def _send(self, node: Node, effect: Send) -> None:
        broken = self.oracle.broken_promise(node.node, effect.message, node.image)
        assert broken is None, f"I11: node {node.node} says {broken}"
        encoder, decoder = self._codec
        message: FencedMessage = decoder.decode(encoder.encode(effect.message))
        self.letters.append(Letter(node.node, effect.to, message))

    def _apply(self, node: Node, entry: Entry) -> None:
        seqno = entry.viewstamp.seqno
        before = 0 if node.applied is None else node.applied.seqno
        assert seqno == before + 1, f"I4: node {node.node} applies {seqno} after {before}"
        node.applied = entry.viewstamp
        node.machine = xxhash.xxh3_64_intdigest(entry.data, node.machine)
        if entry.data:
            node.commands.append(entry.data)
        known = self.history.setdefault(seqno, (entry.viewstamp, node.machine))
        assert known == (entry.viewstamp, node.machine), f"I4: node {node.node} differs at {seqno}"

    def _stage(self, node: Node, effect: Stage) -> None:
        if effect.offset == 0:
            node.staged[effect.token] = bytearray()
        body = node.staged[effect.token]
        assert len(body) == effect.offset
        body += effect.data
        if len(body) == effect.meta.size_bytes:
            snapshot = BytesSnapshot(effect.meta.viewstamp, effect.meta.header, bytes(body))
            assert snapshot.meta == effect.meta
            node.snapshot = snapshot
            node.image.snapshot(snapshot.meta)
            node.follow_ups.append(Staged(effect.token, snapshot))

    def _restore(self, node: Node, snapshot: Snapshot) -> None:
        node.applied = snapshot.meta.viewstamp
        node.machine = int.from_bytes(snapshot.read(0, 8), "big")
        assert self.history[node.applied.seqno] == (node.applied, node.machine), "I13: another state"

    # The network

    def deliver(self, letter: Letter) -> bool:
        """Deliver one message; return False where it is lost."""
        if self.blocked(letter) or self.nodes[letter.to].core is None:
            return False
        self.lines.append(f"{letter.source} -> {letter.to}: {self.oracle.describe(letter.message)}")
        self.feed(letter.to, Received(letter.source, letter.message))
        return True

    def settle(self) -> None:
        """Deliver everything in order, without time passing."""
        for _ in range(50_000):
            for number, node in self.nodes.items():
                while node.core is not None and node.core.state.applied < node.core.state.committed:
                    self.wake(number)
            if not self.letters:
                return
            self.deliver(self.letters.popleft())
        raise AssertionError("messages without end")

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

    @property
    def primary(self) -> int | None:
        """The primary of the highest epoch that says so itself."""
        leading = [
            (node.core.state.epoch, int(number))
            for number, node in self.nodes.items()
            if node.core is not None and node.core.state.role is Role.PRIMARY
        ]
        return max(leading)[1] if leading else None

    def write(self, number: int, *data: bytes) -> None:
        """Order commands one after the other, everything being delivered."""
        for each in data:
            self.propose(number, each)
            self.settle()

    def cut_off(self, *numbers: int) -> None:
        """Nothing gets from these to the others, or back, until `heal`."""
        self.blocked = lambda letter: (letter.source in numbers) != (letter.to in numbers)

    def heal(self) -> None:
        """Everything gets through again."""
        self.blocked = lambda letter: False


def founded(size: int, *, options: PrimaryBackupOptions | None = None) -> FencedWorld:
    """Return a cluster that was founded and has committed its first entry."""
    world = FencedWorld(size, options=options)
    world.run(20)
    assert world.primary == 0
    return world
