"""The variables of one server of the course's form, and its own account of itself.

Ordering, which `oracle.py` checks: applied_index <= committed_index <= last_index.
"""

from collections import Counter

from viewstamp.core.ids import Instant, NodeId, View
from viewstamp.core.outbox import Outbox
from viewstamp.core.protocol import CoreSetup, Status
from viewstamp.protocols.primary_backup.course.peers import Adoption, Peer, Standing
from viewstamp.protocols.primary_backup.journal import Replay
from viewstamp.protocols.primary_backup.options import CourseOptions
from viewstamp.protocols.replication.log import Log


class CourseState:
    """`last_index`, `committed_index`, `primary_id` and `factory_id` are the assignment's (2.2)."""

    __slots__ = (
        "_adoption",
        "_attempts",
        "_members",
        "_now",
        "_options",
        "_outbox",
        "_pending",
        "applied_index",
        "committed_index",
        "counters",
        "factory_id",
        "in_flight",
        "log",
        "peers",
        "primary_id",
        "takeover",
        "taking_over",
    )

    def __init__(self, setup: CoreSetup) -> None:
        """Begin with the log on disk, if there is one. A primary will tell what of it is committed.

        Raises:
            JournalCorrupt: the journal is not one of this protocol's.
        """
        assert isinstance(setup.options, CourseOptions), setup.options
        self._options = setup.options
        self._members = setup.members
        self._outbox = Outbox(setup.recovered.written)
        self._now = setup.now
        self.factory_id = setup.node
        self.primary_id: NodeId | None = None
        """The primary, as far as this server knows; None stands for the assignment's -1."""
        on_disk = Replay()
        for seq, records in setup.recovered.writes:
            on_disk.write(seq, records)
        self.log: Log = on_disk.log
        self.log.persisted(setup.recovered.written)
        self.takeover = max(on_disk.epoch, self.log.last_view)
        """The highest takeover heard of."""
        self.committed_index = 0
        """Everything up to here is committed."""
        self.applied_index = 0
        """Everything up to here is applied; behind `committed_index` only within a long catching up."""
        self._pending: bytes | None = None
        """A proposal that waits for the takeover, or for its turn; at most one."""
        self.in_flight = 0
        """The index that is being replicated; 0: none."""
        self.taking_over = False
        """The own log from before this takeover is not committed yet."""
        self._attempts = 0
        """Takeovers begun for the present proposal: bounded, as two servers might refuse each other."""
        self._adoption: Adoption | None = None
        """The newer log of another server that is being copied; only within a takeover."""
        self.peers = {node: Peer(node) for node in setup.members if node != setup.node}
        """In ascending order: the sequence in which backups are sent to."""
        self.counters: Counter[str] = Counter()
        """What was dropped and why, for the operator: nothing depends on it."""

    @property
    def last_index(self) -> int:
        """Index of the last entry in the log; 0: it is empty."""
        return self.log.last_seqno

    @property
    def is_primary(self) -> bool:
        """Whether this server is primary by its own account."""
        return self.primary_id == self.factory_id

    @property
    def live(self) -> tuple[NodeId, ...]:
        """The backups that count as live, in ascending order; empty unless this server is primary."""
        return tuple(node for node, peer in self.peers.items() if peer.standing is Standing.LIVE)

    @property
    def leader(self) -> NodeId | None:
        """The primary."""
        return self.primary_id

    @property
    def view(self) -> View:
        """The highest takeover heard of."""
        return View(self.takeover)

    def log_entries(self) -> list[bytes]:
        """Return the data of the whole log, from index 1 to `last_index`."""
        return [self.log.entry(index).data for index in range(1, self.last_index + 1)]

    def drop(self, reason: str) -> None:
        """Count a message that is ignored."""
        self.counters[reason] += 1

    def status(self, now: Instant) -> Status:  # noqa: ARG002  as `core.protocol.Core`
        """Return this server's own account of itself."""
        role = "primary" if self.is_primary else "idle" if self.primary_id is None else "backup"
        awaited = [node for node, peer in self.peers.items() if peer.is_awaited] if self.is_primary else []
        names = ", ".join(map(str, awaited))
        return Status(
            node=self.factory_id,
            role=role,
            view=self.view,
            leader=self.primary_id,
            last=self.log.last,
            committed=self.committed_index,
            applied=self.applied_index,
            snapshot=0,
            log_bytes=self.log.size_bytes,
            members=self._members,
            peers=tuple(peer.status() for peer in self.peers.values()) if self.is_primary else (),
            waiting_for=f"bringing server {names} up to date before the next write" if awaited else "",
            dropped=tuple(sorted(self.counters.items())),
        )
