"""A server's account of itself, in the course's form."""

from typing import Final

from viewstamp.core.events import Directive, TakeSnapshot
from viewstamp.core.ids import Instant, NodeId, View
from viewstamp.core.protocol import Status
from viewstamp.protocols.primary_backup.course.peers import Peer, Standing
from viewstamp.protocols.replication.log import Log

NO_TRANSFER: Final = "the clients choose the primary of this protocol: it is the server that they write to"
NO_SNAPSHOT: Final = "the course's form keeps its whole log: there is nothing to take a snapshot for"


class CourseAccount:
    """What others look at in a server of the course's form. The state is `CourseCore`'s."""

    __slots__ = ()

    factory_id: NodeId
    primary_id: NodeId | None
    committed_index: int
    applied_index: int
    log: Log
    peers: dict[NodeId, Peer]
    _led: tuple[int, NodeId | None]
    _members: tuple[NodeId, ...]

    @property
    def last_index(self) -> int:
        """Index of the last entry in the log; 0: it is empty."""
        return self.log.last_seqno

    @property
    def live(self) -> tuple[NodeId, ...]:
        """The backups that count as live, in ascending order; empty unless this server is primary."""
        return tuple(node for node, peer in self.peers.items() if peer.standing is Standing.LIVE)

    def log_entries(self) -> list[bytes]:
        """Return the data of the whole log, from index 1 to `last_index`."""
        return [self.log.entry(index).data for index in range(1, self.last_index + 1)]

    @property
    def leader(self) -> NodeId | None:
        """The primary."""
        return self.primary_id

    @property
    def view(self) -> View:
        """The highest takeover heard of."""
        return View(self._led[0])

    @property
    def is_primary(self) -> bool:
        """Whether this server is primary by its own account."""
        return self.primary_id == self.factory_id

    def status(self, now: Instant) -> Status:  # noqa: ARG002  as `core.protocol.Core`
        """Return this server's own account of itself."""
        role = "primary" if self.is_primary else "idle" if self.primary_id is None else "backup"
        busy = [node for node, peer in self.peers.items() if peer.is_awaited] if self.is_primary else []
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
            waiting_for=f"bringing up {', '.join(map(str, busy))}" if busy else "",
        )


def refusal_of(directive: Directive) -> str:
    """Return why an operator's wish cannot be carried out: there is nothing to wish for."""
    return NO_SNAPSHOT if isinstance(directive, TakeSnapshot) else NO_TRANSFER
