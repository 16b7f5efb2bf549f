"""The members that have everything: how the primary changes the record of them (PacificA 2.2, 2.4).

Rules of this file:

- A record is *in force* when a majority of the nodes that count has it on disk, and each of its members too.
  Until the first record of an epoch is in force, nothing is committed in it.
- A commit needs every member of the record in force and of each one proposed since. So whichever of them the
  next candidate finds, its members have everything that was acknowledged.
- A member is only proposed when it has everything up to `floor`, the log with which the epoch began, and
  everything committed; a set never has less than a majority of the cluster.
- The members of the cluster change with the record. A record that changes them is sent to those that it adds
  when a majority of those before has it. From then on no election can succeed without knowing it, so its own
  voters decide, and no longer those before; majorities of the two always have a member in common, since more
  than one voter at once is changed through a joint configuration (Raft 6; without entries of the log it is
  the protocol of Schultz et al. 2021, "logless reconfiguration").
- A member that lost its disk is proposed like any other, in its new incarnation. It is not sent a record that
  lists it before a majority of the others has that record: they would have refused if a newer epoch existed
  that its earlier incarnation had granted. Storing the record is what makes it count.
"""

from collections.abc import Iterable

from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.primary_backup.journal import SyncRecord
from viewstamp.protocols.primary_backup.state import State
from viewstamp.protocols.replication.configuration import Changed, Configuration
from viewstamp.protocols.replication.messages import Member
from viewstamp.protocols.replication.quorums import Quorums


class SynchronousSet:
    """The record of the current epoch, at its primary."""

    __slots__ = (
        "_before",
        "_counting",
        "_quorums",
        "_state",
        "_stored",
        "floor",
        "in_force",
        "latest",
        "required",
    )

    def __init__(self, state: State) -> None:
        self._state = state
        self.floor = 0
        """The last entry of the log with which this epoch began, its own first entry included."""
        self.in_force: SyncRecord | None = None
        self.latest: SyncRecord | None = None
        """The newest record of this epoch, in force or proposed."""
        self.required: set[NodeId] = set()
        """The members that a commit needs."""
        self._before: SyncRecord | None = None
        """The newest record of an earlier epoch, with which this one began."""
        self._quorums = Quorums(Configuration())
        """Those whose majority shows that there is no newer epoch."""
        self._counting: dict[NodeId, Incarnation] = {}
        """In which incarnation each member's promises count."""
        self._stored: dict[NodeId, int] = {}
        """The version of this epoch's record that each other member has on disk."""

    @property
    def newest(self) -> SyncRecord:
        """The newest record, which may be of an earlier epoch while this one has none."""
        record = self.latest or self._before
        assert record is not None, "an epoch has begun"
        return record

    @property
    def configuration(self) -> Configuration:
        """The voters and learners, in force or proposed."""
        return self.newest.configuration

    @property
    def is_configured(self) -> bool:
        """Whether the last change of the members is in force in this epoch."""
        return self.in_force is not None and self.in_force.changed_at == self.newest.changed_at

    def agree(self, nodes: Iterable[NodeId]) -> bool:
        """Return whether no newer epoch can have begun without one of these nodes."""
        return self._quorums.agree(nodes)

    def begin(self, newest: SyncRecord, floor: int) -> None:
        """Begin an epoch: nothing is in force in it."""
        self.floor = floor
        self.in_force = self.latest = None
        self._before = newest
        self.required = set()
        self._counting = dict(newest.roster)
        self._quorums = Quorums(newest.configuration)
        self._stored = {}

    def bootstrap(self, record: SyncRecord) -> None:
        """Begin the first epoch, with the record that every member writes by itself."""
        assert record.epoch == 1, record
        self.latest = record
        self.required = set(record.members)

    def counts(self, node: NodeId, incarnation: Incarnation) -> bool:
        """Return whether this incarnation's promises count."""
        return self._counting.get(node) == incarnation

    def incarnation(self, node: NodeId) -> Incarnation | None:
        """Return the incarnation in which this member counts."""
        return self._counting.get(node)

    def to_send(self, node: NodeId, incarnation: Incarnation) -> SyncRecord | None:
        """Return the record that this node has yet to store; None: it has it, or may not have it yet."""
        latest = self.latest
        if latest is None or self._stored.get(node, 0) >= latest.version:
            return None
        # A node with a new disk is told last: by then no newer epoch can exist that it granted before. And a
        # new voter is told when those before know it. A learner counts for nothing, whatever it stores.
        learns = (node, incarnation) in latest.configuration.learners
        return latest if learns or self._counting.get(node) == incarnation else None

    def is_settled(self) -> bool:
        """Return whether the newest record is in force."""
        return self.latest is not None and self.in_force is self.latest

    def propose(self, members: Iterable[NodeId], roster: Iterable[Member], changed: Changed | None) -> None:
        """Write a new record and begin to spread it; commits need its members from now on."""
        state = self._state
        version = self.latest.version + 1 if self.latest is not None else 1
        record = SyncRecord(
            epoch=state.epoch,
            version=version,
            primary=state.node,
            members=tuple(sorted(members)),
            roster=tuple(sorted(roster)),
            changed=changed,
        )
        assert Quorums(record.configuration).agree(record.members), record
        assert dict(record.roster) == record.configuration.electors, record
        state.adopt(record)
        self.latest = record
        self.required |= set(record.members)

    def on_stored(self, node: NodeId, version: int) -> None:
        """Record that a member has the record of this version on its disk."""
        if version > self._stored.get(node, 0):
            self._stored[node] = version

    def forget(self, node: NodeId) -> None:
        """Forget what this node stored: its disk is another one now."""
        self._stored.pop(node, None)

    def evaluate(self) -> bool:
        """Put the newest record in force where it is stored; return whether anything changed."""
        latest = self.latest
        if latest is None or self.in_force is latest:
            return False
        stored = {node for node, version in self._stored.items() if version >= latest.version}
        if self._state.record_write <= self._state.outbox.durable:
            stored.add(self._state.node)
        if not self.agree(node for node in stored if node in self._counting):
            return False
        changed = False
        # The roster counts as soon as a majority has it: a node with a new disk is then sent the record.
        roster = dict(latest.roster)
        if roster != self._counting:
            self._counting, changed = roster, True
        self._quorums = Quorums(latest.configuration)
        if stored.issuperset(latest.members):  # among them is a majority of each half
            self.in_force = latest
            self.required = set(latest.members)
            changed = True
        return changed
