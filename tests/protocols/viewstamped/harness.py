"""A cluster of cores over a network, disks and a clock that a test controls, with no randomness of its own.

Every step is judged by the protocol's oracle, every message by what its sender's disk holds, every applied
entry by what was applied elsewhere at its place, and the first to apply one by the disks of the members.
"""

import heapq
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

import msgspec

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
    Event,
    PeerDown,
    Persisted,
    Proposed,
    Queried,
    ReadToken,
    Received,
    Staged,
    Woke,
)
from viewstamp.core.ids import Incarnation, Instant, NodeId, PersistSeq, Viewstamp
from viewstamp.core.protocol import CoreSetup, Recovered
from viewstamp.core.snapshots import BytesSnapshot, Snapshot, read_whole
from viewstamp.protocols.viewstamped import Failpoints, Point, ViewstampedCore
from viewstamp.protocols.viewstamped.judge.oracle import ViewstampedOracle, describe
from viewstamp.protocols.viewstamped.messages import Message
from viewstamp.protocols.viewstamped.options import ViewstampedOptions

MS = 1_000
_MESSAGES = msgspec.msgpack.Decoder(Message)
_REPEATS = 24
"""A line that was told so recently is not told again: retries would fill the transcripts."""
_QUIET = ("ping", "pong", "append nothing", "appended", "join of")


class Died(Exception):
    """A failpoint ended the process."""


class Breakpoint:
    """Ends the process at one point, or calls `then` instead."""

    def __init__(self, point: Point, then: Callable[[], None] | None = None) -> None:
        self.point = point
        self.then = then
        self.hit = False

    def armed(self, point: Point) -> bool:
        return point == self.point and not self.hit

    def reached(self, point: Point) -> None:
        self.hit = True
        if self.then is None:
            raise Died(point.name)
        self.then()


class Host:
    """One node: its disk, which outlives a crash, and its core and machine, which do not."""

    def __init__(self, node: NodeId, incarnation: int) -> None:
        self.node = node
        self.incarnation = Incarnation(incarnation)
        self.core: ViewstampedCore | None = None
        self.life = 0
        self.writes: list[tuple[PersistSeq, tuple[bytes, ...]]] = []
        self.pending: list[Persist] = []
        self.released_before = 0
        self.snapshot: Snapshot | None = None
        self.machine: list[bytes] = []
        """The data of all applied entries: the state itself."""
        self.staged = b""
        self.unwritable = 0
        """The next N snapshots get lost after all of each has arrived."""
        self.answers: dict[int, int | None] = {}
        """Token of a read to the length of the machine when it was answered, None where it was refused."""
        self.settled: dict[int, str | None] = {}
        self.joining = False
        """Whether it waits to be added by an operator."""
        self.removed: Viewstamp | None = None
        self.restored = 0
        self.stages: list[Stage] = []
        self.image: Any = None

    @property
    def written(self) -> PersistSeq:
        return self.writes[-1][0] if self.writes else PersistSeq(0)


