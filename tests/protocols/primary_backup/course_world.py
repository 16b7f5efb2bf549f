"""A small world of servers of the course's form: streams between them, disks that answer at once.

Messages between two servers keep their order, as TCP does. A send to a server that is away is answered by
`PeerDown`; a server that dies breaks its connections. Every step is judged by the oracle.
"""

from collections import deque
from random import Random
from typing import Any

import msgspec

from viewstamp.core.effects import Answer, Apply, Effect, LeaderChanged, Persist, Send, Settled
from viewstamp.core.events import Event, PeerDown, PeerUp, Persisted, Proposed, Received, Woke
from viewstamp.core.ids import Incarnation, Instant, NodeId, PersistSeq
from viewstamp.core.protocol import CoreSetup, Recovered
from viewstamp.protocols.primary_backup import COURSE, CourseCore
from viewstamp.protocols.primary_backup.judge.oracle import make_image
from viewstamp.protocols.primary_backup.options import CourseOptions

MS = 1_000
Letter = tuple[NodeId, NodeId, Any]


class Server:
    """One server: its core while it lives, its disk, what it applied."""

    def __init__(self, node: NodeId) -> None:
        self.node = node
        self.core: CourseCore | None = None
        self.writes: list[tuple[PersistSeq, tuple[bytes, ...]]] = []
        self.image = make_image()
        self.applied: list[bytes] = []
        self.answered: list[int] = []
        self.settled: list[str | None] = []
        self.led: list[NodeId | None] = []
        self.held = False
        """While true, writes stay unsynced."""


