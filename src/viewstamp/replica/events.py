"""The outer seam: what a driver (the runtime or the simulator) exchanges with a replica or a client.

A replica takes the events of `core.events` that come from the world, and two more that come from clients. It
hands out the effects of `core.effects` that only the world can carry out, and three more. A client has a core
of the same shape, so that retries, redirects and sessions run in the simulator as well.
"""

from collections.abc import Iterator
from typing import Any, Final, Literal, NewType, Self, TypeAlias

import msgspec

from viewstamp.core.effects import Persist, Release, Send, Stage
from viewstamp.core.errors import MOVE_AWAY
from viewstamp.core.events import (
    Captured,
    MoveMember,
    PeerDown,
    PeerUp,
    Persisted,
    Received,
    SnapshotToken,
    Staged,
    Woke,
)
from viewstamp.core.ids import ClientAddress, Instant, NodeId, Viewstamp
from viewstamp.core.messages import ClientMessage, ServerMessage
from viewstamp.core.principals import ANONYMOUS
from viewstamp.core.snapshots import NEWEST, Versions
from viewstamp.machine.access import Denial


class Requested(msgspec.Struct, frozen=True, gc=False):
    """A client's message arrived over the connection `source`; `encoded` is exactly what was decoded."""

    source: ClientAddress
    message: ClientMessage
    encoded: bytes
    principal: str = ANONYMOUS
    """On whose behalf, as this server has proved it (`core.principals`); never what the sender says."""


class ClientGone(msgspec.Struct, frozen=True, gc=False):
    """The connection of this client is closed; its address is never used again."""

    source: ClientAddress


Kind = Literal["results", "state"]
"""What a digest is of."""


class DigestVote(msgspec.Struct, frozen=True, array_like=True, tag=100, gc=False):
    """What one member says to another of its digest at one position. A message beside the protocol's own."""

    kind: Kind
    seqno: int
    digest: int
    sure: bool
    """Whether the sender does not doubt."""
    asks: bool
    """Whether it wants to know the digest of the receiver at this position."""
    schema: int
    """Of the sender's class: states of two schemas are not compared."""


class Voted(msgspec.Struct, frozen=True, gc=False):
    """A `DigestVote` arrived from another member."""

    source: NodeId
    vote: DigestVote


class DiskReport(msgspec.Struct, frozen=True, array_like=True, tag=101, gc=False):
    """What one member says to another of its disk. A message beside the protocol's own, never trusted far."""

    asks: bool
    """Whether the sender wants to know how the receiver's disk is."""
    answers: bool
    """Whether the sender's disk answers now."""
    fit: bool
    """Whether the sender could lead as far as its disk is concerned."""
    sync_us: int
    """How long its last write took until it was durable."""


class DiskReported(msgspec.Struct, frozen=True, gc=False):
    """A `DiskReport` arrived from another member."""

    source: NodeId
    report: DiskReport


class Announced(msgspec.Struct, frozen=True, gc=False):
    """Another member said in its hello what its code can do. Not trusted: who says too much waits later."""

    peer: NodeId
    level: int
    """The highest level that it knows."""
    machine: int
    """The version of its class."""
    interface: int
    """Digest of what its class defines (`machine.interface`); 0: not known."""


class StateHashed(msgspec.Struct, frozen=True, gc=False):
    """A digest of the state was made beside the work (`divergence.StateHasher`); None: it failed."""

    seqno: int
    digest: int | None


class SpaceChanged(msgspec.Struct, frozen=True, gc=False):
    """The disk of this node is nearly full, or has room again."""

    is_low: bool


CoreEvent: TypeAlias = Received | Woke | Persisted | Captured | Staged | PeerUp | PeerDown
OwnEvent: TypeAlias = StateHashed | Voted | DiskReported | SpaceChanged
"""What is the replica's own business: no core and no client hears of it."""
ReplicaEvent: TypeAlias = CoreEvent | Requested | ClientGone | OwnEvent


def is_of_client(event: ReplicaEvent) -> bool:
    """Return whether this came over a client's connection."""
    return type(event) is Requested or type(event) is ClientGone


class Respond(msgspec.Struct, frozen=True, gc=False):
    """Send a message to a client, if its connection is still up."""

    to: ClientAddress
    message: ServerMessage


class Save(msgspec.Struct, frozen=True):
    """Make a durable snapshot out of these parts, then answer `Captured(token)`.

    The parts must be drained before the next event is fed to the replica, or in a forked copy of the process:
    they are a view of the machine as it is now.
    """

    token: SnapshotToken
    viewstamp: Viewstamp
    header: bytes
    parts: Iterator[bytes]
    versions: Versions = NEWEST
    """What is in force in the state that is saved."""


ADVICE: Final = f"if the others run another class, start it again with theirs; else, {MOVE_AWAY}"
"""What to do with a replica whose state differs. Its log is intact; the state computed from it is not."""


