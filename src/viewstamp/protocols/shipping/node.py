"""What the parts here ask of the node they belong to. Each protocol's `State` is one."""

from typing import Protocol

from viewstamp.core.ids import Incarnation, Instant, NodeId, PersistSeq, Viewstamp
from viewstamp.core.outbox import Outbox
from viewstamp.core.snapshots import Snapshot, SnapshotMeta
from viewstamp.protocols.shipping.log import Log
from viewstamp.protocols.shipping.options import ShippingOptions


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
    overhead_bytes: int
    """Bytes of the live records that are not entries."""
    leader: NodeId | None
    founded: bool

    @property
    def options(self) -> ShippingOptions:
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