class CourseWorld:
    """Servers 0, 1, ... and the messages in flight between them."""

    def __init__(self, size: int, *, options: CourseOptions | None = None, rng: Random | None = None) -> None:
        self.members = tuple(NodeId(number) for number in range(size))
        self.options = options or CourseOptions()
        self.now = Instant(0)
        self.rng = rng
        self.servers = {node: Server(node) for node in self.members}
        self.letters: deque[Letter] = deque()
        self.oracle = COURSE.make_oracle(self.members)
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.lines: list[str] = []
        """What happened, as prose."""
        self._codec = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(COURSE.message_type)
        for node in self.members:
            self.start(node)

    def core(self, number: int) -> CourseCore:
        """Return the core of a server that lives."""
        core = self.servers[NodeId(number)].core
        assert core is not None
        return core

    def start(self, number: int, *, empty: bool = True) -> None:
        """Start a server, with an empty memory or on what it wrote."""
        server = self.servers[NodeId(number)]
        if empty:
            server.writes, server.image = [], make_image()
        written = server.writes[-1][0] if server.writes else PersistSeq(0)
        setup = CoreSetup(
            node=server.node,
            members=self.members,
            incarnation=Incarnation(1),
            rng=Random(0),
            options=self.options,
            recovered=Recovered(writes=tuple(server.writes), written=written),
            now=self.now,
        )
        server.core = CourseCore(setup)
        server.applied = []

    def kill(self, number: int) -> None:
        """A server dies: what it sent before still arrives, then its connections break."""
        node = NodeId(number)
        self.lines.append(f"server {node} dies")
        self.servers[node].core = None
        self.oracle.forget(node)
        self.letters = deque(letter for letter in self.letters if letter[1] != node)
        for other in self.members:
            if self.servers[other].core is not None:
                self.letters.append((node, other, PeerDown(node)))

    def revive(self, number: int, *, empty: bool = True) -> None:
        """Start a dead server again; nobody connects to it before somebody sends to it."""
        self.lines.append(f"server {number} is started again")
        self.start(number, empty=empty)

    def feed(self, number: int, event: Event) -> list[Effect]:
        """One step of one server, and the carrying out of its effects."""
        server = self.servers[NodeId(number)]
        core = self.core(number)
        before = (core.last_index, core.committed_index, core.primary_id)
        effects = list(core.step(event, self.now))
        self.oracle.check_node(core)
        for effect in effects:
            self._carry_out(server, effect)
        self.oracle.check_step(server.node, core)
        after = (core.last_index, core.committed_index, core.primary_id)
        if after != before:
            who = "nobody" if core.primary_id is None else f"server {core.primary_id}"
            positions = f"last {core.last_index}, committed {core.committed_index}"
            self.lines.append(f"    {number}: {positions}, primary is {who}")
        if server.writes and not server.held:
            self.sync(number)
        return effects

    def sync(self, number: int) -> None:
        """The disk has written everything."""
        server = self.servers[NodeId(number)]
        core = self.core(number)
        written = server.writes[-1][0]
        if written > core._outbox.durable:
            for seq, records in server.writes:
                if seq > core._outbox.durable:
                    server.image.write(seq, records)
            self.feed(number, Persisted(written))

    def _carry_out(self, server: Server, effect: Effect) -> None:
        match effect:
            case Persist():
                server.writes.append((effect.seq, effect.records))
            case Send():
                self._send(server, effect)
            case Apply():
                server.applied.append(effect.entry.data)
                assert len(server.applied) == effect.entry.viewstamp.seqno
            case Answer():
                server.answered.append(effect.token)
            case Settled():
                server.settled.append(effect.refusal)
            case LeaderChanged():
                server.led.append(effect.leader)
            case _:
                raise AssertionError(f"the course's form never asks for {effect}")

    def _send(self, server: Server, effect: Send) -> None:
        broken = self.oracle.broken_promise(server.node, effect.message, server.image)
        assert broken is None, broken
        encoder, decoder = self._codec
        message = decoder.decode(encoder.encode(effect.message))
        if self.servers[effect.to].core is None:
            self.letters.append((effect.to, server.node, PeerDown(effect.to)))
        elif (server.node, effect.to) in self.cut:
            pass
        else:
            self.letters.append((server.node, effect.to, message))

    def deliver(self) -> None:
        """Deliver the oldest message, or with a generator a random one, each connection in order."""
        place = 0
        if self.rng is not None:
            place = self.rng.randrange(len(self.letters))
            pair = self.letters[place][:2]
            place = next(index for index, letter in enumerate(self.letters) if letter[:2] == pair)
        source, to, message = self.letters[place]
        del self.letters[place]
        if self.servers[to].core is None or (source, to) in self.cut:
            return
        if isinstance(message, PeerDown | PeerUp):
            alive = self.servers[message.peer].core is not None
            if isinstance(message, PeerUp) == alive:
                self.feed(to, message)
            return
        self.lines.append(f"{source} -> {to}: {self.oracle.describe(message)}")
        self.feed(to, Received(source, message))

    def settle(self) -> None:
        """Deliver everything; no time passes."""
        for _ in range(100_000):
            if not self.letters:
                return
            self.deliver()
        raise AssertionError("messages without end")

    def give(self, number: int, data: bytes) -> None:
        """A write is given to a server that accepts it."""
        self.lines.append(f"server {number} is given {data.decode()}")
        self.feed(number, Proposed(data))

    def write(self, number: int, *data: bytes) -> None:
        """Writes are given to a server, one after the other, and everything that follows happens."""
        for each in data:
            self.settle()
            self.give(number, each)
            self.settle()

    def wait(self, number: int) -> None:
        """Time passes until a server's deadline, and it is woken."""
        deadline = self.core(number).deadline
        assert deadline is not None, f"server {number} waits for nothing"
        self.now = Instant(max(self.now, deadline))
        self.feed(number, Woke())

    def positions(self, number: int) -> tuple[int, int]:
        """Return (last_index, committed_index)."""
        core = self.core(number)
        return core.last_index, core.committed_index

    def logs(self) -> dict[int, list[bytes]]:
        """Return the log of every server that lives."""
        return {
            int(node): server.core.log_entries()
            for node, server in self.servers.items()
            if server.core is not None
        }
