"""Which numbers a message may hold at all.

What the parts here ask of the node they belong to. Each protocol's `State` is one.

What an operator may set about a log and its transport: a part of each protocol's options.
"""

from typing import Final, Protocol

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import Incarnation, Instant, NodeId, PersistSeq, Viewstamp
from viewstamp.core.outbox import Outbox
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
    """A leader with so many entries that are not committed yet is not `accepting`."""
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
"""No view, seqno, round or size is larger in any life of a cluster; larger ones are refused unread."""


def in_range(*numbers: int) -> bool:
    """Tell whether all of these could be a view, a seqno, an offset or a round."""
    return min(numbers) >= 0 and max(numbers) <= NUMBER_MAX


class NodeState(Protocol):
    """One node's positions, its log and its outbox, and the protocol's own part in moving the log's base."""

    node: NodeId
    incarnation: Incarnation
    peers: frozenset[NodeId]
    now: Instant
    log: Log
    outbox: Outbox
    committed: int
    applied: int
    snapshot: Snapshot | None
    non_entry_bytes: int
    """Bytes of the live records that are not entries."""
    leader: NodeId | None
    bootstrapped: bool

    @property
    def options(self) -> ReplicationOptions:
        """The protocol's options."""
        ...

    @property
    def follows(self) -> bool:
        """Whether this node takes what a leader sends: it neither leads nor is a candidate."""
        ...

    @property
    def snapshot_seqno(self) -> int:
        """Position of the newest durable snapshot, 0 where there is none."""
        ...

    def snapshot_header(self) -> bytes:
        """Return what a snapshot of what is applied now must hold beside the machine's state."""
        ...

    def is_header(self, header: bytes) -> bool:
        """Tell whether a snapshot that arrives could have this header."""
        ...

    def move_base(self, base: Viewstamp) -> PersistSeq:
        """Write that the log begins after `base`, which it holds. The log itself is the caller's to move."""
        ...

    def install(self, meta: SnapshotMeta, *, kept: int) -> PersistSeq:
        """Write that the log begins after this snapshot, and that its entries after `kept` are gone."""
        ...

    def drop(self, reason: str) -> None:
        """Count a message, or a part of one, that is ignored."""
        ...
