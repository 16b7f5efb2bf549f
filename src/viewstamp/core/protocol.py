"""The interface of a protocol core, and what a protocol module must offer to be usable everywhere.

Raft, viewstamped replication and primary-backup are each one class that satisfies `Core`. Runtime, simulator,
sessions and invariants know only this file.
"""

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any, Literal, Protocol

import msgspec

from viewstamp.core.effects import Effect
from viewstamp.core.events import Event
from viewstamp.core.ids import Incarnation, Instant, NodeId, PersistSeq, View, Viewstamp
from viewstamp.core.judge import Oracle
from viewstamp.core.snapshots import Snapshot


class Recovered(msgspec.Struct, frozen=True):
    """What a node finds on its own disk when it starts. All empty: it never ran, or its disk was wiped."""

    writes: Iterable[tuple[PersistSeq, tuple[bytes, ...]]] = ()
    """The journal's atomic writes in order. It may begin with some that had been released (see `Release`)."""
    written: PersistSeq = PersistSeq(0)
    """Number of the last write, 0 where there is none."""
    snapshot: Snapshot | None = None
    """The newest valid snapshot."""


class CoreSetup(msgspec.Struct, frozen=True):
    """Everything that a core is given at birth."""

    node: NodeId
    members: tuple[NodeId, ...]
    """The cluster's configured members, this node among them, in ascending order, each once."""
    incarnation: Incarnation
    rng: Random
    options: Any
    """The protocol's own options, of the type named by its `ProtocolDefinition.options_type`."""
    recovered: Recovered
    now: Instant
    joining: bool = False
    """A node that no configuration lists yet: it waits to be added, and never bootstraps a cluster."""


class PeerStatus(msgspec.Struct, frozen=True, array_like=True):
    """How far another member has come, as seen by the one that leads."""

    node: NodeId
    matched: int
    """Highest seqno known to be on its disk."""
    state: str
    """A word of the protocol's: probe, replicate, snapshot, ..."""
    heard_us_ago: int | None
    """Microseconds since its last message; None: never."""


class MembershipStatus(msgspec.Struct, frozen=True, array_like=True):
    """The members by the log of one node: (node, incarnation) each."""

    changed_at: Viewstamp
    """Of the entry that says so; 0.0: the bootstrap."""
    committed: bool
    """Whether that entry is."""
    voters: tuple[tuple[NodeId, Incarnation], ...]
    learners: tuple[tuple[NodeId, Incarnation], ...] = ()
    outgoing: tuple[tuple[NodeId, Incarnation], ...] = ()
    """The voters before this change, while both decide; empty: no change is under way."""
    promised: tuple[NodeId, ...] = ()
    """Learners that become voters when they have caught up."""
    removed: tuple[tuple[NodeId, Incarnation, Viewstamp], ...] = ()
    """Removed incarnations, and the entry that removed each."""

    @property
    def settled(self) -> bool:
        """Whether the change is committed and no second step is to follow."""
        return self.committed and not self.outgoing


class VersionsStatus(msgspec.Struct, frozen=True, array_like=True):
    """What is in force at the last entry that a node applied, and what its code can do."""

    level: int
    """In force; -1: no entry has said it yet."""
    machine: int
    """The version of the class in force; 0: as `level`."""
    level_max: int
    """The highest level that the node's code knows."""
    machine_max: int
    """The version of the node's class."""
    pending: bool
    """Whether the node's class defines more than what is in force."""


class Status(msgspec.Struct, frozen=True, array_like=True):
    """A node's own account of itself, for operators, tests and the simulator."""

    node: NodeId
    role: str
    view: View
    leader: NodeId | None
    last: Viewstamp
    committed: int
    applied: int
    snapshot: int
    """Seqno of the newest snapshot; entries up to it may be gone from the log. 0: none."""
    log_bytes: int
    """Bytes of the journal that a restart would still need, without the snapshot."""
    members: tuple[NodeId, ...]
    peers: tuple[PeerStatus, ...] = ()
    waiting_for: str = ""
    """Why the node does not serve, in one line; empty where it does or merely follows."""
    incarnation: Incarnation = Incarnation(0)
    """Of the node's data directory; 0: the protocol does not tell."""
    membership: MembershipStatus | None = None
    """None: the protocol's members are those of the cluster file, or this node does not know yet."""
    warnings: tuple[str, ...] = ()
    """What an operator should know although the node serves, a line each: it was started without protection,
    or its certificate is about to expire."""
    log_time: int = 0
    """Log time of the last entry that was executed, in microseconds: how far behind a node is in time."""
    budgets: tuple[tuple[str, int, int], ...] = ()
    """(what waits or is remembered here, how much, how much at most)."""
    dropped: tuple[tuple[str, int], ...] = ()
    """(why, how many): messages of members that were ignored."""
    fingerprint: int = 0
    """Of the class that is replicated; 0: not known."""
    versions: VersionsStatus | None = None
    """None: of a core alone, which knows no class."""
    connected: tuple[NodeId, ...] = ()
    """Members to or from which there is a connection."""
    digests: tuple[tuple[int, int], ...] = ()
    """(seqno, digest of the state there), the newest last: equal on all replicas."""
    figures: tuple[tuple[str, int], ...] = ()
    """What the process measures: wall_us, sync_us, disk_free_bytes, disk_is_low."""


