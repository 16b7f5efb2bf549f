"""What a protocol core can be told. One event at a time, in the order it happened.

The driver's whole contract (docs/design/seam.md) is four rules:

1. feed events one at a time;
2. carry out the effects of a step now, every `Persist` in order;
3. after the sync feed `Persisted`;
4. feed `Woke` when `now >= deadline`.

`Captured` and `Staged` are to snapshots what `Persisted` is to the journal: what was asked for is durable.
"""

from typing import Annotated, Any, Final, NewType, TypeAlias

import msgspec

from viewstamp.core.ids import Incarnation, NodeId, PersistSeq
from viewstamp.core.snapshots import Snapshot

SnapshotToken = NewType("SnapshotToken", int)
ReadToken = NewType("ReadToken", int)
DirectiveToken = NewType("DirectiveToken", int)


class Received(msgspec.Struct, frozen=True, gc=False):
    """A message of this protocol arrived from another member. Its fields are typed, not trusted."""

    source: NodeId
    message: Any


class Woke(msgspec.Struct, frozen=True, gc=False):
    """The published deadline has passed."""


class Persisted(msgspec.Struct, frozen=True, gc=False):
    """Every `Persist` up to and including `seq` is durable."""

    seq: PersistSeq


class Captured(msgspec.Struct, frozen=True, gc=False):
    """The snapshot asked for by `Capture(token)` is durable, or could not be made (`None`: ask later)."""

    token: SnapshotToken
    snapshot: Snapshot | None
    reason: str = ""
    """Why none was made on purpose, in one line; empty: it could not be written."""


class Staged(msgspec.Struct, frozen=True, gc=False):
    """The last `Stage` of this token arrived: the snapshot is durable, or its digest was wrong (`None`)."""

    token: SnapshotToken
    snapshot: Snapshot | None


class Proposed(msgspec.Struct, frozen=True, gc=False):
    """Order this entry. Only fed to a core whose `accepting` is true; the data is opaque to it."""

    data: bytes


class Queried(msgspec.Struct, frozen=True, gc=False):
    """A read arrived: emit `Answer(token)` when it may be answered from the applied state."""

    token: ReadToken


class PeerUp(msgspec.Struct, frozen=True, gc=False):
    """A connection to or from this member is up. A hint: protocols must be safe without it."""

    peer: NodeId


class PeerDown(msgspec.Struct, frozen=True, gc=False):
    """The connection to this member broke or was refused. A hint, except where a protocol says otherwise."""

    peer: NodeId


class TransferLeadership(msgspec.Struct, frozen=True, tag="transfer", array_like=True):
    """Let `to` lead, or any fit member where `to` is None."""

    to: NodeId | None = None


class TakeSnapshot(msgspec.Struct, frozen=True, tag="snapshot", array_like=True):
    """Take a snapshot now and release the log before it."""


CHANGES_MAX: Final = 64
"""Members that one change may name."""
_Nodes: TypeAlias = Annotated[tuple[NodeId, ...], msgspec.Meta(max_length=CHANGES_MAX)]
_Members: TypeAlias = Annotated[tuple[tuple[NodeId, Incarnation], ...], msgspec.Meta(max_length=CHANGES_MAX)]
_Pairs: TypeAlias = Annotated[tuple[tuple[NodeId, NodeId], ...], msgspec.Meta(max_length=CHANGES_MAX)]


class ChangeMembers(msgspec.Struct, frozen=True, tag="members", array_like=True):
    """Change the members: all that is said here, or nothing. What holds already is left as it is."""

    add: _Members = ()
    """Nodes that begin to learn, each by the incarnation of its data directory."""
    promote: _Nodes = ()
    """Learners, or nodes of `add`, that become voters as soon as they have caught up."""
    remove: _Nodes = ()
    replace: _Pairs = ()
    """(old, new): as soon as all of the new ones have caught up, they vote and the old ones are removed."""


class MoveMember(msgspec.Struct, frozen=True, tag="move", array_like=True):
    """Look for a member at this address from now on: it changes address books, and not the log."""

    node: NodeId
    host: str
    port: int


MEMBERS_FIXED: Final = (
    "nothing was done: with this protocol and this cluster file the members do not change while they run"
)
"""The refusal of `ChangeMembers` by a protocol that cannot."""


class Finalize(msgspec.Struct, frozen=True, tag="finalize", array_like=True):
    """Raise what is in force to what every member can do: the level, and the version of the class."""

    level: int | None = None
    """The level to raise to; None: the highest that this node knows."""


Directive: TypeAlias = TransferLeadership | TakeSnapshot | ChangeMembers
"""What a protocol core carries out."""


class SetLimit(msgspec.Struct, frozen=True, tag="set", array_like=True):
    """Change a limit of sessions on all replicas, at one place of the log."""

    name: str
    """A field of `replica.options.SessionLimits`."""
    value: int


class HashState(msgspec.Struct, frozen=True, tag="hash", array_like=True):
    """Hash the state as it is now; the digest stands in the node's status when it is made."""


OperatorRequest: TypeAlias = Directive | MoveMember | Finalize | SetLimit | HashState
"""All that an operator may ask of one node."""


class Directed(msgspec.Struct, frozen=True, gc=False):
    """An operator gives this node a directive; answered by `Settled(token)`."""

    token: DirectiveToken
    directive: Directive


Event: TypeAlias = (
    Received | Woke | Persisted | Captured | Staged | Proposed | Queried | PeerUp | PeerDown | Directed
)
