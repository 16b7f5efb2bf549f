"""What a node of the harness consists of besides its core: a disk, and a machine that only remembers."""

from collections import deque

from viewstamp.core.effects import Capture, Entry
from viewstamp.core.events import DirectiveToken, Event, ReadToken
from viewstamp.core.ids import Incarnation, NodeId, PersistSeq
from viewstamp.core.protocol import Recovered
from viewstamp.core.snapshots import Snapshot
from viewstamp.protocols.raft import RaftCore
from viewstamp.protocols.raft.oracle import RaftImage
from viewstamp.protocols.raft.replay import Replay
from viewstamp.protocols.shipping.images import DiskImage

Writes = list[tuple[PersistSeq, tuple[bytes, ...]]]


class Disk:
    """One node's disk: what is written but not synced, and what a crash leaves."""

    def __init__(self) -> None:
        self.held = False
        """While true, writes stay unsynced."""
        self.pending: deque[tuple[PersistSeq, tuple[bytes, ...]]] = deque()
        self.writes: Writes = []
        self.written = PersistSeq(0)
        self.snapshot: Snapshot | None = None
        self.image: RaftImage = DiskImage(Replay())
        self.released = PersistSeq(0)

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
        image = DiskImage(Replay())
        for seq, records in self.writes:
            image.write(seq, records)
        if self.snapshot is not None:
            image.snapshot(self.snapshot.meta)
        self.image = image


class Node:
    """A core with its disk and a machine that only remembers."""

    def __init__(self, node: NodeId, incarnation: Incarnation) -> None:
        self.node = node
        self.incarnation = incarnation
        self.disk = Disk()
        self.core: RaftCore | None = None
        self.applied: list[Entry] = []
        """Entries since the beginning, as far as this life of the process knows them."""
        self.first = 0
        """Seqno of the state before `applied`."""
        self.machine = 0
        """The machine: a rolling hash over all entries."""
        self.answered: list[ReadToken] = []
        self.refused: list[ReadToken] = []
        self.settled: list[tuple[DirectiveToken, str | None]] = []
        self.led: list[tuple[int, NodeId | None]] = []
        self.captures: list[Capture] = []
        self.hold_captures = False
        self.staging = bytearray()
        self.follow_ups: deque[Event] = deque()
        """What the disk says, after everything of the step that asked for it was carried out."""
        self.commands: list[bytes] = []

    @property
    def running(self) -> RaftCore:
        """The core, which must be up."""
        assert self.core is not None, f"node {self.node} is down"
        return self.core