class Core(Protocol):
    """A protocol as a state machine without input or output: events in, effects out, one deadline.

    `step` is synchronous, total over all events, and deterministic: it depends on the arguments of the
    constructor and on the events so far, and on nothing else. It never raises for what a peer sent; an
    `AssertionError` means that this node broke an invariant of its own and must stop.
    """

    @property
    def deadline(self) -> Instant | None:
        """The next moment at which it wants to be woken; in the past means at once. None: never."""
        ...

    @property
    def leader(self) -> NodeId | None:
        """The member that clients should talk to, as far as this node knows."""
        ...

    @property
    def view(self) -> View:
        """The current view (term, epoch)."""
        ...

    @property
    def accepting(self) -> bool:
        """Whether `Proposed` may be fed now: this node orders commands and has room for another entry."""
        ...

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        """Take in one event and return what must be done, in order. `now` never goes back."""
        ...

    def status(self, now: Instant) -> Status:
        """Return this node's own account of itself."""
        ...


class WrappedCore:
    """A core around another one. A subclass overrides `step`, and so sees every event and every effect."""

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def core(self) -> Core:
        """The core inside, for tests and tools that look into it."""
        return self._core

    @property
    def deadline(self) -> Instant | None:
        """See `Core`."""
        return self._core.deadline

    @property
    def leader(self) -> NodeId | None:
        """See `Core`."""
        return self._core.leader

    @property
    def view(self) -> View:
        """See `Core`."""
        return self._core.view

    @property
    def accepting(self) -> bool:
        """See `Core`."""
        return self._core.accepting

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        """See `Core`."""
        return self._core.step(event, now)

    def status(self, now: Instant) -> Status:
        """See `Core`."""
        return self._core.status(now)


class Guarantees(msgspec.Struct, frozen=True):
    """The promises of one protocol, as data: the simulator picks faults by it, the README prints it."""

    commits_when: str
    """In a few words: what makes an acknowledgement possible."""
    tolerates: Literal["minority", "all_but_one"]
    """How many members may be down while the service goes on."""
    safe_under_partition: bool
    """Whether a cut network can never make two answers disagree."""
    survives_full_restart: bool
    """Whether all members may crash at once and lose nothing acknowledged."""
    reads: Literal["linearizable", "one_behind"]
    """What a read at default settings may return."""
    dynamic_membership: bool
    """Whether members change while the service runs."""
    changes_members: bool = False
    """Whether an operator may change the members while the service runs (`ChangeMembers`)."""
    agreed_views: bool = False
    """Whether each view has members of its own that were agreed on before it began; its oracle is then a
    `core.judge.ViewOracle`."""


class ProtocolDefinition(msgspec.Struct, frozen=True):
    """All that runtime, simulator and command line need to know of a protocol."""

    name: str
    guarantees: Guarantees
    options_type: type[Any]
    """A frozen `msgspec.Struct`, validated on construction, every field with a default."""
    message_type: Any
    """The tagged union of its peers' messages: what `msgspec.msgpack.Decoder` gets. Tags are the ABI."""
    make_core: Callable[[CoreSetup], Core]
    make_oracle: Callable[[tuple[NodeId, ...]], Oracle]
    """Makes what the simulator judges one cluster of this protocol by."""
    write_routing: Literal["leader", "any"] = "leader"
    """Where clients send commands: to the leader, or to whichever server the operator chose."""
    decided_by: Literal["election", "operator", "clients"] = "election"
    """How the leader is chosen: by the members, by an operator, or by the client that writes to one."""
    dials: Literal["always", "on_demand"] = "always"
    """When members connect: permanently from the start, or when a message is sent. `on_demand` also means
    that the driver answers each `Send` to a member without a connection with `PeerUp` or `PeerDown`."""