class Halt(msgspec.Struct, frozen=True, gc=False):
    """This replica must stop serving permanently. Tell the operator the reason."""

    reason: str
    cause: Literal["diverged", "not executable", "removed"] = "diverged"
    """Its state differs from the leader's; it cannot execute a committed entry; it is no longer a member."""

    @classmethod
    def diverged(cls, node: NodeId, reason: str) -> Self:
        """Return the end of a replica whose state is not, or cannot be, that of the others."""
        return cls(f"node {node} has stopped: {reason}; {ADVICE}")

    @classmethod
    def removed(cls, node: NodeId, at: Viewstamp) -> Self:
        """Return the end of a replica that was removed from its cluster by the entry at `at`."""
        return cls(
            f"node {node} was removed from the cluster at {at}: this data directory will never serve again; "
            "to add the node again, start it with an empty one",
            cause="removed",
        )

    @classmethod
    def not_executable(cls, node: NodeId, viewstamp: Viewstamp, why: str | Exception) -> Self:
        """Return the end of a replica that cannot execute a committed entry, or did not come to its end."""
        reason = why if isinstance(why, str) else f"{type(why).__name__}: {why}"
        return cls(
            f"node {node} cannot execute the committed entry {viewstamp}: {reason}. No data is lost: the "
            "entry stays in the log of the members. Move no data directory away. If another version or class "
            "wrote the entry, start this node again with it; else look at the entry with "
            f"`viewstamp journal show DIR --at {viewstamp}`, and if no member can execute it, stop all of "
            f"them and give it up with `viewstamp journal skip DIR... --at {viewstamp}`",
            cause="not executable",
        )


class Notice(msgspec.Struct, frozen=True, gc=False):
    """Tell the operator this line. The replica goes on."""

    text: str
    about: Literal["difference", "versions"] = "difference"
    """A member differs or was in doubt; or what is in force has changed, or is too new for this node."""


class Denied(msgspec.Struct, frozen=True, gc=False):
    """A client asked for what it may not: for the log, at a bounded rate, and to be counted."""

    count: int
    """Calls of one message, or 1 for a request for a session."""
    text: str
    """Of the last of them, one line."""


class Moved(msgspec.Struct, frozen=True, gc=False):
    """An operator says where a member is found: the driver's business, and nobody else's."""

    move: MoveMember


RareReplicaEffect: TypeAlias = Moved | Release | Stage | Save | Halt | Notice | Denied
"""What few steps ask for: a driver looks at the other three first."""

ReplicaEffect: TypeAlias = Send | Persist | Respond | RareReplicaEffect


CallId = NewType("CallId", int)
"""Drawn by the caller of a client core; every call ends in one `Complete` or `CompleteAll` with its id."""


class Invoked(msgspec.Struct, frozen=True, gc=False):
    """The application makes a call."""

    call: CallId
    kind: Literal["command", "linearizable", "stale"]
    payload: bytes
    """The encoded [method, argument, ...]."""
    deadline: Instant
    """The call ends at this moment at the latest."""


class Operated(msgspec.Struct, frozen=True, gc=False):
    """An operator asks one certain node for its status (directive None), or to carry out a directive.

    Or for a part of its log: the directive is a `messages.ReadPosition`, `ReadSnapshot` or `ReadLog`.
    """

    call: CallId
    node: NodeId
    directive: Any
    deadline: Instant


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """The application stopped waiting for this call. No `Complete` follows; what was sent stays sent."""

    call: CallId


class Closed(msgspec.Struct, frozen=True, gc=False):
    """The application is done: every open call ends now, and so does the session."""


ClientEvent: TypeAlias = Invoked | Operated | Cancelled | Closed | Received | PeerUp | PeerDown | Woke
"""`Received`, `PeerUp` and `PeerDown` name the server as their source or peer."""


class Returned(msgspec.Struct, frozen=True, gc=False):
    """The call's result, encoded; `position` as in `messages.Results`."""

    payload: bytes
    position: int


class Raised(msgspec.Struct, frozen=True, gc=False):
    """The machine raised."""

    kind: str
    explanation: str


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The call ended without a result. The reason is one line and names the nodes that did not answer."""

    outcome: Literal["not_executed", "invalid", "denied", "session_expired", "unknown"]
    reason: str
    unreachable: tuple[NodeId, ...] = ()
    """Members without a connection when the call ended."""
    silent: tuple[NodeId, ...] = ()
    """Members that were asked over a connection and did not answer."""
    denial: Denial | None = None
    """Where the outcome is `denied`: what is missing."""
    overloaded: str = ""
    """Where the service takes no such command for now: what is nearly used up."""


Outcome: TypeAlias = Returned | Raised | Failed


class Complete(msgspec.Struct, frozen=True, gc=False):
    """A call ended. For `Operated` the outcome is `Returned` with the encoded reply message."""

    call: CallId
    outcome: Outcome

    def each(self) -> "Iterator[Complete]":
        """Yield this one, as `CompleteAll.each` yields each of its own."""
        yield self


class CompleteAll(msgspec.Struct, frozen=True, gc=False):
    """These calls ended in their results, which came in one message."""

    results: list[tuple[CallId, msgspec.Raw]]
    """(call, encoded result)."""
    position: int
    """As in `messages.Results`."""

    def each(self) -> Iterator[Complete]:
        """Yield the same, call by call."""
        for call, payload in self.results:
            yield Complete(call, Returned(bytes(payload), self.position))


class Deliver(msgspec.Struct, frozen=True, gc=False):
    """A one-way message of the machine for this client's application, encoded."""

    payload: bytes


ClientEffect: TypeAlias = Send | Complete | CompleteAll | Deliver
