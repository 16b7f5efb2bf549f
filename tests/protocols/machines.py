"""What a node of a scripted world consists of besides its core: a disk, and a machine that only remembers."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from viewstamp.core.effects import Capture, Effect, Entry
from viewstamp.core.events import Event, ReadToken
from viewstamp.core.ids import Incarnation, Instant, NodeId, PersistSeq, View, Viewstamp
from viewstamp.core.judge import DurableImage
from viewstamp.core.protocol import Recovered
from viewstamp.core.snapshots import Snapshot
from viewstamp.protocols.replication.node_state import NodeState

Writes = list[tuple[PersistSeq, tuple[bytes, ...]]]


class ScriptedCore(Protocol):
    """What a scripted world asks of a core: `core.protocol.Core`, and a look at its positions."""

    @property
    def state(self) -> NodeState: ...
    @property
    def deadline(self) -> Instant | None: ...
    @property
    def view(self) -> View: ...
    @property
    def accepting(self) -> bool: ...
    def step(self, event: Event, now: Instant) -> Sequence[Effect]: ...


CoreT = TypeVar("CoreT", bound=ScriptedCore)


class Disk:
    """One node's disk: what is written but not synced, and what a crash leaves."""

    def __init__(self, make_image: Callable[[], DurableImage]) -> None:
        self._make_image = make_image
        self.held = False
        """While true, writes stay unsynced."""
        self.pending: deque[tuple[PersistSeq, tuple[bytes, ...]]] = deque()
        self.writes: Writes = []
        self.written = PersistSeq(0)
        self.snapshot: Snapshot | None = None
        self.image = make_image()
        self.released = PersistSeq(0)

    def write(self, seq: PersistSeq, records: tuple[bytes, ...]) -> None:
        """Begin to write; durable after `sync`."""
        assert seq == self.written + len(self.pending) + 1, "the journal's numbers have no gap"
        self.pending.append((seq, records))

    def sync(self) -> PersistSeq | None:
        """Make everything durable; return the number of the last write, None where there was nothing."""
        if not self.pending:
            return None
        while self.pending:
            seq, records = self.pending.popleft()
            self.writes.append((seq, records))
            self.written = seq
            self.image.write(seq, records)
        return self.written

    def keep_snapshot(self, snapshot: Snapshot) -> None:
        """A snapshot is durable."""
        if self.snapshot is None or snapshot.meta.viewstamp.seqno > self.snapshot.meta.viewstamp.seqno:
            self.snapshot = snapshot
            self.image.snapshot(snapshot.meta)

    def release(self, before: PersistSeq) -> None:
        """Forget, and as late as the journal may: half of what could go stays."""
        assert before <= self.written + 1 + len(self.pending)
        self.released = before
        old = [index for index, (seq, _) in enumerate(self.writes) if seq < before]
        del self.writes[: len(old) // 2]

    def recovered(self) -> Recovered:
        """What a restart finds."""
        return Recovered(writes=list(self.writes), written=self.written, snapshot=self.snapshot)

    def crash(self) -> None:
        """What was not synced is gone."""
        self.pending.clear()
        image = self._make_image()
        for seq, records in self.writes:
            image.write(seq, records)
        if self.snapshot is not None:
            image.snapshot(self.snapshot.meta)
        self.image = image


class Node(Generic[CoreT]):
    """A core with its disk and a machine that only remembers."""

    def __init__(self, node: NodeId, incarnation: Incarnation, disk: Disk) -> None:
        self.node = node
        self.incarnation = incarnation
        self.disk = disk
        self.core: CoreT | None = None
        self.applied: list[Entry] = []
        """Entries since the beginning, as far as this life of the process knows them."""
        self.first = 0
        """Seqno of the state before `applied`."""
        self.machine = 0
        """The machine: a rolling hash over all entries."""
        self.answered: list[ReadToken] = []
        self.refused: list[ReadToken] = []
        self.settled: dict[int, str | None] = {}
        """The outcome of each directive: a refusal, or None where it was done."""
        self.removed: Viewstamp | None = None
        """The entry that removed it."""
        self.led: list[tuple[int, NodeId | None]] = []
        self.captures: list[Capture] = []
        self.hold_captures = False
        self.staging = bytearray()
        self.follow_ups: deque[Event] = deque()
        """What the disk says, after everything of the step that asked for it was carried out."""
        self.commands: list[bytes] = []

    @property
    def running(self) -> CoreT:
        """The core, which must be up."""
        assert self.core is not None, f"node {self.node} is down"
        return self.core

    def forget(self) -> None:
        """The machine's memory is empty, as at the start of a process."""
        self.removed = None
        self.applied, self.commands, self.first, self.machine = [], [], 0, 0