class Cluster:
    """Nodes, links and time."""

    def __init__(
        self,
        nodes: Sequence[int],
        *,
        options: ViewstampedOptions | None = None,
        latency_us: int = MS,
        disk_us: int = 0,
        seed: int = 1,
    ) -> None:
        self.members = tuple(NodeId(node) for node in nodes)
        self.options = options or ViewstampedOptions()
        self.latency_us = latency_us
        self.disk_us = disk_us
        self.rng = Random(seed)
        self.now = Instant(0)
        self.hosts: dict[NodeId, Host] = {}
        self.oracle = ViewstampedOracle(self.members)
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.meddle: Callable[[NodeId, NodeId, Any], Sequence[int] | None] | None = None
        """Given a message, returns the delays in microseconds of its copies; None: as usual."""
        self.chosen: dict[int, Entry] = {}
        """Ghost: what was applied at each seqno, by the first node to apply one."""
        self.acknowledged: list[int] = []
        """Ghost: seqnos that a primary has applied: clients were told."""
        self.sent: list[tuple[NodeId, NodeId, Any]] = []
        self.sent_bytes = 0
        self.judges_commits = True
        """Whether members must hold what is applied first: not where a test forges their words."""
        self.wiped: list[NodeId] = []
        """Nodes whose disks were lost: what they held can no longer be looked up."""
        self.transcript: list[str] = []
        self.story = False
        self._events: list[tuple[int, int, NodeId, int, Event]] = []
        self._count = 0
        self._tokens = 0

    # Lives

    def start(self, *nodes: int, failpoints: Failpoints | None = None, **overrides: Any) -> None:
        """Start nodes, new ones or with what their disks hold. Overrides replace options."""
        for number in nodes:
            node = NodeId(number)
            host = self.hosts.setdefault(node, Host(node, self._incarnation(node)))
            assert host.core is None
            host.life += 1
            if host.image is None:
                host.image = self.oracle.make_image()
            self._tell(f"node {node} starts")
            self._boot(host, failpoints, overrides)

    def _boot(self, host: Host, failpoints: Failpoints | None, overrides: dict[str, Any]) -> None:
        snapshot = host.snapshot
        host.machine = msgspec.msgpack.decode(read_whole(snapshot), type=list[bytes]) if snapshot else []
        setup = CoreSetup(
            node=host.node,
            members=tuple(sorted({*self.members, host.node})),
            joining=host.joining,
            incarnation=host.incarnation,
            rng=Random(self.rng.getrandbits(32)),
            options=msgspec.structs.replace(self.options, **overrides),
            recovered=Recovered(
                tuple(write for write in host.writes if write[0] >= host.released_before),
                host.written,
                snapshot,
            ),
            now=self.now,
        )
        host.core = ViewstampedCore(setup, failpoints)
        self._arm(host)

    def join(self, *nodes: int) -> None:
        """Start nodes with empty disks that wait to be added."""
        for number in nodes:
            node = NodeId(number)
            host = self.hosts[node] = Host(node, self._incarnation(node))
            host.joining = True
            self.start(number)

    def crash(self, *nodes: int) -> None:
        """End nodes; what was not durable is lost."""
        for number in nodes:
            host = self.hosts[NodeId(number)]
            assert host.core is not None
            host.core = None
            host.life += 1
            host.pending = []
            host.staged = b""
            self.oracle.forget(host.node)
            self._tell(f"node {host.node} dies")

    def wipe(self, node: int) -> None:
        """Lose the disk of a node that does not run."""
        old = self.hosts[NodeId(node)]
        assert old.core is None
        host = Host(old.node, old.incarnation + 1)
        host.life = old.life
        self.wiped.append(old.node)
        self.hosts[old.node] = host
        self._tell(f"node {node} loses its disk")

    def _incarnation(self, node: NodeId) -> int:
        return 1000 * int(node) + 1

    # Links

    def isolate(self, *nodes: int) -> None:
        """Cut all links between these nodes and the others."""
        inside = {NodeId(node) for node in nodes}
        for here in inside:
            for there in {*self.hosts, *self.members} - inside:
                self.cut |= {(here, there), (there, here)}
        self._tell(f"nodes {', '.join(map(str, sorted(inside)))} are cut off")

    def heal(self) -> None:
        """Mend all links."""
        self.cut.clear()
        self._tell("the links are mended")

    # Time

    def run(self, duration_ms: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass, or as much of it as `until` needs; return whether `until` became true."""
        end = self.now + int(duration_ms * MS)
        while self._events and self._events[0][0] <= end:
            if until is not None and until():
                return True
            at, _, node, life, event = heapq.heappop(self._events)
            self.now = Instant(max(self.now, at))
            self._feed(node, life, event)
        self.now = Instant(max(self.now, end))
        return until is not None and until()

    def _feed(self, node: NodeId, life: int, event: Event) -> None:
        host = self.hosts[node]
        outlived = host.life != life and not isinstance(event, Received)
        if host.core is None or outlived:
            return
        if isinstance(event, Woke):
            deadline = host.core.deadline
            if deadline is None or deadline > self.now:
                return
        if isinstance(event, Persisted):
            self._harden(host, event.seq)
        if isinstance(event, Received) and (event.source, node) in self.cut:
            return
        self.step(node, event)

    def _harden(self, host: Host, seq: PersistSeq) -> None:
        while host.pending and host.pending[0].seq <= seq:
            persist = host.pending.pop(0)
            host.writes.append((persist.seq, persist.records))
            host.image.write(persist.seq, persist.records)

    def sync(self, node: int) -> None:
        """All that a node is writing becomes durable in one sync; nothing may run after this."""
        host = self.hosts[NodeId(node)]
        seq = host.pending[-1].seq
        self._harden(host, seq)
        self.step(node, Persisted(seq))

    def step(self, node: int, event: Event) -> None:
        """Feed one event and carry out what comes of it."""
        host = self.hosts[NodeId(node)]
        assert host.core is not None
        try:
            effects = host.core.step(event, self.now)
        except Died as died:
            self._tell(f"node {node} stops at {died}")
            self.crash(node)
            return
        self.oracle.check_node(host.core)
        self.oracle.check_step(host.node, host.core)
        for effect in effects:
            self._carry_out(host, effect)
        self._arm(host)

    def _arm(self, host: Host) -> None:
        assert host.core is not None
        deadline = host.core.deadline
        if deadline is not None:
            self._push(max(self.now, deadline), host, Woke())

    def _push(self, at: int, host: Host, event: Event) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, host.node, host.life, event))

    # Effects

    def _carry_out(self, host: Host, effect: Effect) -> None:
        match effect:
            case Send(to, message):
                self._send(host, to, message)
            case Persist():
                assert effect.seq == (host.pending[-1].seq if host.pending else host.written) + 1
                host.pending.append(effect)
                self._push(self.now + self.disk_us, host, Persisted(effect.seq))
            case Release(before):
                host.released_before = max(host.released_before, before)
            case Apply(entry):
                self._apply(host, entry)
            case Capture(token, viewstamp, header):
                body = msgspec.msgpack.encode(host.machine)
                snapshot = BytesSnapshot(viewstamp, header, body)
                self._keep_snapshot(host, snapshot)
                self._push(self.now, host, Captured(token, snapshot))
            case Stage():
                self._stage(host, effect)
            case Restore(snapshot):
                host.machine = msgspec.msgpack.decode(read_whole(snapshot), type=list[bytes])
                host.restored += 1
                assert len(host.machine) == snapshot.meta.viewstamp.seqno
            case Answer(token):
                host.answers[token] = len(host.machine)
            case Refuse(token):
                host.answers[token] = None
            case Settled(token, refusal):
                host.settled[token] = refusal
            case Removed(at):
                host.removed = at
            case LeaderChanged(view, leader):
                led = f"is led by {leader}" if leader is not None else "begins"
                self._tell(f"node {host.node}: view {view} {led}")

    def _send(self, host: Host, to: NodeId, message: Any) -> None:
        broken = self.oracle.broken_promise(host.node, message, host.image)
        assert broken is None, f"node {host.node} sends {describe(message)}: {broken}"
        line = describe(message)
        encoded = msgspec.msgpack.encode(message)
        self.sent.append((host.node, to, message))
        self.sent_bytes += len(encoded)
        if self.story and not line.startswith(_QUIET):
            self._tell(f"{host.node} -> {to}: {line}")
        delays = self.meddle(host.node, to, message) if self.meddle is not None else None
        target = self.hosts.get(to)
        if target is None or (host.node, to) in self.cut:
            return
        for delay in (self.latency_us,) if delays is None else delays:
            self._push(self.now + delay, target, Received(host.node, _MESSAGES.decode(encoded)))

    def _apply(self, host: Host, entry: Entry) -> None:
        seqno = entry.viewstamp.seqno
        assert seqno == len(host.machine) + 1, (host.node, entry.viewstamp, len(host.machine))
        if seqno not in self.chosen and self.judges_commits and not self.wiped:
            assert self.oracle.committed_by(entry.viewstamp, self.images()), f"I5: {entry.viewstamp}"
        chosen = self.chosen.setdefault(seqno, entry)
        assert chosen == entry, f"I4: node {host.node} applies {entry}, another {chosen}"
        host.machine.append(entry.data)
        if host.core is not None and host.core.role.primary is not None:
            self.acknowledged.append(seqno)

    def images(self) -> dict[NodeId, Any]:
        return {node: host.image for node, host in self.hosts.items() if host.image is not None}

    def _stage(self, host: Host, stage: Stage) -> None:
        assert stage.offset in (0, len(host.staged))
        host.stages.append(stage)
        host.staged = host.staged[: stage.offset] + stage.data
        if len(host.staged) < stage.meta.size_bytes:
            return
        snapshot: Snapshot | None = BytesSnapshot(stage.meta.viewstamp, stage.meta.header, host.staged)
        assert snapshot is not None
        if snapshot.meta != stage.meta or host.unwritable:
            host.unwritable = max(0, host.unwritable - 1)
            snapshot = None
        else:
            self._keep_snapshot(host, snapshot)
        self._push(self.now, host, Staged(stage.token, snapshot))

    def _keep_snapshot(self, host: Host, snapshot: Snapshot) -> None:
        if host.snapshot is None or host.snapshot.meta.viewstamp < snapshot.meta.viewstamp:
            host.snapshot = snapshot
            host.image.snapshot(snapshot.meta)

    def _tell(self, line: str) -> None:
        if self.story and line not in self.transcript[-_REPEATS:]:
            self.transcript.append(line)

    # Looking, and asking for things

    def core(self, node: int) -> ViewstampedCore:
        core = self.hosts[NodeId(node)].core
        assert core is not None
        return core

    @property
    def running(self) -> list[NodeId]:
        return sorted(node for node, host in self.hosts.items() if host.core is not None)

    @property
    def primary(self) -> int | None:
        """The node that accepts commands now."""
        serving = [node for node in self.running if self.core(node).accepting]
        return max(serving, key=lambda node: self.core(node).view, default=None)

    def members_at(self, node: int) -> tuple[int, ...]:
        return tuple(self.core(node).status(self.now).members)

    def views_at(self, node: int) -> list[tuple[int, ...]]:
        """The whole history of views that a node knows."""
        return [tuple(int(each) for each in view.nodes) for view in self.core(node).views.history]

    def waiting_for(self, node: int) -> str:
        return self.core(node).status(self.now).waiting_for

    def form(self, *nodes: int, within_ms: float = 5_000) -> None:
        """Run until exactly these nodes are a view that serves, known to all of them."""

        def formed() -> bool:
            return self.primary in nodes and all(
                self.hosts[NodeId(node)].core is not None
                and set(self.members_at(node)) == set(nodes)
                and self.core(node).views.is_synchronised
                for node in nodes
            )

        if not self.run(within_ms, until=formed):
            raise AssertionError("; ".join(str(self.core(node).status(self.now)) for node in self.running))

    def propose(self, data: str, node: int | None = None) -> Viewstamp:
        """Propose at the serving primary; return where the entry stands."""
        at = node if node is not None else self.primary
        assert at is not None, "nobody serves"
        self.step(at, Proposed(data.encode()))
        return self.core(at).positions.log.last

    def write(self, *commands: str) -> None:
        """Propose commands and run until they are acknowledged."""
        for command in commands:
            assert self.run(2_000, until=lambda: self.primary is not None), "nobody serves"
            viewstamp = self.propose(command)
            done = viewstamp.seqno
            assert self.run(2_000, until=lambda seqno=done: seqno in self.acknowledged), f"{command} is lost"  # type: ignore[misc]

    def query(self, node: int) -> int:
        self._tokens += 1
        self.step(node, Queried(ReadToken(self._tokens)))
        return self._tokens

    def answer(self, node: int, token: int) -> int | str | None:
        return self.hosts[NodeId(node)].answers.get(token, "waiting")

    def commands(self, node: int) -> list[str]:
        """What a node's machine executed, without the protocol's own entries."""
        return [data.decode() for data in self.hosts[NodeId(node)].machine if data]

    def down(self, at: Iterable[int], peer: int) -> None:
        """Tell nodes that their connection to a peer broke."""
        for node in at:
            self.step(node, PeerDown(NodeId(peer)))


def cluster_of(*nodes: int, **settings: Any) -> Cluster:
    """Return a cluster of these nodes that is one synchronised view."""
    cluster = Cluster(nodes, **settings)
    cluster.start(*nodes)
    cluster.form(*nodes)
    return cluster
