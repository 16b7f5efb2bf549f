"""The state of a node with a log, in any protocol: positions, options of log and transport, number ranges.

Orderings, which `judge/invariants.py` checks: base <= snapshot <= applied <= committed <= last, and
durable <= last.
"""

from abc import ABC, abstractmethod
from collections import Counter
from typing import Any, Final, Protocol

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import Instant, NodeId, PersistSeq, Viewstamp
from viewstamp.core.outbox import Outbox
from viewstamp.core.protocol import CoreSetup
from viewstamp.core.snapshots import Snapshot, SnapshotMeta
from viewstamp.protocols.replication.log import Log

_KIBIBYTE: Final = 1024
_MEBIBYTE: Final = 1024 * _KIBIBYTE


class ReplicationOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Equal at every member. A protocol's options add its own to these, and check them all when made."""

    log_bytes_max: int | None = 64 * _MEBIBYTE
    """Compaction starts at half of it, so that the log stays within (6.5840: maxraftstate). None: never."""
    message_entries_max: int = 256
    message_bytes_max: int = _MEBIBYTE
    """Of entries in one message; a larger entry travels alone."""
    inflight_messages_max: int = 64
    """Unanswered messages with entries under way to one follower."""
    inflight_bytes_max: int = 8 * _MEBIBYTE
    uncommitted_entries_max: int = 256
    """A leader with this number of entries that are not committed yet is not `accepting`."""
    uncommitted_bytes_max: int = 16 * _MEBIBYTE
    snapshot_chunk_bytes: int = 64 * _KIBIBYTE
    snapshot_window_chunks: int = 4
    """Unanswered chunks under way to one follower; heartbeats and entries pass between them."""
    reads_max: int = 65_536
    """Reads waiting at one node; more are refused."""
    applies_per_step_max: int = 1_024
    """Entries applied in one step, so that a long log does not hold up heartbeats."""
    apply_bytes_per_step_max: int = 64 * _KIBIBYTE
    """Bytes of them, unless a single one is larger: about 10 ms of small commands."""


def check_positive(options: msgspec.Struct, protocol: str) -> None:
    """Check that every number among a protocol's options is at least 1.

    Raises:
        ConfigurationError: one is not.
    """
    for name in options.__struct_fields__:
        value = getattr(options, name)
        if isinstance(value, int) and value < 1:
            raise ConfigurationError(f"{protocol} option {name} is {value}: it must be at least 1")


NUMBER_MAX: Final = 1 << 53
"""No view, seqno, round or size is larger as long as a cluster exists; larger ones are refused unread."""


def in_range(*numbers: int) -> bool:
    """Return whether all of these could be a view, a seqno, an offset or a round."""
    return min(numbers) >= 0 and max(numbers) <= NUMBER_MAX


LEAP_MAX: Final = 1 << 20
"""How far the view in one message may be beyond the receiver's: at an election each second, 12 days."""
POSITION_LEAP_MAX: Final = 1 << 40
"""How far a snapshot may be beyond the end of a log: at a million entries a second, 12 days."""


def leaps(number: int, own: int, most: int = LEAP_MAX) -> bool:
    """Return whether a number in a message is so far beyond one's own that no member reached it.

    A single message near `NUMBER_MAX`, even from a member, would leave the others no higher number. A node
    that has nothing of its own (0) takes what the others have come to.
    """
    return number > own + most and own > 0


NEVER: Final = Instant(1 << 62)
"""A deadline that does not come."""


class LogState(Protocol):
    """A node's log with its positions, and the protocol's own part in moving the log's base.

    All that applying, compaction and read rounds need, so that a protocol without raft's roles can use them.
    """

    log: Log
    outbox: Outbox
    committed: int
    applied: int
    snapshot: Snapshot | None
    non_entry_bytes: int
    """Bytes of the live records that are not entries."""
    bootstrapped: bool

    @property
    def now(self) -> Instant:
        """The moment of the step that runs."""
        ...

    @property
    def options(self) -> ReplicationOptions:
        """The protocol's options."""
        ...

    @property
    def snapshot_seqno(self) -> int:
        """Position of the newest durable snapshot, 0 where there is none."""
        ...

    def snapshot_header(self) -> bytes:
        """Return what a snapshot of what is applied now must hold beside the machine's state."""
        ...

    def move_base(self, base: Viewstamp) -> PersistSeq:
        """Write that the log begins after `base`, which it holds. The log itself is the caller's to move."""
        ...

    def drop(self, reason: str) -> None:
        """Count a message, or a part of one, that is ignored."""
        ...


