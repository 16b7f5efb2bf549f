"""How a node without a log becomes a member: it bootstraps the cluster with the others, or is re-admitted.

A node whose disk is empty may be new, or its disk was wiped and it has forgotten what it promised. It cannot
know which, so it grants nothing. It introduces itself until

1. every other member has introduced itself too, has no log either, and *has heard the same incarnations* (so
   each spoke after all of these incarnations had begun): then they bootstrap the cluster in epoch 1. The
   lowest member is its primary, and all are synchronous; or
2. a member with a log answers with a record that lists exactly this incarnation; or
3. a primary brings it up, records its incarnation, and sends it that record (`synchronous_set.py`).
"""

from viewstamp.core.effects import Removed
from viewstamp.core.ids import ORIGIN, Instant, NodeId
from viewstamp.protocols.primary_backup.journal import SyncRecord
from viewstamp.protocols.primary_backup.messages import Dismissed, Introduce, Recognize
from viewstamp.protocols.primary_backup.state import State
from viewstamp.protocols.replication.configuration import is_canonical
from viewstamp.protocols.replication.introductions import Introductions
from viewstamp.protocols.replication.messages import BaseIntroduce, Member
from viewstamp.protocols.replication.node_state import NEVER, in_range, leaps
from viewstamp.protocols.replication.quorums import Quorums


class Bootstrap(Introductions):
    """The beginning of this node's log, or its way back into the cluster."""

    __slots__ = ("is_first_primary", "removed", "unknown")
    _state: State

    def __init__(self, state: State) -> None:
        super().__init__(state, state.options.introduce_us)
        self.is_first_primary = False
        """This node is the lowest of a new cluster: it leads once the bootstrap is on its disk."""
        self.unknown = state.joining
        """No record that was heard of lists this node in any incarnation."""
        self.removed = False
        """Whether this incarnation is known to have been removed."""

    def begin(self) -> None:
        """Begin to introduce this node, unless the record lists it."""
        if not self._state.is_listed:
            self.introduce_at = self._state.now
        else:
            self.on_silence()

    def on_silence(self) -> None:
        """No primary is known: unless one is heard soon, ask who is there.

        This node may have been removed, by a record that it never received.
        """
        if not self.removed and self._state.peers:
            later = Instant(self._state.now + 2 * self._state.options.silence_us)
            self.introduce_at = min(self.introduce_at, later)

    def introduce(self) -> None:
        """Introduce this node to every member, and again after `introduce_ms`; alone, bootstrap."""
        state = self._state
        if self.removed or (state.is_listed and not self.passed_over and state.leader is not None):
            self.introduce_at = NEVER
        elif not state.bootstrapped and not state.peers and not state.joining:
            self._bootstrap(self.known)
        else:
            self._introduce_to_all()
            if state.is_listed and not self.passed_over:
                self.introduce_at = NEVER
                self.on_silence()

    def on_introduce(self, source: NodeId, message: BaseIntroduce) -> None:
        """Hear of a member while this node has no log. Strangers and joining nodes bootstrap nothing."""
        if source in self._state.peers and not self._state.joining:
            super().on_introduce(source, message)

    def on_dismissed(self, message: Dismissed) -> None:
        """The primary says that this incarnation was removed: say so, once, and let the others alone."""
        state = self._state
        if message.incarnation == state.incarnation and not self.removed:
            self.removed = True
            self.introduce_at = NEVER
            state.outbox.emit(Removed(message.at))

    def on_recognize(self, message: Recognize) -> None:
        """Begin the log where a member's record lists this incarnation.

        Then all bootstrapped together, and this node alone has not written it yet. It has promised nothing.
        """
        state = self._state
        record = message.record
        if not in_range(message.epoch) or not is_sound_record(record, state):
            state.drop("malformed synchronous-set record")
            return
        if record.primary != state.node:
            self._caller = record.primary  # where members were changed, this node may not know it
        if state.bootstrapped:
            return
        listed = record.configuration.incarnation_of(state.node)
        self.unknown = listed is None
        self.forgot = listed is not None and listed != state.incarnation
        if not record.lists(state.node, state.incarnation):
            return
        state.bootstrapped = True
        state.enter(record.epoch, record.primary, granted=False)
        state.record = record
        state.write_base(ORIGIN, kept=0)
        self.introduce_at = NEVER
        assert state.counts, "the record lists this incarnation"
        state.resume_later()

    def adopt(self) -> None:
        """Begin a log for what a primary sends; this node does not count toward the quorum yet."""
        state = self._state
        assert not state.bootstrapped
        state.bootstrapped = True
        state.write_base(ORIGIN, kept=0)

    def _bootstrap(self, known: tuple[Member, ...]) -> None:
        """Write the beginning of a log: epoch 1, the lowest member is primary, all are synchronous."""
        state = self._state
        assert not state.bootstrapped
        state.bootstrapped = True
        self.introduce_at = NEVER
        lowest = min(state.members)
        state.epoch = state.seen_epoch = 1
        state.candidate, state.granted = lowest, True
        state.record = SyncRecord(epoch=1, version=1, primary=lowest, members=state.members, roster=known)
        state.write_base(ORIGIN, kept=0)
        self.is_first_primary = lowest == state.node

    def _addressees(self) -> frozenset[NodeId]:
        """Return the members by the file, by the record, and the primary that another one names."""
        return (super()._addressees() | self._state.others) - {self._state.node}

    def _introduction(self, known: tuple[Member, ...], agreed: tuple[NodeId, ...]) -> Introduce:
        state = self._state
        return Introduce(
            incarnation=state.incarnation, bootstrapped=state.bootstrapped, known=known, agreed=agreed
        )


def is_sound_record(record: SyncRecord, state: State) -> bool:
    """Return whether a record could be one of this cluster."""
    members, listed = record.members, tuple(node for node, _ in record.roster)
    configuration = record.configuration
    return (
        min(record.epoch, record.version) >= 1
        and in_range(record.epoch, record.version)
        and not (state.record is not None and leaps(record.version, state.record.version))
        and (listed == state.members or record.changed is not None or state.joining)
        and is_canonical(configuration)
        and dict(record.roster) == configuration.electors
        and listed == tuple(sorted(set(listed)))
        and members == tuple(sorted(set(members)))
        and set(members) <= set(listed)
        and Quorums(configuration).agree(members)
        and record.primary in members
    )
