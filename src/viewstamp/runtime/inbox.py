"""What the port of a server and its driver need of each other."""

from collections.abc import Sized
from typing import Protocol

from viewstamp.core.ids import ClientAddress, NodeId
from viewstamp.replica.events import Announced


class Inbox(Protocol):
    """What the transport tells the driver. `ProtocolViolation` closes the connection of the frame."""

    def peer_frame(self, source: NodeId, payload: bytes) -> None:
        """A message of the protocol arrived."""
        ...

    def has_time(self) -> bool:
        """Return whether a client's message may come in this turn: its time for clients is not used up."""
        ...

    def client_frame(self, source: ClientAddress, payload: bytes, principal: str) -> None:
        """A client's message arrived, over a connection that belongs to this principal."""
        ...

    def work_waits(self) -> None:
        """Messages of clients wait: let there be a turn, in which `serve_waiting` is called."""
        ...

    def peer_changed(self, peer: NodeId, is_up: bool) -> None:  # noqa: FBT001  the second word of an event
        """This node's connection to a member is up, went down, or could not be opened."""
        ...

    def peer_announced(self, said: Announced) -> None:
        """A member has opened a connection, and said in its hello what its code can do."""
        ...

    def client_gone(self, source: ClientAddress) -> None:
        """The client's connection is closed. Its address is never used again."""
        ...


class Outlet(Protocol):
    """What a driver needs of a `transport.Transport`."""

    @property
    def dirty(self) -> Sized:
        """What `flush` would write to; empty where there is nothing to write."""
        ...

    def send(self, to: NodeId, payload: bytes) -> None:
        """Send to a member, or lose it."""
        ...

    def respond(self, to: ClientAddress, payload: bytes) -> None:
        """Send to a client, if it is still there."""
        ...

    def flush(self) -> None:
        """Write everything sent so far."""
        ...

    def move(self, node: NodeId, address: tuple[str, int]) -> None:
        """An operator says where a node is found."""
        ...

    @property
    def waiting(self) -> Sized:
        """What `serve_waiting` would pass on."""
        ...

    def serve_waiting(self) -> bool:
        """Pass on messages of clients that were kept, while there is time; return whether some remain."""
        ...