class NodeState(ABC):
    """The part of a node that is the same in each protocol with a log. A protocol's `State` adds its own.

    A *view* is the term in Raft and the epoch in primary-backup; each has at most one leader.
    """

    __slots__ = (
        "applied",
        "bootstrapped",
        "committed",
        "counters",
        "heard_leader_at",
        "incarnation",
        "leader",
        "leader_silence_us",
        "log",
        "members",
        "node",
        "non_entry_bytes",
        "now",
        "options",
        "outbox",
        "peers",
        "promise_write",
        "rng",
        "snapshot",
        "suspected",
    )

    def __init__(
        self, setup: CoreSetup, options: ReplicationOptions, outbox: Outbox, *, leader_silence_us: int
    ) -> None:
        self.node = setup.node
        self.members = setup.members
        """The configured members, this node among them, in ascending order."""
        self.peers = frozenset(setup.members) - {setup.node}
        self.incarnation = setup.incarnation
        self.options = options
        self.rng = setup.rng
        self.outbox = outbox
        self.now = setup.now
        self.counters: Counter[str] = Counter()
        """Messages dropped, by reason, for the operator: nothing depends on it."""
        self.log = Log()
        self.bootstrapped = False
        """Whether this node has a log. Never goes back."""
        self.promise_write = PersistSeq(0)
        """The journal write of the newest promise: the view, and the node that may lead it."""
        self.leader: NodeId | None = None
        """The leader of the view, if known."""
        self.leader_silence_us = leader_silence_us
        """A leader silent for this long no longer has a claim not to be disturbed."""
        self.heard_leader_at = setup.now
        """When the leader was last heard."""
        self.suspected = False
        """The connection to the leader broke since it was last heard."""
        self.committed = 0
        self.applied = 0
        self.snapshot: Snapshot | None = None
        """The newest durable snapshot."""
        self.non_entry_bytes = 0
        """Bytes of the live records that are not entries."""

    @property
    def snapshot_seqno(self) -> int:
        """Position of the newest durable snapshot, 0 where there is none."""
        return self.snapshot.meta.viewstamp.seqno if self.snapshot else 0

    @property
    def has_live_leader(self) -> bool:
        """Whether a leader has a claim not to be disturbed: it was heard within `leader_silence_us`."""
        return (
            self.leader is not None
            and not self.suspected
            and (self.leader == self.node or self.now - self.heard_leader_at < self.leader_silence_us)
        )

    def reply(self, to: NodeId, message: Any) -> None:
        """Send a message that promises nothing but the view, as soon as that promise is on disk.

        It does not wait for entries that are being written: a slow disk must not look like a dead node.
        """
        if self.promise_write <= self.outbox.durable:
            self.outbox.send_early(to, message)  # the view is durable, and nothing else is promised
        else:
            self.outbox.send(to, message)

    def drop(self, reason: str) -> None:
        """Count a message, or a part of one, that is ignored."""
        self.counters[reason] += 1

    # The protocol's own part.

    @property
    @abstractmethod
    def follows(self) -> bool:
        """Whether this node accepts what a leader sends: it neither leads nor is a candidate."""

    @abstractmethod
    def snapshot_header(self) -> bytes:
        """Return what a snapshot of what is applied now must hold beside the machine's state."""

    @abstractmethod
    def is_header(self, header: bytes) -> bool:
        """Return whether a snapshot that arrives could have this header."""

    @abstractmethod
    def move_base(self, base: Viewstamp) -> PersistSeq:
        """Write that the log begins after `base`, which it holds. The log itself is the caller's to move."""

    @abstractmethod
    def install(self, meta: SnapshotMeta, *, kept: int) -> PersistSeq:
        """Write that the log begins after this snapshot, and that its entries after `kept` are gone."""
